"""A model's network as a module of torch: what the core says of it, translated node by node for torch.fx."""

from .build import Array, Own, Taken, build
from .graph_module import MultiTaskModule
from .layers import Pick, Split
from .links import Predicted
from .places import place
from .values import identifier

__all__ = ["Array", "MultiTaskModule", "Own", "Pick", "Predicted", "Split", "Taken", "build", "identifier", "place"]
