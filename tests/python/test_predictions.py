"""Predictions: shapes, links, decisions, and every form of features."""

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import torch
from conftest import make_model
from torch.utils.data import DataLoader, TensorDataset


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def ordered(z):
    p = sigmoid(z)
    return np.stack([1 - p[:, 0], p[:, 0] * (1 - p[:, 1]), p[:, 0] * p[:, 1]], 1)


TASKS = {
    "kind": (pt.Task("kind", classes=3), (5, 3), (5, 3), softmax),
    "degree": (pt.Task("degree", classes=3, loss="ordinal"), (5, 3), (5, 2), ordered),
    "clicked": (pt.Task("clicked", loss="binary_cross_entropy"), (5,), (5,), sigmoid),
    "topics": (pt.Task("topics", loss="binary_cross_entropy", outputs=4), (5, 4), (5, 4), sigmoid),
    "focal": (pt.Task("focal", loss=pt.loss.Focal()), (5,), (5,), sigmoid),
    "age": (pt.Task("age"), (5,), (5,), lambda z: z),
    "place": (pt.Task("place", outputs=2), (5, 2), (5, 2), lambda z: z),
    "counts": (pt.Task("counts", loss="poisson"), (5,), (5,), np.exp),
    "level": (pt.Task("level", loss=pt.loss.Quantile([0.1, 0.5, 0.9])), (5, 3), (5, 3), lambda z: z),
    "levels": (pt.Task("levels", loss=pt.loss.Quantile([0.1, 0.9]), outputs=3), (5, 3, 2), (5, 3, 2), lambda z: z),
    "own": (pt.Task("own", classes=3, loss=torch.nn.functional.cross_entropy), (5, 3), (5, 3), softmax),
    "error": (pt.Task("error", loss=torch.nn.functional.mse_loss), (5,), (5,), lambda z: z),
}


def test_kinds_of_labels_are_those_of_links():
    model = pt.MultiTaskModel(4, tasks=[task for task, *_ in TASKS.values()])
    kinds = {softmax: "classes", ordered: "classes", sigmoid: "binary"}
    assert dict(zip(TASKS, model.kinds, strict=True)) == {
        name: kinds.get(link, "values") for name, (*_, link) in TASKS.items()
    }


@pytest.mark.parametrize("name", TASKS)
def test_shapes_and_links(name):
    task, shape, raw_shape, link = TASKS[name]
    model = pt.MultiTaskModel(4, tasks=[pt.Task("other"), task])
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    predicted, raw = model.predict(x), model.predict(x, raw=True)
    assert list(predicted) == ["other", name]
    assert predicted[name].shape == shape
    assert raw[name].shape == raw_shape
    assert predicted[name].dtype == np.float32
    np.testing.assert_allclose(predicted[name], link(raw[name].astype(float)), rtol=1e-5)


def test_a_gaussian_gives_mean_and_variance_on_the_last_axis():
    tasks = [pt.Task("one", loss="gaussian_nll"), pt.Task("two", loss="gaussian_nll", outputs=2)]
    model = pt.MultiTaskModel(4, tasks=tasks)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    predicted, raw = model.predict(x), model.predict(x, raw=True)
    assert predicted["one"].shape == (5, 2)
    assert predicted["two"].shape == (5, 2, 2)
    np.testing.assert_array_equal(predicted["two"][..., 0], raw["two"][..., 0])
    np.testing.assert_allclose(predicted["two"][..., 1], np.log1p(np.exp(raw["two"][..., 1])) + 1e-6, rtol=1e-5)


@pytest.mark.usefixtures("own_seed")
def test_features_in_every_form(data, model):
    want = model.predict(data.x)
    frame = pd.DataFrame(data.x)
    tensor = torch.from_numpy(data.x)
    for x in [
        tensor, data.x.tolist(), data.x.astype(np.float64), {"numeric": data.x}, frame, (data.x, data.income),
        TensorDataset(tensor), DataLoader(TensorDataset(tensor), 50), [tensor[:100], tensor[100:]],
        ((row[None], 0) for row in data.x), list(data.x),
    ]:  # fmt: skip
        got = model.predict(x)
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-6)
    small = model.predict(data.x, batch_size=7)
    np.testing.assert_allclose(small["age"], want["age"], rtol=1e-5, atol=1e-6)
    assert model.predict(data.x[:1])["age"].shape == (1,)


def test_dropout_is_off_and_nothing_changes(data, model):
    before = model.state_dict()
    np.testing.assert_array_equal(model.predict(data.x)["age"], model.predict(data.x)["age"])
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())


def test_decisions():
    labels = pt.Task("sex", classes=["f", "m"])
    tasks = [labels, pt.Task("kind", classes=3), pt.Task("t", loss="binary_cross_entropy", outputs=2), pt.Task("age")]
    model = pt.MultiTaskModel(4, tasks=tasks)
    predicted = {
        "sex": [[0.4, 0.6], [0.7, 0.3]],
        "kind": [[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]],
        "t": [[0.5, 0.1], [0.45, 0.95]],
        "age": [1.0, 2.0],
    }
    decided = model.classes(predicted)
    assert set(decided) == {"sex", "kind", "t"}
    assert decided["sex"].tolist() == ["m", "f"]
    assert decided["kind"].tolist() == [2, 0]
    assert decided["t"].tolist() == [[1, 0], [0, 1]]
    assert model.classes(predicted, threshold=0.25)["sex"].tolist() == ["m", "m"]
    assert model.classes(predicted, threshold={"t": 0.1})["t"].tolist() == [[1, 1], [1, 1]]
    x = np.zeros((3, 4), np.float32)
    assert model.classes(model.predict(x))["kind"].shape == (3,)
    with pytest.raises(ValueError, match="should be probabilities; got numbers outside 0"):
        model.classes(model.predict(x - 50, raw=True))
    with pytest.raises(ValueError, match=r"unknown task 'knd'; did you mean `kind`. the model has `sex`"):
        model.classes({"knd": [0.5]})
    with pytest.raises(ValueError, match="`threshold` should be a number between 0 and 1; got 2"):
        model.classes(predicted, threshold=2)


def test_the_model_is_shown(model):
    shown = repr(model)
    assert "Task('income', classes=2" in shown
    assert "MLP(hidden=[16, 8], dropout=0.1)" in shown
    summary = model.summary()
    assert summary.parameters == sum(array.size for array in model.state_dict().values())
    assert "encoder.1" in repr(summary)
    assert "<td>heads.*</td>" in summary._repr_html_()


def test_live_parameters_and_an_encoder_of_any_kind(data):
    model = make_model()
    parameters = model.parameters()
    parameters["heads.age.weight"][:] = 0
    parameters["heads.age.bias"][:] = 3
    np.testing.assert_array_equal(model.predict(data.x)["age"], 3)
    del model
    assert parameters["heads.age.bias"][0] == 3


def test_no_rows_have_an_empty_answer_of_the_usual_shape():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)).astype("f4"), rng.normal(size=40)
    tasks = [
        *(pt.Task(scale, scale=scale) for scale in ("standardize", "robust", "quantile")),
        pt.Task("two", outputs=2, scale="standardize"),
        pt.Task("spread", loss="gaussian_nll", scale="standardize"),
        pt.Task("own", classes=3, loss=lambda p, t: torch.nn.functional.cross_entropy(p, t.long())),
        pt.Task("binary", loss="binary_cross_entropy"),
    ]
    targets = {"two": np.stack([y, y], 1), "own": rng.integers(0, 3, 40), "binary": (y > 0).astype(int)}
    model = pt.MultiTaskModel(3, tasks=tasks)
    pt.Trainer(model).fit((x, {task.name: targets.get(task.name, y) for task in tasks}), epochs=1, progress=False)
    for raw in (False, True):
        usual, none = model.predict(x, raw=raw), model.predict(x[:0], raw=raw)
        assert {name: (0, *p.shape[1:]) for name, p in usual.items()} == {name: p.shape for name, p in none.items()}
        assert [p.dtype for p in usual.values()] == [p.dtype for p in none.values()]


def test_inference_mode_leaves_later_calls_alone():
    """What a call makes and keeps is no tensor of inference mode, which nobody may write to afterwards."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 4)).astype(np.float32), rng.integers(0, 2, 64)
    ends = []
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            model = pt.MultiTaskModel(4, 8, [2])
            model.predict(x)
            trainer = pt.Trainer(model)
            trainer.fit((x, y), epochs=1, progress=False)
            assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
            with pytest.raises(ValueError, match=r"`x` should have shape \[64, 4\]; got \[64, 3\]"):
                model.predict(x[:, :3])
            assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        trainer.fit((x, y), epochs=1, progress=False)
        ends.append(model.predict(x)["task1"])
    np.testing.assert_array_equal(*ends)
