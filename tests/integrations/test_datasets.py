"""Data sets of Hugging Face train as the arrays they were made of."""

import datasets
import numpy as np
import polytask as pt
import pytest
from torch.utils.data import DataLoader

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 5)).astype(np.float32)
COLUMNS = {"x": X.tolist(), "label": (X[:, 0] > 0).astype(int).tolist(), "score": X[:, 1].tolist(), "text": ["a"] * 200}


def losses(data):
    model = pt.MultiTaskModel(5, tasks=[pt.Task("label", classes=2), pt.Task("score")])
    history = pt.Trainer(model).fit(data, epochs=2, shuffle=False, progress=False)
    return history["loss"], model.predict(data)["score"]


FORMS = {
    "stored": lambda whole: whole,
    "as torch": lambda whole: whole.with_format("torch"),
    "as NumPy": lambda whole: whole.with_format("numpy"),
    "streamed": lambda whole: whole.to_iterable_dataset(),
    "streamed as torch": lambda whole: whole.to_iterable_dataset().with_format("torch"),
    "mapped stream": lambda whole: whole.to_iterable_dataset().map(lambda row: {"twice": 2 * row["score"]}),
    "in a loader": lambda whole: DataLoader(whole.with_format("torch"), batch_size=32),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_numbers(name):
    want = losses((X, {"label": np.array(COLUMNS["label"]), "score": np.array(COLUMNS["score"])}))
    got = losses(FORMS[name](datasets.Dataset.from_dict(COLUMNS)))
    assert got[0] == pytest.approx(want[0], rel=1e-6)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-4, atol=1e-5)


def test_columns_that_are_features_by_name():
    table = datasets.Dataset.from_dict({"width": X[:, 0], "height": X[:, 1], "label": COLUMNS["label"]})
    model = pt.MultiTaskModel(2, tasks=[pt.Task("label", classes=2)])
    history = pt.Trainer(model, lr=0.05).fit(table, validation=0.2, epochs=10, progress=False)
    assert history["validation/label/accuracy"][-1] > 0.8
