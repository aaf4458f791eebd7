"""Translations of what is about pairs of positions: those of a row, the first with each, lie one after the other."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from .values import Building, Node, Value


class Pairwise(nn.Module):
    """`y[(i, j), c] = <a_i, b_j[c]>` of pairs of positions of a row, from `a` `[positions, width]` and `b` `[positions,
    columns * (width + 1)]`, whose last number a column is added: `[pairs, columns]`.
    """

    def forward(self, a: Tensor, b: Tensor, lengths: Tensor) -> Tensor:
        width = a.shape[1]
        b = b.reshape(b.shape[0], -1, width + 1)
        counts = lengths.tolist()
        rows = zip(torch.split(a, counts), torch.split(b, counts), strict=True)
        each = [torch.einsum("iw,jcw->ijc", a, b[:, :, :width]) + b[:, :, width] for a, b in rows]
        return torch.cat([row.flatten(0, 1) for row in each])


class Attach(nn.Module):
    """Logarithms of the probabilities that a position is not attached to another one, and that it is, by each kind,
    `[pairs, 1 + kinds]`, from scores of arcs `[pairs, 1]` and of kinds `[pairs, kinds]`.
    """

    #: The least probability that is told from none.
    least = 1e-30

    def forward(self, arcs: Tensor, kinds: Tensor, lengths: Tensor) -> Tensor:
        ends = (lengths**2).cumsum(0).tolist()
        rows = [arcs[start:end, 0] for start, end in pairwise([0, *ends])]
        squares = [row.reshape(count, count) for row, count in zip(rows, lengths.tolist(), strict=True) if count]
        each = [row.log_softmax(1).flatten() for row in squares]
        log_p = torch.cat(each) if each else arcs[:, 0]
        others = torch.cat([_others(row).flatten() for row in squares]) if each else log_p
        attached = kinds.log_softmax(1) + log_p.unsqueeze(1)
        return torch.cat([others.clamp_min(self.least).log().unsqueeze(1), attached], 1)


def _others(scores: Tensor) -> Tensor:
    """`1 - softmax` of each row."""
    odds = (scores - scores.detach().amax(1, True)).exp()
    whole = odds.sum(1, True)
    return (whole - odds) / whole


def pairwise_scores(node: Node, at: Building) -> Value:
    """A score of each pair of a row's positions."""
    a, b = at.inputs(node)
    lengths = at.lengths(node.links[0]["fine"])
    layer = at.layer(f"pairs.{node.index}", Pairwise())
    return Value.of([layer(a.wholes[0], b.wholes[0], lengths)], b.width // (a.width + 1))


def attach(node: Node, at: Building) -> Value:
    """To which position of its row each one is attached, and how."""
    arcs, kinds = at.inputs(node)
    layer = at.layer(f"pairs.{node.index}", Attach())
    return Value.of([layer(arcs.wholes[0], kinds.wholes[0], at.lengths(node.links[0]["fine"]))], kinds.width + 1)
