"""Sizes that no memory holds are refused before any is taken, in arguments and in files."""

import json
import resource
import time

import numpy as np
import polytask as pt
import pytest
from conftest import make_tasks
from polytask import _core

HUGE = 2**32 - 1


def grown():
    """The largest memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def model(**parts):
    return pt.MultiTaskModel(parts.pop("inputs", 8), tasks=parts.pop("tasks", None) or make_tasks(), **parts)


SHARINGS = [
    (family, {name: size})
    for family, names in {
        "PLE": ["task_experts", "shared_experts"],
        "CGC": ["task_experts", "shared_experts"],
        "MMoE": ["experts"],
        "OMoE": ["experts"],
        "DSelectK": ["experts"],
        "LTB": ["branches"],
        "Sluice": ["subspaces"],
    }.items()
    for name in names
    for size in (10**6, 10**9, HUGE, 2**63 - 1)
]
PARTS = [
    *({"sharing": getattr(pt.sharing, family)(**sizes)} for family, sizes in SHARINGS),
    {"sharing": pt.sharing.DSelectK(experts=2**40, k=2**40)},
    *({"encoder": pt.encoder.MLP([size, size]), "sharing": "nddr"} for size in (10**5, 10**9, 2**62)),
    *({"encoder": pt.encoder.MLP([1] * 3 + [size], norm="batch")} for size in (2**33, 2**62)),
    {"encoder": pt.encoder.MLP([2**32, 2**32])},
    {"head": pt.head.Tower([2**40])},
    {"head": pt.head.Tower([1] * 10**6)},
    {"encoder": pt.encoder.MLP([1] * 10**6)},
    {"inputs": 2**62},
    {"inputs": pt.Inputs(categorical=[pt.Bag(4, length=4 * 10**9)])},
    {"inputs": pt.Inputs(categorical=[pt.Bag(4, length=2**31)] * 2**10)},
    {"inputs": pt.Inputs(categorical=[10**9], embedding=2**40)},
    {"tasks": [pt.Task("a", classes=2**62)]},
    {"tasks": [pt.Task("a", outputs=2**62, loss="gaussian_nll")]},
]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: str(parts)[:70])
def test_one_argument_takes_no_memory_that_is_not_there(parts):
    before, started = grown(), time.perf_counter()
    with pytest.raises(ValueError, match=r"would have more than|should (have at most|be a whole number)|equal parts"):
        model(**parts)
    assert grown() - before < 1e9
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("weighting", [pt.weighting.MOML, pt.weighting.FORUM], ids=lambda each: each.__name__)
def test_inner_steps_are_counted_before_any_is_taken(weighting):
    with pytest.raises(
        ValueError, match=r"argument `inner_steps` should be at least 1 and at most 1000; got 1000000000000"
    ):
        weighting(inner_steps=10**12)


def test_numbers_that_multiply_do_not_overflow(data):
    whole, small = {"epochs": 1, "progress": False}, pt.weighting.UPGrad()
    pt.Trainer(model(), weighting=small, accumulate=2**62).fit(data.whole, **whole)
    stop = type("Stop", (pt.Callback,), {"on_epoch_end": lambda self, trainer, row: trainer.stop()})()
    trainer = pt.Trainer(model(), schedule="cosine", callbacks=[stop])
    assert len(trainer.fit(data.whole, epochs=2**62, progress=False)) == 1


def test_a_state_of_more_tasks_than_there_can_be_is_refused():
    weighting = _core.Weighting({"name": "gradnorm"})
    with pytest.raises(ValueError, match="`state` should be what the state of a weighting gave"):
        weighting.restore({"calls": 1, "tasks": 2**40, "weighting": None})


def test_the_limit_is_an_argument():
    assert len(model().state_dict()) == len(model(max_parameters=10**5).state_dict())
    size = sum(array.size for array in model().state_dict().values())
    assert model(max_parameters=size).summary()
    with pytest.raises(ValueError, match=f"more than {size - 1} parameters"):
        model(max_parameters=size - 1)
    with pytest.raises(ValueError, match="`max_parameters` should be a whole number of at least 1; got 0"):
        model(max_parameters=0)
    with pytest.raises(ValueError, match=f"more than {size} parameters"):
        model(max_parameters=size).add_task(pt.Task("more"))
    assert "heads.more.bias" in model(max_parameters=2 * size).add_task(pt.Task("more")).state_dict()


def rewritten(path, change):
    """The file with another description."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    description = json.loads(header["__metadata__"]["description"])
    change(description)
    header["__metadata__"]["description"] = json.dumps(description)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])


@pytest.mark.parametrize(
    "change",
    [
        {"sharing": {"name": "ple", "task_experts": HUGE}},
        {"sharing": {"name": "mmoe", "experts": 10**5}},
        {"sharing": {"name": "ltb", "branches": 10**9}},
        {"sharing": {"name": "sluice", "subspaces": 10**9}},
        {"encoder": {"name": "mlp", "hidden": [1] * 100_000}},
        {"encoder": {"name": "mlp", "hidden": [30_000, 30_000]}},
        {"head": {"name": "tower", "hidden": [1] * 100_000}},
        {"inputs": {"categorical": [{"categories": 4, "length": 4 * 10**9, "combine": "sum"}]}},
        {"inputs": {"categorical": [4_000_000_000]}},
        {"inputs": {"numeric": 2**60}},
    ],
    ids=str,
)
def test_a_small_file_builds_no_large_model(tmp_path, change):
    path = tmp_path / "m.safetensors"
    model(encoder=pt.encoder.MLP([])).save(path)
    rewritten(path, lambda description: description.update(change))
    before, started = grown(), time.perf_counter()
    with pytest.raises(ValueError, match=r"larger than the file's \d+ numbers|at most \d+ codes"):
        pt.MultiTaskModel.load(path)
    assert grown() - before < 1e8
    assert time.perf_counter() - started < 5


def test_many_layers_are_built_in_a_time_that_grows_with_them():
    def seconds(layers):
        started = time.perf_counter()
        built = pt.MultiTaskModel(2, tasks=[pt.Task("a")], encoder=pt.encoder.MLP([1] * layers))
        pt.Trainer(built)
        return time.perf_counter() - started, built

    seconds(10)
    few, _ = seconds(2_000)
    many, built = seconds(20_000)
    # Ten times, and as much again for a machine that is busy; where it grows with the square, a hundred.
    assert many < 30 * few + 0.5
    assert len(built.state_dict()) == 2 * 20_001
    assert np.isfinite(built.predict(np.zeros((3, 2), np.float32))["a"]).all()
