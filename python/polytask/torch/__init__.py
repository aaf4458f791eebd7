"""Weightings in a PyTorch loop of the caller's own: `polytask.torch.backward` in the place of `loss.backward()`."""

from ..results.decisions import Decisions
from .backward import Balancer, backward

for _each in (Balancer, Decisions, backward):
    _each.__module__ = __name__

__all__ = ["Balancer", "Decisions", "backward"]
