"""Bad input says which argument, what was expected and what came, and leaves the model bit-identical."""

import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import pytest
import torch
from conftest import make_model, same_bits

FIT = {"epochs": 2, "batch_size": 32, "progress": False}


def changed(array, row, value):
    array = array.copy()
    array[row] = value
    return array


#: What is passed instead of a good `(x, targets)`, and what the error says.
BAD_DATA = {
    "x of the wrong width": (
        lambda d: (d.x[:, :5], d.targets),
        ValueError,
        r"`x` should have shape \[160, 8\]; got \[160, 5\]",
    ),
    "x of one dimension": (
        lambda d: (d.x[:, 0], d.targets),
        ValueError,
        r"`x` should have shape \[160, 8\]; got \[160\]",
    ),
    "x of three dimensions": (
        lambda d: (d.x[None], d.targets),
        ValueError,
        r"`x` should have shape .*got \[1, 160, 8\]",
    ),
    "x as a number": (lambda d: (3.0, d.targets), ValueError, r"`x` should have shape .*got \[\]"),
    "x as a string": (lambda d: ("abc", d.targets), TypeError, "`x` should be an array of numbers; got str"),
    "x as None": (lambda d: (None, d.targets), TypeError, "`x` should be features; got None"),
    "x with NaN": (
        lambda d: (changed(d.x, (7, 2), np.nan), d.targets),
        ValueError,
        "`x` should hold finite numbers; got NaN at row 7, column 2",
    ),
    "x with infinity": (
        lambda d: (changed(d.x, (0, 1), -np.inf), d.targets),
        ValueError,
        "finite numbers; got -inf at row 0, column 1",
    ),
    "x too large for single precision": (
        lambda d: (changed(d.x.astype(float), (1, 1), 1e300), d.targets),
        ValueError,
        "finite numbers; got 1",
    ),
    "x of objects": (
        lambda d: (changed(d.x.astype(object), (3, 1), "abc"), d.targets),
        TypeError,
        "`x` should hold numbers; got dtype object, with 'abc' at row 3, column 1",
    ),
    "x of strings": (lambda d: (d.x.astype(str), d.targets), TypeError, "`x` should hold numbers; got dtype <U"),
    "x of complex numbers": (
        lambda d: (d.x.astype(complex), d.targets),
        TypeError,
        "`x` should hold numbers; got dtype complex128",
    ),
    "x of dates": (lambda d: (np.zeros((160, 8), "M8[s]"), d.targets), TypeError, "got dtype datetime64"),
    "x of records": (lambda d: (np.zeros(160, [("a", "f4")]), d.targets), TypeError, "`x` should hold numbers"),
    "x ragged": (
        lambda d: ([[1.0, 2.0], [3.0]], d.targets),
        ValueError,
        r"`x` should be an array of numbers; got list with rows of different shapes, \[2\] at row 0 and \[1\] at",
    ),
    "x ragged within rows": (
        lambda d: ([[[1.0], [2.0]], [[1.0], [2.0, 3.0]]], d.targets),
        ValueError,
        r"`x` should be an array of numbers; got list with rows of lists of different lengths, such as row 1$",
    ),
    "x masked": (lambda d: (np.ma.masked_less(d.x, 0), d.targets), ValueError, "`x` should have no masked features"),
    "x complex tensor": (
        lambda d: (torch.zeros(160, 8, dtype=torch.complex64), d.targets),
        TypeError,
        "`x` should hold numbers",
    ),
    "x sparse tensor": (
        lambda d: (torch.from_numpy(d.x).to_sparse(), d.targets),
        TypeError,
        "`x` should be a dense tensor",
    ),
    "x without rows": (lambda d: (d.x[:0], {k: y[:0] for k, y in d.targets.items()}), ValueError, "`x` has no rows"),
    "a key too many": (
        lambda d: ({"numeric": d.x, "words": d.x}, d.targets),
        ValueError,
        "keys `numeric` and `categorical`; got 'words'",
    ),
    "no key": (lambda d: ({}, d.targets), ValueError, "keys `numeric` and `categorical`; got none"),
    "codes nobody asked for": (
        lambda d: ({"numeric": d.x, "categorical": d.income}, d.targets),
        ValueError,
        "categorical",
    ),
    "too few targets": (
        lambda d: (d.x, d.income),
        ValueError,
        r"data should be \(x, income, age, topics\).*got 2 elements",
    ),
    "too many targets": (lambda d: (d.x, *d.targets.values(), d.age), ValueError, "got 5 elements"),
    "no targets": (lambda d: (d.x,), ValueError, r"data should be \(x, income, age, topics\).*got 1 element"),
    "an unknown task": (
        lambda d: (d.x, d.targets | {"incme": d.income}),
        ValueError,
        "unknown task 'incme'; did you mean `income`. the model has `income`",
    ),
    "targets of another length": (
        lambda d: (d.x, d.targets | {"age": d.age[:-1]}),
        ValueError,
        r"the targets of task `age` should have shape \[160\]; got \[159\]",
    ),
    "targets of another width": (
        lambda d: (d.x, d.targets | {"topics": d.topics[:, :2]}),
        ValueError,
        r"the targets of task `topics` should have shape \[160, 3\]; got \[160, 2\]",
    ),
    "a class too high": (
        lambda d: (d.x, d.targets | {"income": changed(d.income, 9, 2)}),
        ValueError,
        r"the targets of task `income` should be classes from 0 to 1, or -1 or NaN where missing; got 2 at row 9",
    ),
    "a class below -1": (
        lambda d: (d.x, d.targets | {"income": changed(d.income, 9, -2)}),
        ValueError,
        "got -2 at row 9",
    ),
    "half a class": (
        lambda d: (d.x, d.targets | {"income": changed(d.income.astype(float), 9, 0.5)}),
        ValueError,
        "got 0.5 at row 9",
    ),
    "classes as strings": (
        lambda d: (d.x, d.targets | {"income": np.where(d.income, "rich", "1")}),
        TypeError,
        r"the targets of task `income` should hold numbers \(or yes and no\); got dtype <U4, with .*'rich'.* at row \d+"
        r"; labels of classes are listed: classes=\[...\]",
    ),
    "classes as objects": (
        lambda d: (d.x, d.targets | {"income": changed(d.income.astype(object), 4, ())}),
        TypeError,
        r"the targets of task `income` should hold numbers .*; got dtype object, with \(\) at row 4",
    ),
    "numbers as words": (
        lambda d: (d.x, d.targets | {"age": changed(d.age.astype(object), 4, "yes")}),
        TypeError,
        "the targets of task `age` should hold numbers; got dtype object, with 'yes' at row 4$",
    ),
    "an infinite target": (
        lambda d: (d.x, d.targets | {"age": changed(d.age, 9, np.inf)}),
        ValueError,
        "`age` should be finite.*got inf at row 9",
    ),
    "a binary label of 2": (
        lambda d: (d.x, d.targets | {"topics": changed(d.topics, (9, 1), 2)}),
        ValueError,
        "between 0 and 1.*got 2 at row 9",
    ),
    "no label at all": (lambda d: (d.x, {"age": np.full(160, np.nan)}), ValueError, "no row has a label for any task"),
    "no task at all": (lambda d: (d.x, {}), ValueError, "no row has a label for any task"),
    "negative weights": (
        lambda d: (d.x, d.targets, changed(d.age * 0, 3, -1)),
        ValueError,
        "the row weights of task `income` should be finite and at least 0; got -1 at row 3",
    ),
    "weights of another length": (
        lambda d: (d.x, d.targets, np.ones(3)),
        ValueError,
        r"the row weights of task `income` should have shape \[160\]; got \[3\]",
    ),
    "weights of an unknown task": (
        lambda d: (d.x, d.targets, {"incme": d.age}),
        ValueError,
        "`weights`: unknown task 'incme'",
    ),
    "weights as words": (lambda d: (d.x, d.targets, ["a"] * 160), TypeError, "`weights` should hold numbers"),
    "nothing": (lambda d: None, TypeError, "`data` should be .*; got NoneType"),
    "a number": (lambda d: 3, TypeError, "`data` should be .*; got int"),
    "a word": (lambda d: "train.csv", TypeError, "`data` should be .*; got str"),
    "only x": (lambda d: d.x, TypeError, "`data` should be .*; got ndarray"),
    "no targets in a dict": (lambda d: {"x": d.x}, ValueError, "no row has a label for any task"),
    "an empty tuple": (lambda d: (), ValueError, "got 0 element"),
    "no batch": (lambda d: [], ValueError, "`data` has no batch"),
    "a frame without targets": (
        lambda d: pd.DataFrame(d.x),
        ValueError,
        "the frame has no column `income`; its columns are `0`",
    ),
    "a frame of words": (lambda d: pd.DataFrame(d.x.astype(object)).assign(income=0, age=0, topics=0), Exception, "."),
    "a lazy frame without targets": (
        lambda d: pl.DataFrame(d.x).lazy(),
        ValueError,
        "the frame has no column `income`; its columns are `column_0`",
    ),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(data, case):
    make, error, message = BAD_DATA[case]
    model = make_model()
    trainer = pt.Trainer(model)
    before = model.state_dict()
    with pytest.raises(error, match=message) as raised:
        trainer.fit(make(data), **FIT)
    assert "panick" not in str(raised.value)
    assert "Traceback" not in str(raised.value)
    assert same_bits(model.state_dict(), before)
    assert trainer.steps == 0
    assert len(trainer.history) == 0
    if make(data) is not None:
        with pytest.raises((ValueError, TypeError)):
            trainer.fit(data.whole, validation=make(data), **FIT)
    # A batch without labels is none of the caller's mistakes: it changes nothing.
    if not case.startswith("no "):
        with pytest.raises((ValueError, TypeError)):
            trainer.step(make(data))


def test_bad_validation_is_found_before_the_first_step(data):
    model = make_model()
    before = model.state_dict()
    trainer = pt.Trainer(model)
    for validation, message in [
        ((data.x[:, :3], data.targets), r"`validation`: `x` should have shape \[160, 8\]; got \[160, 3\]"),
        ((data.x, data.targets | {"age": data.age[:3]}), "`validation`: the targets of task `age` should have shape"),
        (1.5, "`validation` should be data, or a fraction between 0 and 1; got 1.5"),
        (0.001, "leaves 0 of 160 rows for validation"),
    ]:
        with pytest.raises(ValueError, match=message):
            trainer.fit(data.whole, validation=validation, **FIT)
    with pytest.raises(ValueError, match="batches cannot be split by a fraction"):
        trainer.fit([data.whole], validation=0.5, **FIT)
    assert same_bits(model.state_dict(), before)


def test_frames_for_models_that_know_columns():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"], "y": [0.0, 1.0]})
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame), tasks=[pt.Task("y")])
    for wrong, error, message in [
        (frame[["b", "y"]], ValueError, "the frame lacks the columns `a`"),
        (frame.assign(a=["u", "v"]), TypeError, "column `a` should hold numbers"),
        (frame.assign(a=[np.inf, 0]), ValueError, "column `a` should hold finite numbers"),
        (pd.concat([frame, frame[["a"]]], axis=1), ValueError, "has several columns `a`"),
    ]:
        with pytest.raises(error, match=message):
            model.predict(wrong)
    with pytest.raises(TypeError, match="`x` should be a frame or a dict with the columns `a`, `b`"):
        model.predict(np.zeros((2, 2)))
    codes = {"numeric": [[0.0]], "categorical": [[3]]}
    with pytest.raises(ValueError, match=r"should hold codes from 0 to 2 in column 0; got 3 at row 0"):
        model.predict(codes)


def test_bad_features_for_predict(model, data):
    for x, error in [
        (data.x[:, :3], ValueError),
        (None, TypeError),
        ("abc", TypeError),
        (3, ValueError),
        ([], ValueError),
        ((), ValueError),
        ({}, ValueError),
        (data.x.astype(object), TypeError),
        (data.x * np.nan, ValueError),
        (iter([]), ValueError),
        (object(), TypeError),
    ]:
        with pytest.raises(error, match="`x`"):
            model.predict(x)
    with pytest.raises(ValueError, match="`batch_size`"):
        model.predict(data.x, batch_size=0)
    with pytest.raises(ValueError, match=r"`x` should have shape \[0, \d+\]; got \[0, 3\]"):
        model.predict(data.x[:0, :3])
    assert {name: len(p) for name, p in model.predict(data.x[:0]).items()} == dict.fromkeys(data.targets, 0)
