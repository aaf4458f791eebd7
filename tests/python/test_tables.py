"""Columns by name that are in no frame yet: lazy frames, dicts of columns, records, one row."""

import json

import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import pytest
import torch
from conftest import same_bits
from torch.utils.data import DataLoader

FIT = {"epochs": 2, "batch_size": 32, "shuffle": False, "progress": False}
TASKS = [pt.Task("spend"), pt.Task("churn", loss="binary_cross_entropy")]


def customers(rows=96, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": rng.normal(40, 10, rows), "visits": rng.integers(0, 9, rows)})
    frame["city"] = rng.choice(["Oslo", "Rome"], rows)
    frame["spend"] = frame.age / 10 + rng.normal(size=rows)
    return frame.assign(churn=(frame.visits > 4).astype(int))


def forms(frame):
    """The same columns, in every form."""
    lists = {name: frame[name].tolist() for name in frame.columns}
    records = frame.to_dict("records")
    yield from (lists, records, json.loads(json.dumps(lists)), json.loads(json.dumps(records)))
    yield {name: frame[name].to_numpy() for name in frame.columns}
    yield {name: tuple(values) for name, values in lists.items()}
    yield {name: pl.Series(values) if name == "age" else frame[name] for name, values in lists.items()}
    yield {
        name: values if name == "city" else torch.tensor(values, dtype=torch.float64) for name, values in lists.items()
    }
    yield from (
        pl.from_pandas(frame),
        pl.from_pandas(frame).lazy(),
        pl.from_pandas(frame).lazy().filter(pl.col("age") > 0),
    )


def model_of(frame):
    inputs = pt.Inputs.from_frame(frame, exclude=["spend", "churn"])
    return pt.MultiTaskModel(inputs, tasks=TASKS, encoder=pt.encoder.MLP([8]))


def test_every_form_is_read_as_a_frame_is():
    frame, other = customers(), customers(40, 1)
    want = model_of(frame)
    history = pt.Trainer(want).fit(frame, validation=other, **FIT)
    scores = pt.Trainer(want).evaluate(other)
    predicted = want.predict(other[["age", "visits", "city"]])
    for data, held, x in zip(forms(frame), forms(other), forms(other[["city", "age", "visits"]]), strict=True):
        model = model_of(data)
        assert [n.name for n in model.inputs.columns.numbers] == ["age", "visits"]
        assert len(pt.Trainer(model_of(data)).fit(data, validation=0.25, **FIT)["validation/loss"]) == 2
        trainer = pt.Trainer(model)
        assert trainer.fit(data, validation=held, **FIT)["validation/loss"] == pytest.approx(history["validation/loss"])
        assert trainer.evaluate(held)["spend"] == pytest.approx(scores["spend"])
        for form in (x, held):
            for name, values in model.predict(form).items():
                np.testing.assert_allclose(values, predicted[name], rtol=1e-5, atol=1e-6)


def test_one_row_in_every_form():
    frame = customers()
    model = model_of(frame)
    pt.Trainer(model).fit(frame, **FIT)
    want = model.predict(frame[5:6])
    row = frame.drop(columns=["spend", "churn"]).iloc[5]
    record = row.to_dict()
    typed = {"age": np.float32(row.age), "visits": str(row.visits), "city": np.str_(row.city)}
    for form in (row, frame.iloc[5], record, [record], {name: [value] for name, value in record.items()}, typed,
                 pl.from_pandas(frame).row(5, named=True), json.loads(json.dumps(record))):  # fmt: skip
        for name, values in model.predict(form).items():
            assert values.shape == want[name].shape
            np.testing.assert_allclose(values, want[name], rtol=1e-5)
    plain = pt.MultiTaskModel(2, tasks=[pt.Task("spend")])
    numbers = frame[["age", "visits", "spend"]]
    pt.Trainer(plain).fit(numbers, **FIT)
    want = plain.predict(numbers[3:4])["spend"]
    for form in (numbers.iloc[3], numbers.iloc[3].to_dict(), {"visits": [frame.visits[3]], "age": [frame.age[3]]}):
        np.testing.assert_allclose(plain.predict(form)["spend"], want, rtol=1e-6)


def test_features_and_targets_in_two_frames():
    frame = customers()
    want = model_of(frame)
    pt.Trainer(want).fit(frame, **FIT)
    for whole in (frame, pl.from_pandas(frame), pl.from_pandas(frame).lazy()):
        columns = ["age", "visits", "city"]
        x = whole[columns] if isinstance(whole, pd.DataFrame) else whole.select(columns)
        y = whole[["churn", "spend"]] if isinstance(whole, pd.DataFrame) else whole.select("churn", "spend")
        series = frame.spend, frame.churn
        for data in ((x, y), (x, *series), (x, series)):
            model = pt.MultiTaskModel(pt.Inputs.from_frame(x), tasks=TASKS, encoder=pt.encoder.MLP([8]))
            pt.Trainer(model).fit(data, **FIT)
            assert same_bits(model.state_dict(), want.state_dict())
    weights = np.linspace(0, 1, len(frame))
    by_name, by_frame = model_of(frame), model_of(frame)
    pt.Trainer(by_name).fit((frame, {"spend": frame.spend, "churn": frame.churn}, weights), **FIT)
    pt.Trainer(by_frame).fit((frame, frame[["spend", "churn"]], weights), **FIT)
    assert same_bits(by_frame.state_dict(), by_name.state_dict())
    some = model_of(frame)
    pt.Trainer(some).fit((frame, frame[["churn"]]), **FIT)
    before, after = model_of(frame).state_dict(), some.state_dict()
    np.testing.assert_array_equal(after["heads.spend.weight"], before["heads.spend.weight"])
    assert not np.array_equal(after["heads.churn.weight"], before["heads.churn.weight"])
    one = pt.MultiTaskModel(2, tasks=[pt.Task("money")])
    pt.Trainer(one).fit((frame[["age", "visits"]], frame[["spend"]]), **FIT)
    with pytest.raises(ValueError, match=r"data should be \(x, spend, churn\)"):
        pt.Trainer(model_of(frame)).fit((frame, frame[["age", "visits"]]), **FIT)


def test_records_may_lack_what_is_missing_and_hold_several_values():
    records = [{"n": 1.0, "tags": ["a", "b"], "y": 1}, {"tags": [], "y": 0}, {"n": 3.0, "tags": ["b"], "y": None}] * 4
    inputs = pt.Inputs.from_frame(records, bags=["tags"])
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y", classes=2)])
    history = pt.Trainer(model).fit(records, **FIT)
    frame = pd.DataFrame(records)
    same = pt.MultiTaskModel(pt.Inputs.from_frame(frame, bags=["tags"]), tasks=[pt.Task("y", classes=2)])
    assert pt.Trainer(same).fit(frame, **FIT)["loss"] == history["loss"]
    by_columns = {"n": [1.0, None], "tags": [["a", "b"], ["b"]]}
    np.testing.assert_array_equal(
        model.predict(by_columns)["y"], same.predict(frame.iloc[[0, 2]].assign(n=[1.0, None]))["y"]
    )
    one = model.predict({"n": 1.0, "tags": ["a", "b"]})["y"]
    np.testing.assert_array_equal(one, model.predict(records[:1])["y"])


def test_a_loader_of_columns():
    frame = customers()[["age", "visits", "spend"]]

    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return len(frame)

        def __getitem__(self, i):
            return frame.iloc[i].to_dict()

    trainers = [pt.Trainer(pt.MultiTaskModel(2, tasks=[pt.Task("spend")])) for _ in range(3)]
    loader = DataLoader(Items(), batch_size=32, generator=torch.Generator())
    for trainer, data in zip(trainers, (frame, loader, Items()), strict=True):
        trainer.fit(data, **FIT)
    for trainer in trainers[1:]:
        np.testing.assert_allclose(
            trainer.model.predict(frame)["spend"], trainers[0].model.predict(frame)["spend"], rtol=1e-5
        )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"age": [1.0, 2.0], "visits": [1], "spend": [1.0, 2.0]},
            "columns should be equally long; got 2 rows of 'age' and 1",
        ),
        ({"age": [1.0, 2.0], "spend": [1.0, 2.0]}, "the frame should have 2 numeric beside the targets; got `age`"),
        ([{"age": 1.0, "visits": 2}], "the frame has no column `spend`; its columns are `age`, `visits`"),
        ({"age": [1.0], "visits": [[1.0, 2.0]], "spend": [1.0]}, "column `visits` should hold numbers"),
    ],
)
def test_what_is_no_table(data, message):
    trainer = pt.Trainer(pt.MultiTaskModel(2, tasks=[pt.Task("spend")]))
    with pytest.raises((ValueError, TypeError), match=message):
        trainer.fit(data, **FIT)
    assert trainer.steps == 0


def test_columns_called_as_parts_of_a_batch_are_columns_of_a_model_that_knows_them():
    frame = pd.DataFrame({"x": np.arange(8.0), "features": list("abababab"), "y": np.arange(8.0)})
    lists = {name: frame[name].tolist() for name in frame.columns}
    models = [pt.MultiTaskModel(pt.Inputs.from_frame(form), tasks=[pt.Task("y")]) for form in (frame, lists)]
    for model, data in zip(models, (frame, lists), strict=True):
        pt.Trainer(model).fit(data, **FIT)
    np.testing.assert_array_equal(models[1].predict(lists)["y"], models[0].predict(frame)["y"])
