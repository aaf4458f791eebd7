"""Several threads with one model: predictions side by side, and what happens while it trains."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polytask as pt
import pytest
from conftest import Data, make_model

FIT = {"epochs": 2, "batch_size": 32, "progress": False}


def test_eight_threads_predict_what_one_does():
    model, data = make_model(), Data(3_000)
    pt.Trainer(model).fit(data.whole, **FIT)
    x = data.whole[0]
    alone = model.predict(x)
    together = threading.Barrier(8)

    def often(_):
        together.wait()
        return [model.predict(x, batch_size=size) for size in (4096, 700, 4096, 64) * 5]

    with ThreadPoolExecutor(8) as pool:
        for predictions in pool.map(often, range(8)):
            for prediction in predictions[::4]:
                for task, values in alone.items():
                    np.testing.assert_array_equal(prediction[task], values)


def test_a_model_that_trains_refuses_to_predict_in_another_thread_and_is_not_stopped_by_it():
    model, data = make_model(), Data(3_000)
    trainer, x, said = pt.Trainer(model), data.whole[0], []
    begun, through = threading.Event(), threading.Event()

    class Begins(pt.Callback):
        def on_epoch_start(self, trainer):
            begun.set()

    def ask():
        begun.wait()
        while not through.is_set():
            try:
                model.predict(x[:10])
            except ValueError as error:
                said.append(str(error))

    other = threading.Thread(target=ask)
    other.start()
    try:
        history = trainer.fit(data.whole, epochs=200, batch_size=8, progress=False, callbacks=Begins())
    finally:
        begun.set()
        through.set()
        other.join()
    assert len(history) == 200
    assert said
    assert all("the model is busy: another call is still running" in each for each in said)


def test_a_model_that_is_read_by_others_waits_for_them_and_trains():
    model, data = make_model(), Data(3_000)
    x, stop, said = data.whole[0], threading.Event(), []

    def serve():
        while not stop.is_set():
            try:
                model.predict(x)
            except ValueError as error:
                said.append(str(error))

    threads = [threading.Thread(target=serve) for _ in range(3)]
    [thread.start() for thread in threads]
    try:
        history = pt.Trainer(model).fit([data.whole] * 5, epochs=3, progress=False)
    finally:
        stop.set()
        [thread.join() for thread in threads]
    assert len(history) == 3
    assert all("busy" in each for each in said)


@pytest.mark.parametrize("call", ["fit", "predict"])
def test_a_loss_that_calls_its_own_model_does_not_wait_for_itself(call):
    """If it wants to train it is refused; if it asks for predictions it gets those from before the step."""
    found = []

    def loss(p, y):
        if call == "fit":
            pt.Trainer(model).fit(data, epochs=1, progress=False)
        else:
            found.append(model.predict(data[0])["a"])
        return (p - y).abs()

    rng = np.random.default_rng(0)
    data = rng.normal(size=(20, 3)).astype(np.float32), {"a": rng.normal(size=20).astype(np.float32)}
    model = pt.MultiTaskModel(3, tasks=[pt.Task("a", loss=loss)], encoder=pt.encoder.MLP([4]), seed=0)
    before = model.predict(data[0])["a"]
    if call == "fit":
        with pytest.raises(ValueError, match="busy"):
            pt.Trainer(model).fit(data, epochs=1, progress=False)
    else:
        pt.Trainer(model, lr=0.1).fit(data, epochs=1, progress=False)
        assert len(found) == 1
        np.testing.assert_array_equal(found[0], before)
        assert not np.array_equal(model.predict(data[0])["a"], before)
