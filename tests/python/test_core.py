"""The border: the core lets go of the GIL, refuses to be entered twice, and keeps what it borrows alive."""

import errno
import gc
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from polytask import _core

X = np.linspace(-1, 1, 12_000, dtype=np.float32).reshape(4000, 3)
Y = np.arange(len(X)) % 2
EPOCH = {"batch_size": 1, "shuffle": True, "keep_outputs": False}


def make(width=3):
    description = {
        "inputs": {"numeric": width},
        "tasks": [{"name": "a", "loss": "cross_entropy", "classes": 2}],
        "encoder": {"name": "mlp", "hidden": [64, 64]},
    }
    return _core.Model(description)


def rows(x=X, y=Y):
    return _core.Data(len(x), numeric=x, targets=[y])


def train(trainer, poll=None):
    """Epochs until the trainer has asked for a look at the outside world, which it does every 50 ms; its looks.

    Each has twice the rows of the one before: no machine is so fast that none takes so long.
    """
    looks, times = [], 1

    def look(*progress):
        looks.append(progress)
        if poll is not None:
            poll()

    while not looks:
        data = rows(np.tile(X, (times, 1)), np.tile(Y, times))
        assert trainer.run(data, poll=look, **EPOCH)
        trainer.end_epoch()
        times *= 2
    assert looks[0][1] == len(data)
    return looks


def test_the_core_tells_how_far_it_is():
    done, total, mean = train(_core.Trainer(make(), {}))[0]
    assert 0 < done <= total
    assert 0 < mean < 1


def test_other_threads_run_while_the_core_trains():
    turns, stop = [], threading.Event()

    def take_turns():
        while not stop.wait(0.001):
            turns.append(time.perf_counter())

    trainer = _core.Trainer(make(), {})
    data = rows(np.tile(X, (10, 1)), np.tile(Y, 10))
    other = threading.Thread(target=take_turns)
    other.start()
    start = time.perf_counter()
    trainer.run(data, **EPOCH)
    end = time.perf_counter()
    stop.set()
    other.join()
    assert sum(start < turn < end for turn in turns) >= 3


def test_a_busy_object_refuses_instead_of_waiting_for_itself():
    model = make()
    trainer = _core.Trainer(model, {})
    data = rows()
    said = set()

    def enter_again():
        for call in (lambda: trainer.steps, lambda: trainer.step(data), lambda: model.predict(data), model.state):
            with pytest.raises(ValueError, match="is busy: another call is still running") as raised:
                call()
            said.add(str(raised.value).split(" is ")[0])

    train(trainer, enter_again)
    assert said == {"the trainer", "the model"}
    assert trainer.steps > 0
    assert len(model.predict(data)) == 1


def test_what_a_callback_raises_comes_back_as_it_is():
    class OwnError(Exception):
        pass

    def fail():
        raise OwnError("mine")

    trainer, data = _core.Trainer(make(), {}), rows(np.tile(X, (20, 1)), np.tile(Y, 20))
    with pytest.raises(OwnError, match="mine"):
        trainer.run(data, poll=lambda *progress: fail(), **EPOCH)
    assert 0 < trainer.batches < len(data)
    # The epoch goes on where it was.
    assert trainer.run(data, **EPOCH)
    assert trainer.batches == len(data)


def test_arrays_live_as_long_as_their_rows_and_no_longer():
    x = X[:5].copy()
    before = sys.getrefcount(x)
    data = rows(x, Y[:5])
    assert sys.getrefcount(x) == before + 1
    model = make()
    model.predict(data)
    del data
    gc.collect()
    assert sys.getrefcount(x) == before


def test_views_of_parameters_are_live_and_keep_the_model():
    model = make()
    view = model.parameters()["heads.a.bias"]
    view[:] = [0.25, -0.5]
    assert model.state()["heads.a.bias"].tolist() == [0.25, -0.5]
    del model
    gc.collect()
    assert view.tolist() == [0.25, -0.5]


def test_rows_are_checked_for_every_model_even_at_the_same_address():
    data = rows()
    for _ in range(50):
        make(3).predict(data)
        with pytest.raises(ValueError, match=r"`x` should have shape \[4000, 4\]; got \[4000, 3\]"):
            make(4).predict(data)


def test_rows_without_labels_are_checked_again_for_training():
    data = _core.Data(2, numeric=X[:2], targets=[np.array([-1, -1])])
    model = make()
    model.predict(data)
    with pytest.raises(ValueError, match="no row has a label for any task"):
        model.check(data, True)


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"])
def test_every_type_and_layout_gives_the_same_predictions(dtype):
    x = (np.arange(60).reshape(20, 3) % 2).astype(dtype)
    model = make()
    (expected,) = model.predict(rows(x.astype(np.float32), Y[:20]))
    unaligned = np.frombuffer(b"_" + x.tobytes(), dtype, offset=1).reshape(x.shape)
    doubled = np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)
    layouts = [x, np.asfortranarray(x), x[::-1].copy()[::-1], x[:, ::-1].copy()[:, ::-1], doubled[::2, ::2], unaligned]
    for layout in layouts:
        layout = layout.view()
        layout.flags.writeable = False
        assert np.array_equal(model.predict(rows(layout, Y[:20]))[0], expected)


def test_files_say_what_the_system_says(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        _core.Model.load(str(tmp_path / "none"))
    assert raised.value.filename == str(tmp_path / "none")
    assert raised.value.errno == errno.ENOENT
    with pytest.raises(IsADirectoryError):
        make().save(str(tmp_path))


def test_state_of_the_wrong_type_is_refused_by_name():
    state = make().state()
    model = make()
    with pytest.raises(TypeError, match=r"`state`: `heads.a.bias` should be a float32 array; got float64"):
        model.load_state(state | {"heads.a.bias": np.zeros(2)})
    with pytest.raises(TypeError, match=r"`heads.a.bias` should be a float32 array; got <class 'list'>"):
        model.load_state(state | {"heads.a.bias": [0.0, 0.0]})
    with pytest.raises(ValueError, match=r"`heads.a.bias` should hold finite numbers; got NaN"):
        model.load_state(state | {"heads.a.bias": np.full(2, np.nan, np.float32)})


def test_a_variable_caps_the_level_and_a_wrong_one_is_refused():
    def started(level):
        command = [sys.executable, "-c", "from polytask import _core; print(_core.level, *_core.levels)"]
        return subprocess.run(command, env=os.environ | {"POLYTASK_LEVEL": level}, capture_output=True, text=True)

    assert _core.level in _core.levels
    assert started("none").stdout.split() == ["none", *_core.levels]
    names = '"none", "avx2", "avx512", "avx512_bf16"'
    assert f'ValueError: `POLYTASK_LEVEL` should be one of {names}; got "avx3"' in started("avx3").stderr
