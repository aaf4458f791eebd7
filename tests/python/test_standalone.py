"""Weightings without a trainer: `weights` and `aggregate` on NumPy and torch."""

import pickle
from copy import deepcopy

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import make_model, same_bits
from polytask import _core, registry
from polytask.components.standalone import Weighting

J = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
INFOS = [info for info in registry.REGISTRY if info["family"] == "weighting"]
ALONE = [info for info in INFOS if info["traits"]["parts"] == 1 and not info["traits"]["validates"]]


def made(info, **arguments):
    return getattr(pt.weighting, info["class"])(**arguments)


def walk(infos):
    return pytest.mark.parametrize("info", infos, ids=lambda info: info["name"])


def directions(weighting, calls=3):
    """What it says to so many calls, with losses that fall at different speeds."""
    losses = np.array([2.0, 3.0])
    found = []
    for _ in range(calls):
        found.append(weighting.aggregate(J, losses=losses, seed=1))
        weighting.look_back(losses, losses * [0.9, 0.7])
        losses = losses * [0.9, 0.7]
    return np.array(found)


def test_weights_of_losses():
    weighting = pt.weighting.Static([1.0, 3.0])
    assert weighting.weights(np.array([0.5, 0.7])).tolist() == [1.0, 3.0]
    assert weighting.weights(np.array([np.nan, 0.7])).tolist() == [0.0, 3.0]


def test_a_direction_is_the_weighted_sum_of_gradients():
    weighting = pt.weighting.Static([1.0, 3.0])
    np.testing.assert_array_equal(weighting.aggregate(J), J[0] + 3 * J[1])
    np.testing.assert_array_equal(weighting.aggregate(J, losses=[1.0, np.nan]), J[0])
    np.testing.assert_array_equal(weighting.aggregate(J, losses=np.ma.masked_equal([1.0, 9.0], 9.0)), J[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_numpy_gives_numpy_of_the_same_type(dtype):
    direction = pt.weighting.Equal().aggregate(J.astype(dtype)[:, ::-1])
    assert direction.dtype == (dtype if np.issubdtype(dtype, np.floating) else np.float64)
    assert direction.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_torch_gives_torch_of_the_same_type(dtype):
    jacobian = torch.tensor(J, dtype=dtype, requires_grad=True)
    direction = pt.weighting.Equal().aggregate(jacobian)
    assert direction.dtype == dtype
    assert direction.device == jacobian.device
    assert not direction.requires_grad
    assert direction.tolist() == [2.0, 2.0, 2.0]


@walk(ALONE)
def test_each_weighting_works_alone(info):
    found = directions(made(info))
    assert found.shape == (3, 3)
    assert np.isfinite(found).all()


@walk(ALONE)
def test_it_begins_anew_after_reset(info):
    weighting = made(info)
    first = directions(weighting)
    weighting.reset()
    np.testing.assert_array_equal(directions(weighting), first)
    np.testing.assert_array_equal(directions(made(info)), first)


#: Weightings that look at the losses in each call, and so refuse gradients without them.
LOOK_AT_LOSSES = {
    *("scale_invariant", "uncertainty", "dwa", "gls", "imtl_l", "stch", "famo", "cosmos", "pbi", "go4align", "ldc"),
    *("imtl", "pivrg", "db_mtl", "gradnorm"),
}


@walk(ALONE)
def test_losses_that_it_looks_at_are_asked_for(info):
    weighting = made(info)
    if info["name"] in LOOK_AT_LOSSES:
        with pytest.raises(ValueError, match=f"^{info['class']} looks at the losses: pass `losses` too$"):
            weighting.aggregate(J)
        np.testing.assert_array_equal(directions(weighting), directions(made(info)))
    else:
        alone = weighting.aggregate(J, seed=1)
        np.testing.assert_array_equal(alone, made(info).aggregate(J, losses=[2.0, 3.0], seed=1))


@walk(ALONE)
def test_what_it_learned_is_no_part_of_the_component(info):
    weighting = made(info)
    first = directions(weighting)
    assert weighting == made(info)
    assert hash(weighting) == hash(made(info))
    for copy in (deepcopy(weighting), pickle.loads(pickle.dumps(weighting))):
        assert copy == weighting
        np.testing.assert_array_equal(directions(copy), first)


@walk(ALONE)
def test_weights_say_the_same_as_directions(info):
    needs = info["traits"]["needs"]
    given = {"losses": np.array([2.0, 3.0]), "gramian": J @ J.T, "jacobian": J}[needs]
    losses = {} if needs == "losses" else {"losses": np.array([2.0, 3.0])}
    said, direction, _ = _core.Weighting(made(info).describe()).weigh(losses=np.array([2.0, 3.0]), jacobian=J)
    if said is None:
        with pytest.raises(ValueError, match="is no weighted sum of the gradients: use `aggregate`"):
            made(info).weights(given, **losses)
    else:
        np.testing.assert_allclose(made(info).weights(given, **losses) @ J, direction, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(made(info).aggregate(J, losses=np.array([2.0, 3.0])), direction)


@walk(ALONE)
def test_a_task_without_a_label_is_as_if_it_were_not_there(info):
    three = np.insert(J, 1, [np.nan, 7.0, 7.0], axis=0)
    with_gap = made(info).aggregate(three, losses=[2.0, np.nan, 3.0])
    assert np.isfinite(with_gap).all()
    if info["traits"]["needs"] == "gramian":
        weights = made(info).weights(three @ three.T, losses=[2.0, np.nan, 3.0])
        assert weights[1] == 0
        np.testing.assert_allclose(weights[[0, 2]] @ J, with_gap, rtol=1e-12, atol=1e-14)
    nothing = made(info).aggregate(J, losses=[np.nan, np.nan])
    assert nothing.tolist() == [0.0, 0.0, 0.0]


@walk([info for info in INFOS if info not in ALONE])
def test_what_needs_more_than_gradients_says_so(info):
    with pytest.raises(ValueError, match=f"{info['class']} looks at .*; it works in a Trainer only"):
        made(info).aggregate(J)


@walk([info for info in INFOS if info["traits"]["validates"]])
def test_weightings_that_validate_need_validation_rows(info, data):
    trainer = pt.Trainer(make_model(), weighting=info["name"])
    before = trainer.model.state_dict()
    batches = [data.whole]
    for validation, got in ((None, "none"), (batches, "batches from outside")):
        with pytest.raises(ValueError, match=f"`validation` should be rows in memory.*'{info['name']}'.*got {got}"):
            trainer.fit(data.whole, validation=validation, epochs=1, progress=False)
    assert same_bits(trainer.model.state_dict(), before)
    history = trainer.fit(data.whole, validation=0.25, epochs=2, progress=False)
    assert np.isfinite(history["loss"]).all()


def test_arguments_and_methods_do_not_share_names():
    methods = {name for name in dir(Weighting) if not name.startswith("_")}
    for info in INFOS:
        assert methods.isdisjoint(each["name"] for each in info["parameters"]), info["name"]


def refused(call, message, error=ValueError):
    with pytest.raises(error, match=message):
        call(pt.weighting.Equal())


def test_losses_that_cannot_be_are_refused():
    refused(lambda w: w.weights(np.ones((2, 2))), r"`losses` should have 1 dimension.*got shape \[2, 2\]")
    refused(lambda w: w.weights(np.array([1.0, np.inf])), "`losses` should hold finite numbers.*got inf for task 1")
    refused(lambda w: w.weights("many"), "`losses` should be an array of numbers; got str", TypeError)
    refused(lambda w: w.weights(np.array(["a"])), "`losses` should hold numbers", TypeError)
    refused(lambda w: w.weights(np.ones(0)), "`losses` should have at least one task; got none")
    refused(lambda w: w.weights(np.ones(2), losses=np.ones(2)), "Equal: the losses are `x` already")
    refused(lambda w: w.look_back(np.ones(2), np.ones(2)), "no step to look back at")


def test_gradients_that_cannot_be_are_refused():
    refused(lambda w: w.aggregate(np.ones(3)), r"`jacobian` should have 2 dimension.*got shape \[3\]")
    refused(
        lambda w: w.aggregate([[1.0, np.nan]]), "`jacobian` should hold finite numbers; got NaN in the row of task 0"
    )
    refused(lambda w: w.aggregate(J, losses=[1.0]), "`losses` should have as many tasks as `jacobian`, 2; got 1")
    refused(lambda w: w.aggregate(np.ma.masked_equal(J, 6.0)), "`jacobian` should not be masked")


def test_another_problem_starts_with_reset():
    weighting = pt.weighting.GradVac()
    weighting.aggregate(J)
    with pytest.raises(ValueError, match=r"`jacobian` should have 2 tasks, as in the calls before; got 3.*reset\(\)"):
        weighting.aggregate(np.eye(3))
    weighting.reset()
    assert weighting.aggregate(np.eye(3)).tolist() == [1.0, 1.0, 1.0]


#: Weightings that learn nothing from a call on gradients and losses.
STATELESS = {
    *("equal", "mean", "static", "scale_invariant", "rlw", "gls", "famo", "cosmos", "pbi", "aligned_mtl", "cagrad"),
    *("config", "dualproj", "fairgrad", "imtl_g", "mgda", "nash_mtl", "upgrad", "graddrop", "krum", "pcgrad"),
    "trimmed_mean",
}


@walk(ALONE)
def test_what_learned_nothing_takes_any_number_of_tasks(info):
    weighting, three = made(info), np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0], [0.0, 2.0, 0.5]])
    before = weighting.aggregate(J, losses=[2.0, 3.0])
    if info["name"] not in STATELESS:
        with pytest.raises(ValueError, match="should have 2 tasks, as in the calls before; got 3"):
            weighting.aggregate(three, losses=[2.0, 3.0, 4.0])
        return
    assert weighting.aggregate(three, losses=[2.0, 3.0, 4.0]).shape == (3,)
    # Random numbers go on from call to call.
    if info["name"] not in {"rlw", "graddrop", "pcgrad"}:
        np.testing.assert_array_equal(weighting.aggregate(J, losses=[2.0, 3.0]), before)


def test_a_state_can_be_kept_and_restored():
    core = _core.Weighting({"name": "equal"})
    core.weigh(losses=np.ones(2))
    value, arrays = core.state()
    other = _core.Weighting({"name": "equal"})
    other.restore(value, arrays)
    assert other.state() == core.state()
    with pytest.raises(ValueError, match="`state` should be what the state of a weighting gave; got 3"):
        other.restore(3)


#: How long the directions are at most.
BOUNDS = {
    "UPGrad": lambda lengths, mean: lengths.mean(),
    "DualProj": lambda lengths, mean: lengths.mean(),
    "MGDA": lambda lengths, mean: lengths.min(),
    "CAGrad": lambda lengths, mean: 1.5 * mean,
    "PCGrad": lambda lengths, mean: lengths.sum(),
    "NashMTL": lambda lengths, mean: 1.1,
    "AlignedMTL": lambda lengths, mean: lengths.min(),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", BOUNDS)
def test_opposed_gradients_do_not_make_the_direction_long(name, dtype):
    generator, rounding = np.random.default_rng(7), np.finfo(dtype).eps
    weighting = getattr(pt.weighting, name)(**({"rescale": 0} if name == "CAGrad" else {}))
    for _ in range(300):
        jacobian = generator.normal(size=(5, 6))
        jacobian[1] = -generator.uniform(0.2, 5) * jacobian[0]
        jacobian[3] = -generator.uniform(0.2, 5) * jacobian[2]
        jacobian = jacobian.astype(np.float32).astype(np.float64)
        weights = weighting.weights((jacobian @ jacobian.T).astype(dtype)).astype(np.float64)
        lengths = np.linalg.norm(jacobian, axis=1)
        most = BOUNDS[name](lengths, np.linalg.norm(jacobian.mean(axis=0)))
        slack = np.sqrt(5 * rounding) * lengths.sum()
        assert np.linalg.norm(weights @ jacobian) <= most + slack


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_in_half_precision_are_products_of_gradients(dtype):
    generator = np.random.default_rng(3)
    for name in BOUNDS:
        weighting = getattr(pt.weighting, name)()
        for _ in range(50):
            # On one line, so that rounding makes cosines of more than 1; the square of one is no normal number.
            jacobian = generator.choice([-1.7, -0.9, 0.8, 1.1], size=(5, 1)) * generator.normal(size=(1, 6))
            jacobian[1] *= 0.002 / np.linalg.norm(jacobian[1])
            weights = weighting.weights(torch.tensor(jacobian @ jacobian.T).to(dtype))
            assert weights.dtype == dtype
            assert weights.isfinite().all()


@pytest.mark.parametrize("name", ["ConFIG", "AlignedMTL", "UPGrad", "MGDA", "CAGrad", "DualProj", "PCGrad", "IMTLG"])
@pytest.mark.parametrize("tasks", [48, 100])
def test_rounding_of_many_tasks_leaves_the_direction(name, tasks):
    jacobian = np.random.default_rng(0).normal(size=(tasks, 4000))
    gramian = jacobian @ jacobian.T
    weighting = getattr(pt.weighting, name)()
    exact = weighting.weights(gramian) @ jacobian
    rounded = weighting.weights(torch.tensor(gramian).to(torch.bfloat16)).to(torch.float64).numpy() @ jacobian
    assert np.linalg.norm(rounded - exact) < 0.05 * np.linalg.norm(exact)


@pytest.mark.parametrize("name", ["AlignedMTL", "ConFIG", "IMTLG"])
def test_many_tasks_that_are_the_same_but_one(name):
    for tasks in (27, 55, 61):
        gramian = np.ones((tasks, tasks))
        gramian[3, 3] += 1e-7
        weights = getattr(pt.weighting, name)().weights(gramian)
        assert weights.sum() == pytest.approx(tasks if name == "ConFIG" else 1.0, rel=1e-6)


def test_a_direction_that_nothing_bounds_is_said_to_be_long_once(caplog):
    # The direction of equal projections nearly has negative ones, and weights that sum to nearly 0.
    jacobian = np.array([[-1.0, 0.9, -0.9], [-3.6, 0.4, -0.6], [-0.8, 1.0, -0.9]])
    for name, said in (("IMTLG", 1), ("UPGrad", 0)):
        caplog.clear()
        weighting = getattr(pt.weighting, name)()
        for _ in range(3):
            weighting.aggregate(jacobian)
        assert caplog.text.count(f"{name}: the direction is more than 10 times as long as all tasks' gradients") == said
