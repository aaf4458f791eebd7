"""From raw outputs to predictions, in a graph."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .layers import Units


class Predicted(NamedTuple):
    """What a task's predictions are made of.

    Attributes:
        name: the task's name.
        link: of its loss, `{"name", ...}`.
        outputs: labels a row, by which its numbers are laid out; none where it has classes.
        scale: the scale in which its targets trained, as `Units` takes it.
        temperature: what its logits are divided by.
    """

    name: str
    link: dict[str, Any]
    outputs: int | None
    scale: dict[str, Any] | None
    temperature: float | None = None


def predicted(
    task: Predicted, raw: Tensor, layer: Callable[[str, Units], Callable[..., Tensor]], device: torch.device
) -> Tensor:
    """Predictions `[rows, width]`, in the units of the targets."""
    linked = LINKS[task.link["name"]](raw if task.temperature is None else raw / task.temperature, task.link)
    if task.scale is None:
        return linked
    units = Units(task.scale, task.link["name"] == "mean_and_variance", device)
    return layer("units", units)(linked)


def together(task: Predicted, outputs: Tensor, members: int) -> Tensor:
    """Raw outputs `[rows, width]` whose prediction is the mean of those of members, `[rows * members, width]`."""
    raw = torch.unflatten(outputs, 0, (-1, members))
    link = task.link["name"]
    if link == "identity":
        return raw.mean(1)
    if link == "sigmoid":
        return functional.logsigmoid(raw).logsumexp(1) - functional.logsigmoid(-raw).logsumexp(1)
    less = math.log(members)
    if link == "softmax":
        return raw.log_softmax(2).logsumexp(1) - less
    if link == "ordinal":
        on = functional.logsigmoid(raw)
        beyond = on.cumsum(2)
        return beyond.logsumexp(1) - (beyond - on + functional.logsigmoid(-raw)).logsumexp(1)
    if link == "exponential":
        return raw.clamp(max=task.link["most"]).logsumexp(1) - less
    pairs = torch.unflatten(raw, 2, (-1, 2))
    centers = pairs[..., 0]
    center = centers.mean(1)
    of_members = functional.softplus(pairs[..., 1]) + (centers - center.unsqueeze(1)).square()
    variance = of_members.mean(1).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.stack([center, variance + torch.log(-torch.expm1(-variance))], -1).flatten(1)


def shaped(task: Predicted, outputs: Tensor, width: int) -> Tensor:
    """`[rows, width]` as `predict` shapes them: `[rows]` of one number, `[rows, outputs, numbers]` of several each."""
    if task.outputs is None:
        return outputs
    if width == 1:
        return outputs.squeeze(1)
    each = width // task.outputs
    return torch.unflatten(outputs, 1, (task.outputs, each)) if task.outputs > 1 and each > 1 else outputs


def _mean_and_variance(raw: Tensor, link: dict[str, Any]) -> Tensor:
    pairs = torch.unflatten(raw, 1, (-1, 2))
    variance = functional.softplus(pairs[..., 1]) + link["epsilon"]
    return torch.stack([pairs[..., 0], variance], -1).flatten(1)


def _ordinal(raw: Tensor, link: dict[str, Any]) -> Tensor:
    beyond = functional.pad(functional.logsigmoid(raw).cumsum(1).exp(), (1, 0), value=1.0)
    there = functional.pad((-raw).sigmoid(), (0, 1), value=1.0)
    return beyond * there


#: By their names in the core.
LINKS: dict[str, Callable[[Tensor, dict[str, Any]], Tensor]] = {
    "identity": lambda raw, link: raw,
    "sigmoid": lambda raw, link: raw.sigmoid(),
    "softmax": lambda raw, link: raw.softmax(1),
    "ordinal": _ordinal,
    "exponential": lambda raw, link: raw.clamp(max=link["most"]).exp(),
    "mean_and_variance": _mean_and_variance,
}
