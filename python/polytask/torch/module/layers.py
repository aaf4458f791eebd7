"""Layers that torch has not as the core computes them; each is one call in a graph."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...components.own_module import Output, picked, shown_output


class BatchNorm(nn.Module):
    """Batch normalisation over rows `[rows, width]` (Ioffe & Szegedy, ICML 2015).

    As `torch.nn.BatchNorm1d`, but that batches of one row, and all of a frozen one, are normalised by the running
    averages while training too, and that no batches are counted.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(
        self, tensors: Sequence[Any], statistics: Sequence[torch.Tensor], eps: float, momentum: float, frozen: bool
    ) -> None:
        super().__init__()
        self.weight, self.bias = tensors
        self.register_buffer("running_mean", statistics[0])
        self.register_buffer("running_var", statistics[1])
        self.eps = eps
        self.momentum = momentum
        self.frozen = frozen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        measures = self.training and not self.frozen and x.shape[0] > 1
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, measures, self.momentum, self.eps
        )

    def extra_repr(self) -> str:
        return f"{len(self.running_mean)}, eps={self.eps}, momentum={self.momentum}, frozen={self.frozen}"


class PiecewiseLinear(nn.Module):
    """Piecewise-linear embeddings of numbers `[rows, features]`, `[rows, features * width]` (Gorishniy, Rubachev &
    Babenko, NeurIPS 2022): `act(e(x) W + b)`, or with a slope `act(e(x) W) + s x + b`. `e` has a number a bin: 1 below
    that of `x`, how far `x` is through its own, 0 above; bins of no width do not count.
    """

    edges: torch.Tensor

    def __init__(self, tensors: Sequence[Any], edges: torch.Tensor, relu: bool) -> None:
        super().__init__()
        self.weight, self.bias = tensors[:2]
        self.slope = tensors[2] if len(tensors) > 2 else None
        self.register_buffer("edges", edges)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(-1)
        sizes = self.edges.diff(dim=-1)
        used = sizes > 0
        number = used.cumsum(-1)
        first = used & (number == 1)
        last = used & (number == used.sum(-1, keepdim=True))
        shares = (x - self.edges[:, :-1]) / torch.where(used, sizes, torch.ones_like(sizes))
        shares = torch.where(first, shares, shares.clamp(min=0))
        shares = torch.where(last, shares, shares.clamp(max=1)) * used
        y: torch.Tensor = (shares.transpose(0, 1) @ self.weight).transpose(0, 1)
        if self.slope is None:
            y = y + self.bias
        y = y.relu() if self.relu else y
        if self.slope is not None:
            y = y + (x * self.slope + self.bias)
        return y.flatten(1)

    def extra_repr(self) -> str:
        features, bins, width = self.weight.shape
        return f"{features}, bins={bins}, width={width}, linear={self.slope is not None}, relu={self.relu}"


class Marginals(nn.Module):
    """Logarithms of the probabilities of labels at positions that lie end to end, `[positions, labels]`, over all paths
    of a row's labels (Lafferty, McCallum & Pereira, ICML 2001), from scores of labels, of moves between neighbours, and
    of labels that a row starts and ends with.
    """

    def __init__(self, tensors: Sequence[Any]) -> None:
        super().__init__()
        self.moves, self.start, self.end = tensors

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        found = [self._of_row(row) for row in torch.split(x, lengths.tolist())]
        return torch.cat(found) if found else x

    def _of_row(self, x: torch.Tensor) -> torch.Tensor:
        count = x.shape[0]
        if count == 0:
            return x
        before = [self.start]
        after = [self.end]
        for t in range(1, count):
            before.append(((before[-1] + x[t - 1]).unsqueeze(1) + self.moves).logsumexp(0))
            after.append((self.moves + after[-1] + x[count - t]).logsumexp(1))
        return (torch.stack(before) + x + torch.stack(after[::-1])).log_softmax(1)

    def extra_repr(self) -> str:
        return f"{len(self.start)}"


class Pick(nn.Module):
    """Which of the outputs of a module is meant: a key, a place or a function of them.

    Attributes:
        path: of that module in the network.
    """

    def __init__(self, output: Output, path: str) -> None:
        super().__init__()
        self.path = path
        self.output = output

    def forward(self, given: Any) -> Any:
        return picked(given, self.output)

    def extra_repr(self) -> str:
        return shown_output(self.output).removeprefix(", ")


class Split(nn.Module):
    """From a row `[rows, numbers]` to inputs of shapes and types of their own, one after the other."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], types: Sequence[torch.dtype]) -> None:
        super().__init__()
        self.shapes = list(shapes)
        self.types = list(types)

    def __len__(self) -> int:
        return len(self.shapes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        each = torch.split(x, [torch.Size(shape).numel() for shape in self.shapes], 1)
        pairs = zip(each, self.shapes, self.types, strict=True)
        return tuple(part.reshape(-1, *shape).to(of) for part, shape, of in pairs)

    def extra_repr(self) -> str:
        return ", ".join(f"{list(shape)} {of}" for shape, of in zip(self.shapes, self.types, strict=True))


class Choice(nn.Module):
    """From weights `[..., sources]` to a mix of as many (Guo, Lee & Ulbricht, ICML 2020): while training a sample of
    `softmax((w + Gumbel noise) / temperature)`, in evaluation the largest alone.

    The temperature falls by a factor `decay` a call while training, down to `lowest`; `steps` counts these calls, and
    is in no state dict.
    """

    steps: torch.Tensor

    def __init__(self, temperature: float, decay: float, lowest: float, device: torch.device) -> None:
        super().__init__()
        self.temperature = temperature
        self.decay = decay
        self.lowest = lowest
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=device), persistent=False)

    def forward(self, weights: torch.Tensor) -> torch.Tensor:
        if not self.training:
            best = functional.one_hot(weights.argmax(-1), weights.shape[-1])
            return best.to(weights.dtype)
        heat = (self.temperature * self.decay ** self.steps.to(weights.dtype)).clamp(min=self.lowest)
        self.steps.add_(1)
        uniform = torch.rand_like(weights).clamp(1e-12, 1 - 1e-7)
        return ((weights - (-uniform.log()).log()) / heat).softmax(-1)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, decay={self.decay}, lowest={self.lowest}"


class Rows(nn.Module):
    """Positions `[positions, width]` that lie end to end, by rows of the longest one's length, those without any left
    out, `[rows, longest, width]`; and where there is one, `[rows, longest]`.
    """

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = lengths[lengths > 0]
        longest = int(lengths.max()) if len(lengths) else 0
        there = torch.arange(longest, device=x.device) < lengths[:, None]
        return x.new_zeros(len(lengths), longest, x.shape[1]).index_put((there,), x), there


class Attention(nn.Module):
    """Attention of each position to all of its own row, from queries, keys and values of all heads one after the other,
    `[positions, 3 * width]`, whose positions lie end to end, `[positions, width]`. Rotary (Su et al., 2021), the halves
    of a head's queries and keys are pairs that are turned by their place.
    """

    def __init__(self, heads: int, rotary: bool, base: float) -> None:
        super().__init__()
        self.heads = heads
        self.rotary = rotary
        self.base = base

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if x.shape[0] == 0:
            return x[:, : x.shape[1] // 3]
        lengths = lengths[lengths > 0]
        there = torch.arange(int(lengths.max()), device=x.device) < lengths[:, None]
        padded = x.new_zeros(*there.shape, x.shape[1]).index_put((there,), x)
        q, k, v = torch.unflatten(padded, 2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.rotary:
            q, k = self._turned(q), self._turned(k)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None])
        return y.transpose(1, 2).flatten(2)[there]

    def _turned(self, x: torch.Tensor) -> torch.Tensor:
        longest, width = x.shape[-2:]
        pairs = torch.arange(width // 2, dtype=torch.float64, device=x.device)
        times = torch.arange(longest, dtype=torch.float64, device=x.device)
        angles = times[:, None] * self.base ** (-2 * pairs / width)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, rotary={self.rotary}"


class Recurrence(nn.Module):
    """A recurrent layer in one direction after the products of its input, `[positions, gates * width]`, whose positions
    lie end to end, `[positions, width]`: the equations of `torch.nn.LSTM` or `torch.nn.GRU`.

    Arguments:
        tensors: the weight `[gates * width, width]`, and of a GRU the bias `[width]` of its last gate's product.
        cell: `"lstm"` or `"gru"`.
        backward: whether it goes from the last position of a row to the first.
    """

    def __init__(self, tensors: Sequence[Any], cell: str, backward: bool) -> None:
        super().__init__()
        self.weight = tensors[0]
        self.bias = tensors[1] if len(tensors) > 1 else None
        self.cell = cell
        self.backwards = backward

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        ends = lengths.cumsum(0)
        starts = ends - lengths
        longest = int(lengths.max()) if len(lengths) else 0
        h = x.new_zeros(len(lengths), self.weight.shape[1])
        c = torch.zeros_like(h)
        y = torch.zeros_like(x[:, : h.shape[1]])
        for t in range(longest):
            rows = (lengths > t).nonzero().squeeze(1)
            at = (ends - 1 - t if self.backwards else starts + t)[rows]
            new_h, new_c = self._next(x[at], h[rows], c[rows])
            h = h.index_copy(0, rows, new_h)
            c = c.index_copy(0, rows, new_c)
            y = y.index_copy(0, at, new_h)
        return y

    def _next(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.cell == "lstm":
            i, f, g, o = (x + h @ self.weight.T).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c
        r, z, n = x.chunk(3, 1)
        of_r, of_z, of_n = (h @ self.weight.T).chunk(3, 1)
        z = (z + of_z).sigmoid()
        n = (n + (r + of_r).sigmoid() * (of_n + self.bias)).tanh()
        return (1 - z) * n + z * h, c

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, cell={self.cell!r}, backward={self.backwards}"


class Units(nn.Module):
    """From the scale in which targets `[rows, outputs * numbers]` trained to their own units, in double precision.

    Arguments:
        scale: `{"name", "centers", "spreads", "curves"}` of each output: `center + spread * x`, of which `log1p`
            takes `exp(x) - 1`; or the curve through points of targets and of normal quantiles, outside of which it is
            level.
        variance: whether every second number is a variance.
    """

    centers: torch.Tensor
    spreads: torch.Tensor

    def __init__(self, scale: dict[str, Any], variance: bool, device: torch.device) -> None:
        super().__init__()
        self.name = scale["name"]
        self.variance = variance
        self.curves = len(scale["curves"])
        self.outputs = self.curves or len(scale["centers"])
        for j, points in enumerate(scale["curves"]):
            targets, places = (torch.tensor(each, dtype=torch.float64, device=device) for each in points)
            self._keep(f"first_{j}", targets[:1])
            self._keep(f"places_{j}", places)
            self._keep(f"slopes_{j}", targets.diff() / places.diff())
        if not self.curves:
            for called in ("centers", "spreads"):
                self._keep(called, torch.tensor(scale[called], dtype=torch.float64, device=device).unsqueeze(1))

    def _keep(self, name: str, numbers: torch.Tensor) -> None:
        self.register_buffer(name, numbers, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled = torch.unflatten(x.double(), 1, (self.outputs, -1))
        if self.curves:
            units = torch.stack([self._along(j, scaled[:, j]) for j in range(self.outputs)], 1)
        else:
            units = scaled * self.spreads + self.centers
            units = units.expm1() if self.name == "log1p" else units
            if self.variance:
                units = torch.stack([units[..., 0], scaled[..., 1] * self.spreads.squeeze(1).square()], -1)
        return units.flatten(1).to(x.dtype)

    def _along(self, j: int, x: torch.Tensor) -> torch.Tensor:
        """The curve of an output as the sum of what each of its pieces rises up to `x`."""
        first, places, slopes = (self.get_buffer(f"{name}_{j}") for name in ("first", "places", "slopes"))
        risen = (x.unsqueeze(-1) - places[:-1]).clamp(min=0).minimum(places.diff())
        return (risen * slopes).sum(-1) + first
