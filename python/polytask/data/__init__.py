"""Whatever people have, as rows that the core can borrow; mixing of several data sets, and splits."""

from .mix import Mix, Mixed, in_memory
from .names import Names
from .reader import Reader
from .rows import Rows
from .spans import Spans
from .split import Split, split
from .stream import Stream

__all__ = ["Mix", "Mixed", "Names", "Reader", "Rows", "Spans", "Split", "Stream", "in_memory", "split"]
