"""What each weighting's paper claims of it, as a table, and every claim put to the test."""

import numpy as np
import polytask as pt
import pytest
from gradients import distance, jacobian
from polytask.components.registry import REGISTRY
from polytask.datasets import toy

TRAITS = {info["class"]: info["traits"] for info in REGISTRY if info["family"] == "weighting"}
#: These say nothing of one Gramian or one vector of losses: they need parts of a batch, or validation rows.
ELSEWHERE = {name for name, traits in TRAITS.items() if traits["parts"] > 1 or traits["validates"]}
#: Of weightings from gradients what each promises (`src/weighting/mod.rs` has the meaning), and of those from losses,
#: before they have learned anything.
GRADIENTS = {name: traits["promises"] for name, traits in TRAITS.items() if traits["needs"] != "losses"}
LOSSES = {name: traits["promises"] for name, traits in TRAITS.items() if name not in GRADIENTS}

KINDS = ["random", "conflicting", "low_rank", "nearly_dependent", "nearly_opposed"]
TASKS = [2, 3, 5, 16, 40]


def make(name, **arguments):
    return getattr(pt.weighting, name)(**arguments)


def direction_of(name, rows):
    return make(name).aggregate(rows, losses=np.ones(len(rows)))


def weights_of(name, rows):
    return make(name).weights(rows @ rows.T, losses=np.ones(len(rows)))


#: Promises that a test below is about.
TESTED = set()


def claimed(table, claim):
    TESTED.add(claim)
    promising = [name for name, promises in table.items() if claim in promises and name not in ELSEWHERE]
    return pytest.mark.parametrize("name", promising)


def every_jacobian(test):
    test = pytest.mark.parametrize("kind", KINDS)(test)
    return pytest.mark.parametrize("tasks", TASKS)(test)


def test_what_is_promised_is_put_to_the_test():
    promised = {promise for traits in TRAITS.values() for promise in traits["promises"]}
    assert promised == TESTED
    assert not {name for name in ELSEWHERE if TRAITS[name]["promises"]}


@claimed(GRADIENTS, "weighted")
@every_jacobian
def test_the_direction_is_the_weights_combination_of_rows(name, kind, tasks):
    rows = jacobian(kind, tasks)
    weights = weights_of(name, rows)
    assert weights.shape == (tasks,)
    assert distance(direction_of(name, rows), rows.T @ weights, rows) < 1e-5


@claimed(GRADIENTS, "permutes")
@every_jacobian
def test_the_order_of_tasks_does_not_matter(name, kind, tasks):
    rows = jacobian(kind, tasks)
    order = np.random.default_rng(1).permutation(tasks)
    # Sums in float32 depend on the order, and nearly opposed rows leave little of them.
    assert distance(direction_of(name, rows[order]), direction_of(name, rows), rows) < 1e-4


@claimed(GRADIENTS, "safe")
@every_jacobian
def test_no_task_conflicts_with_the_direction(name, kind, tasks):
    conflicts(name, kind, tasks)


@claimed(GRADIENTS, "safe_independent")
@every_jacobian
def test_no_task_conflicts_with_the_direction_if_gradients_are_independent(name, kind, tasks):
    if kind == "low_rank":
        assert np.isfinite(direction_of(name, jacobian(kind, tasks))).all()
        return
    conflicts(name, kind, tasks)


@claimed(GRADIENTS, "safe_pair")
@pytest.mark.parametrize("kind", KINDS)
def test_neither_of_two_tasks_conflicts_with_the_direction(name, kind):
    conflicts(name, kind, 2)


def conflicts(name, kind, tasks):
    for seed in range(8):
        rows = jacobian(kind, tasks, seed)
        direction = direction_of(name, rows)
        cosines = rows @ direction / np.linalg.norm(rows, axis=1) / np.linalg.norm(direction)
        assert cosines.min() > -1e-6


@claimed(GRADIENTS, "linear")
@every_jacobian
def test_it_is_linear_in_the_scales_of_the_rows(name, kind, tasks):
    rows = jacobian(kind, tasks)
    one, other = np.random.default_rng(2).uniform(0.5, 2, (2, tasks, 1))
    sum_of_both = direction_of(name, one * rows) + direction_of(name, other * rows)
    assert distance(direction_of(name, (one + other) * rows), sum_of_both, rows) < 1e-5


@claimed(GRADIENTS, "homogeneous")
@pytest.mark.parametrize("size", [2.0**-33, 2.0**-10, 2.0**33])
@every_jacobian
def test_it_scales_with_the_gradients(name, kind, tasks, size):
    rows = jacobian(kind, tasks)
    assert distance(direction_of(name, size * rows) / size, direction_of(name, rows), rows) < 1e-5


@claimed(GRADIENTS, "scale_free")
@pytest.mark.parametrize("size", [2.0**-33, 2.0**-10, 2.0**33])
@every_jacobian
def test_it_does_not_depend_on_the_gradients_scale(name, kind, tasks, size):
    rows = jacobian(kind, tasks)
    np.testing.assert_allclose(direction_of(name, size * rows), direction_of(name, rows), rtol=1e-4, atol=1e-5)


@claimed(GRADIENTS, "impartial")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "low_rank"])
@pytest.mark.parametrize("tasks", TASKS)
def test_projections_on_unit_rows_are_equal(name, kind, tasks):
    rows = jacobian(kind, tasks)
    direction = direction_of(name, rows)
    projections = rows @ direction / np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(projections, projections.mean(), rtol=1e-3, atol=1e-6 * np.linalg.norm(direction))


def opposed(tasks):
    """Two opposed rows, whose mean is zero, and others that conflict with none: zero in the hull, but on its border."""
    rows = jacobian("random", tasks)
    rows[1] = -rows[0]
    rows[2:] -= np.outer(rows[2:] @ rows[0] / (rows[0] @ rows[0]), rows[0])
    return rows


@claimed(GRADIENTS, "stops_weakly")
@pytest.mark.parametrize("tasks", TASKS)
def test_it_is_zero_where_a_convex_combination_is(name, tasks):
    for rows in (jacobian("stationary", tasks), opposed(tasks)):
        assert np.linalg.norm(direction_of(name, rows)) < 1e-6 * np.linalg.norm(rows, axis=1).mean()


@claimed(GRADIENTS, "stops_strongly")
@pytest.mark.parametrize("tasks", [3, 5, 16, 40])
def test_it_is_zero_where_a_positive_combination_is_and_only_there(name, tasks):
    rows = jacobian("stationary", tasks)
    assert np.linalg.norm(direction_of(name, rows)) < 1e-6 * np.linalg.norm(rows, axis=1).mean()
    rows = opposed(tasks)
    direction = direction_of(name, rows)
    assert (rows[2:] @ direction).max() > 1e-3 * np.linalg.norm(rows[2:], axis=1).max() * np.linalg.norm(direction)
    assert np.linalg.norm(direction) > 1e-3 * np.linalg.norm(rows, axis=1).mean()


# --- the toy problem --------------------------------------------------------------------------------------------------


def descend(weighting, start, steps=8000, lr=0.05):
    """Adam from this point, with a learning rate that falls to zero in the second half."""
    x, mean, square = start.copy(), np.zeros(2), np.zeros(2)
    for step in range(1, steps + 1):
        direction = weighting.aggregate(toy.jacobian(x))
        mean = 0.9 * mean + 0.1 * direction
        square = 0.999 * square + 0.001 * direction**2
        rate = lr * min(1, 2 * (1 - step / steps))
        x = x - rate * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return x


@claimed(GRADIENTS, "pareto")
@pytest.mark.parametrize("start", toy.STARTS, ids=str)
def test_it_reaches_the_pareto_front(name, start):
    end = descend(make(name), start)
    gradients = toy.jacobian(end)
    assert toy.stationarity(gradients) < 1e-3 * np.linalg.norm(gradients, axis=1).max()
    assert abs(end[0]) < 7.05
    assert abs(end[1] + 8.36) < 0.3


def test_the_toy_problem_is_the_published_one():
    # By hand at (0, -1): tanh(1/2) times the two parabolas.
    weight = np.tanh(0.5)
    value = (49 + 0.1 * 49) / 10 - 20
    np.testing.assert_allclose(toy.losses([0, -1], scale=1), [value * weight, value * weight], rtol=1e-12)
    # At (1, 1): logarithms of |-4 + tanh 1| and |1 - tanh 1 + 2|.
    logs = np.log(np.abs([-4 + np.tanh(1), 3 - np.tanh(1)])) + 6
    np.testing.assert_allclose(toy.losses([1, 1], scale=0.1), logs * np.tanh(0.5) * [0.1, 1], rtol=1e-12)
    assert toy.stationarity(toy.jacobian([0, -8.3552])) < 1e-3


def test_the_toy_problems_jacobian_is_its_derivative():
    points = np.random.default_rng(0).uniform(-10, 10, (300, 2))
    shift = 1e-6
    for k, unit in enumerate(np.eye(2)):
        slope = (toy.losses(points + shift * unit) - toy.losses(points - shift * unit)) / (2 * shift)
        np.testing.assert_allclose(toy.jacobian(points)[..., k], slope, rtol=1e-4, atol=1e-6)


# --- weightings from losses -------------------------------------------------------------------------------------------

SOME = np.array([0.5, 2.0, 1.25, 0.1, 3.0])


@claimed(LOSSES, "permutes")
def test_permuted_losses_have_permuted_weights(name):
    order = np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(make(name).weights(SOME[order]), make(name).weights(SOME)[order], rtol=1e-9)


@claimed(LOSSES, "positive")
def test_weights_of_losses_are_positive(name):
    assert make(name).weights(SOME).min() > 0


@claimed(LOSSES, "levels")
def test_weighted_losses_are_equal(name):
    weighted = make(name).weights(SOME) * SOME
    np.testing.assert_allclose(weighted, weighted.mean(), rtol=1e-6)


@claimed(LOSSES, "one")
def test_weights_of_losses_sum_to_one(name):
    assert make(name).weights(SOME).sum() == pytest.approx(1)


@claimed(LOSSES, "count")
def test_weights_of_losses_sum_to_the_number_of_tasks(name):
    assert make(name).weights(SOME).sum() == pytest.approx(len(SOME))
