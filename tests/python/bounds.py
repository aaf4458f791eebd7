"""How long directions are, and how far from what they should be: `python tests/python/bounds.py 20000 [seed]`.

Every method gets so many degenerate Jacobians: tasks that are copies of each other, opposed, on one line, of low rank,
huge beside tiny, without a mean. It sees them as a Gramian of double, single or half precision, or in a `Trainer`, by a
model whose gradients are the rows. What it decides is applied to the rows in double precision. A line a method says how
long directions are at most, relative to the length that the method promises and what rounding may add to that, and how
far the conditions of its program are from being met, for each precision of the Gramian.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polytask as pt
import torch
from polytask import _core

#: How far off a number of this precision is, and cosines of such products; single precision is a trainer's too.
UNITS = {"double": 2.0**-53, "single": 2.0**-24, "half": 2.0**-8}
#: Tasks and parameters of models.
SHAPES = [(tasks, width) for tasks in (2, 3, 5, 8, 20) for width in (1, 6, 30)]


def jacobian(draw: np.random.Generator, tasks: int, width: int) -> np.ndarray:
    """Degenerate rows `[tasks, width]` of numbers in single precision."""
    rows = draw.normal(size=(tasks, width))
    even, odd = rows[: tasks - tasks % 2 : 2], slice(1, tasks, 2)
    factors = draw.uniform(0.1, 4.0, size=(tasks, 1))
    signs = draw.choice([-1.0, 1.0], size=(tasks, 1))
    one, other = draw.choice(tasks, 2, replace=False)
    kind = int(draw.integers(14))
    if kind == 0:
        rows[odd] = even
    elif kind == 1:
        rows[odd] = -factors[odd] * even
    elif kind == 2:
        rows = rows[:1] * factors * signs
    elif kind == 3:
        rows = rows[:1] * signs
    elif kind == 4:
        rows[one], rows[other] = rows[one] * 10 ** draw.uniform(3, 10), rows[other] * 10 ** -draw.uniform(3, 6)
    elif kind == 5:
        rows[one] = -rows[other] * 10 ** draw.uniform(3, 10) + draw.choice([0.0, 1e-6, 1.0]) * rows[one]
    elif kind == 6:
        rows = draw.normal(size=(tasks, min(2, width))) @ rows[:2][: min(2, width)]
    elif kind == 7:
        rows[odd] = -factors[odd] * even + 10 ** -draw.uniform(3, 9) * rows[odd]
    elif kind == 8:
        rows -= rows.mean(axis=0)
    elif kind == 9:
        rank = max(1, min(tasks, width) // 3)
        rows = draw.normal(size=(tasks, rank)) @ draw.normal(size=(rank, width))
    elif kind == 10:
        rows = rows[:1] + 10 ** -draw.uniform(2, 9) * rows
    elif kind == 11:
        rows[one] = -factors[one] * rows[other]
    elif kind == 12:
        rows[one] -= (factors * rows).sum(axis=0) / factors[one]
    else:
        rows *= 10.0 ** -np.arange(tasks).clip(max=9)[:, None]
        rows[one] = -rows[other]
    if draw.random() < 0.05:
        rows[one] = 0.0
    return draw.permutation(rows).astype(np.float32).astype(np.float64)


@dataclass
class Seen:
    """Rows, and the Gramian that a method is shown of them."""

    rows: np.ndarray
    precision: str
    gramian: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        exact = self.rows @ self.rows.T
        if self.precision == "half":
            exact = torch.tensor(exact).to(torch.bfloat16).to(torch.float64).numpy()
        self.gramian = exact.astype(np.float32).astype(np.float64) if self.precision == "single" else exact
        self.lengths = np.linalg.norm(self.rows, axis=1)
        self.sizes = np.sqrt(np.diagonal(self.gramian))
        apart = np.outer(self.sizes, self.sizes)
        self.cosines = np.divide(self.gramian, apart, out=np.zeros_like(apart), where=apart > 0).clip(-1, 1)
        self.mean = float(np.linalg.norm(self.rows.mean(axis=0)))

    @property
    def tasks(self) -> int:
        return len(self.rows)

    @property
    def unit(self) -> float:
        """How far off the Gramian's numbers may be."""
        return UNITS[self.precision] * (self.rows.shape[1] ** 0.5 if self.precision == "double" else 1.0)

    @property
    def slack(self) -> float:
        """What rounding may add to a direction."""
        return float(np.sqrt(self.tasks * self.unit) * self.lengths.sum())

    def scale(self, weights: np.ndarray) -> float:
        """`sqrt(|w| |G| |w|)`."""
        units = np.abs(weights) * self.sizes
        return float(np.sqrt(units @ np.abs(self.cosines) @ units)) or 1.0

    def along(self, weights: np.ndarray) -> np.ndarray:
        """How far the direction goes along each row, `[tasks]`; 0 for a row of zeros."""
        return self.cosines @ (weights * self.sizes)


def projected(seen: Seen, weights: np.ndarray, raised: np.ndarray | None = None) -> float:
    """No row conflicts with the direction, and rows that were raised are at right angles to it."""
    along, scale = seen.along(weights) / seen.scale(weights), (np.abs(weights) * seen.sizes).sum()
    tight = along[raised * seen.sizes > 1e-9 * scale] if raised is not None else along[:0]
    return float(max(0.0, -along.min(), np.abs(tight).max(initial=0.0)))


def nearest(seen: Seen, weights: np.ndarray) -> float:
    """Every row is at least as far along the direction as the direction itself."""
    if weights.sum() == 0 or not seen.sizes.all():
        return 0.0
    scale, square = seen.scale(weights), max(0.0, weights @ seen.gramian @ weights)
    return float(((square - seen.sizes * seen.along(weights)) / (scale * (scale + seen.sizes))).max().clip(0))


def in_ball(c: float) -> Callable[[Seen, np.ndarray], float]:
    """The row that gains least gains as much as the dual allows, in lengths of what that is made of."""
    inner = core(pt.weighting.MGDA())

    def gap(seen: Seen, weights: np.ndarray) -> float:
        n, sizes = seen.tasks, seen.sizes
        extra = weights - 1 / n
        if not sizes.all() or extra.sum() <= 1e-12 * weights.sum():
            return 0.0
        rounding = 2 * seen.unit
        hulls = [inner.weigh(gramian=seen.gramian, rounding=rounding)[0]]
        hulls.append(inner.weigh(gramian=seen.cosines, rounding=rounding)[0] / sizes)
        radius = c * np.sqrt(max(0.0, seen.gramian.mean()))
        bounds = []
        for each in [extra, *hulls]:
            shares = each / each.sum()
            square = max(0.0, shares @ seen.gramian @ shares)
            bounds.append((shares @ seen.gramian.mean(axis=1) + radius * np.sqrt(square), shares @ sizes))
        bound, size = min(bounds)
        gains = sizes * seen.along(weights)
        return float(((bound - gains) / (sizes + size) / (weights @ sizes)).max().clip(0))

    return gap


def fair(alpha: float, squared: Callable[[Seen], float] = lambda _: 1.0) -> Callable[[Seen, np.ndarray], float]:
    """`w^T G w = sum w^(1 - 1/alpha)`, or the same with squared lengths that count more, as docstrings say."""

    def apart(seen: Seen, weights: np.ndarray) -> float:
        present = seen.sizes > 0
        if not present.any():
            return 0.0
        weights = weights / np.sqrt(squared(seen))
        units, total = weights * seen.sizes, (weights[present] ** (1 - 1 / alpha)).sum()
        square, more = seen.cosines @ units @ units, units @ units
        noise = seen.tasks * rounding(seen)
        below = max(0.0, -np.linalg.eigvalsh(seen.cosines)[0])
        ways = [0.0, 1e-12, noise, 4 * noise, *(ridge + 2 * below for ridge in (1e-12, noise, 4 * noise))]
        # As far as double precision can add up such weights.
        lost = 16 * seen.tasks * 2.0**-52 * more
        return float(min(max(0.0, abs(square + way * more - total) - lost) for way in ways) / total)

    return apart


def norm(seen: Seen) -> float:
    return float(np.sqrt((seen.gramian**2).sum()))


def kept(mode: str) -> Callable[[Seen], float]:
    """The singular value that all others are made to be."""

    def value(seen: Seen) -> float:
        values = np.linalg.eigvalsh(seen.gramian)[::-1]
        n = seen.tasks
        values = values[values > min(0.5, max(n * 2.0**-23, 4 * np.sqrt(n) * rounding(seen))) * values[0]]
        return float(
            np.sqrt({"min": values[-1:], "median": values[len(values) // 2 :][:1], "rmse": values}[mode].mean())
        )

    return lambda seen: value(seen) if seen.lengths.any() else 0.0


def rounding(seen: Seen) -> float:
    """How far off a method is told that cosines are."""
    return 2 * UNITS[seen.precision]


@dataclass
class Method:
    """A weighting, how long its directions are at most, and how far its conditions are from being met."""

    weighting: Any
    most: Callable[[Seen], float] | None
    residual: Callable[[Seen, np.ndarray], float] | None = None
    #: What residuals may be: 1e-6, or the Gramian's rounding to this power; a radius is a root.
    power: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def limit(self, seen: Seen) -> float:
        return 1e-6 if self.power is None else 1e-10 + 5.0 * float((seen.tasks * seen.unit) ** self.power)


def core(weighting: Any) -> Any:
    """What is behind a weighting: its weights are of double precision whatever the Gramian is of."""
    return _core.Weighting(weighting.describe())


def mean(seen: Seen) -> float:
    return float(seen.lengths.mean())


def methods() -> dict[str, Method]:
    of = pt.weighting
    preference = [0.25, 2.0, 0.5, 1.0] * 20
    found = {
        "UPGrad": Method(of.UPGrad(), mean, projected, 1.0),
        "DualProj": Method(of.DualProj(), mean, lambda seen, w: projected(seen, w, w - 1 / seen.tasks), 1.0),
        "PCGrad": Method(of.PCGrad(), lambda seen: seen.lengths.sum()),
        "MGDA": Method(of.MGDA(), lambda seen: seen.lengths.min(), nearest, 1.0),
        "NashMTL": Method(
            of.NashMTL(max_norm=0.0), lambda seen: np.sqrt(7 / 6 * seen.tasks * norm(seen)), fair(1.0, norm)
        ),
        "NashMTL, cut to 1": Method(of.NashMTL(), lambda _: np.sqrt(7 / 6)),
        "FairGrad": Method(of.FairGrad(), lambda seen: np.sqrt(7 / 6 * seen.tasks), fair(1.0)),
        "FairGrad, alpha 0.5": Method(of.FairGrad(alpha=0.5), None, fair(0.5)),
        "FairGrad, alpha 2": Method(of.FairGrad(alpha=2.0), None, fair(2.0)),
        "PIVRG": Method(of.PIVRG(), lambda _: np.sqrt(7 / 6)),
        "ConFIG": Method(of.ConFIG(), None),
        "IMTLG": Method(of.IMTLG(), None),
        "GradVac": Method(of.GradVac(), None),
    }
    for c in (0.2, 0.5, 0.9):
        most = lambda seen, c=c: (1 + c) * seen.mean  # noqa: E731
        found[f"CAGrad, c {c}"] = Method(of.CAGrad(c=c, rescale=0), most, in_ball(c), 0.5)
    for mode in ("min", "median", "rmse"):
        found[f"AlignedMTL, {mode}"] = Method(of.AlignedMTL(scale_mode=mode), kept(mode))
    for name in ("UPGrad", "DualProj"):
        shares = lambda seen: float(seen.lengths @ preference[: seen.tasks])  # noqa: E731
        found[f"{name}, preference"] = Method(getattr(of, name), shares, projected, 1.0, {"preference": preference})
    return found


class Trained:
    """A model whose tasks' gradients are the rows: a linear layer from 0, and each row of features for one task."""

    def __init__(self, weighting: Any, tasks: int, width: int) -> None:
        names = [f"t{k}" for k in range(tasks)]
        encoder = pt.encoder.MLP([1], activation=None)
        self.model = pt.MultiTaskModel(width, tasks=[pt.Task(name) for name in names], encoder=encoder)
        self.start = {path: np.zeros_like(value) for path, value in self.model.state_dict().items()}
        self.start |= {path: value + 1 for path, value in self.start.items() if path.endswith("weight")}
        self.start["encoder.0.weight"] *= 0
        self.model.freeze("encoder.0.bias", "heads")
        self.trainer = pt.Trainer(self.model, pt.optim.SGD(lr=1.0), weighting=weighting)
        # The squared error's slope is 1.
        wanted = np.where(np.eye(tasks, dtype=bool), np.float32(-0.5), np.float32(np.nan))
        self.targets = dict(zip(names, wanted, strict=True))

    def direction(self, rows: np.ndarray) -> np.ndarray:
        self.model.load_state_dict(self.start)
        self.trainer.step((rows.astype(np.float32), self.targets))
        return -self.model.state_dict()["encoder.0.weight"][0].astype(np.float64)


@dataclass
class Found:
    """What a method's draws showed."""

    draws: int = 0
    ratio: float = 0.0
    residuals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(UNITS, 0.0))
    broken: int = 0


def main(count: int, seed: int = 0) -> int:
    table = {name: Found() for name in methods()}
    for name, method in methods().items():
        found, models, cores = table[name], {}, {}
        for number in range(count):
            draw = np.random.default_rng([seed, number])
            way = ("double", "single", "half", "trained")[number % 4]
            if way == "trained" or draw.random() < 0.9:
                tasks, width = SHAPES[draw.integers(len(SHAPES))]
            else:
                tasks, width = int(draw.choice([2, 4, 12, 33, 64])), int(draw.choice([2, 6, 64, 200]))
            seen = Seen(jacobian(draw, tasks, width), "single" if way == "trained" else way)
            made = method.weighting
            if method.settings:
                made = made(**{key: value[:tasks] for key, value in method.settings.items()})
            losses = np.ones(tasks)
            if way == "trained":
                if (tasks, width) not in models:
                    models[tasks, width] = Trained(made, tasks, width)
                direction = models[tasks, width].direction(seen.rows)
            else:
                if (key := tasks if method.settings else 0) not in cores:
                    cores[key] = core(made)
                held = cores[key]
                held.reset()
                weights, _, _ = held.weigh(losses=losses, gramian=seen.gramian, rounding=rounding(seen), seed=number)
                direction = weights @ seen.rows
            problems = judge(method, seen, None if way == "trained" else weights, direction, found)
            if problems:
                found.broken += 1
                print(f"{name}, draw {number}, {way}, {tasks} x {width}: {problems}", flush=True)
        print(line(name, method, found), flush=True)
    return sum(found.broken for found in table.values())


def judge(method: Method, seen: Seen, weights: np.ndarray | None, direction: np.ndarray, found: Found) -> str:
    """Adds a draw; what is wrong with it."""
    found.draws += 1
    if not np.isfinite(direction).all():
        return "not finite"
    length, problems = float(np.linalg.norm(direction)), []
    bounded = method.most is not None
    most = (method.most(seen) if method.most is not None else float(seen.lengths.sum())) + seen.slack
    ratio = length / most if most > 0 else (0.0 if length == 0 else np.inf)
    found.ratio = max(found.ratio, ratio)
    if bounded and ratio > 1 + 1e-9:
        problems.append(f"{length:.3e} long, at most {most:.3e}")
    if method.residual is not None and weights is not None:
        residual = method.residual(seen, weights)
        found.residuals[seen.precision] = max(found.residuals[seen.precision], residual)
        if residual > method.limit(seen):
            problems.append(f"a residual of {residual:.3e}, at most {method.limit(seen):.3e}")
    return "; ".join(problems)


def line(name: str, method: Method, found: Found) -> str:
    ratio = f"{found.ratio:10.6f}" if method.most is not None else f"{'none':>10}"
    each = "".join(f"{value:12.1e}" if method.residual else f"{'-':>12}" for value in found.residuals.values())
    return f"{name:22}{found.draws:8}{ratio}{each}{found.broken:8}"


if __name__ == "__main__":
    warnings.simplefilter("error")
    logging.getLogger("polytask").setLevel(logging.ERROR)
    print(f"{'method':22}{'draws':>8}{'length':>10}{'double':>12}{'single':>12}{'half':>12}{'broken':>8}", flush=True)
    sys.exit(min(1, main(*map(int, sys.argv[1:]))))
