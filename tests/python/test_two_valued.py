"""Numbers of two values as categories, where that is asked for."""

import copy

import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import pytest
from conftest import same_bits


def frame_of(rows=40, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "number": rng.normal(size=rows),
        "two": rng.choice([0, 7], rows),
        "gaps": rng.choice([1.0, 2.0, np.nan], rows),
        "three": rng.choice([0, 1, 2], rows),
        "one": 3,
        "day": pd.to_datetime(rng.choice(["2024-01-01", "2024-02-01"], rows)),
        "word": rng.choice(["a", "b"], rows),
    })  # fmt: skip
    return frame.assign(y=frame.two + frame.number)


def names(inputs):
    columns = inputs.columns
    return [each.name for each in columns.numbers], [each.name for each in columns.categories]


def test_they_are_numbers_unless_it_is_said_otherwise():
    frame = frame_of()
    plain = pt.Inputs.from_frame(frame, exclude=["y"])
    assert names(plain) == (["number", "two", "gaps", "three", "one", "day"], ["word"])
    same = pt.Inputs.from_frame(frame, exclude=["y"], two_valued="numeric")
    assert same.columns == plain.columns
    assert plain.learned() == same.learned()


@pytest.mark.parametrize("library", [lambda frame: frame, pl.from_pandas])
def test_two_values_are_categories_in_the_order_of_the_frame(library):
    frame = library(frame_of())
    inputs = pt.Inputs.from_frame(frame, exclude=["y"], two_valued="categorical")
    assert names(inputs) == (["number", "three", "one", "day"], ["two", "gaps", "word"])
    two, gaps, _ = inputs.columns.categories
    assert two.values == (0, 7)
    # What is missing is not a third value, but a category all the same.
    assert gaps.values == (None, 1.0, 2.0)
    # What `numeric` names stays, and what bins there are are those of numbers.
    named = pt.Inputs.from_frame(frame, numeric=["two", "number"], categorical=["gaps"], two_valued="categorical")
    assert names(named) == (["two", "number"], ["gaps"])
    binned = pt.Inputs.from_frame(frame, exclude=["y"], two_valued="categorical", bins=3, indicators=True)
    assert [each.name for each in binned.columns.bins] == ["number", "three", "day"]
    assert binned.columns.indicators == []


def test_models_learn_from_them_and_keep_them(tmp_path):
    frame = frame_of(80)
    inputs = pt.Inputs.from_frame(frame, two_valued="categorical")
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")], encoder=pt.encoder.MLP([8]))
    assert "`two` (2 values)" in repr(model)
    pt.Trainer(model, lr=0.01).fit(frame, epochs=2, progress=False)
    expected = model.predict(frame)
    # The same numbers in other types are the same categories; others were not seen.
    for other in (
        frame.assign(two=frame.two.astype(float)),
        frame.assign(two=frame.two.astype(str)),
        pl.from_pandas(frame),
    ):
        assert same_bits(model.predict(other), expected)
    unseen = model.predict(frame.assign(two=8))["y"]
    assert np.array_equal(unseen, model.predict(frame.assign(two="words"))["y"])
    model.save(tmp_path / "model")
    for other in (pt.MultiTaskModel.load(tmp_path / "model"), copy.deepcopy(model)):
        assert same_bits(other.predict(frame), expected)
        assert other.inputs.columns == model.inputs.columns


def test_the_target_is_no_feature():
    frame = frame_of().assign(y=lambda frame: (frame.number > 0).astype(int))
    inputs = pt.Inputs.from_frame(frame, two_valued="categorical")
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y", classes=2)])
    assert "y" not in model.inputs.names


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="`two_valued` should be one of `numeric`, `categorical`; got 'binary'"):
        pt.Inputs.from_frame(frame_of(), two_valued="binary")
