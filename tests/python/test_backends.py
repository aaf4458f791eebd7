"""Formulas alone against loops: the same steps, on the processor, and on a card where there is one."""

import copy
import logging
import pickle
from collections import Counter

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_model, same_bits
from test_weighting_walk import FUNNELS, conflicting, names
from torch.profiler import ProfilerActivity, profile

#: What is compared with loops. "formulas" is the processor without any loop.
AWAY = ["formulas", *(["cuda:0"] if torch.cuda.is_available() else [])]
STEPS = 20
ROWS = 60


def near(got, want, what, tolerance=1e-5):
    """Within the tolerance of the norm of what is wanted, or of a hundredth."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert (np.isnan(got) == np.isnan(want)).all(), what
    got, want = np.nan_to_num(got), np.nan_to_num(want)
    assert np.linalg.norm(got - want) <= tolerance * max(np.linalg.norm(want), 1e-2), (what, got, want)


class PairsInOrder:
    """AUROC, the scores it was asked about, and the share of pairs that a rounding may bring into another order."""

    __name__ = "pairs_in_order"

    def __init__(self):
        self.asked = []

    def __call__(self, p, y):
        p = np.asarray(p, np.float64)
        ones, zeros = p[y == 1][:, None], p[y == 0]
        above = ones - zeros
        found = ((above > 0) + 0.5 * (above == 0)).mean() if above.size else np.nan
        near = (np.abs(above) <= 1e-4 * np.maximum(ones, zeros)).mean() if above.size else np.nan
        self.asked.append((p, found, near))
        return found

    def taken(self):
        """What there was since the last time."""
        asked, self.asked = self.asked, []
        assert asked
        return asked


def trainer(where, weighting="equal", sharing="hard", lr=0.05, regularizers=(), encoder=None, metrics=(), **more):
    decision = {"loss": "binary_cross_entropy", "metrics": ["accuracy", "auroc", *metrics]}
    if sharing in FUNNELS:
        tasks = [pt.Task(name, **decision) for name in ("up", "down", "side", "flags")]
    else:
        flags = pt.Task("flags", outputs=2, **decision)
        tasks = [pt.Task("up"), pt.Task("down", weight=0.5), pt.Task("side", classes=2), flags]
    encoder = pt.encoder.MLP([8, 8], dropout=0.1, norm="batch") if encoder is None else encoder
    model = pt.MultiTaskModel(6, tasks=tasks, encoder=encoder, sharing=sharing, seed=2)
    model._core.to(where)
    return pt.Trainer(
        model,
        pt.optim.SGD(lr=lr),
        weighting=weighting,
        regularizers=regularizers,
        observe=("weights", "gradients"),
        seed=4,
        **more,
    )


def step(trained, sharing, batch_size=ROWS):
    """One step as an epoch of its own; what the history says of it."""
    data, validation = conflicting(sharing, rows=ROWS), conflicting(sharing, rows=24, seed=5)
    trained.fit(data, validation=validation, epochs=1, batch_size=batch_size, shuffle=False, progress=False)
    return {name: number for name, number in trained.history.rows[-1].items() if name not in ("epoch", "seconds")}


def compare_steps(away, weighting, sharing, **more):
    """Losses, weights, Gramian and gradients of each step, from the same parameters."""
    # Of a rate of 1 the change of the parameters is the gradient.
    orders = [PairsInOrder(), PairsInOrder()]
    loops, formulas = (
        trainer(where, weighting, sharing, lr=1.0, metrics=[order], **more)
        for where, order in zip(("loops", away), orders, strict=True)
    )
    path = trainer("loops", weighting, sharing, encoder=more.get("encoder"))
    batch = ROWS // more.get("accumulate", 1)
    for k in range(STEPS):
        state = path.model.state_dict()
        changes = []
        for each in (loops, formulas):
            each.model.load_state_dict(state)
        rows = [step(each, sharing, batch) for each in (loops, formulas)]
        assert rows[0].keys() == rows[1].keys()
        for row in rows:
            for name in [name for name in row if name.endswith("pairs_in_order")]:
                near(row.pop(name.replace("pairs_in_order", "auroc")), row.pop(name), (k, name))
        for (want, order, ties), (got, other, _) in zip(*(each.taken() for each in orders), strict=True):
            # Of both sides: where all are near 0 a rounding is still one of their sum, 1.
            near(np.stack([1 - got, got]), np.stack([1 - want, want]), (k, "scores"))
            assert (np.isnan(order) and np.isnan(other)) or abs(order - other) <= ties + 1e-12, (k, "AUROC")
        # All cosines, all norms, all weights are one thing each.
        for kind in {name.split("/")[0] for name in rows[0]}:
            want, got = ([row[name] for name in row if name.split("/")[0] == kind] for row in rows)
            near(got, want, (k, kind))
        for each in (loops, formulas):
            after = each.model.state_dict()
            changes.append(np.concatenate([(after[name] - state[name]).ravel() for name in state]))
        near(changes[1], changes[0], (k, "gradient"))
        step(path, sharing)


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("weighting", names("weighting"))
def test_every_weighting_makes_the_same_steps(weighting, away):
    compare_steps(away, weighting, "hard")


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("weighting", ["equal", "uncertainty", "upgrad"])
@pytest.mark.parametrize("sharing", [name for name in names("sharing") if name != "hard"])
def test_every_sharing_scheme_makes_the_same_steps(sharing, weighting, away):
    compare_steps(away, weighting, sharing)


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
@pytest.mark.parametrize("sharing", ["hard", "mmoe", "cross_stitch", "soft", "aitm"])
@pytest.mark.parametrize("variant", ["full", "mini", "packed"])
def test_members_of_an_ensemble_make_the_same_steps(variant, sharing, weighting, away):
    encoder = pt.encoder.TabM([8, 8], members=3, variant=variant, activation="gelu", dropout=0.1)
    compare_steps(away, weighting, sharing, encoder=encoder)


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize(
    "weighting",
    [
        pt.weighting.UPGrad(at="representation"),
        pt.weighting.NashMTL(at="representation", refresh=3),
        pt.weighting.CAGrad(per="layer"),
        pt.weighting.MGDA(normalize="l2"),
    ],
    ids=lambda weighting: repr(weighting),
)
def test_modes_make_the_same_steps(weighting, away):
    compare_steps(away, weighting, "hard")


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("sharing", ["cgc", "cross_stitch", "ltb", "mmoe"])
def test_gradients_at_a_representation_of_several_groups_are_the_same(sharing, away):
    compare_steps(away, pt.weighting.UPGrad(at="representation"), sharing)


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
def test_a_python_loss_makes_the_same_steps_and_is_asked_for_gradients_in_steps_alone(weighting, away):
    wanted = []

    def loss(outputs, targets):
        outputs.register_hook(lambda gradient: wanted.append(len(gradient)))
        return (outputs - targets).abs()

    data = Data()
    ends = []
    for where in ("loops", away):
        model = pt.MultiTaskModel(8, tasks=[pt.Task("age", loss=loss), pt.Task("income", classes=2)], seed=3)
        model._core.to(where)
        trained = pt.Trainer(model, pt.optim.SGD(lr=0.05), weighting=weighting)
        targets = {"age": data.age, "income": data.income}
        trained.fit((data.x, targets), epochs=STEPS, batch_size=160, shuffle=False, train_metrics=False, progress=False)
        assert sum(wanted) == STEPS * 160
        trained.evaluate((data.x, targets))
        assert sum(wanted) == STEPS * 160
        wanted.clear()
        ends.append(np.concatenate([array.ravel() for array in model.state_dict().values()]))
    near(ends[1], ends[0], "parameters")


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("weighting", ["equal", "dwa", "upgrad"])
def test_micro_batches_and_clipping_make_the_same_steps(weighting, away):
    compare_steps(away, weighting, "hard", accumulate=3, clip_norm=0.5)


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("regularizer", names("regularizer"))
def test_every_regularizer_makes_the_same_steps(regularizer, away):
    # Tasks are compared in networks of their own, private experts with shared ones.
    if regularizer == "orthogonality":
        given = pt.regularizer.Orthogonality(0.5, private="task_experts")
        compare_steps(away, "equal", "cgc", regularizers=[given])
    else:
        compare_steps(away, "equal", "soft", regularizers=[regularizer])


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("weighting", ["equal", "uncertainty", "upgrad", "mgda", "famo"])
def test_runs_of_plain_sgd_end_alike(weighting, away):
    ends = []
    for where in ("loops", away):
        trained = trainer(where, weighting)
        for _ in range(STEPS):
            step(trained, "hard")
        ends.append(np.concatenate([array.ravel() for array in trained.model.state_dict().values()]))
    near(ends[1], ends[0], "parameters")


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("optimizer", names("optim"))
def test_every_optimizer_trains_away_and_resumes_with_the_same_bits(optimizer, away, tmp_path):
    data = Data()

    def new():
        model = make_model()
        model._core.to(away)
        return pt.Trainer(model, optimizer, lr=1e-2, seed=1)

    whole = new()
    whole.fit(data.whole, epochs=4, batch_size=32, progress=False)
    assert whole.history.rows[-1]["loss"] < whole.history.rows[0]["loss"]
    first = new()
    first.fit(data.whole, epochs=2, batch_size=32, progress=False, callbacks=[pt.Checkpoint(tmp_path)])
    second = new()
    second.fit(data.whole, epochs=4, batch_size=32, progress=False, resume=tmp_path)
    assert same_bits(second.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize("away", AWAY)
def test_predictions_evaluations_and_looks_inside_are_the_same(away):
    data = Data()
    here = make_model(sharing="mmoe")
    there = copy.deepcopy(here)
    there._core.to(away)
    for name, want in here.predict(data.x).items():
        near(there.predict(data.x)[name], want, name, 1e-6)
    got, want = (pt.Trainer(model).evaluate(data.whole) for model in (there, here))
    for task in want:
        for metric, number in want[task].items():
            near(got[task][metric], number, (task, metric))
    gates = [model.inspect(data.x).gates for model in (there, here)]
    for name, want in gates[1].items():
        near(gates[0][name].values, want.values, name)


def test_a_model_comes_back_with_its_numbers_and_its_views():
    model = make_model()
    views = model.parameters()
    before = model.state_dict()
    model._core.to("formulas")
    assert same_bits(model.state_dict(), before)
    pt.Trainer(model, pt.optim.SGD(lr=0.1)).fit(Data().whole, epochs=1, progress=False)
    trained = model.state_dict()
    assert model.to("cpu") is model
    assert same_bits(model.state_dict(), trained)
    assert not same_bits(trained, before)
    assert same_bits(views, {name: trained[name] for name, _ in views.items()})


def test_a_trainer_goes_on_where_its_model_was_brought():
    data = Data()
    ends = []
    for places in (("loops",) * 4, ("loops", "formulas", "loops", "formulas")):
        model = make_model()
        trained = pt.Trainer(model, pt.optim.SGD(lr=0.05, momentum=0.9))
        for where in places:
            model._core.to(where)
            trained.fit(data.whole, epochs=1, batch_size=32, progress=False)
        ends.append(np.concatenate([array.ravel() for array in model.state_dict().values()]))
    near(ends[1], ends[0], "parameters")


@pytest.mark.parametrize(
    ("device", "error", "said"),
    [
        ("mps", ValueError, r'`device` should be "cpu" or "cuda"; got \'mps\''),
        ("nowhere", ValueError, r'`device` should be "cpu" or "cuda", with a number or without; got \'nowhere\''),
        (3, TypeError, r'`device` should be "cpu", "cuda" or a torch.device; got 3'),
        (f"cuda:{torch.cuda.device_count()}", ValueError, r"`device`: there is no \"cuda:\d+\"; torch finds "),
    ],
)
def test_devices_that_are_not_there_are_named(device, error, said):
    model = make_model()
    with pytest.raises(error, match=said):
        model.to(device)
    with pytest.raises(error, match=said):
        pt.Trainer(model, device=device)
    assert model.device == torch.device("cpu")


def test_a_sparse_table_stays_on_the_processor():
    inputs = pt.Inputs(2, [50], embedding=[4], sparse=[True])
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")])
    with pytest.raises(
        ValueError, match=r"`device`: the sparse table .* learns on the processor alone: use sparse=False"
    ):
        model._core.to("formulas")


def test_a_device_of_the_processor_changes_nothing():
    ends = []
    for device in (None, "cpu", torch.device("cpu")):
        model = make_model()
        trained = pt.Trainer(model, device=device)
        trained.fit(Data().whole, epochs=1, progress=False)
        ends.append(model.state_dict())
    assert same_bits(ends[0], ends[1])
    assert same_bits(ends[0], ends[2])


def test_a_pickle_of_a_device_that_is_not_here_comes_up_on_the_processor(caplog):
    model = make_model()
    state = model.__getstate__()
    assert state["device"] == "cpu"
    other = pt.MultiTaskModel.__new__(pt.MultiTaskModel)
    absent = f"cuda:{torch.cuda.device_count()}"
    with caplog.at_level(logging.WARNING, "polytask"):
        other.__setstate__({**state, "device": absent})
    assert f'the model stays on the processor: `device`: there is no "{absent}"' in caplog.text
    assert other.device == torch.device("cpu")
    assert same_bits(pickle.loads(pickle.dumps(model)).state_dict(), model.state_dict())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_card_is_a_device():
    model = make_model()
    trained = pt.Trainer(model, weighting="upgrad", device="cuda")
    assert model.device.type == "cuda"
    trained.fit(Data().whole, epochs=2, progress=False)
    assert copy.deepcopy(model).device == model.device
    with pytest.raises(ValueError, match="live views are of the processor's memory alone"):
        model.parameters()
    with pytest.raises(ValueError, match=r"the weighting .* computes on the processor alone"):
        pt.Trainer(make_model(), weighting="graddrop", device="cuda")


#: Operations of libtorch that wait for the device and ask it for a number; no capture holds them.
ASKING = ("item", "_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "_unique2", "bincount")


def asked(sharing="hard", optimizer="sgd", **settings):
    """How often two steps by formulas, after two others, run such an operation, by its name."""
    trained = pt.Trainer(trainer("formulas", sharing=sharing).model, optimizer, seed=4, **settings)
    call = {"batch_size": 30, "shuffle": False, "progress": False, "train_metrics": False}
    trained.fit(conflicting(sharing, rows=ROWS), epochs=1, **call)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        trained.fit(conflicting(sharing, rows=ROWS), epochs=2, **call)
    counts = Counter(event.name() for event in profiler.profiler.kineto_results.events())
    assert counts["aten::copy_"] > 0, "the profiler should see the core's operations"
    return {name: counts[f"aten::{name}"] for name in ASKING if counts[f"aten::{name}"]}


def test_what_waits_for_the_device_is_seen():
    # Whether singular values were found is asked before they are used.
    assert asked("soft", regularizers=["trace_norm"]).keys() == {"item", "_local_scalar_dense"}
    assert asked("soft", regularizers=["clustered"]) == {}


@pytest.mark.parametrize("optimizer", names("optim"))
def test_steps_of_no_optimizer_wait_for_the_device(optimizer):
    assert asked(optimizer=optimizer, clip_norm=1.0) == {}


@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
@pytest.mark.parametrize("sharing", ["cross_stitch", "dselect_k", "ltb", "mmoe"])
def test_steps_of_no_sharing_scheme_wait_for_the_device(sharing, weighting):
    assert asked(sharing, weighting=weighting) == {}
