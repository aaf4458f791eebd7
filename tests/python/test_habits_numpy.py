"""Scripts as people with NumPy arrays type them, written before it was known what is accepted; see docs/habits.md."""

import numpy as np
import polytask as pt
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, train_test_split


def arrays(rows=600, seed=0):
    """Ten features, a binary target, one of three classes, a number."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 10))
    return x, (x[:, 0] + x[:, 1] > 0).astype(int), np.digitize(x[:, 2], [-0.5, 0.5]), 2 * x[:, 3] + x[:, 4]


def test_the_short_form_by_position():
    """`MultiTaskModel(10, 20, [2, 3])`, as one types a torch layer."""
    x, y1, y2, _ = arrays()
    model = pt.MultiTaskModel(10, 20, [2, 3])
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x, y1, y2), epochs=20)
    assert trainer.evaluate((x, y1, y2))["task1"]["accuracy"] > 0.85


def test_types_of_numbers_do_not_matter():
    """float64, float32 and float16 features; int8, int64, float and bool labels: the same model."""
    x, y1, _, y3 = arrays()
    x = x.astype(np.float16)
    predicted = []
    for features, label, number in [
        (x.astype(np.float64), y1, y3.astype(np.float32)),
        (x.astype(np.float32), y1.astype(bool), y3.astype(np.float32).astype(np.float64)),
        (x, y1.astype(np.int8), y3.astype(np.float32)),
        (x, y1.astype(np.float64), y3.astype(np.float32)),
    ]:
        model = pt.MultiTaskModel(10, tasks=[pt.Task("a", loss="binary_cross_entropy"), pt.Task("b")])
        pt.Trainer(model, lr=0.01).fit((features, label, number), epochs=3)
        predicted.append(model.predict(features)["b"])
    for other in predicted[1:]:
        assert np.allclose(other, predicted[0], atol=1e-5)


def test_whole_numbers_as_features():
    """Pixels as uint8 in a numeric input."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (600, 16)).astype(np.uint8)
    y = (x[:, :8].sum(axis=1, dtype=int) > 1020).astype(int)
    model = pt.MultiTaskModel(input_size=16, hidden_size=32, output_sizes=[2])
    trainer = pt.Trainer(model, lr=0.001)
    trainer.fit((x, y), epochs=30)
    assert trainer.evaluate((x, y))["task1"]["accuracy"] > 0.8


def test_targets_as_columns():
    """`y[:, None]`, as regression code often has it, for a number and a binary label."""
    x, y1, _, y3 = arrays()
    model = pt.MultiTaskModel(10, tasks=[pt.Task("a", loss="binary_cross_entropy"), pt.Task("b")])
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x, y1[:, None], y3.reshape(-1, 1)), epochs=20)
    scores = trainer.evaluate((x, y1[:, None], y3.reshape(-1, 1)))
    assert scores["a"]["auroc"] > 0.9
    assert scores["b"]["r2"] > 0.9


def test_one_matrix_of_targets():
    """`fit((X, Y))` with `Y` `[rows, 2]` for two tasks, as scikit-learn's multi-output models take it."""
    x, y1, _, y3 = arrays()
    y = np.column_stack([y3, y1 + 0.5 * y3])
    model = pt.MultiTaskModel(10, tasks=[pt.Task("a"), pt.Task("b")])
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x, y), epochs=20)
    assert trainer.evaluate((x, y))["a"]["r2"] > 0.9


def test_masked_arrays():
    """Labels that are masked teach nothing, whatever stands below the mask."""
    x, y1, y2, y3 = arrays()
    hidden = np.random.default_rng(1).random(600) < 0.5
    y1 = np.ma.masked_array(np.where(hidden, 1 - y1, y1), mask=hidden)
    y2 = np.ma.masked_where(hidden, np.where(hidden, 99, y2))
    y3 = np.ma.masked_invalid(np.where(hidden, np.nan, y3))
    model = pt.MultiTaskModel(
        10, tasks=[pt.Task("a", loss="binary_cross_entropy"), pt.Task("b", classes=3), pt.Task("c")]
    )
    pt.Trainer(model, lr=0.01).fit((x, y1, y2, y3), epochs=30)
    assert roc_auc_score(arrays()[1], model.predict(x)["a"]) > 0.9
    assert (model.predict(x)["b"].argmax(axis=1) == arrays()[2]).mean() > 0.7


def test_strings_as_classes():
    """Labels are an array of strings, of the fixed width of NumPy or of objects."""
    x, _, y2, _ = arrays()
    names = np.array(["low", "middle", "high"])[y2]
    model = pt.MultiTaskModel(10, tasks=[pt.Task("level", classes=["low", "middle", "high"])], encoder="mlp")
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x, names), epochs=20)
    assert trainer.evaluate((x, names.astype(object)))["level"]["accuracy"] > 0.7
    assert (model.classes(model.predict(x))["level"] == names).mean() > 0.7


def test_classes_from_np_unique():
    """`classes=np.unique(y)`: an array, not a list."""
    x, _, y2, _ = arrays()
    names = np.array(["low", "middle", "high"])[y2]
    model = pt.MultiTaskModel(10, tasks=[pt.Task("level", classes=np.unique(names))], encoder="mlp")
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x, names), epochs=20)
    assert trainer.evaluate((x, names))["level"]["accuracy"] > 0.7


def test_minus_one_and_one_as_classes():
    """Labels of support vector machines: -1 is a class here, since the task says so."""
    x, y1, _, _ = arrays()
    sign = 2 * y1 - 1
    model = pt.MultiTaskModel(10, tasks=[pt.Task("sign", classes=[-1, 1])])
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x, sign), epochs=20)
    decided = model.classes(model.predict(x))["sign"]
    assert set(decided.tolist()) == {-1, 1}
    assert (decided == sign).mean() > 0.9


def test_sample_weight():
    """Whole numbers as weights: rows of weight 0 do not count."""
    x, y1, _, _ = arrays()
    wrong = np.arange(600) % 2 == 0
    weight = np.where(wrong, 0, 3)
    model = pt.MultiTaskModel(10, tasks=[pt.Task("a", loss="binary_cross_entropy")])
    pt.Trainer(model, lr=0.01).fit((x, np.where(wrong, 1 - y1, y1)), weights=weight, epochs=20)
    assert roc_auc_score(y1, model.predict(x)["a"]) > 0.9


def test_class_weight_for_a_rare_class():
    """`"balanced"` and a list of weights both find more of a rare class than no weights."""
    x, _, _, y3 = arrays(2000)
    rare = (y3 + np.random.default_rng(1).normal(size=2000) > 4).astype(int)
    found = []
    for weights in (None, "balanced", [1.0, 20.0]):
        model = pt.MultiTaskModel(
            10, tasks=[pt.Task("rare", classes=2, loss=pt.loss.CrossEntropy(class_weights=weights))]
        )
        pt.Trainer(model, lr=0.01).fit((x, rare), epochs=10)
        found.append(model.predict(x)["rare"].argmax(axis=1)[rare == 1].mean())
    assert found[1] > found[0]
    assert found[2] > found[0]


def test_class_weight_as_a_dict():
    """`{0: 1.0, 1: 20.0}`, as scikit-learn's `class_weight`."""
    x, _, _, y3 = arrays(2000)
    rare = (y3 > 4).astype(int)
    loss = pt.loss.CrossEntropy(class_weights={0: 1.0, 1: 20.0})
    model = pt.MultiTaskModel(10, tasks=[pt.Task("rare", classes=2, loss=loss)])
    pt.Trainer(model, lr=0.01).fit((x, rare), epochs=10)
    assert model.predict(x)["rare"].argmax(axis=1)[rare == 1].mean() > 0.8


def test_early_stopping_on_an_own_metric():
    """A metric is a function of mine, and the run stops by it."""

    def specificity(predictions, targets):
        negative = targets == 0
        return ((predictions < 0.5) & negative).sum() / negative.sum()

    x, y1, _, _ = arrays()
    model = pt.MultiTaskModel(10, tasks=[pt.Task("a", loss="binary_cross_entropy", metrics=["auroc", specificity])])
    stop = pt.EarlyStopping("a/specificity", patience=3, mode="max")
    history = pt.Trainer(model, lr=0.01, callbacks=[stop]).fit((x, y1), validation=0.3, epochs=200)
    assert len(history) < 200
    assert max(history["validation/a/specificity"]) > 0.8


def test_any_layout_in_memory(tmp_path):
    """Fortran order, every other column, reversed rows, a read-only file in memory: the same numbers."""
    x, y1, _, _ = arrays()
    np.save(tmp_path / "x.npy", x)
    wide = np.repeat(x, 2, axis=1)
    forms = [x, np.asfortranarray(x), wide[:, ::2], x[::-1][::-1], np.load(tmp_path / "x.npy", mmap_mode="r")]
    predicted = []
    for form in forms:
        model = pt.MultiTaskModel(10, tasks=[pt.Task("a", loss="binary_cross_entropy")])
        pt.Trainer(model, lr=0.01).fit((form, y1), epochs=2)
        predicted.append(model.predict(form)["a"])
    for other in predicted[1:]:
        assert np.array_equal(other, predicted[0])


def test_arrays_from_train_test_split():
    """`train_test_split(X, y1, y2)` gives six arrays; scikit-learn scores the predictions."""
    x, y1, _, y3 = arrays()
    x_train, x_test, y1_train, y1_test, y3_train, y3_test = train_test_split(x, y1, y3, random_state=0)
    model = pt.MultiTaskModel(10, tasks=[pt.Task("a", loss="binary_cross_entropy"), pt.Task("b")])
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((x_train, y1_train, y3_train), validation=(x_test, y1_test, y3_test), epochs=20)
    auroc = roc_auc_score(y1_test, model.predict(x_test)["a"])
    assert auroc > 0.9
    assert np.isclose(trainer.evaluate((x_test, y1_test, y3_test))["a"]["auroc"], auroc, atol=1e-6)


def test_cross_validation_by_index():
    """`KFold` gives index arrays; a new model a fold."""
    x, y1, _, _ = arrays(300)
    scores = []
    for train, test in KFold(3, shuffle=True, random_state=0).split(x):
        model = pt.MultiTaskModel(10, tasks=[pt.Task("a", loss="binary_cross_entropy")])
        trainer = pt.Trainer(model, lr=0.03)
        trainer.fit((x[train], y1[train]), epochs=20)
        scores.append(trainer.evaluate((x[test], y1[test]))["a"]["auroc"])
    assert np.mean(scores) > 0.9


def test_several_labels_a_row():
    """A matrix of 0 and 1 for one task with five labels, some unknown."""
    x, *_ = arrays()
    y = (x[:, :5] > 0).astype(float)
    y[::3, 2] = np.nan
    model = pt.MultiTaskModel(10, tasks=[pt.Task("tags", loss="binary_cross_entropy", outputs=5)])
    pt.Trainer(model, lr=0.01).fit((x, y), epochs=20)
    predicted = model.predict(x)["tags"]
    assert predicted.shape == (600, 5)
    assert ((predicted > 0.5) == (x[:, :5] > 0)).mean() > 0.9


def test_plain_lists():
    """Lists of lists, without NumPy at all."""
    x, y1, _, _ = arrays(200)
    model = pt.MultiTaskModel(10, tasks=[pt.Task("a", loss="binary_cross_entropy")])
    pt.Trainer(model, lr=0.05).fit((x.tolist(), y1.tolist()), epochs=20)
    assert roc_auc_score(y1, model.predict(x.tolist())["a"]) > 0.9


def test_a_missing_feature_is_pointed_out():
    """A NaN among the features of an array is refused before anything is learned, with its place."""
    x, y1, _, _ = arrays()
    x[17, 3] = np.nan
    model = pt.MultiTaskModel(10, tasks=[pt.Task("a", loss="binary_cross_entropy")])
    with pytest.raises(ValueError, match=r"(?i)nan|finite"):
        pt.Trainer(model).fit((x, y1), epochs=1)


def test_a_torch_loss_of_mine():
    """A loss function of torch is the loss of a task."""
    x, _, _, y3 = arrays()
    model = pt.MultiTaskModel(10, tasks=[pt.Task("b", loss=torch.nn.functional.smooth_l1_loss)])
    pt.Trainer(model, lr=0.01).fit((x, y3), epochs=20)
    assert np.corrcoef(model.predict(x)["b"].reshape(-1), y3)[0, 1] > 0.9
