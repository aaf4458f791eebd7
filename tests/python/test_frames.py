"""Frames: columns by name, row weights in a column, columns of every type."""

import datetime
import logging
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import pyarrow as pa
import pytest
from conftest import same_bits
from polytask.data.columns import Columns

FIT = {"epochs": 2, "batch_size": 32, "shuffle": False, "progress": False}


def numbers(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=list("abc"))
    return frame.assign(r=3 * frame.a - frame.b)


def model_of(width=3, **more):
    return pt.MultiTaskModel(width, tasks=[pt.Task("r")], encoder=pt.encoder.MLP([8]), **more)


def fitted(data, **more):
    model = model_of()
    pt.Trainer(model).fit(data, **{**FIT, **more})
    return model


def other_orders(frame):
    yield frame[["c", "r", "b", "a"]]
    yield pl.from_pandas(frame[["r", "c", "b", "a"]])
    yield frame.assign(more="words")[["more", "b", "a", "c", "r"]]


def test_a_frame_is_read_by_the_names_of_the_training_data(tmp_path):
    frame = numbers()
    model = fitted(frame)
    want = model.predict(frame[["a", "b", "c"]])["r"]
    np.testing.assert_array_equal(model.predict(frame[["a", "b", "c"]].to_numpy())["r"], want)
    model.save(tmp_path / "m.safetensors")
    wider = model.add_task(pt.Task("s"))
    for again in (model, pt.MultiTaskModel.load(tmp_path / "m.safetensors"), wider, wider.remove_task("s")):
        for other in other_orders(frame):
            np.testing.assert_allclose(again.predict(other)["r"], want, rtol=1e-4, atol=1e-6)
        with pytest.raises(ValueError, match="the frame lacks the columns `b`, by whose names the model was trained"):
            again.predict(frame[["a", "c"]])
    loss = pt.Trainer(model).evaluate(frame).loss
    for other in other_orders(frame):
        assert pt.Trainer(model).evaluate(other).loss == loss
        again = pt.Trainer(fitted(frame)).fit(other, **FIT)
        assert again[-1] | {"seconds": 0} == pt.Trainer(fitted(frame)).fit(frame, **FIT)[-1] | {"seconds": 0}
    with pytest.raises(ValueError, match="lacks the columns `a`"):
        pt.Trainer(model).evaluate(frame.rename(columns={"a": "z"}))


def test_every_way_of_training_on_names_remembers_them():
    frame = numbers()
    x, parts = frame[["a", "b", "c"]], [frame[:60], frame[60:]]
    stepped = model_of()
    pt.Trainer(stepped).step(frame)
    for model in (fitted((x, frame.r)), fitted((x, {"r": frame.r})), fitted(({"numeric": x}, frame.r)), fitted(parts),
                  fitted(pl.from_pandas(frame)), stepped):  # fmt: skip
        want = model.predict(frame[["a", "b", "c"]].to_numpy())["r"]
        for form in (frame[["c", "a", "b"]], [frame[["c", "a", "b"]]], {"numeric": frame[["c", "a", "b"]]}):
            if isinstance(form, dict) == ("x[numeric]" in model.reader.names.known):
                np.testing.assert_array_equal(model.predict(form)["r"], want)


def test_validation_is_read_by_the_names_of_training():
    frame = numbers()
    x = frame[["a", "b", "c"]]
    swapped = frame[["b", "r", "c", "a"]]
    for data in (frame, (x, frame.r), [frame]):
        model = model_of()
        history = pt.Trainer(model, lr=1e-9).fit(data, validation=swapped, **{**FIT, "batch_size": 120})
        assert history["validation/loss"] == pytest.approx(history["loss"], rel=1e-5)
    with pytest.raises(ValueError, match="`validation`: the frame lacks the columns `c`"):
        pt.Trainer(model_of()).fit(frame, validation=frame.rename(columns={"c": "d"}), **FIT)


def test_names_of_data_that_was_refused_are_forgotten():
    frame, model = numbers(), model_of()
    with pytest.raises(ValueError, match="`validation`"):
        pt.Trainer(model).fit(frame.rename(columns={"a": "z"}), validation=(frame[["a"]], frame.r), **FIT)
    with pytest.raises(ValueError, match="should be finite"):
        pt.Trainer(model).step(frame.rename(columns={"a": "z"}).assign(r=np.inf))
    assert same_bits(fitted(frame).state_dict(), (pt.Trainer(model).fit(frame, **FIT), model.state_dict())[1])


def test_a_checkpoint_brings_names_back(tmp_path):
    frame, model = numbers(), model_of()
    trainer = pt.Trainer(model)
    trainer.fit(frame, **FIT)
    trainer.save(tmp_path / "c.safetensors")
    other = model_of()
    pt.Trainer(other).restore(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(
        other.predict(frame[["c", "b", "a"]])["r"], model.predict(frame[["a", "b", "c"]])["r"]
    )


def test_targets_in_a_frame_are_read_by_name():
    frame = numbers().assign(t0=lambda d: d.a, t1=lambda d: d.b)
    x = frame[["a", "b", "c"]].to_numpy()
    for task in (pt.Task("t", outputs=2), pt.Task("t", columns=["t0", "t1"])):
        model = pt.MultiTaskModel(3, tasks=[task])
        trainer = pt.Trainer(model)
        trainer.fit((x, {"t": frame[["t0", "t1"]]}), **FIT)
        want = trainer.evaluate((x, frame[["t0", "t1"]].to_numpy()))
        assert trainer.evaluate((x, frame[["t1", "t0"]])) == want


def test_inputs_and_tasks_of_one_model_are_not_anothers():
    frame, inputs, task = numbers(), pt.Inputs(3), pt.Task("r")
    one, two = pt.MultiTaskModel(inputs, tasks=[task]), pt.MultiTaskModel(inputs, tasks=[task])
    pt.Trainer(one).fit(frame, **FIT)
    pt.Trainer(two).fit(frame[["c", "b", "a", "r"]], **FIT)
    np.testing.assert_array_equal(two.predict(frame)["r"], two.predict(frame[["c", "b", "a"]].to_numpy())["r"])
    np.testing.assert_array_equal(one.predict(frame)["r"], one.predict(frame[["a", "b", "c"]].to_numpy())["r"])


def weighted(rows=200):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"a": rng.normal(size=rows), "w": rng.integers(0, 4, rows).astype(float)})
    return frame.assign(r=frame.a + rng.normal(size=rows))


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize("inputs", [1, "learned"])
def test_validation_frames_take_the_weight_column_that_training_uses(library, inputs):
    frame = weighted()
    made = library.DataFrame(frame.to_dict("list"))
    inputs = pt.Inputs.from_frame(made, weights="w") if inputs == "learned" else inputs
    for validation in (made, [made], (made[["a", "w"]], made["r"])):
        model = pt.MultiTaskModel(inputs, tasks=[pt.Task("r")], encoder=pt.encoder.MLP([8]))
        before = model.state_dict()
        history = pt.Trainer(model, lr=1e-12).fit(made, validation=validation, weights="w", epochs=1, batch_size=200,
                                                  progress=False)  # fmt: skip
        assert before["encoder.0.weight"].shape == (8, 1)
        error = (model.predict(frame.drop(columns="w"))["r"] - frame.r) ** 2
        want = (error * frame.w).sum() / frame.w.sum()
        assert history["r/loss"][0] == pytest.approx(want, rel=1e-5)
        assert history["validation/r/loss"][0] == pytest.approx(want, rel=1e-5)
        x = model.inputs.transform(frame.drop(columns="w"), model.tasks, "")[0]
        plain = pt.Trainer(model, lr=1e-12).fit(made, validation=(x, frame.r), weights={"r": "w"}, epochs=1,
                                                progress=False)  # fmt: skip
        assert plain["validation/r/loss"][0] == pytest.approx(error.mean(), rel=1e-5)
        with pytest.raises(ValueError, match="`validation`: the frame has no column `w`"):
            pt.Trainer(model).fit(made, validation=frame[["a", "r"]], weights="w", **FIT)


def test_a_weight_column_is_no_feature():
    frame = weighted()
    assert pt.Inputs.from_frame(frame, weights=["w"], exclude=["r"]).names == ["a"]
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame), tasks=[pt.Task("r")])
    with pytest.raises(
        ValueError, match=r'`weights`: column `w` is a feature of this model; .*from_frame.*weights="w"'
    ):
        pt.Trainer(model).fit(frame, weights="w", **FIT)
    with pytest.raises(ValueError, match="`weights`: the frame has no column 'v'; it has `a`, `w`, `r`"):
        pt.Inputs.from_frame(frame, weights="v")


def forms(values):
    """The same categories in another type."""
    series = pd.Series(values)
    yield from (series, series.astype(float), series.astype(str), series.astype(str).astype("category"))
    yield from (series.astype(object), series.astype("category"), series.astype("Int8"), series.astype("f4"))
    yield from (series.astype(float).astype(str), pd.Series([np.int16(value) for value in values], dtype=object))


def test_a_category_is_the_same_in_another_type():
    values = [3, 1, 4, 1, 5]
    for seen in forms(values):
        inputs = pt.Inputs.from_frame(pd.DataFrame({"g": seen}), categorical=["g"])
        _, want = inputs.transform(pd.DataFrame({"g": seen}), [], "frame")
        assert want[:, 0].tolist() == [2, 1, 3, 1, 4]
        for other in forms(values):
            for frame in (pd.DataFrame({"g": other}), pl.DataFrame({"g": other.tolist()}, strict=False)):
                np.testing.assert_array_equal(inputs.transform(frame, [], "frame")[1], want)
    truth = pd.DataFrame({"g": [True, False, True]})
    inputs = pt.Inputs.from_frame(truth)
    for other in (["True", "False", "True"], ["true", "false", "true"], [1, 0, 1], ["1", "0", "1"], [1.0, 0.0, 1.0]):
        np.testing.assert_array_equal(inputs.transform(truth.assign(g=other), [], "frame")[1][:, 0], [2, 1, 2])
    shares = pd.DataFrame({"g": [0.1, 0.25, 16777217.0]})
    for seen in (shares, shares.astype("f4"), shares.astype(str)):
        inputs = pt.Inputs.from_frame(seen, categorical=["g"])
        for other in (shares, shares.astype("f4"), shares.astype(str)):
            codes = inputs.transform(other, [], "frame")[1][:2, 0]
            assert codes.tolist() == [1, 2]
    whole = pt.Inputs.from_frame(pd.DataFrame({"g": [16777216, 1]}), categorical=["g"])
    assert whole.transform(pd.DataFrame({"g": [16777217.0]}), [], "frame")[1].tolist() == [[0]]


def test_strings_that_differ_are_different_categories():
    frame = pd.DataFrame({"g": ["1", "01", "1.0", "x", "nan"]})
    inputs = pt.Inputs.from_frame(frame)
    assert sorted(inputs.transform(frame, [], "frame")[1][:, 0].tolist()) == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"frame: column `g`: 1 may mean '.*' or '.*'"):
        inputs.transform(pd.DataFrame({"g": [1]}), [], "frame")
    unseen = pd.DataFrame({"g": ["2", "X", "1 000", "1_0", "inf", None]})
    assert inputs.transform(unseen, [], "frame")[1][:, 0].tolist() == [0] * 6


def test_a_column_of_mixed_types_has_each_value_once():
    frame = pd.DataFrame({"g": pd.Series([3, "3", 4.0, "x", 3, None], dtype=object)})
    inputs = pt.Inputs.from_frame(frame)
    codes = inputs.transform(frame, [], "frame")[1][:, 0].tolist()
    assert codes[0] == codes[1] == codes[4]
    assert len(set(codes)) == 4
    assert inputs.categorical == [5]
    assert pt.Inputs.from_frame(frame, min_count=3).categorical == [2]
    with pytest.raises(ValueError, match="`frame`: column `g`: 3 may mean '3' or '03'"):
        pt.Inputs.from_frame(pd.DataFrame({"g": pd.Series([3, "3", "03"], dtype=object)}))


def test_the_values_of_bags_are_the_same_in_another_type():
    seen = pd.DataFrame({"b": [[3, 1], [4], []]})
    inputs = pt.Inputs.from_frame(seen, bags=["b"])
    _, want = inputs.transform(seen, [], "frame")
    for other in (["3|1", "4", ""], [["3", "1"], ["4"], []], [[3.0, 1.0], [4.0], None], [(np.int64(3), 1), {4}, ()]):
        np.testing.assert_array_equal(inputs.transform(pd.DataFrame({"b": other}), [], "frame")[1], want)
    texts = pt.Inputs.from_frame(pd.DataFrame({"b": ["3|1", "4", ""]}), bags=["b"])
    np.testing.assert_array_equal(texts.transform(seen, [], "frame")[1], want)


def test_a_model_trained_on_numbers_reads_strings(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"g": rng.integers(0, 5, 300)}).assign(y=lambda d: d.g * 2.0)
    inputs = pt.Inputs.from_frame(frame, categorical=["g"])
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")], encoder=pt.encoder.MLP([16]))
    pt.Trainer(model, lr=0.02).fit(frame, epochs=20, progress=False)
    want = model.predict(frame)["y"]
    assert len(np.unique(want)) == 5
    model.save(tmp_path / "m.safetensors")
    for again in (model, pt.MultiTaskModel.load(tmp_path / "m.safetensors")):
        for kind in (float, str, "category", "string"):
            np.testing.assert_array_equal(again.predict(frame.astype({"g": kind}))["y"], want)


def transformed(inputs, frame):
    return inputs.transform(frame, [], "the frame")


def test_dates_are_days_and_spans_of_time_too(tmp_path):
    days = pd.date_range("2020-01-01", periods=5, freq="36h")
    want = 18262 + np.arange(5) * 1.5
    standard = ((want - want.mean()) / want.std()).astype(np.float32)
    aware = days.tz_localize("UTC")
    objects = pd.Series(list(days.to_pydatetime()), dtype=object)
    for dates in (days, days.as_unit("s"), days.as_unit("ns"), aware, aware.tz_convert("Asia/Tokyo"), objects):
        frame = pd.DataFrame({"d": dates, "s": days - days[0]})
        for form in (frame, pl.from_pandas(frame)):
            inputs = pt.Inputs.from_frame(form)
            assert [(n.name, n.unit) for n in inputs.columns.numbers] == [("d", "days since 1970-01-01"), ("s", "days")]
            np.testing.assert_allclose([n.mean for n in inputs.columns.numbers], [want.mean(), 3.0])
            numbers, codes = transformed(inputs, form)
            np.testing.assert_allclose(numbers, np.stack([standard, standard], axis=1), rtol=1e-5)
            assert codes is None
            for other in (days, aware, days.strftime("%Y-%m-%d %H:%M"), objects):
                np.testing.assert_array_equal(transformed(inputs, frame.assign(d=other))[0], numbers)
    gaps = frame.assign(d=[days[0], pd.NaT, None, days[3], days[4]], s=pd.to_timedelta([0, None, 3.5, 4, 5], "D"))
    assert (transformed(inputs, gaps)[0] == 0).sum() == 3
    assert (transformed(inputs, pd.DataFrame({"d": [None], "s": [None]}))[0] == 0).all()
    whole = pl.DataFrame({"d": [datetime.date(2020, 1, 1), None, datetime.date(2020, 1, 3)]})
    assert pt.Inputs.from_frame(whole).columns.numbers[0].mean == 18263.0
    assert pt.Inputs.from_frame(whole.to_pandas().astype(object)).columns.numbers[0].mean == 18263.0
    binned = pt.Inputs.from_frame(whole, bins=2)
    assert transformed(binned, whole)[1][:, 0].tolist() == [1, 0, 2]
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")])
    model.save(tmp_path / "m.safetensors")
    again = pt.MultiTaskModel.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(frame)["y"], model.predict(frame)["y"])
    for wrong, message in [
        ({"d": range(5)}, "the frame: column `d` should hold dates; got type int64"),
        ({"d": ["soon"] * 5}, "column `d` should hold dates"),
        ({"s": days}, "column `s` should hold spans of time; got type datetime64"),
        ({"s": 1.0}, "column `s` should hold spans of time; got type float64"),
    ]:
        with pytest.raises(TypeError, match=message):
            model.predict(frame.assign(**wrong))
    numbers = pt.MultiTaskModel(pt.Inputs.from_frame(pd.DataFrame({"d": [1.0, 2.0]})), tasks=[pt.Task("y")])
    with pytest.raises(TypeError, match=r"column `d` should hold numbers; got datetime.datetime\(2020, .* at row 0"):
        numbers.predict(frame)


def test_numbers_of_every_type_in_columns():
    values = [1.5, None, -2.0, 4.0]
    plain = pd.DataFrame({"a": values, "y": 1.0})
    want = transformed(pt.Inputs.from_frame(plain, exclude=["y"]), plain)[0]
    decimals = [None if v is None else Decimal(str(v)) for v in values]
    texts = [None if v is None else str(v) for v in values]
    for other in (decimals, pd.Series(values, dtype="Float64"), pd.Series(values, dtype="float64[pyarrow]"),
                  pd.Series(values, dtype=object), pd.Series(decimals, dtype=object)):  # fmt: skip
        for frame in (plain.assign(a=other), pl.DataFrame({"a": list(other), "y": 1.0}, strict=False)):
            np.testing.assert_array_equal(transformed(pt.Inputs.from_frame(frame, exclude=["y"]), frame)[0], want)
    for words in (plain.assign(a=texts), pl.DataFrame({"a": texts, "y": 1.0})):
        assert pt.Inputs.from_frame(words, exclude=["y"]).numeric == 0
        named = pt.Inputs.from_frame(words, numeric=["a"])
        for frame in (words, plain):
            np.testing.assert_array_equal(transformed(named, frame)[0], want)
    with pytest.raises(TypeError, match="the frame: column `a` should hold numbers"):
        transformed(named, plain.assign(a="many"))
    whole = plain.dropna()
    by_number = fitted_on(whole)
    for other in (
        [Decimal("1.5"), Decimal(-2), Decimal(4)],
        ["1.5", "-2", "4.0"],
        pd.Series([1.5, -2, 4], dtype=object),
    ):
        np.testing.assert_array_equal(fitted_on(pd.DataFrame({"a": list(other), "y": 1.0})), by_number)


def fitted_on(frame):
    """Predictions of a model that knows nothing of columns."""
    model = pt.MultiTaskModel(1, tasks=[pt.Task("y")])
    pt.Trainer(model).fit(frame, **FIT)
    return model.predict([[1.5]])["y"]


def test_columns_of_true_and_false_are_categories_with_gaps_or_without():
    for values in ([True, False, True], [True, None, False]):
        for dtype in ("object", "boolean", "boolean[pyarrow]"):
            frame = pd.DataFrame({"b": pd.Series(values, dtype=dtype)})
            for form in (frame, pl.DataFrame({"b": values})):
                inputs = pt.Inputs.from_frame(form)
                assert [each.values for each in inputs.columns.categories] == [
                    (None, False, True) if None in values else (False, True)
                ]
                assert transformed(inputs, frame)[1].min() == 1


def test_columns_may_be_called_by_numbers(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)))
    frame[3] = frame[0] - frame[1]
    frame[4] = rng.integers(0, 3, 60).astype(str)
    inputs = pt.Inputs.from_frame(frame, exclude=[3])
    for given, width in ((inputs, None), (3, [0, 1, 2, 3])):
        model = pt.MultiTaskModel(given, tasks=[pt.Task("y", columns=3)])
        data = frame if width is None else frame[width]
        pt.Trainer(model).fit(data, **FIT)
        want = model.predict(data)["y"]
        np.testing.assert_array_equal(model.predict(data[data.columns[::-1]])["y"], want)
        model.save(tmp_path / "m.safetensors")
        again = pt.MultiTaskModel.load(tmp_path / "m.safetensors")
        np.testing.assert_array_equal(again.predict(data[data.columns[::-1]])["y"], want)
        assert pt.Trainer(again).evaluate(data).loss == pt.Trainer(model).evaluate(data).loss


def test_from_frame_says_what_it_chose(caplog):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"age": rng.normal(size=40), "when": pd.date_range("2020", periods=40), "zip": ["1", "2"] * 20}
    )
    frame["tags"] = [["a"], ["b", "c"]] * 20
    with caplog.at_level(logging.INFO, "polytask"):
        inputs = pt.Inputs.from_frame(frame, bags=["tags"])
    said = ("numbers: `age`; days since 1970-01-01: `when`; categories: `zip` (2 values); "
            "bags: `tags` (3 values, up to 2 a row)")  # fmt: skip
    assert f"features of the frame: {said}" in caplog.text
    assert repr(inputs) == f"Inputs({said})"
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    pt.Inputs.from_frame(frame.assign(name=[f"n{i}" for i in range(40)]), bags=["tags"])
    assert "column `name` has 40 different strings in 40 rows, of which a category learns little: conv" in caplog.text
    said = [f"it was number {i}" if i else None for i in range(40)]
    pt.Inputs.from_frame(frame.assign(said=said), bags=["tags"])
    advice = 'pt.Inputs.from_frame(frame, text="said") reads texts word by word, or leave the column out'
    assert (
        f"column `said` has 40 different strings in 40 rows, of which a category learns little: {advice}" in caplog.text
    )


DAYS = [f"2024-{month:02}-{day:02}" for month in (1, 2) for day in range(1, 29)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (DAYS, None),
        ([f"{day}T12:30:00+01:00" for day in DAYS], None),
        ([day.replace("-", "/") for day in DAYS], "dates"),
        ([f"{number}.12.1999 08:15" for number in range(1, 32)], "dates"),
        ([f"{number}/2/24" for number in range(1, 29)], "dates"),
        ([f"${number},500" for number in range(1, 40)], "numbers"),
        ([f"{number / 7:.2f} %" for number in range(1, 40)], "numbers"),
        ([f"{number}.5" for number in range(1, 40)], "numbers"),
        ([str(10_000 + number) for number in range(40)], None),
        ([f"{number}-{number}" for number in range(40)], None),
        ([f"10-22-{3000 + number}" for number in range(40)], None),
        ([f"{number}.{number}.{number}" for number in range(20, 50)], None),
        ([*(day.replace("-", "/") for day in DAYS), "unknown"], None),
        (DAYS[:9], None),
    ],
)
def test_strings_that_are_dates_or_numbers_are_named(values, kind, caplog):
    cells = [*values * 4, None, ""]
    frame = pd.DataFrame({"x": np.arange(float(len(cells))), "when": cells})
    pt.Inputs.from_frame(frame)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    if kind is None:
        assert not said
        return
    beginning = f"`frame`: column `when` has {len(set(values))} different strings that look like {kind}, such as "
    assert len(said) == 1
    assert said[0].startswith(beginning + repr(values[0]))
    assert f"make {kind} of it first" in said[0]
    caplog.clear()
    pt.Inputs.from_frame(frame, categorical=["when"])
    assert not caplog.records


def test_frequent_values_have_bins_of_their_own():
    """A bin's lower end belongs to it: what stands at an edge is not counted to the values below."""
    value = np.concatenate([np.zeros(40), np.full(30, 2.0), np.linspace(-3, 5, 41)])
    frame = pd.DataFrame({"v": value})
    inputs = pt.Inputs.from_frame(frame, bins=6)
    bins = transformed(inputs, frame)[1][:, 0]
    for frequent in (0.0, 2.0):
        own = bins[value == frequent]
        assert len(set(own)) == 1
        assert set(value[bins == own[0]]) == {frequent}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_whole_numbers_beyond_those_that_floats_keep_apart_stay_apart_beside_missing_ones(library):
    numbers = [None, *(2**60 + k for k in (0, 1, 2))] * 8
    column = pd.Series(numbers, dtype="Int64") if library == "pandas" else pl.Series(numbers)
    make = {"pandas": pd.DataFrame, "polars": pl.DataFrame}[library]
    frame = make({"user": column, "size": np.arange(32.0) % 4, "y": np.arange(32.0)})
    inputs = pt.Inputs.from_frame(frame, categorical=["user"], exclude=["y"])
    assert inputs.categorical == [5]
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")])
    assert len(np.unique(model.predict(make({"user": column[1:4], "size": np.zeros(3)}))["y"])) == 3
    losses = []
    for start, values in ((2**60, column), (0, [None, 0, 1, 2] * 8)):
        some = make({"user": values, "size": np.arange(32.0) % 4})
        task = pt.Task("user", classes=[start, start + 1, start + 2])
        model = pt.MultiTaskModel(pt.Inputs.from_frame(some, exclude=["user"]), tasks=[task], seed=0)
        losses.append(pt.Trainer(model).evaluate(some)["user"]["loss"])
    assert losses[0] == losses[1]


def test_columns_are_gone_through_asked_for_and_shown():
    frame = pd.DataFrame({
        "size": [1.0, 2.0, np.nan],
        "city": ["A", None, "B"],
        "day": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]),
        "likes": ["a|b", "", "c"],
    })  # fmt: skip
    columns = pt.Inputs.from_frame(frame, bags=["likes"], indicators=True).columns
    kinds = ["number", "days since 1970-01-01", "category", "bag of up to 2"]
    assert [each.name for each in columns] == ["size", "day", "city", "likes"]
    assert [each.kind for each in columns] == kinds
    assert len(columns) == 4
    assert "size" in columns
    assert "y" not in columns
    assert columns["city"].values == (None, "A", "B")
    assert columns["size"].mean == 1.5
    assert str(columns["city"]) == "city: category, 3 values: missing, 'A', 'B'"
    with pytest.raises(KeyError, match=r"no column 'citty'; did you mean `city`. there are `size`"):
        columns["citty"]
    assert repr(columns).splitlines() == [
        "column  taken for              learned",
        "size    number                 less 1.5, by 0.5, and whether missing",
        "day     days since 1970-01-01  less 1.972e+04, by 0.8165",
        "city    category               3 values: missing, 'A', 'B'",
        "likes   bag of up to 2         3 values: 'a', 'b', 'c'",
    ]
    assert "<td>category</td>" in columns._repr_html_()
    plain = pt.Inputs.from_frame(frame[["size"]], numbers="none", bins=2).columns["size"]
    assert plain.known == "as it is, and 2 bins"
    assert pt.Inputs(numeric=2).columns is None


@pytest.mark.parametrize("how", ["standard", "robust", "quantile", "none"])
def test_a_missing_number_is_the_middle_in_every_scale(how, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"size": np.where(np.arange(50) % 5 == 0, np.nan, rng.exponential(10, 50)), "y": rng.random(50)}
    )
    inputs = pt.Inputs.from_frame(frame, exclude=["y"], numbers=how, indicators=True)
    numbers = inputs.columns.transform(frame, "`x`")[0]
    middle = frame["size"].mean() if how == "none" else 0
    np.testing.assert_allclose(numbers[::5, 0], middle, rtol=1e-6)
    if how == "none":
        np.testing.assert_array_equal(numbers[1:5, 0], frame["size"][1:5].to_numpy(np.float32))
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")])
    model.save(tmp_path / "m.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "m.safetensors")
    assert loaded.inputs.columns == inputs.columns
    np.testing.assert_array_equal(loaded.predict(frame)["y"], model.predict(frame)["y"])


def test_a_table_of_arrow_is_a_frame():
    frame = pl.DataFrame({"size": [1.0, None, 3.0], "city": ["A", None, "B"], "y": [1.0, 2.0, 3.0]})
    tables = [frame, frame.to_arrow()]
    first, second = (pt.Inputs.from_frame(table, exclude=["y"]) for table in tables)
    assert first.columns == second.columns
    model = pt.MultiTaskModel(first, tasks=[pt.Task("y")])
    np.testing.assert_array_equal(*(model.predict(table)["y"] for table in tables))


def test_single_dates_and_spans_of_numpy_are_such():
    """In lists, records and columns of objects, where they stand beside those of Python."""
    rng = np.random.default_rng(0)
    days = [datetime.datetime(2024, 1, 1) + datetime.timedelta(int(day)) for day in rng.integers(0, 90, 50)]
    spans = [datetime.timedelta(hours=int(hours)) for hours in rng.integers(0, 90, 50)]
    plain = pd.DataFrame({"day": days, "span": spans}).astype(object)
    mixed = pd.DataFrame({
        "day": [np.datetime64(day) if i % 2 else day for i, day in enumerate(days)],
        "span": [np.timedelta64(span) if i % 2 else span for i, span in enumerate(spans)],
    }, dtype=object)  # fmt: skip
    mixed.loc[3, "day"], mixed.loc[5, "span"] = np.datetime64("NaT"), np.timedelta64("NaT")
    plain.loc[3, "day"], plain.loc[5, "span"] = None, None
    made = [pt.Inputs.from_frame(frame) for frame in (plain, mixed)]
    assert repr(made[0].columns) == repr(made[1].columns)
    model = pt.MultiTaskModel(made[0], tasks=[pt.Task("y")])
    wanted = model.predict(plain)["y"]
    assert np.array_equal(model.predict(mixed)["y"], wanted)
    assert np.array_equal(model.predict(mixed.to_dict("records"))["y"], wanted)
    for days in (mixed.day, pd.Series([np.datetime64(day) for day in plain.day], dtype=object)):
        with pytest.raises(TypeError, match="`span`"):
            model.predict(mixed.assign(span=days))


@pytest.mark.parametrize("library", ["pandas", "polars", "records"])
def test_strings_that_are_dates_as_iso_writes_them_are_dates(library, tmp_path):
    """Each as pandas reads it, and the same as columns of dates."""
    written = ["2024-01-31", "2023-12-31T23:59", " 2024-02-29 12:30:05", "1969-07-20T20:17:40.123456789Z",
               "2024-03-01T00:00:00+0130", "2024-03-01 00:00:00.5-05:00", None, ""]  # fmt: skip
    read = [pd.Timestamp(text.strip()) if text else pd.NaT for text in written]
    wanted = [day if day.tzinfo is None else day.tz_convert(None) for day in read]
    frame = pd.DataFrame({"when": written, "kind": list("ababacca")})
    dates = frame.assign(when=pd.to_datetime(pd.Series(wanted)))
    given = {"pandas": frame, "polars": pl.from_pandas(frame), "records": frame.to_dict("records")}[library]
    inputs = pt.Inputs.from_frame(given)
    assert inputs.columns["when"].kind == "days since 1970-01-01"
    assert repr(inputs.columns) == repr(pt.Inputs.from_frame(dates).columns)
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")])
    np.testing.assert_array_equal(model.predict(given)["y"], model.predict(dates)["y"])
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(pt.load(tmp_path / "m.safetensors").predict(given)["y"], model.predict(dates)["y"])
    assert pt.Inputs.from_frame(given, categorical=["when"]).columns["when"].kind == "category"


def test_fractions_are_of_seconds_alone():
    frame = pd.DataFrame({"when": ["2024-01-31 12:30.5", "2024-02-01 08:15.25"] * 5})
    assert pt.Inputs.from_frame(frame).columns["when"].kind == "category"


def dated():
    frame = pd.DataFrame({"when": [f"2024-01-{day:02}" for day in range(1, 31)], "n": np.arange(30.0)})
    return frame, pt.MultiTaskModel(pt.Inputs.from_frame(frame), tasks=[pt.Task("y")])


@pytest.mark.parametrize("word", ["unknown", "n/a", "0000-00-00", "0000-00-00 00:00:00", "2024-02-30"])
def test_words_among_dates_are_missing_ones_which_is_logged(word, caplog):
    frame, model = dated()
    some = frame.assign(when=frame.when.where(frame.index % 7 != 3, word))
    expected = model.predict(some.assign(when=some.when.where(some.when != word, None)))["y"]
    assert not caplog.records
    assert np.array_equal(model.predict(some)["y"], expected)
    assert (f"the frame: column `when` holds dates, and in 4 of 30 rows none that there is, such as {word!r} at row 3; "
            "they are missing") in caplog.text  # fmt: skip
    with pytest.raises(TypeError, match=f"`when` should hold dates; got '{word}' at row 0"):
        model.predict(frame.assign(when=word))


def test_a_column_of_nothing_is_missing_whatever_it_held():
    """As files read it, where no cell of the column has anything."""
    frame, model = dated()
    wanted = model.predict(frame.assign(when=None))["y"]
    for nothing in (np.nan, pd.NaT, "", " "):
        assert np.array_equal(model.predict(frame.assign(when=nothing))["y"], wanted)
    np.testing.assert_allclose(model.predict([{"when": float("nan"), "n": 3.0}])["y"], wanted[3:4], rtol=1e-6)
    with pytest.raises(TypeError, match="`when` should hold dates; got type float64"):
        model.predict(frame.assign(when=[1.0, *[np.nan] * 29]))


def test_columns_that_are_called_categories_are_such_in_every_library():
    days = [f"2024-{month:02}-{day:02}" for month in (1, 2) for day in range(1, 29)]
    enum = pl.DataFrame({"w": days}, schema={"w": pl.Enum(days)})
    for frame in (pd.DataFrame({"w": pd.Categorical(days)}), pl.DataFrame({"w": days}, schema={"w": pl.Categorical}),
                  enum, pa.table({"w": pa.array(days).dictionary_encode()})):  # fmt: skip
        assert pt.Inputs.from_frame(frame).columns["w"].kind == "category"


def test_what_cannot_be_read_is_shown_with_its_row():
    frame = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=30), "n": np.arange(30.0)})
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame), tasks=[pt.Task("y")])
    days = frame.when.dt.strftime("%Y-%m-%d")
    wrong = frame.assign(when=days.where(frame.index != 7, "31.01.2024"))
    with pytest.raises(TypeError, match=r"`when` should hold dates; got '31.01.2024' at row 7: write dates as 2024"):
        model.predict(wrong)
    with pytest.raises(TypeError, match=r"`n` should hold numbers; got '1,5' at row 2$"):
        model.predict(frame.assign(n=["1", "2.5", "1,5", *["3"] * 27]))
    assert np.array_equal(model.predict(frame.assign(when=days))["y"], model.predict(frame)["y"])


def shops(rows=120, seed=0, known=True):
    rng = np.random.default_rng(seed)
    shop = [f"{'s' if known else 'new'}{each}" for each in rng.integers(0, 8, rows)]
    tags = rng.choice(["u", "v", "u|v"] if known else ["w"], rows)
    number = rng.normal(size=rows) if known else np.full(rows, np.nan)
    return pd.DataFrame({"shop": shop, "tags": tags, "n": number, "y": rng.normal(size=rows)})


@pytest.mark.parametrize("sparse", [False, True])
def test_what_was_not_seen_is_none_of_the_others_by_chance(sparse, tmp_path):
    """Its rows of tables start at 0 and stay there, where no row of the data has it: of categories, bags and bins."""
    frame = shops()
    inputs = pt.Inputs.from_frame(frame, exclude=["y"], bags=["tags"], bins=4, sparse=sparse)
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")], encoder=pt.encoder.MLP([8]))
    before = {name: value.copy() for name, value in model.state_dict().items()}
    pt.Trainer(model, lr=0.01).fit(frame, epochs=3, progress=False)
    after = model.state_dict()
    tables = [name for name in after if name.startswith("embedding")]
    assert len(tables) == 3
    for name in tables:
        for state in (before, after):
            assert not state[name][0].any()
            assert state[name][1:].all()
        assert not np.array_equal(before[name], after[name])
    fresh = shops(20, 1, known=False)
    other = fresh.assign(shop="another", tags="none")
    np.testing.assert_array_equal(model.predict(fresh)["y"], model.predict(other)["y"])
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(pt.load(tmp_path / "m.safetensors").predict(fresh)["y"], model.predict(fresh)["y"])
    trainer = pt.Trainer(model)
    trainer.fit(frame, epochs=1, seeds=2, progress=False)
    for each in trainer.ensemble:
        assert not each.state_dict()[tables[0]][0].any()


def test_words_that_were_not_seen_start_at_nothing():
    text = pt.Text().fit(["a good day", "a bad day", "good"] * 3)
    model = pt.MultiTaskModel(pt.Inputs(text=text), tasks=[pt.Task("y")], encoder=pt.encoder.Recurrent(4))
    (table,) = [value for name, value in model.state_dict().items() if name == "embedding.text.0.weight"]
    assert not table[0].any()
    assert table[1:].all()


def test_codes_of_ones_own_all_start_by_chance():
    model = pt.MultiTaskModel(pt.Inputs(categorical=[5]), tasks=[pt.Task("y")])
    assert model.state_dict()["embedding.0.weight"].all()


def test_checkpoints_go_on_however_their_tables_started(tmp_path):
    """Those of earlier versions have a row of chance where code 0 stands for what was not seen."""
    frame = shops()

    def made(unseen):
        inputs = pt.Inputs.from_frame(frame, exclude=["y"], bags=["tags"])
        inputs._unseen = unseen
        return pt.MultiTaskModel(inputs, tasks=[pt.Task("y")], encoder=pt.encoder.MLP([8]))

    def trained(model, epochs):
        trainer = pt.Trainer(model, callbacks=[pt.Checkpoint(tmp_path)])
        trainer.fit(frame, epochs=epochs, progress=False, resume=tmp_path)
        return model.state_dict()["embedding.0.weight"][0]

    first = trained(made(False), 1)
    assert first.any()
    assert not made(True).state_dict()["embedding.0.weight"][0].any()
    np.testing.assert_array_equal(trained(made(True), 2), first)


@pytest.mark.parametrize("numbers", ["standard", "robust", "quantile"])
@pytest.mark.parametrize("value", [2025.0, 0.1, np.nan])
def test_a_column_that_was_level_says_nothing_whatever_comes_later(numbers, value, tmp_path):
    """Its weights are as they were drawn."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"year": value, "x": rng.normal(size=60), "y": rng.normal(size=60)})
    inputs = pt.Inputs.from_frame(frame, exclude=["y"], numbers=numbers)
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")], encoder=pt.encoder.MLP([8]))
    wanted = model.predict(frame)["y"]
    for later in (2026.0, -1e6, 0.1, np.nan):
        np.testing.assert_array_equal(model.predict(frame.assign(year=later))["y"], wanted)
    model.save(tmp_path / "m.safetensors")
    again = pt.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(frame.assign(year=2030.0))["y"], wanted)
    assert "one value alone" in repr(inputs.columns)
    with pytest.raises(ValueError, match="`year` should hold finite numbers"):
        model.predict(frame.assign(year=np.inf))


def test_empty_strings_are_missing_as_in_a_file(tmp_path):
    columns = {"kind": ["a", "", "b", "", "a"], "n": ["1", "2.5", "", "4", "5"]}
    frame = pd.DataFrame({name: values * 8 for name, values in columns.items()}).assign(y=np.arange(40.0))
    frame.to_csv(tmp_path / "f.csv", index=False)
    read = pd.read_csv(tmp_path / "f.csv")
    inputs = [pt.Inputs.from_frame(each, numeric=["n"], categorical=["kind"]) for each in (frame, read)]
    assert inputs[0].columns["kind"].values == inputs[1].columns["kind"].values == (None, "a", "b")
    assert repr(inputs[0].columns) == repr(inputs[1].columns)
    model = pt.MultiTaskModel(inputs[0], tasks=[pt.Task("y")])
    np.testing.assert_array_equal(model.predict(frame)["y"], model.predict(read)["y"])


def test_categories_that_an_earlier_version_learned_of_empty_strings_are_met_by_what_is_missing():
    frame = pd.DataFrame({"kind": ["a", "", "b"] * 8})
    earlier = Columns.restore({"numeric": [], "categorical": [["kind", ["", "a", "b"]]], "bags": []})
    codes = [earlier.transform(each, "x")[1][:, 0].tolist() for each in (frame, frame.replace("", None))]
    assert codes[0] == codes[1] == [2, 1, 3] * 8


def test_a_few_words_among_dates_leave_a_column_one_of_dates(caplog):
    days = [f"2024-01-{1 + row % 28:02}" for row in range(60)]
    frame = pd.DataFrame({"when": days})
    few = frame.assign(when=["unknown", "2024-02-31", *days[2:]])
    inputs = pt.Inputs.from_frame(few)
    assert inputs.columns["when"].kind == "days since 1970-01-01"
    assert (
        "column `when` holds dates, and in 2 of 60 rows none that there is, such as 'unknown' at row 0" in caplog.text
    )
    assert repr(inputs.columns) == repr(pt.Inputs.from_frame(frame.assign(when=[None, None, *days[2:]])).columns)
    for rest in (["open"] * 7, ["31.12.2024"]):
        some = frame.assign(when=[*rest, *days[len(rest) :]])
        assert pt.Inputs.from_frame(some).columns["when"].kind == "category"


def test_what_is_no_number_is_named():
    frame = pd.DataFrame({"p": ["1", "2.5", "n/a"] * 5, "q": np.arange(15.0)})
    with pytest.raises(TypeError, match=r"`frame`: column `p` should hold numbers; got 'n/a' at row 2"):
        pt.Inputs.from_frame(frame, numeric=["p"])
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame[["q"]]), tasks=[pt.Task("y")])
    with pytest.raises(ValueError, match=r"`q` should hold numbers that are finite.*; got 1e\+300 at row 3"):
        model.predict(frame.assign(q=frame.q.where(frame.index != 3, 1e300)))
