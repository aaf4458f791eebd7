"""Networks that train side by side from several seeds, their histories and their ensemble."""

import logging
import signal
import threading
import time

import numpy as np
import polytask as pt
import pytest
import scipy.stats
import torch
from polytask.process import interrupts, workers
from polytask.values import student

SEEDS = 4


def rows(n=600, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > 0).astype(np.int64), 2 * x[:, 2] + 0.1 * rng.normal(size=n)


def model(seed=0, **more):
    tasks = [pt.Task("sign", classes=2), pt.Task("value", scale="standardize")]
    return pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([16, 8], dropout=0.1), seed=seed, **more)


def stopping():
    return pt.EarlyStopping("value/mae", patience=2)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("sharing", ["hard", "mmoe"])
@pytest.mark.parametrize("weighting", ["uncertainty", "upgrad"])
def test_each_network_has_the_bits_that_it_has_alone(two_threads, sharing, weighting):
    data, held_out = rows(), rows(200, 1)
    how = {"validation": held_out, "epochs": 12, "progress": False}
    said = {"lr": 1e-2, "weighting": weighting, "regularizers": ["l2"], "schedule": pt.schedule.Cosine(), "seed": 7}
    trainer = pt.Trainer(model(3, sharing=sharing), callbacks=[stopping()], **said)
    found = trainer.fit(data, seeds=SEEDS, **how)
    assert found.seeds == [7, 8, 9, 10]
    assert len(trainer.ensemble) == SEEDS
    assert trainer.ensemble[0] is trainer.model
    for at in range(SEEDS):
        alone = pt.Trainer(
            model(3 + at, sharing=sharing), callbacks=[stopping()], threads=1, **{**said, "seed": 7 + at}
        )
        history = alone.fit(data, **how)
        for row, other in zip(history, found.runs[at], strict=True):
            assert {**row, "seconds": 0} == {**other, "seconds": 0}
        ours = trainer.ensemble[at].state_dict()
        assert all(np.array_equal(value, ours[name]) for name, value in alone.model.state_dict().items())
    assert len({len(run) for run in found.runs}) > 1, "each stops for itself"


def test_what_was_loaded_or_frozen_is_the_same_in_all():
    start = model()
    start.load_state_dict({**start.state_dict(), "encoder.0.bias": np.arange(16, dtype=np.float32)})
    start.freeze("encoder")
    before = {name: value for name, value in start.state_dict().items() if name.startswith("encoder")}
    trainer = pt.Trainer(start)
    trainer.fit(rows(), epochs=1, seeds=3, progress=False)
    for each in trainer.ensemble:
        now = each.state_dict()
        assert each.frozen == start.frozen
        assert np.array_equal(now["encoder.0.bias"], before["encoder.0.bias"])
    weights = [each.state_dict()["encoder.0.weight"] for each in trainer.ensemble]
    assert not np.array_equal(weights[0], weights[1]), "what was as it was made begins from a seed of its own"


def test_rows_held_out_are_the_same_for_all(monkeypatch):
    seen = []
    fit = pt.Trainer._go

    def go(self, loop, progress, resume):
        seen.append((loop.data, loop.validation))
        return fit(self, loop, progress, resume)

    monkeypatch.setattr(pt.Trainer, "_go", go)
    pt.Trainer(model()).fit(rows(), validation=0.25, epochs=1, seeds=3, progress=False)
    assert len(seen) == 3
    assert all(data is seen[0][0] and held is seen[0][1] for data, held in seen)


def test_code_of_ones_own_trains_in_the_thread_of_the_program(caplog):
    threads = set()

    def loss(outputs, targets):
        threads.add(threading.get_ident())
        return (outputs - targets).abs()

    own = pt.MultiTaskModel(8, tasks=[pt.Task("value", loss=loss)], encoder=pt.encoder.MLP([4]))
    x, _, y = rows()
    with caplog.at_level(logging.INFO, "polytask"):
        found = pt.Trainer(own).fit((x, y), epochs=1, seeds=2, progress=False)
    assert threads == {threading.get_ident()}
    assert "one after another" in caplog.text
    assert len(found.runs) == 2


def test_callbacks_of_other_people_see_all_runs():
    seen = []
    pt.Trainer(model()).fit(rows(), epochs=2, seeds=3, progress=False, callbacks=lambda row: seen.append(row["epoch"]))
    assert seen == [1, 2] * 3


def test_what_cannot_be_is_refused(tmp_path):
    trainer = pt.Trainer(model())
    with pytest.raises(ValueError, match="`seeds`: a checkpoint is of one run"):
        trainer.fit(rows(), epochs=1, seeds=2, resume=tmp_path)
    with pytest.raises(ValueError, match=r"`seeds`: .*Checkpoint.* serves one run"):
        trainer.fit(rows(), epochs=1, seeds=2, callbacks=pt.Checkpoint(tmp_path))
    with pytest.raises(ValueError, match="`seeds` should be a whole number of at least 1"):
        trainer.fit(rows(), epochs=1, seeds=0)
    trainer.fit(rows(), epochs=1, progress=False)
    with pytest.raises(ValueError, match="this trainer has made 19 steps"):
        trainer.fit(rows(), epochs=1, seeds=2)


def test_ctrl_c_leaves_each_as_after_its_last_step(two_threads, caplog, press_ctrl_c):
    trainer = pt.Trainer(model())
    press_ctrl_c(0.5)
    found = trainer.fit(rows(20_000), epochs=1_000_000, seeds=2, progress=False)
    assert "interrupted" in caplog.text
    assert all(0 < len(run) < 1_000_000 for run in found.runs)
    # What comes next is not interrupted any more.
    pt.Trainer(model()).fit(rows(), epochs=1, seeds=2, progress=False)


def test_an_error_of_one_ends_all():
    data = rows()
    trainer = pt.Trainer(model(), optimizer=pt.optim.SGD(lr=1e30))
    with pytest.raises(ValueError, match="finite"):
        trainer.fit(data, epochs=50, seeds=3, progress=False)


def test_means_and_intervals():
    trainer = pt.Trainer(model(), lr=1e-2)
    found = trainer.fit(rows(), validation=rows(100, 1), epochs=3, seeds=5, progress=False)
    values = [run["validation/loss"][1] for run in found.runs]
    assert found["validation/loss"][1] == pytest.approx(np.mean(values))
    low, high = found.interval("validation/loss")
    ends = scipy.stats.t.interval(0.95, 4, np.mean(values), scipy.stats.sem(values))
    assert (low[1], high[1]) == pytest.approx(ends)
    last = found.last()["sign/accuracy"]
    assert last["mean"] == pytest.approx(np.mean([run[-1]["sign/accuracy"] for run in found.runs]))
    assert last["seeds"] == 5
    best = found.last(best="-validation/loss")["validation/loss"]
    assert best["mean"] == pytest.approx(np.mean([min(run["validation/loss"]) for run in found.runs]))
    frame = found.to_frame()
    assert frame.shape[0] == 15
    assert sorted(set(frame["seed"])) == [0, 1, 2, 3, 4]
    assert len(found.plot()[0].collections) == 6, "each line has its band"
    assert "means over them" in repr(found)
    with pytest.raises(KeyError, match="sign/accuracy"):
        found.interval("sign/acuracy")


def test_the_ensemble_predicts_mean_and_spread(tmp_path):
    trainer = pt.Trainer(model())
    trainer.fit(rows(), epochs=2, seeds=3, progress=False)
    x = rows(50, 2)[0]
    each = [one.predict(x) for one in trainer.ensemble]
    mean, spread = trainer.ensemble.predict(x, spread=True)
    for name in ("sign", "value"):
        values = np.stack([found[name] for found in each])
        assert np.allclose(mean[name], values.mean(0), atol=1e-6)
        assert np.allclose(spread[name], values.std(0, ddof=1), atol=1e-6)
    assert trainer.ensemble.classes(mean)["sign"].shape == (50,)
    trainer.ensemble.save(tmp_path / "models")
    again = pt.Ensemble.load(tmp_path / "models").predict(x)
    assert all(np.array_equal(again[name], mean[name]) for name in mean)
    with pytest.raises(FileExistsError, match="other models"):
        trainer.ensemble[:2].save(tmp_path / "models")
    with pytest.raises(FileNotFoundError):
        pt.Ensemble.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError, match=r"models is a folder: pt\.Ensemble\.load opens those of ensembles"):
        pt.MultiTaskModel.load(tmp_path / "models")
    with pytest.raises(NotADirectoryError, match=r"is a file: pt\.MultiTaskModel\.load opens those of models"):
        pt.Ensemble.load(next((tmp_path / "models").glob("*.safetensors")))


def test_models_of_some_tasks_each_are_one_predictor():
    one, other, both = model().remove_task("value"), model(1).remove_task("sign"), model(2)
    data = rows()
    both.reader.scales.learn(both.reader.read(data))
    other.tasks[0].scaling = both.tasks[1].scaling
    x = rows(20, 3)[0]
    apart = pt.Ensemble([one, other])
    mean, spread = apart.predict(x, spread=True)
    assert [task.name for task in apart.tasks] == ["sign", "value"]
    assert np.allclose(mean["sign"], one.predict(x)["sign"])
    assert np.allclose(mean["value"], other.predict(x)["value"])
    assert spread["value"].max() == 0
    assert apart.classes(mean)["sign"].shape == (20,)
    some = pt.Ensemble([one, both])
    expected = (one.predict(x)["sign"] + both.predict(x)["sign"]) / 2
    assert np.allclose(some.predict(x)["sign"], expected, atol=1e-6)
    with pytest.raises(ValueError, match="`models`: task `sign` should be the same in all"):
        pt.Ensemble([one, pt.MultiTaskModel(8, tasks=[pt.Task("sign", classes=3)])])
    with pytest.raises(ValueError, match="unknown task 'other'"):
        apart.classes({"other": mean["sign"]})


@pytest.mark.parametrize("threads", ["auto", 2])
@pytest.mark.parametrize("study", [False, True])
def test_as_many_train_at_a_time_as_there_are_threads_for(two_threads, monkeypatch, threads, study):
    going, most = [], []
    go = pt.Trainer._go

    def counted(self, *arguments):
        going.append(self)
        time.sleep(0.05)
        most.append(len(going))
        try:
            return go(self, *arguments)
        finally:
            going.remove(self)

    monkeypatch.setattr(pt.Trainer, "_go", counted)
    trainer = pt.Trainer(model(), threads=threads)
    if study:
        pt.relatedness(trainer, rows(), "transfer", epochs=1, seeds=2, progress=False)
    else:
        trainer.fit(rows(), epochs=1, seeds=4, progress=False)
    assert max(most) == (2 if threads == "auto" else 1)


def test_calls_side_by_side_come_as_they_end(two_threads):
    order = [place for place, _ in workers.side_by_side([lambda: time.sleep(0.4), lambda: None, lambda: None])]
    assert order == [1, 2, 0]
    ended = []

    def failing():
        raise RuntimeError("of a call")

    def going():
        time.sleep(0.2)
        ended.append(True)

    with pytest.raises(RuntimeError, match="of a call"):
        list(workers.side_by_side([going, failing, going]))
    assert ended == [True], "what goes on ends first, and nothing more begins"
    assert list(workers.side_by_side([])) == []


def test_the_error_that_ended_the_others_is_told(two_threads, monkeypatch):
    class Slow(threading.Event):
        def set(self):
            first = not self.is_set()
            super().set()
            if first:
                time.sleep(0.1)

    monkeypatch.setattr(workers.threading, "Event", Slow)

    def failing():
        time.sleep(0.05)
        raise RuntimeError("of a call")

    def going():
        while True:
            interrupts.look()
            time.sleep(0.001)

    with pytest.raises(RuntimeError, match="of a call"):
        list(workers.side_by_side([going, failing]))


def test_ctrl_c_is_seen_after_a_slow_handler_of_another_signal(two_threads):
    """A wait of the main thread ends in time, however long a handler that runs within it takes."""

    def going():
        end = time.monotonic() + 5
        while time.monotonic() < end:
            interrupts.look()
            time.sleep(0.001)

    def press():
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        time.sleep(0.3)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGUSR1, lambda *_: time.sleep(0.2))
    pressing = threading.Thread(target=press)
    try:
        pressing.start()
        with interrupts.held():
            with pytest.raises(KeyboardInterrupt):
                list(workers.side_by_side([going]))
            interrupts.forget()
    finally:
        pressing.join()
        signal.signal(signal.SIGUSR1, before)


def test_students_t_is_as_in_scipy():
    for freedom in (1, 2, 3, 4, 9, 30):
        for t in (0.0, 0.3, 2.0, 25.0):
            assert student.within(t, freedom) == pytest.approx(1 - 2 * scipy.stats.t.sf(t, freedom), abs=1e-12)
        for confidence in (0.5, 0.9, 0.999):
            expected = scipy.stats.t.ppf(0.5 + confidence / 2, freedom)
            assert student.quantile(confidence, freedom) == pytest.approx(expected, rel=1e-8)
    first, second = np.random.default_rng(0).normal(size=(2, 6))
    assert student.paired(first, second).p == pytest.approx(scipy.stats.ttest_rel(first, second).pvalue)
    found = student.corrected([0.01, float("nan"), 0.04, 0.03])
    assert found == pytest.approx([0.03, float("nan"), 0.06, 0.06], nan_ok=True)
