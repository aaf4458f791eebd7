"""Whatever people have, as rows that the core can borrow: arrays, frames, data sets, loaders, iterables."""

from .names import Names
from .reader import Reader
from .rows import Rows
from .stream import Stream

__all__ = ["Names", "Reader", "Rows", "Stream"]
