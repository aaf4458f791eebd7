"""A guard against negative transfer and against tasks that overfit while others still learn."""

import copy
import logging
import pickle

import numpy as np
import polytask as pt
import pytest


def rows(n=300, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    return x, {"good": x[:, 0] + 0.5 * x[:, 1], "noise": rng.normal(size=n)}


HELD = rows(300, 1)


def model(**how):
    return pt.MultiTaskModel(6, tasks=[pt.Task("good"), pt.Task("noise")], encoder=pt.encoder.MLP([32]), **how)


def fitted(guard, epochs=30, **how):
    trainer = pt.Trainer(model(), lr=0.01, callbacks=[guard, *how.pop("beside", [])], **how)
    return trainer, trainer.fit(rows(), validation=HELD, epochs=epochs, progress=False)


def best(values):
    return 1 + int(np.argmin(values))


def test_a_task_behind_its_number_is_told_once_it_gets_no_better(caplog):
    guard = pt.TransferGuard({"good": 10.0, "noise": 0.5}, patience=4)
    with caplog.at_level(logging.WARNING, "polytask"):
        _, history = fitted(guard)
    values = history["validation/noise/loss"]
    assert guard.behind == ["noise"]
    assert guard.best_epochs["noise"] == best(values)
    assert guard.gains["noise"] == pytest.approx((0.5 - min(values)) / 0.5)
    assert guard.gains["good"] == pytest.approx((10 - min(history["validation/good/loss"])) / 10)
    told = [record.getMessage() for record in caplog.records if "negative transfer" in record.getMessage()]
    assert len(told) == 1
    assert "task `noise`" in told[0]
    assert f"epoch {best(values) + 4}:" in told[0], "after so many epochs without improvement"


def test_histories_are_compared_epoch_by_epoch():
    better = pt.History([{"epoch": at + 1, "validation/good/loss": 0.9**at} for at in range(4)])
    alone = pt.History([{"epoch": at + 1, "validation/good/loss": 1e-3} for at in range(4)])
    guard = pt.TransferGuard({"good": better}, patience=3, action="stop")
    _, history = fitted(guard, epochs=12)
    reached = np.minimum.accumulate(history["validation/good/loss"])
    theirs = np.append(0.9 ** np.arange(4), [0.9**3] * 8)[: len(reached)]
    late = reached > 1.02 * theirs
    assert guard.behind == (["good"] if late[-3:].all() else [])
    assert guard.gains["good"] == pytest.approx((theirs[-1] - reached[-1]) / theirs[-1])
    guard = pt.TransferGuard({"good": alone}, patience=3, action="stop")
    _, history = fitted(guard)
    assert len(history) == 3, "stopped as soon as it was so often behind"
    assert guard.behind == ["good"]
    within = pt.TransferGuard({"good": alone}, patience=3, action="stop", tolerance=1e6)
    assert len(fitted(within)[1]) == 30


def test_networks_alone_are_trained_for_it():
    trainer = pt.Trainer(model(), lr=0.01, weighting="uncertainty", seed=3)
    before = trainer.model.state_dict()
    guard = pt.TransferGuard.alone(trainer, rows(), validation=HELD, epochs=5, progress=False, patience=2)
    assert guard.patience == 2
    assert trainer.steps == 0
    assert all(np.array_equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    single = pt.MultiTaskModel(6, tasks=[pt.Task("noise")], encoder=pt.encoder.MLP([32]))
    x, targets = rows()
    history = pt.Trainer(single, lr=0.01, seed=3, threads=1).fit(
        (x, targets["noise"]), validation=(HELD[0], HELD[1]["noise"]), epochs=5, progress=False
    )
    assert guard.reference["noise"]["validation/noise/mae"] == history["validation/noise/mae"]
    trainer.fit(rows(), validation=HELD, epochs=5, callbacks=guard, progress=False)
    assert set(guard.gains) == {"good", "noise"}
    several = pt.TransferGuard.alone(model(), rows(), validation=0.2, epochs=2, seeds=2, progress=False)
    assert len(several.reference["good"].runs) == 2


def test_the_head_of_a_task_that_is_stuck_is_frozen():
    guard = pt.TransferGuard(action="freeze", patience=3)
    heads, frozen = [], []

    def look(trainer):
        heads.append(trainer.model.state_dict()["heads.noise.weight"])
        frozen.append(trainer.model.frozen)

    trainer, history = fitted(guard, epochs=15, beside=[look])
    values = history["validation/noise/loss"]
    running = np.minimum.accumulate(values)
    stuck = next(at for at in range(3, 15) if running[at - 3] == running[at])
    assert "heads.noise.weight" not in frozen[stuck - 1]
    assert all({"heads.noise.weight", "heads.noise.bias"} <= set(each) for each in frozen[stuck:])
    assert all(np.array_equal(each, heads[stuck]) for each in heads[stuck:])
    assert not np.array_equal(heads[stuck - 1], heads[stuck])
    assert trainer.model.frozen == [], "as it was, at the end"


def test_the_weight_of_a_task_that_is_stuck_is_lowered():
    guard = pt.TransferGuard(action="lower", patience=3, factor=0.1)
    _, history = fitted(guard, epochs=20, weighting=guard, observe="weights")
    weights = history["noise/weight"]
    running = np.minimum.accumulate(history["validation/noise/loss"])
    wait, expected, now = 0, [], 1.0
    for at, value in enumerate(history["validation/noise/loss"]):
        expected.append(now)
        wait = 0 if at == 0 or value < running[at - 1] else wait + 1
        now *= 0.1 if wait and wait % 3 == 0 else 1.0
    assert weights == pytest.approx(expected)
    assert guard.factors["noise"] == pytest.approx(now)
    assert now < 1
    assert guard.factors["good"] == 1 or guard.best_epochs["good"] <= 17
    with pytest.raises(ValueError, match=r"pt\.Trainer\(model, weighting=guard, callbacks=\[guard\]\)"):
        fitted(pt.TransferGuard(action="lower"))


def test_snapshots_are_whole_models_of_each_tasks_best_epoch():
    guard = pt.TransferGuard(action=[], snapshots=True)
    states = []
    _, history = fitted(guard, beside=[lambda trainer: states.append(trainer.model.state_dict())])
    epochs = {}
    for task in ("good", "noise"):
        epochs[task] = best(history[f"validation/{task}/loss"])
        found = guard.best(task).state_dict()
        assert all(np.array_equal(value, found[name]) for name, value in states[epochs[task] - 1].items())
        assert pt.Trainer(guard.best(task)).evaluate(HELD)[f"{task}/loss"] == pytest.approx(
            min(history[f"validation/{task}/loss"])
        )
    assert epochs["good"] != epochs["noise"]
    with pytest.raises(ValueError, match="nothing is kept of 'nice'"):
        guard.best("nice")
    other = pt.TransferGuard(action=[])
    fitted(other, epochs=1)
    with pytest.raises(ValueError, match="snapshots=True"):
        other.best("good")


@pytest.mark.parametrize("action", ["freeze", "lower"])
def test_a_run_is_resumed_with_what_the_guard_knows(tmp_path, action):
    def run(epochs, resume):
        guard = pt.TransferGuard({"noise": 0.5}, action=["warn", action], patience=2, snapshots=True)
        more = {"weighting": guard} if action == "lower" else {}
        beside = [pt.Checkpoint(tmp_path)] if resume else []
        trainer = pt.Trainer(model(), lr=0.01, callbacks=[guard, *beside], threads=1, **more)
        trainer.fit(rows(), validation=HELD, epochs=epochs, progress=False, resume=tmp_path if resume else None)
        return guard, trainer

    run(6, resume=True)
    guard, resumed = run(12, resume=True)
    other, whole = run(12, resume=False)
    assert guard.state() == other.state()
    assert guard.factors == other.factors
    assert guard.stuck
    assert resumed.history["validation/loss"] == whole.history["validation/loss"]
    for task in ("good", "noise"):
        state = other.best(task).state_dict()
        assert all(np.array_equal(value, state[name]) for name, value in guard.best(task).state_dict().items())


def test_metrics_that_are_better_the_higher():
    guard = pt.TransferGuard({"good": 0.5, "noise": 0.5}, monitor={"good": "r2", "noise": "r2"}, patience=3)
    _, history = fitted(guard)
    assert guard.behind == ["noise"]
    top = max(history["validation/good/r2"])
    assert guard.gains["good"] == pytest.approx((top - 0.5) / 0.5)


def test_copies_and_pickles():
    guard = pt.TransferGuard({"good": 0.5}, snapshots=True)
    fitted(guard, epochs=2)
    for other in (copy.deepcopy(guard), pickle.loads(pickle.dumps(guard))):
        assert other.state() == guard.state()
        assert np.array_equal(other.best("good").predict(HELD[0])["good"], guard.best("good").predict(HELD[0])["good"])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: pt.TransferGuard(), ValueError, "`reference` should say what tasks reach alone"),
        (lambda: pt.TransferGuard(3.0), TypeError, "`reference` should be a number or a pt.History for each task"),
        (lambda: pt.TransferGuard({"good": "low"}), TypeError, r"`reference\['good'\]` should be a number"),
        (lambda: pt.TransferGuard({"good": 1}, action="lover"), ValueError, "'lover'; did you mean `lower`"),
        (lambda: pt.TransferGuard({"good": 1}, tolerance=-1), ValueError, "`tolerance` should be a number of at least"),
        (
            lambda: pt.TransferGuard({"good": 1}, factor=1.0),
            ValueError,
            "`factor` should be a number from 0 to below 1",
        ),
        (lambda: pt.TransferGuard({"good": 1}, patience=0), ValueError, "`patience` should be a whole number"),
        (lambda: fitted(pt.TransferGuard({"god": 1})), ValueError, "unknown task 'god'; did you mean `good`"),
        (lambda: fitted(pt.TransferGuard({"good": 1}, monitor="rr2")), ValueError, "no column 'good/rr2'"),
        (lambda: pt.TransferGuard.alone(model(), rows(), validation=None), ValueError, "`validation` should be data"),
        (lambda: pt.TransferGuard.alone(model(), rows(), validation=0.2, action="x"), ValueError, "`action`: unknown"),
        (
            lambda: pt.Trainer(model(), callbacks=[pt.TransferGuard({"good": 1})]).fit(rows(), epochs=1),
            ValueError,
            r"looks at validation rows: give them to fit\(validation=...\)",
        ),
        (
            lambda: pt.Trainer(model(), callbacks=[pt.TransferGuard({"good": 1})]).fit(rows(), epochs=1, seeds=2),
            ValueError,
            "serves one run",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
