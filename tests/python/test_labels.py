"""Labels in every type that people have them in, and values that are equal in another type."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import pytest

X = np.arange(6.0)
FIT = {"epochs": 2, "shuffle": False, "progress": False}


def history(task, y, x=X):
    """Of two epochs on targets, or on a frame."""
    model = pt.MultiTaskModel(1, tasks=[task], encoder=pt.encoder.MLP([4]))
    data = x if y is None else (x[:, None], y)
    return [row | {"seconds": 0} for row in pt.Trainer(model).fit(data, **FIT)]


BINARY = pt.Task("y", loss="binary_cross_entropy")
TWO, NAMED = pt.Task("y", classes=2), pt.Task("y", classes=[False, True])
TRUTH = [True, False, None, True, False, True]


@pytest.mark.parametrize("task", [BINARY, TWO, NAMED], ids=["binary", "two classes", "named"])
def test_true_false_and_none(task):
    known = np.array([1, 0, np.nan, 1, 0, 1])
    want = history(task, known)
    assert np.isfinite(want[0]["y/loss"])
    numbers = [None if y is None else int(y) for y in TRUTH]
    texts = [None if y is None else str(y) for y in TRUTH]
    forms = [TRUTH, np.array(TRUTH, object), numbers, texts, [None if y is None else f"{y:d}" for y in TRUTH]]
    forms += [np.ma.masked_array([1, 0, 7, 1, 0, 1], [0, 0, 1, 0, 0, 0]), [np.nan if y is None else y for y in TRUTH]]
    pandas = ["object", "boolean", "boolean[pyarrow]"]
    ints = ["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64", "object"]
    arrow = ["int8[pyarrow]", "int64[pyarrow]", "uint8[pyarrow]", "float[pyarrow]", "double[pyarrow]"]
    forms += [pd.Series(TRUTH, dtype=each) for each in pandas]
    forms += [pd.Series(numbers, dtype=each) for each in [*ints, *arrow, "category"]]
    forms += [pd.Series(texts, dtype=each) for each in ("object", "str", "string", "string[pyarrow]", "category")]
    forms += [pl.Series(TRUTH), pl.Series(texts), pl.Series(texts, dtype=pl.Categorical)]
    forms += [pl.Series(numbers).cast(each) for each in [pl.Int8, pl.Int64, pl.UInt8, pl.UInt64, pl.Float32, pl.Float64,
                                                         pl.Decimal(8, 2), pl.Int128]]  # fmt: skip
    for y in forms:
        assert history(task, y) == want, repr(y)
        if isinstance(y, pd.Series):
            assert history(task, None, pd.DataFrame({"x": X, "y": y})) == want, repr(y)
        if isinstance(y, pl.Series):
            assert history(task, None, pl.DataFrame({"x": X, "y": y})) == want, repr(y)


@pytest.mark.parametrize("task", [BINARY, TWO], ids=["binary", "two classes"])
def test_yes_and_no(task):
    want = history(task, [1, 0, np.nan, 1, 0, 1])
    for y in (["yes", "no", None, "yes", "no", "yes"], ["Yes", "NO", np.nan, "yes", "No", "yes"]):
        assert history(task, y) == want
        assert history(task, np.array(y, object)) == want
        assert history(task, None, pd.DataFrame({"x": X, "y": y})) == want
    assert history(task, ["yes", "no"] * 3) == history(task, [1, 0] * 3)
    with pytest.raises(
        TypeError,
        match=r"should hold numbers \(or yes and no\); got dtype .*'maybe'.* at row 1; .*labels of classes are",
    ):
        history(task, ["yes", "maybe"] * 3)
    with pytest.raises(TypeError, match=r"should hold numbers; got dtype .*'yes'.* at row 0; labels of classes are li"):
        history(pt.Task("y", classes=3), ["yes", "no"] * 3)


def test_words_of_a_task_of_numbers_are_told_what_they_need():
    listed = "labels of classes are listed"
    for task, advice in (({}, listed), ({"loss": "huber"}, f"those of the loss `huber` do; {listed}, .* another loss")):
        with pytest.raises(TypeError, match=f"should hold numbers; got .*'good' at row 0; {advice}"):
            history(pt.Task("y", **task), ["good", "bad"] * 3)
    binary = f"numbers .or yes and no.; got .*'good' at row 0; those of the loss `binary_cross_entropy` do; {listed}"
    with pytest.raises(TypeError, match=binary):
        history(pt.Task("y", loss="binary_cross_entropy"), ["good", "bad"] * 3)


def test_several_labels_a_row_in_every_type():
    task = pt.Task("y", loss="binary_cross_entropy", columns=["a", "b"])
    a, b = TRUTH, ["no", "yes", "yes", None, "no", "yes"]
    known = np.array([[1, 0], [0, 1], [np.nan, 1], [1, np.nan], [0, 0], [1, 1]])
    want = history(task, known)
    frame = pd.DataFrame({"x": X, "a": a, "b": b})
    assert history(task, frame[["a", "b"]]) == want
    assert history(task, frame[["b", "a"]].to_numpy()[:, ::-1]) == want
    for whole in (frame, pl.from_pandas(frame), frame.astype({"a": "boolean", "b": "string"})):
        assert history(task, None, whole) == want
    with pytest.raises(TypeError, match="with 'maybe' at row 2, column 1"):
        history(task, None, frame.assign(b=["no", "yes", "maybe", None, "no", "yes"]))


def test_numbers_of_every_type_are_values_to_predict():
    values = [1.0, None, 2.5, 1.0, 0.0, 3.0]
    want = history(pt.Task("y"), np.array(values, float))
    decimals = [None if y is None else Decimal(str(y)) for y in values]
    texts = [None if y is None else str(y) for y in values]
    for y in (values, np.array(values, object), decimals, texts, pd.Series(decimals), pl.Series(decimals),
              pd.Series(values, dtype="Float32"), pl.Series(values, dtype=pl.Float32), pd.Series(texts)):  # fmt: skip
        assert history(pt.Task("y"), y) == want, repr(y)
    with pytest.raises(TypeError, match=r"should hold numbers; got dtype object, with datetime.date.* at row 0"):
        history(pt.Task("y"), [datetime.date(2020, 1, 1)] * 6)


def test_labels_are_the_same_in_another_type():
    task = pt.Task("y", classes=["1", "2", "3"])
    y = np.array([1, 2, 1, 2, 1, 2])
    want = history(task, y.astype(str))
    assert want == history(pt.Task("y", classes=3), y - 1)
    for other in (y, y.astype(float), y.astype(np.uint8), y.astype(object), y.astype(float).astype(str), list(y)):
        assert history(task, other) == want
    for labels in ([1, 2, 3], [1.0, 2.0, 3.0], np.array([1, 2, 3])):
        for other in (y, y.astype(str), y.astype("f4"), pd.Series(y.astype(str)), pl.Series(y)):
            assert history(pt.Task("y", classes=labels), other) == want
    shares = pt.Task("y", classes=[0.1, 0.2])
    want = history(shares, [0.1, 0.2] * 3)
    for other in (np.array([0.1, 0.2] * 3, "f4"), ["0.1", "0.2"] * 3, pl.Series([0.1, 0.2] * 3, dtype=pl.Float32)):
        assert history(shares, other) == want
    with pytest.raises(ValueError, match="should be one of `'1'`, `'2'`, `'3'`; got 0 at row 2"):
        history(task, [1, 2, 0, 1, 2, 3])
    truth = pt.Task("y", classes=["true", "false"])
    assert history(truth, [True, False] * 3) == history(truth, ["true", "false"] * 3)


def test_labels_of_several_meanings_are_refused():
    with pytest.raises(ValueError, match="task `y`: `classes` should be a list of at least 2 labels that differ"):
        pt.Task("y", classes=["1", 1])
    task = pt.Task("y", classes=["1", "01", "2"])
    assert np.isfinite(history(task, ["1", "01"] * 3)[0]["loss"])
    with pytest.raises(ValueError, match="the targets of task `y`: 1 may mean '1' or '01'"):
        history(task, [2, 1] * 3)


def test_numbers_for_named_classes_are_places_where_that_is_clear():
    y = [1, 0, 0, 1, 1, 0]
    want = history(TWO, y)
    for labels in (["a", "b"], ["no", "yes"], ["No", "Yes"], ["bad", "good"]):
        for other in (y, np.array(y, bool), np.array(y, object)):
            assert history(pt.Task("y", classes=labels), other) == want
    for labels in (["yes", "no"], ["Yes", "other"], ["unknown", "no", "yes"]):
        for other in (y, np.array(y, bool), np.array(y, float), np.array([*y[:5], None], object)):
            with pytest.raises(ValueError, match=r"a 1 may mean '.*', the second, as well as yes: give"):
                history(pt.Task("y", classes=labels), other)
        assert np.isfinite(history(pt.Task("y", classes=labels), [labels[i] for i in y])[0]["loss"])


def test_weights_of_classes_by_label():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=30), rng.integers(0, 3, 30)
    names = np.array(["a", "b", "c"])

    def fitted(classes, targets, **loss):
        return history(pt.Task("y", classes=classes, **loss), None, pd.DataFrame({"x": x, "y": targets}))

    want = fitted(3, y, loss=pt.loss.CrossEntropy([1.0, 5.0, 2.0]))
    assert want != fitted(3, y)
    assert fitted(3, y, loss=pt.loss.CrossEntropy({1: 5.0, 2: 2})) == want
    assert fitted(3, y, loss=pt.loss.CrossEntropy(class_weights={"2": 2.0, np.int64(0): 1, 1.0: 5})) == want
    assert fitted(["a", "b", "c"], names[y], loss=pt.loss.CrossEntropy({"b": 5.0, "c": 2.0})) == want
    by_list, by_dict = ([pt.loss.Focal(alpha=alpha)] for alpha in ([1.0, 5.0, 2.0], {1: 5.0, 2: 2.0}))
    assert fitted(3, y, loss=by_dict[0]) == fitted(3, y, loss=by_list[0])
    task = pt.Task("y", columns=["p", "q"], loss=pt.loss.BinaryCrossEntropy(pos_weight={"q": 3.0}))
    assert task.loss == pt.loss.BinaryCrossEntropy([1.0, 3.0])
    assert pt.Task("y", classes=10**12).classes == 10**12
    with pytest.raises(ValueError, match="a dict for at most 16777216 classes; there are 1000000000000"):
        pt.Task("y", classes=10**12, loss=pt.loss.CrossEntropy({0: 2.0}))
    for loss, message in [
        (lambda: pt.loss.CrossEntropy({"d": 1.0}), "unknown label 'd'; there are `'a'`, `'b'`, `'c'`"),
        (lambda: pt.loss.CrossEntropy({"a": -1.0}), "argument `class_weights` should be at least 0"),
        (lambda: pt.loss.CrossEntropy(label_smoothing={"a": 0.1}), "argument `label_smoothing` should be"),
    ]:
        with pytest.raises(ValueError, match=message):
            pt.Task("y", classes=["a", "b", "c"], loss=loss())
