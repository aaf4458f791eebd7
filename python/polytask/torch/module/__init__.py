"""A model's network as a module of torch: what the core says of it, translated node by node for torch.fx."""

from .build import Array, Given, Own, build
from .graph_module import MultiTaskModule
from .layers import Split
from .links import Predicted
from .places import place
from .values import identifier

__all__ = ["Array", "Given", "MultiTaskModule", "Own", "Predicted", "Split", "build", "identifier", "place"]
