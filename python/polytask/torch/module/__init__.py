"""A model's network as a module of torch: what the core says of it, translated node by node for torch.fx."""

from .build import Own, build
from .graph_module import MultiTaskModule
from .links import Predicted
from .places import place
from .values import identifier

__all__ = ["MultiTaskModule", "Own", "Predicted", "build", "identifier", "place"]
