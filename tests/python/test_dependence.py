"""Partial dependence: as scikit-learn has it, by hand for every kind of column, and row by row."""

import copy
import datetime
import pickle

import matplotlib.pyplot as pyplot
import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import pytest
from conftest import Data, make_model
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import partial_dependence


@pytest.fixture(scope="module")
def trained():
    model = make_model()
    pt.Trainer(model, lr=0.02).fit(Data(200).whole, epochs=8, progress=False)
    return model


class Alone(RegressorMixin, BaseEstimator):
    """A model's task as scikit-learn sees an estimator."""

    def __init__(self, model=None):
        self.model = model

    def fit(self, x, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, x):
        return self.model.predict(x.astype(np.float32))["age"]


def test_as_scikit_learn_has_it(trained):
    data = Data(70, 1)
    theirs = partial_dependence(Alone(trained), data.x, [1], kind="both", grid_resolution=7, method="brute")
    found = pt.dependence(trained, data.x, 1, grid=theirs["grid_values"][0], individual=True)
    assert found.column == "x[1]"
    assert found.count == 70
    np.testing.assert_allclose(found["age"].mean[:, 0], theirs["average"][0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["age"].rows[:, :, 0], theirs["individual"][0], rtol=1e-4, atol=1e-5)
    # Of two classes the second, of labels all.
    x = data.x.copy()
    x[:, 1] = theirs["grid_values"][0][3]
    p = trained.predict(x)
    assert found["income"].mean[3, 0] == pytest.approx(p["income"][:, 1].mean(), rel=1e-5)
    np.testing.assert_allclose(found["topics"].mean[3], p["topics"].mean(0), rtol=1e-5)
    assert found["topics"].outputs == ("0", "1", "2")
    assert pt.dependence(trained, data.x, 1)["age"].rows is None


def test_values_of_numbers_are_spread_over_the_rows(trained):
    data = Data(200, 1)
    found = pt.dependence(trained, data.whole, "x[2]", grid=5, tasks="age")
    assert list(found) == ["age"]
    wanted = np.quantile(data.x[:, 2], np.linspace(0.05, 0.95, 5), method="nearest")
    assert found.grid == found.along == wanted.tolist()
    some = pt.dependence(trained, data.x, 2, grid=5, rows=50, seed=3)
    assert some.grid == found.grid
    at = np.sort(np.random.default_rng(3).choice(200, 50, replace=False))
    again = pt.dependence(trained, data.x[at], 2, grid=found.grid)
    assert some.count == 50
    np.testing.assert_allclose(some["age"].mean, again["age"].mean, rtol=1e-5)


def frame_of(rows=90, seed=0):
    rng = np.random.default_rng(seed)
    number = np.round(rng.normal(size=rows), 1)
    number[::10] = np.nan
    day = [datetime.datetime(2024, 1, 1) + datetime.timedelta(int(days)) for days in rng.integers(0, 60, rows)]
    frame = pd.DataFrame({
        "number": number, "day": day, "city": rng.choice(["a", "b", "c"], rows, p=[0.1, 0.7, 0.2]),
        "tags": rng.choice(["u", "v", "u|v", ""], rows), "few": rng.choice([0.0, 2.0, 5.0], rows),
    })  # fmt: skip
    frame["y"] = (frame.city == "a") + np.nan_to_num(number)
    return frame


@pytest.mark.parametrize("library", ["pandas", "polars", "records"])
def test_columns_of_a_frame(library):
    frame = frame_of()
    inputs = pt.Inputs.from_frame(frame, bags=["tags"], exclude=["y"], bins=4, indicators=True)
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y")], encoder=pt.encoder.MLP([8]), seed=1)
    given = frame
    if library == "polars":
        given = pl.from_pandas(frame)
    if library == "records":
        given = frame.astype(object).to_dict("records")
    for column, expected in [("city", ["a", "b", "c"]), ("few", [0.0, 2.0, 5.0]), ("tags", ["u", "v"])]:
        found = pt.dependence(model, given, column)
        assert found.grid == expected
        assert (found.along is None) == (column != "few")
        for value, mean in zip(found.grid, found["y"].mean[:, 0], strict=True):
            assert mean == pytest.approx(model.predict(frame.assign(**{column: value}))["y"].mean(), rel=1e-4)
    assert pt.dependence(model, given, "city", grid=2).grid == ["b", "c"]
    for column in ("number", "day"):
        found = pt.dependence(model, given, column, grid=6)
        assert len(found.grid) == 6
        assert found.along == sorted(found.along)
        for value, mean in zip(found.grid, found["y"].mean[:, 0], strict=True):
            assert mean == pytest.approx(model.predict(frame.assign(**{column: value}))["y"].mean(), rel=1e-4)
    # What was not seen, and what is missing, may be asked for.
    found = pt.dependence(model, given, "city", grid=["a", "elsewhere"])
    assert found["y"].mean[1, 0] == pytest.approx(model.predict(frame.assign(city="elsewhere"))["y"].mean(), rel=1e-4)
    found = pt.dependence(model, (frame.drop(columns="y"), frame.y), "day", grid=[datetime.datetime(2024, 1, 5)])
    assert found.along == [19727.0]


def test_codes_and_arrays():
    rng = np.random.default_rng(0)
    model = pt.MultiTaskModel(pt.Inputs(numeric=1, categorical=[4]), tasks=[pt.Task("y", classes=["u", "v", "w"])])
    x = {"numeric": rng.normal(size=(30, 1)), "categorical": rng.integers(0, 3, (30, 1))}
    found = pt.dependence(model, x, "categorical[0]")
    assert found.grid == [0, 1, 2]
    assert found.along is None
    assert found["y"].outputs == ("u", "v", "w")
    other = model.predict({**x, "categorical": np.full((30, 1), 2)})["y"].mean(0)
    np.testing.assert_allclose(found["y"].mean[2], other, rtol=1e-5)
    model = pt.MultiTaskModel({"table": 2, "image": (2, 2)}, tasks=[pt.Task("y")])
    x = {"table": rng.normal(size=(30, 2)), "image": rng.normal(size=(30, 2, 2))}
    found = pt.dependence(model, x, "table[1]", grid=[0.5])
    table = x["table"].copy()
    table[:, 1] = 0.5
    assert found["y"].mean[0, 0] == pytest.approx(model.predict({**x, "table": table})["y"].mean(), rel=1e-5)
    with pytest.raises(TypeError, match="'image' has no single values"):
        pt.dependence(model, x, "image")


def test_several_models(trained):
    data = Data(30, 1)
    other = make_model(2)
    both = pt.dependence(pt.Ensemble([trained, other]), data.x, 0, grid=[0.0, 1.0], individual=True)
    each = [pt.dependence(model, data.x, 0, grid=[0.0, 1.0]) for model in (trained, other)]
    for task in both:
        np.testing.assert_allclose(both[task].mean, (each[0][task].mean + each[1][task].mean) / 2, rtol=1e-5)
    # Models count what the ensemble says that they do.
    weighed = pt.Ensemble([trained, other], weights={"age": [3, 1]})
    found = pt.dependence(weighed, data.x, 0, grid=[0.0, 1.0])
    expected = 0.75 * each[0]["age"].mean + 0.25 * each[1]["age"].mean
    np.testing.assert_allclose(found["age"].mean, expected, rtol=1e-5)
    # A calibrated model is looked at as it predicts.
    calibrated = copy.deepcopy(trained)
    calibrated.temperatures = {"income": 5.0}
    p = pt.dependence(calibrated, data.x, 0, grid=[1.0])["income"].mean[0, 0]
    x = data.x.copy()
    x[:, 0] = 1.0
    assert p == pytest.approx(calibrated.predict(x)["income"][:, 1].mean(), rel=1e-5)
    assert p != pytest.approx(trained.predict(x)["income"][:, 1].mean(), rel=1e-3)


def test_what_is_shown(trained):
    found = pt.dependence(trained, Data(30, 1).x, 0, grid=4, individual=True)
    assert repr(found).split("\n")[0].split()[:3] == ["x[0]", "income", "age"]
    assert "topics: 2" in repr(found)
    assert len(found.to_frame()) == 4
    axes = found.plot()
    assert [axis.get_title() for axis in axes] == ["income", "age", "topics"]
    # Thirty rows behind the mean, and three labels without rows.
    assert [len(axis.lines) for axis in axes] == [31, 31, 3]
    np.testing.assert_allclose(axes[1].lines[-1].get_ydata(), found["age"].mean[:, 0])
    pyplot.close("all")
    assert pickle.loads(pickle.dumps(found)).grid == found.grid
    frame = frame_of(40)
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame, exclude=["y"], bags=["tags"]), tasks=[pt.Task("y")])
    (axis,) = pt.dependence(model, frame, "city", individual=True).plot()
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["a", "b", "c"]
    pyplot.close("all")
    days = [np.datetime64("2024-01-31T00:00:00")]
    shown = [line.split()[0] for line in repr(pt.dependence(model, frame, "day", grid=days)).split("\n")[1:]]
    assert shown[0] == "2024-01-31"
    whole = [line.split()[0] for line in repr(pt.dependence(model, frame, "day", grid=3)).split("\n")[1:]]
    assert all(len(day) <= len("2024-01-31T12:30") for day in whole)


@pytest.mark.parametrize("written", [False, True])
def test_dates_lie_along_an_axis_of_dates(written):
    frame = frame_of(40)
    frame["day"] = frame.day.dt.strftime("%Y-%m-%d") if written else frame.day
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame, exclude=["y"], bags=["tags"]), tasks=[pt.Task("y")])
    days = ["2024-01-05", "2024-02-01", "2024-02-20"] if written else list(pd.to_datetime(["2024-01-05", "2024-02-20"]))
    (axis,) = pt.dependence(model, frame, "day", grid=days, individual=True).plot()
    drawn = axis.lines[-1].get_xdata(orig=True)
    assert drawn.dtype.kind == "M"
    assert [str(day)[:10] for day in drawn] == [str(day)[:10] for day in days]
    axis.figure.canvas.draw()
    assert any("2024-0" in tick.get_text() for tick in axis.get_xticklabels())
    pyplot.close("all")
    (axis,) = pt.dependence(model, frame, "number", grid=2).plot()
    assert axis.lines[-1].get_xdata(orig=True).dtype.kind == "f"
    pyplot.close("all")


def test_wrong_input_is_refused(trained):
    data = Data(20, 1)
    frame = frame_of(40)
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame, exclude=["y"], bags=["tags"]), tasks=[pt.Task("y")])
    for call, says in [
        (lambda: pt.dependence(trained, data.x, "x[8]"), r"no column 'x\[8\]'; .*there are `x\[0\]`"),
        (lambda: pt.dependence(trained, data.x, 0, tasks="agee"), "no task 'agee'; did you mean `age`"),
        (lambda: pt.dependence(trained, data.x, 0, grid=0), "`grid` should be a whole number of at least 1"),
        (lambda: pt.dependence(trained, data.x, 0, grid=[]), "`grid` should have at least one value"),
        (lambda: pt.dependence(trained, data.x, 0, rows=0), "`rows` should be"),
        (lambda: pt.dependence(model, frame.assign(number=np.nan), "number"), "no value that is known"),
        (lambda: pt.dependence(model, frame, "cit"), "did you mean `city`"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
    for call, says in [
        (lambda: pt.dependence(model, frame, ["city", "number"]), "`column` should be one column, a call each"),
        (lambda: pt.dependence(trained, data.x, 0, grid="all"), "`grid` should be a number of values, or a list"),
        (lambda: pt.dependence(trained, data.x, 0, grid=["much"]), "`grid` should have values of column"),
        (lambda: pt.dependence(model, frame, "number", grid=["much"]), "`grid` should have values of column 'number'"),
        (lambda: pt.dependence(Alone(trained), data.x, 0), "`model` should be a pt.MultiTaskModel"),
    ]:
        with pytest.raises(TypeError, match=says):
            call()
    with pytest.raises(KeyError, match="no task 'agee'"):
        pt.dependence(trained, data.x, 0)["agee"]


@pytest.mark.parametrize("far", [datetime.date(9999, 12, 31), datetime.date(1, 1, 1)])
def test_dates_that_no_axis_has_are_drawn_by_days(far):
    frame = pd.DataFrame({"until": [far, datetime.date(2024, 1, 5)] * 20, "y": np.arange(40.0)})
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame, exclude=["y"]), tasks=[pt.Task("y")])
    found = pt.dependence(model, frame, "until")
    (axis,) = found.plot()
    axis.figure.canvas.draw()
    assert axis.lines[-1].get_xdata(orig=True).tolist() == found.along
    pyplot.close("all")


def test_a_missing_date_has_no_place_along_the_axis(recwarn):
    frame = frame_of(40)
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame, exclude=["y"], bags=["tags"]), tasks=[pt.Task("y")])
    (axis,) = pt.dependence(model, frame, "day", grid=["2024-01-31", None, "2024-02-03"]).plot()
    drawn = axis.lines[-1].get_xdata(orig=True)
    assert np.isnat(drawn).tolist() == [False, True, False]
    assert not [each for each in recwarn if issubclass(each.category, RuntimeWarning)]
    pyplot.close("all")
