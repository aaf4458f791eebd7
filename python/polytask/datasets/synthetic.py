"""Regression tasks made by a formula, whose relation is known: two of a given correlation, and groups of tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]


def correlated_tasks(
    rows: int,
    correlation: float,
    *,
    inputs: int = 100,
    terms: int = 4,
    scale: float = 1.0,
    noise: float = 0.1,
    seed: int = 0,
) -> tuple[_Floats, dict[str, _Floats]]:
    """Two regressions, `a` and `b`, whose directions have a given cosine.

        x ~ N(0, I)    w_a = c u_1    w_b = c (p u_1 + sqrt(1 - p^2) u_2)
        y_t = w_t x + sum_j sin(alpha_j w_t x + beta_j) + e_t    e_t ~ N(0, noise^2)

    with orthogonal unit vectors `u_1`, `u_2` (Ma, Zhao, Yi, Chen, Hong and Chi, Modeling Task Relationships in
    Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018). The labels' correlation is `p` for the linear
    part and grows with `p` for all of it. Both tasks have the same `alpha_j`, uniform in 0.5..2.5, and `beta_j`,
    uniform on the circle.

    Arguments:
        rows: how many; take rows to train and to test on from one call, which has one pair of directions.
        correlation: the cosine `p` of the directions, -1..1.
        inputs: numbers in a row, 2 or more.
        terms: sines in the sum.
        scale: the `c` of both directions.
        noise: standard deviation of `e_t`.
        seed: of directions, sines, rows and noise.

    Returns:
        `x` `[rows, inputs]` and `{"a": [rows], "b": [rows]}`.

    Raises:
        ValueError: an argument out of its range.
    """
    _check(rows=(rows, 1), inputs=(inputs, 2), terms=(terms, 0), noise=(noise, 0))
    if not -1 <= correlation <= 1:
        raise ValueError(f"`correlation` should lie in -1..1; got {correlation!r}")
    random = np.random.default_rng(seed)
    u = np.linalg.qr(random.standard_normal((inputs, 2)))[0].T
    alpha, beta = random.uniform(0.5, 2.5, terms), random.uniform(0, 2 * np.pi, terms)
    x = random.standard_normal((rows, inputs))
    mixes = {"a": (1.0, 0.0), "b": (correlation, np.sqrt(1 - correlation**2))}
    labels = {}
    for task, mix in mixes.items():
        along = x @ (scale * (np.array(mix) @ u))
        bent = np.sin(along[:, None] * alpha + beta).sum(1)
        labels[task] = along + bent + noise * random.standard_normal(rows)
    return x, labels


def grouped_tasks(
    rows: int,
    groups: int = 2,
    tasks_per_group: int = 4,
    *,
    inputs: int = 20,
    deviation: float = 0.2,
    noise: float = 0.3,
    seed: int = 0,
) -> tuple[_Floats, dict[str, _Floats]]:
    """Regressions in groups: tasks of one group look in nearly the same direction, groups in directions of their own.

        x ~ N(0, I)    w_t = (u_g + deviation v_t) / |u_g + deviation v_t|    y_t = log(1 + exp(2 w_t x)) + e_t

    with unit vectors `u_g` of each group and `v_t` of each task, all drawn independently, and `e_t ~ N(0, noise^2)`.
    What a task learns helps the others of its group and says nothing about the other groups. The curve is neither odd
    nor even, so that a network and its mirror image, with all signs turned, are not both solutions.

    Arguments:
        rows: how many; take rows to train and to test on from one call, which has one set of directions.
        groups: how many groups, 26 at most.
        tasks_per_group: tasks of each.
        inputs: numbers in a row.
        deviation: how far a task's direction strays from its group's.
        noise: standard deviation of `e_t`.
        seed: of directions, rows and noise.

    Returns:
        `x` `[rows, inputs]` and labels `[rows]` of the tasks `a1`, `a2`, ..., `b1`, `b2`, ...

    Raises:
        ValueError: an argument out of its range.
    """
    _check(rows=(rows, 1), groups=(groups, 1), tasks_per_group=(tasks_per_group, 1), inputs=(inputs, 1))
    _check(deviation=(deviation, 0), noise=(noise, 0))
    if groups > len(_LETTERS):
        raise ValueError(f"`groups` should be at most {len(_LETTERS)}; got {groups!r}")
    random = np.random.default_rng(seed)
    centres = _unit(random.standard_normal((groups, 1, inputs)))
    own = _unit(random.standard_normal((groups, tasks_per_group, inputs)))
    directions = _unit(centres + deviation * own).reshape(-1, inputs)
    x = random.standard_normal((rows, inputs))
    names = [f"{letter}{k + 1}" for letter in _LETTERS[:groups] for k in range(tasks_per_group)]
    labels = {
        name: np.logaddexp(0, 2 * (x @ direction)) + noise * random.standard_normal(rows)
        for name, direction in zip(names, directions, strict=True)
    }
    return x, labels


_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _unit(vectors: _Floats) -> _Floats:
    unit: _Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def _check(**arguments: tuple[Any, float]) -> None:
    for name, (value, least) in arguments.items():
        if value < least:
            raise ValueError(f"`{name}` should be at least {least}; got {value!r}")
