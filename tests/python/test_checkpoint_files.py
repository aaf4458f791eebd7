"""Files as they are found: damaged, in the way, no files at all, written by several at once."""

import json
import os
import threading

import numpy as np
import polytask as pt
import pytest
from conftest import make_model, same_bits, without_seconds

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


def test_a_damaged_file_of_arrays_is_refused_and_gives_way_to_the_checkpoint_before(data, tmp_path, caplog):
    make_trainer(tmp_path, keep=2).fit(data.whole, **FIT)
    last = sorted(tmp_path.glob("*.npz"))[-1]
    whole, refused = last.read_bytes(), 0
    for changed in damaged(whole):
        last.write_bytes(changed)
        trainer = make_trainer()
        before = trainer.model.state_dict()
        try:
            trainer.restore(last.with_suffix(".safetensors"))
        except ValueError as error:
            message = str(error)
        else:
            continue
        assert f"{last}: not a complete file of arrays" in message
        assert same_bits(trainer.model.state_dict(), before)
        refused += 1
    assert refused > 40
    last.write_bytes(whole[:100])
    want, got = make_trainer(), make_trainer()
    want.fit(data.whole, **FIT)
    with caplog.at_level("WARNING", "polytask"):
        got.fit(data.whole, resume=tmp_path, **FIT)
    assert "skipped a checkpoint" in caplog.text
    assert same_bits(got.model.state_dict(), want.model.state_dict())
    assert without_seconds(got.history) == without_seconds(want.history)


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
    assert sorted(os.listdir(tmp_path)) == ["c.npz", "c.safetensors"]


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
