"""Scripts as people who serve a model type them, written before it was known what is accepted; see docs/habits.md."""

import asyncio
import json
import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import torch


def visitors(rows=400, seed=0):
    """Visitors of a site: do they buy, which of three plans."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "pages": rng.poisson(4, rows).astype(float),
            "country": rng.choice(["it", "no", "pe"], rows),
        }
    )
    frame["buys"] = (frame["pages"] > 4).astype(int)
    frame["plan"] = np.where(frame["age"] < 30, "free", np.where(frame["age"] < 60, "basic", "pro"))
    return frame


def trained(epochs=15):
    """A model of raw frames."""
    frame = visitors()
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame, exclude=["buys", "plan"]),
        tasks=[pt.Task("buys", loss="binary_cross_entropy"), pt.Task("plan", classes=["free", "basic", "pro"])],
        encoder=pt.encoder.MLP([32]),
    )
    pt.Trainer(model, lr=0.01).fit(frame, epochs=epochs)
    return model


def test_json_rows():
    """The body of a request is a list of records, given to `predict` as it is."""
    model = trained()
    body = '[{"age": 20, "pages": 9.0, "country": "it"}, {"age": 70, "pages": 0.0, "country": "pe"}]'
    predicted = model.predict(json.loads(body))
    assert predicted["buys"][0] > 0.5 > predicted["buys"][1]
    assert model.classes(predicted)["plan"].tolist() == ["free", "pro"]


def test_json_rows_in_a_frame():
    """The same records in a frame; the answer is JSON again."""
    model = trained()
    rows = pd.DataFrame([{"age": 20, "pages": 9, "country": "it"}, {"age": 70, "pages": 0, "country": "pe"}])
    predicted = model.predict(rows)
    answer = json.dumps({name: values.tolist() for name, values in predicted.items()})
    assert json.loads(answer)["buys"][0] > 0.5
    labels = json.dumps({name: values.tolist() for name, values in model.classes(predicted).items()})
    assert json.loads(labels)["plan"] == ["free", "pro"]


def test_one_record():
    """One visitor is one dict."""
    model = trained()
    predicted = model.predict({"age": 20, "pages": 9.0, "country": "it"})
    assert np.ravel(predicted["buys"])[0] > 0.5


def test_one_row_of_a_frame():
    """`frame.iloc[[0]]` and the row among others have the same prediction."""
    model, frame = trained(), visitors()
    together = model.predict(frame)
    for i in (0, 7, 399):
        alone = model.predict(frame.iloc[[i]])
        assert alone["plan"].shape == (1, 3)
        assert np.allclose(alone["plan"][0], together["plan"][i], atol=1e-6)


def test_one_row_as_a_vector():
    """`predict(x[0])` of an array: one row, or a refusal that says how features should look."""
    x = np.random.default_rng(0).normal(size=(100, 5))
    model = pt.MultiTaskModel(input_size=5, hidden_size=8, output_sizes=[2])
    pt.Trainer(model).fit((x, (x[:, 0] > 0).astype(int)), epochs=1)
    try:
        alone = model.predict(x[0])["task1"]
    except (ValueError, TypeError) as error:
        assert "[rows, 5]" in str(error)  # noqa: PT017
    else:
        assert np.allclose(alone.reshape(-1), model.predict(x[:1])["task1"][0])


def test_loaded_in_another_process(tmp_path):
    """One script trains and saves, another loads and answers the same."""
    model, frame = trained(), visitors().head(20)
    model.save(tmp_path / "model.safetensors")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    script = (
        "import sys, pandas as pd, polytask as pt\n"
        f"model = pt.MultiTaskModel.load({str(tmp_path / 'model.safetensors')!r})\n"
        f"print(model.predict(pd.read_csv({str(tmp_path / 'rows.csv')!r}))['buys'].tolist())\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert np.allclose(json.loads(printed), model.predict(frame)["buys"], atol=1e-6)


def test_forked_workers():
    """A server loads the model and forks its workers, as gunicorn does with `--preload`."""
    model, frame = trained(), visitors().head(20)
    expected = model.predict(frame)["buys"]
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    workers = [context.Process(target=lambda: queue.put(model.predict(frame)["buys"].tolist())) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        if worker.is_alive():
            worker.kill()
        assert worker.exitcode == 0
    for _ in workers:
        assert np.allclose(queue.get(), expected, atol=1e-6)


def test_what_a_request_may_lack():
    """A null number, a country never seen, a null country: answers all the same."""
    model = trained()
    rows = pd.DataFrame(
        {"age": [25, None, 40, 40], "pages": [1.0, 2.0, None, 3.0], "country": ["it", "no", "xx", None]}
    )
    assert np.isfinite(model.predict(rows)["buys"]).all()
    assert np.allclose(model.predict(rows)["plan"].sum(axis=1), 1, atol=1e-5)


def test_a_column_too_few():
    """The refusal names the column that is not there."""
    with pytest.raises((ValueError, KeyError), match="country"):
        trained(1).predict(visitors()[["age", "pages"]])


def test_a_number_that_is_no_number():
    """`"unknown"` in a column of numbers: the refusal names the column."""
    rows = pd.DataFrame({"age": [25, "unknown"], "pages": [1.0, 2.0], "country": ["it", "no"]})
    with pytest.raises((ValueError, TypeError), match="age"):
        trained(1).predict(rows)


def test_numbers_as_strings():
    """A form sends numbers as text: the same answers as for numbers, or a refusal that names the column."""
    model = trained(3)
    rows = visitors().head(5)
    try:
        answers = model.predict(rows.assign(age=rows["age"].astype(str)))["buys"]
    except (ValueError, TypeError) as error:
        assert "age" in str(error)  # noqa: PT017
    else:
        assert np.allclose(answers, model.predict(rows)["buys"], atol=1e-6)


def test_no_rows():
    """An empty request has an empty answer."""
    predicted = trained(1).predict(visitors().head(0))
    assert predicted["buys"].shape == (0,)
    assert predicted["plan"].shape == (0, 3)


def test_whole_numbers_where_floats_were():
    """Requests have integers in a column of floats, and single precision in another: the same answers."""
    model, frame = trained(3), visitors()
    other = frame.astype({"pages": "int64", "age": "float32"})
    assert np.allclose(model.predict(other)["buys"], model.predict(frame)["buys"], atol=1e-6)


def test_own_threshold():
    """A stricter threshold decides for fewer buyers, with what `load` gives back."""
    model, frame = trained(3), visitors()
    predicted = model.predict(frame)
    strict = model.classes(predicted, threshold=0.7)["buys"]
    assert strict.dtype.kind in "iub"
    assert strict.sum() == (predicted["buys"] >= 0.7).sum()


def test_number_of_threads_and_no_grad():
    """`torch.no_grad()` and another number of threads around `predict` change nothing that matters."""
    model, frame = trained(3), visitors()
    expected, before = model.predict(frame)["buys"], torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with torch.no_grad():
            assert np.allclose(model.predict(frame)["buys"], expected, atol=1e-6)
        with torch.inference_mode():
            assert np.allclose(model.predict(frame)["buys"], expected, atol=1e-6)
    finally:
        torch.set_num_threads(before)


def test_threads():
    """Eight threads of a server ask at once, each gets its own answer."""
    model, frame = trained(), visitors()
    expected = model.predict(frame)["buys"]
    parts = [frame.iloc[i : i + 10] for i in range(0, 400, 10)] * 3
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda part: model.predict(part)["buys"], parts))
    assert np.allclose(np.concatenate(answers[:40]), expected, atol=1e-6)
    assert np.array_equal(np.concatenate(answers[40:80]), np.concatenate(answers[:40]))


def test_coroutines():
    """`asyncio.to_thread`, as in an endpoint."""
    model, frame = trained(), visitors()

    async def endpoint(i):
        return float((await asyncio.to_thread(model.predict, frame.iloc[[i]]))["buys"][0])

    async def all_of_them():
        return await asyncio.gather(*(endpoint(i) for i in range(20)))

    assert np.allclose(asyncio.run(all_of_them()), model.predict(frame.head(20))["buys"], atol=1e-6)
