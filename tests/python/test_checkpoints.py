"""Files as they are found: damaged, in the way, no files at all, written by several at once."""

import json
import os
import shutil
import signal
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import polytask as pt
import pytest
from conftest import Data, make_model, same_bits
from polytask.training import checkpoints

FILES = Path(__file__).parents[1] / "files"
sys.path.append(str(FILES))
import make  # noqa: E402

FIT = {"epochs": 4, "batch_size": 32, "progress": False}


class Count(pt.Callback):
    """Keeps what it was called for, through checkpoints."""

    def __init__(self, every_steps=None):
        self.every_steps = every_steps
        self.calls = []

    def on_epoch_start(self, trainer):
        self.calls.append(f"epoch {trainer.epochs}")

    def on_steps(self, trainer):
        self.calls.append(trainer.batches)

    def state(self):
        return {"calls": self.calls}

    def restore(self, state, arrays):
        self.calls = list(state["calls"])


class Stop(pt.Callback):
    """Breaks off after so many batches, once the checkpoint is written."""

    last = True

    def __init__(self, after):
        self.every_steps = after

    def on_steps(self, trainer):
        raise SystemExit


def make_trainer(folder=None, keep=1, **settings):
    callbacks = [Count(every_steps=5), pt.EarlyStopping("loss", patience=50)]
    callbacks += [pt.Checkpoint(folder, every_steps=1, keep=keep)] if folder is not None else []
    return pt.Trainer(make_model(), callbacks=callbacks, **settings)


@pytest.mark.parametrize("after", [3, 5, 10, 12])
def test_a_resumed_run_calls_callbacks_as_often_as_a_whole_one(data, tmp_path, after):
    want = make_trainer()
    want.fit(data.whole, **FIT)
    with pytest.raises(SystemExit):
        make_trainer(tmp_path).fit(data.whole, callbacks=[Stop(after)], **FIT)
    got = make_trainer(tmp_path)
    got.fit(data.whole, resume=tmp_path, **FIT)
    assert got.callbacks[0].calls == want.callbacks[0].calls
    assert want.callbacks[0].calls == ["epoch 0", 5, "epoch 1", 10, "epoch 2", 15, "epoch 3", 20]
    assert same_bits(got.model.state_dict(), want.model.state_dict())


@pytest.mark.parametrize("stream", [False, True])
def test_steps_that_accumulate_pass_no_call_by(data, stream):
    trainer = make_trainer(accumulate=2)
    x, targets = data.whole

    def part(i):
        return x[i : i + 32], {name: array[i : i + 32] for name, array in targets.items()}

    trainer.fit([part(i) for i in range(0, 160, 32)] if stream else data.whole, **FIT)
    # Five batches an epoch: steps end after 2, 4 and 5 of them.
    assert trainer.callbacks[0].calls == ["epoch 0", 5, "epoch 1", 10, "epoch 2", 15, "epoch 3", 20]
    trainer = pt.Trainer(make_model(), accumulate=2, callbacks=[Count(every_steps=3)])
    trainer.fit(data.whole, **{**FIT, "epochs": 2})
    assert trainer.callbacks[0].calls == ["epoch 0", 4, "epoch 1", 7, 9]


def test_what_only_bears_the_name_of_a_checkpoint_is_left_alone(data, tmp_path):
    for name in ("checkpoint-000000000099.safetensors", "checkpoint-000000000099.npz"):
        (tmp_path / name).mkdir()
    trainer = make_trainer(tmp_path)
    trainer.fit(data.whole, **FIT)
    again = make_trainer(tmp_path)
    again.fit(data.whole, resume=tmp_path, **FIT)
    assert same_bits(again.model.state_dict(), trainer.model.state_dict())
    assert (tmp_path / "checkpoint-000000000099.safetensors").is_dir()
    assert (tmp_path / "checkpoint-000000000099.npz").is_dir()


def damaged(whole):
    """The file cut off anywhere, and with a changed byte anywhere."""
    for i in range(0, len(whole), max(1, len(whole) // 40)):
        yield whole[:i]
        yield whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :]


def earlier(tmp_path, name="optimizer-adam"):
    """A checkpoint of 0.1.0, whose arrays stand in a file beside it, and what makes trainers for it."""
    build, settings, x = make.cases()[name]
    for path in (FILES / "0.1.0").glob(f"{name}.checkpoint.*"):
        shutil.copy(path, tmp_path / f"checkpoint-000000000005.{path.suffix[1:]}")

    def trainer():
        made = build()
        training = make.trainer(made, settings)
        training.callbacks = make.stopping(name)
        return training, make.data(made, x)

    return tmp_path / "checkpoint-000000000005.safetensors", trainer


def test_a_damaged_file_of_arrays_is_refused_and_gives_way_to_the_checkpoint_before(tmp_path, caplog):
    path, build = earlier(tmp_path)
    arrays = path.with_suffix(".npz")
    whole, refused = arrays.read_bytes(), 0
    for changed in damaged(whole):
        arrays.write_bytes(changed)
        trainer, _ = build()
        before = trainer.model.state_dict()
        try:
            trainer.restore(path)
        except ValueError as error:
            message = str(error)
        else:
            continue
        assert f"{arrays}: not a complete file of arrays" in message
        assert same_bits(trainer.model.state_dict(), before)
        refused += 1
    assert refused > 40
    arrays.write_bytes(whole)
    want, data = build()
    want.restore(path)
    assert want.callbacks[0].arrays().keys() == want.model.state_dict().keys()
    for suffix in ("safetensors", "npz"):
        shutil.copy(path.with_suffix(f".{suffix}"), tmp_path / f"checkpoint-000000000006.{suffix}")
    (tmp_path / "checkpoint-000000000006.npz").write_bytes(whole[:100])
    got, data = build()
    with caplog.at_level("WARNING", "polytask"):
        got.fit(data, epochs=3, batch_size=8, progress=False, resume=tmp_path)
    assert "skipped a checkpoint" in caplog.text
    assert (got.epochs, got.batches) == (3, 9)


def test_early_stopping_says_that_its_best_is_lost(tmp_path, caplog):
    path, build = earlier(tmp_path)
    path.with_suffix(".npz").unlink()
    with caplog.at_level("WARNING", "polytask"):
        build()[0].restore(path)
    assert "lacks the parameters of the best epoch, 1" in caplog.text


class Keeps(pt.Callback):
    """Keeps any arrays."""

    def __init__(self, kept=None):
        self.kept = kept or {}

    def arrays(self):
        return self.kept

    def restore(self, state, arrays):
        self.kept = arrays


def test_a_checkpoint_keeps_arrays_of_every_kind(data, tmp_path):
    kept = {
        "single": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1],
        "double/with a slash": np.array([[np.nan, -0.0]]),
        "whole": np.array(7, dtype=">i2"),
        "truth": np.array([True, False]),
        "words": np.array(["a", "bcd"]),
        "complex": np.array([1 + 2j]),
        "times": np.array(["2020-01-01"], dtype="M8[D]"),
        "none": np.empty((0, 3)),
    }
    trainer = pt.Trainer(make_model(), callbacks=[Keeps(kept), Keeps(), Keeps({"single": np.ones(1)})])
    trainer.save(tmp_path / "c")
    assert os.listdir(tmp_path) == ["c"]
    other = pt.Trainer(make_model(), callbacks=[Keeps(), Keeps(), Keeps()])
    other.restore(tmp_path / "c")
    first, second, third = (callback.kept for callback in other.callbacks)
    assert (second, third["single"].tolist()) == ({}, [1.0])
    assert first.keys() == kept.keys()
    for name, array in kept.items():
        assert (first[name].dtype, first[name].shape) == (array.dtype, array.shape), name
        assert first[name].tobytes() == array.tobytes(), name
    with pytest.raises(TypeError, match=r"Keeps\(\): array 'x' should hold numbers; got dtype object"):
        pt.Trainer(make_model(), callbacks=[Keeps({"x": np.array([{}])})]).save(tmp_path / "d")
    assert os.listdir(tmp_path) == ["c"]


def test_pipes_and_devices_are_refused_at_once(data, tmp_path):
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    model = make_model()
    for path in (pipe, "/dev/zero", "/dev/null"):
        for call in (pt.MultiTaskModel.load, pt.Trainer(model).restore, model.save, pt.Trainer(model).save):
            with pytest.raises(OSError, match="is not a regular file"):
                call(path)
    assert os.listdir(tmp_path) == ["pipe.safetensors"]


def test_saving_onto_a_link_replaces_what_it_leads_to(data, tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.safetensors"
    link.symlink_to("there/m.safetensors")
    model = make_model()
    for _ in range(2):
        model.save(link)
        assert link.is_symlink()
        assert (tmp_path / "there" / "m.safetensors").is_file()
    assert same_bits(pt.MultiTaskModel.load(link).state_dict(), model.state_dict())
    assert os.listdir(tmp_path / "there") == ["m.safetensors"]


def test_threads_that_save_to_one_path(data, tmp_path):
    trainers = [make_trainer() for _ in range(4)]
    for trainer in trainers:
        trainer.fit(data.whole, **{**FIT, "epochs": 1})
    path, failed = tmp_path / "c.safetensors", []

    def save(trainer):
        try:
            for _ in range(30):
                trainer.save(path)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=save, args=[trainer]) for trainer in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    other = make_trainer()
    other.restore(path)
    assert same_bits(other.model.state_dict(), trainers[0].model.state_dict())
    assert sorted(os.listdir(tmp_path)) == ["c.safetensors"]


def test_the_same_model_gives_the_same_file(data, tmp_path):
    model = make_model()
    for name in "ab":
        model.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    raw = (tmp_path / "a").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    assert size % 8 == 0
    assert header.pop("__metadata__").keys() == {"format", "format_number", "description"}
    for name, array in model.state_dict().items():
        place = header[f"model/{name}"]
        begin, end = place["data_offsets"]
        assert place["shape"] == list(array.shape)
        np.testing.assert_array_equal(np.frombuffer(raw[8 + size :][begin:end], "<f4"), array.ravel())


def whole(trainer):
    """All that a trainer is."""
    callbacks = [(callback.state(), callback.arrays()) for callback in trainer.callbacks]
    return trainer._core.to_bytes("", []), list(trainer.history), trainer.batches, trainer.stopping, callbacks


class Refuses(pt.Callback):
    def restore(self, state, arrays):
        raise LookupError("mine")


def rewritten(path, change):
    """The checkpoint with other texts in its header."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])


def places(value, path=()):
    """Where there is something in a description, lists by their first."""
    yield path
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("text", ["extra", "state", "settings", "description"])
def test_a_checkpoint_that_is_not_taken_over_changes_nothing(data, tmp_path, text):
    def build(folder=None):
        settings = {"weighting": pt.weighting.GradNorm(), "schedule": pt.schedule.Plateau(), "regularizers": ["l2"]}
        return make_trainer(folder, **settings)

    with pytest.raises(SystemExit):
        build(tmp_path).fit(data.whole, callbacks=[Stop(8)], **FIT)
    path = tmp_path / "checkpoint-000000000008.safetensors"
    original = path.read_bytes()
    size = int.from_bytes(original[:8], "little")
    described = json.loads(json.loads(original[8 : 8 + size])["__metadata__"][text])
    trainer = build()
    trainer.fit(data.whole, **{**FIT, "epochs": 1})
    before, refused = whole(trainer), 0
    for place in places(described):
        for new in ("x", -1, [[0.5]] * 2, {"name": 1}, None):
            changed = json.dumps(replaced(described, place, new))
            rewritten(path, lambda header, changed=changed: header["__metadata__"].update({text: changed}))
            try:
                trainer.restore(path)
            except (ValueError, TypeError):
                assert whole(trainer) == before, (place, new)
                refused += 1
            else:
                # What may differ, such as a name in the history, is taken over and works.
                trainer = build()
                trainer.fit(data.whole, **{**FIT, "epochs": 1})
                before = whole(trainer)
            path.write_bytes(original)
    assert refused > 60


def test_a_callback_that_refuses_undoes_the_others(data, tmp_path):
    first = pt.Trainer(make_model(), callbacks=[Count(2), Refuses()])
    first.fit(data.whole, **FIT)
    first.save(tmp_path / "c")
    second = pt.Trainer(make_model(), callbacks=[Count(1), Refuses()])
    second.fit(data.whole, **{**FIT, "epochs": 1})
    before = whole(second)
    with pytest.raises(ValueError, match=r"c: nothing goes on from it \(LookupError\('mine'\)\)"):
        second.restore(tmp_path / "c")
    assert whole(second) == before


def test_other_rows_of_the_same_number_are_refused(data, tmp_path):
    make_trainer(tmp_path).fit(data.whole, validation=0.2, **FIT)
    other, more = Data(seed=5), {**FIT, "epochs": 6}
    x = data.x.copy()
    x[77, 3] += 1e-3
    for rows in (other.whole, (x, data.targets), (data.x[::-1], data.targets)):
        trainer = make_trainer()
        before = whole(trainer)
        with pytest.raises(ValueError, match=r"made with data fingerprint [0-9a-f]+; got f"):
            trainer.fit(rows, validation=0.2, resume=tmp_path, **more)
        assert whole(trainer) == before
    # The same numbers in another form are the same rows.
    for rows in ((data.x.astype(np.float64), data.targets), (np.asfortranarray(data.x), data.targets)):
        assert make_trainer().fit(rows, validation=0.2, resume=tmp_path, **more)[-1]["epoch"] == 6
    make_trainer(tmp_path / "x").fit(data.whole, validation=Data(40, seed=1).whole, **FIT)
    with pytest.raises(ValueError, match="made with validation fingerprint"):
        make_trainer().fit(data.whole, validation=Data(40, seed=2).whole, resume=tmp_path / "x", **more)


def test_rows_that_are_many_are_known_by_a_sample():
    from polytask.data import Rows

    x = np.zeros((1_000_000, 8), np.float32)
    prints = {Rows(len(x), x, targets=[x[:, 0]]).fingerprint(), Rows(len(x), x, targets=[None]).fingerprint()}
    x[0, 0] = 1
    prints.add(Rows(len(x), x, targets=[None]).fingerprint())
    assert len(prints) == 3


def test_one_run_at_a_time_uses_a_folder(data, tmp_path):
    seen = []

    class Second(pt.Callback):
        def on_epoch_end(self, trainer, row):
            try:
                make_trainer(tmp_path / "x" / ".." / "x").fit(data.whole, **FIT)
            except BlockingIOError as error:
                seen.append(str(error))
            # Another folder is free, and this trainer may have two callbacks for its own.
            make_trainer(tmp_path / str(row["epoch"])).fit(data.whole, **{**FIT, "epochs": 1})

    folder = tmp_path / "x"
    callbacks = [pt.Checkpoint(folder), pt.Checkpoint(folder, every=2), Second()]
    trainer = pt.Trainer(make_model(), callbacks=callbacks)
    for _ in range(2):
        trainer.fit(data.whole, **FIT)
    assert len(seen) == 8
    assert f"process {os.getpid()} on " in seen[0]
    assert str(folder) in seen[0].replace("/x/../x", "/x")
    assert ".lock" not in os.listdir(folder)
    with pytest.raises(LookupError):
        make_trainer(folder).fit(data.whole, callbacks=[Fails()], **FIT)
    make_trainer(folder).fit(data.whole, **FIT)


class Fails(pt.Callback):
    def on_steps(self, trainer):
        raise LookupError

    every_steps = 2


def test_a_loaders_process_does_not_hold_the_folder_of_a_killed_run(tmp_path):
    """It lives on for seconds, as this one does that a run forked."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        run = os.fork()
        if run == 0:
            try:
                checkpoints.hold(str(tmp_path))
                if os.fork() == 0:
                    os.write(writing, str(os.getpid()).encode())
                signal.pause()
            finally:
                os._exit(1)
    worker = int(os.read(reading, 100))
    try:
        with pytest.raises(BlockingIOError, match=f"process {run} on "):
            checkpoints.hold(str(tmp_path))
        os.kill(run, signal.SIGKILL)
        os.waitpid(run, 0)
        checkpoints.hold(str(tmp_path))()
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(reading)
        os.close(writing)


def test_what_a_killed_run_left_is_cleaned_and_holds_nobody(data, tmp_path):
    for name in ("best.safetensors.77.0.partial", "checkpoint-000000000002.safetensors.77.12.partial"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".lock").write_text("process 77 on elsewhere")
    (tmp_path / "mine.partial").write_bytes(b"")
    make_trainer(tmp_path).fit(data.whole, **FIT)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-000000000020.safetensors", "mine.partial"]
