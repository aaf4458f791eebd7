"""Bad arguments say their name, what was expected and what came."""

import re
from functools import partial

import numpy as np
import pandas as pd
import polytask as pt
import pytest
from conftest import make_model, same_bits

FIT = {"epochs": 2, "batch_size": 32, "progress": False}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "`epochs` should be a whole number of at least 1; got 0"),
        ({"epochs": 2.5}, TypeError, "`epochs` should be a whole number of at least 1; got 2.5"),
        ({"epochs": None}, TypeError, "`epochs` should be a whole number"),
        ({"batch_size": 0}, ValueError, "`batch_size` should be a whole number of at least 1; got 0"),
        ({"batch_size": "32"}, TypeError, "`batch_size` should be a whole number of at least 1; got '32'"),
        ({"batch_size": True}, TypeError, "`batch_size`"),
        ({"batch_size": 2**70}, ValueError, "`batch_size`"),
        ({"weights": "w"}, TypeError, "`weights` of 'w' names a column, but x is no frame"),
        ({"weights": np.full(160, np.nan)}, ValueError, "the row weights of task `income` should be finite"),
        ({"resume": 3}, TypeError, "`resume` should be the path of a folder; got 3"),
        ({"callbacks": [3]}, TypeError, "`callbacks` should be a list of pt.Callback or functions; got 3"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_bad_arguments_of_fit(data, arguments, error, message):
    model = make_model()
    before = model.state_dict()
    with pytest.raises(error, match=message):
        pt.Trainer(model).fit(data.whole, **{**FIT, **arguments})
    assert same_bits(model.state_dict(), before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, TypeError, "`model` should be a pt.MultiTaskModel; got int"),
        ({"lr": "fast"}, ValueError, 'argument `lr` should be .*"fast"'),
        ({"lr": -1}, ValueError, "`lr`"),
        ({"lr": float("nan")}, ValueError, "`lr` should be a finite number; got nan"),
        ({"clip_norm": 0}, ValueError, "`clip_norm` should be a number above 0 or None; got 0"),
        ({"clip_norm": "1"}, TypeError, "`clip_norm` should be a number above 0 or None; got '1'"),
        ({"accumulate": 0}, ValueError, "`accumulate` should be a whole number of at least 1; got 0"),
        ({"device": "mps"}, ValueError, '`device` should be "cpu" or "cuda"'),
        ({"seed": -1}, ValueError, "`seed` should be a whole number of at least 0; got -1"),
        ({"seed": "a"}, TypeError, "`seed` should be a whole number of at least 0; got 'a'"),
        ({"callbacks": 3}, TypeError, "`callbacks` should be a list of pt.Callback or functions; got 3"),
        ({"regularizers": 3}, TypeError, "`regularizers` should be a list of pt.regularizer; got 3"),
        ({"weighting": pt.weighting.Static([1.0])}, ValueError, "3"),
        ({"optimiser": "adam"}, TypeError, "optimiser"),
    ],
)
def test_bad_arguments_of_a_trainer(arguments, error, message):
    with pytest.raises(error, match=message):
        pt.Trainer(**{"model": make_model(), **arguments})


T = pt.Task


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: T(3), TypeError, "`name` of a task should be a string; got 3"),
        (lambda: T(""), ValueError, "`name` of a task should be a string without `/`"),
        (lambda: T("a/b"), ValueError, "got 'a/b'"),
        (lambda: T("a", classes=1), ValueError, "task `a`: `classes` should be at least 2; got 1"),
        (lambda: T("a", classes=2.5), TypeError, "task `a`: `classes` should be a whole number or a list of labels"),
        (lambda: T("a", classes=["x"]), ValueError, "at least 2 labels that differ"),
        (lambda: T("a", classes=["x", "x"]), ValueError, "at least 2 labels that differ"),
        (lambda: T("a", classes=["x", None]), TypeError, "should be strings or numbers; got None"),
        (lambda: T("a", outputs=0), ValueError, "task `a`: `outputs` should be a whole number of at least 1; got 0"),
        (lambda: T("a", weight=-1), ValueError, "task `a`: `weight` should be at least 0; got -1"),
        (lambda: T("a", weight="x"), TypeError, "task `a`: `weight` should be a number; got 'x'"),
        (lambda: T("a", loss=3), TypeError, "task `a`: `loss` should be one of pt.loss or its name"),
        (lambda: T("a", loss=pt.optim.Adam()), TypeError, "task `a`: `loss` should be one of pt.loss"),
        (lambda: T("a", columns=3.5), TypeError, "task `a`: `columns` should be names of columns; got 3.5"),
        (lambda: T("a", columns=["x", "y"], outputs=3), ValueError, "3 outputs need as many columns; got `x`, `y`"),
        (lambda: pt.MultiTaskModel(8, tasks=[]), ValueError, "at least one task"),
        (lambda: pt.MultiTaskModel(8, tasks=["a"]), TypeError, "`tasks` should be a list of pt.Task; got 'a'"),
        (lambda: pt.MultiTaskModel(8), TypeError, "`tasks` should be a list of pt.Task; got None"),
        (
            lambda: pt.MultiTaskModel(tasks=[T("a")]),
            TypeError,
            "`inputs` should be pt.Inputs or the number of features",
        ),
        (lambda: pt.MultiTaskModel(0, tasks=[T("a")]), ValueError, "`inputs` should be a whole number of at least 1"),
        (lambda: pt.MultiTaskModel(8, tasks=[T("a"), T("a")]), ValueError, "every task needs a name of its own"),
        (
            lambda: pt.MultiTaskModel(8, tasks=[T("a", classes=3, loss="mean_squared")]),
            ValueError,
            "task `a`: MeanSquared",
        ),
        (lambda: pt.MultiTaskModel(8, tasks=[T("a", loss="cross_entropy")]), ValueError, "task `a`: .*`classes`"),
        (lambda: pt.MultiTaskModel(8, tasks=[T("a")], seed=1.5), TypeError, "`seed`"),
        (lambda: pt.MultiTaskModel(8, tasks=[T("a")], hidden=3), TypeError, "hidden"),
        (lambda: pt.MultiTaskModel(input_size=8, hidden_size=0, output_sizes=[2]), ValueError, "`hidden_size`"),
        (
            lambda: pt.MultiTaskModel(input_size=8, hidden_size=4, output_sizes=2),
            TypeError,
            "`output_sizes` should be a list",
        ),
        (lambda: pt.MultiTaskModel(input_size=8, hidden_size=4, output_sizes=[1]), ValueError, "`output_sizes`"),
        (
            lambda: pt.MultiTaskModel(input_size=8, hidden_size=4, output_sizes=[2], activation="rel"),
            ValueError,
            "`activation`",
        ),
        (lambda: pt.Inputs(), ValueError, "at least one feature together"),
        (lambda: pt.Inputs(numeric=-1), ValueError, "`numeric` should be a whole number of at least 0; got -1"),
        (
            lambda: pt.Inputs(categorical=3),
            TypeError,
            "`categorical` should be a list of numbers of categories or pt.Bag; got 3",
        ),
        (lambda: pt.Inputs(categorical=[0]), ValueError, "`categorical`"),
        (
            lambda: pt.Inputs(categorical=[3, 4], embedding=[2]),
            ValueError,
            "`embedding` should be one width, or one for each of 2",
        ),
        (lambda: pt.Inputs.from_frame([1]), TypeError, "`frame` should be a pandas or polars frame; got list"),
        (lambda: pt.Inputs.from_frame(pd.DataFrame({"a": []})), ValueError, "`frame` has no rows"),
        (
            lambda: pt.Inputs.from_frame(pd.DataFrame({"a": [1]}), categorical=["b"]),
            ValueError,
            "`categorical`: the frame has no column 'b'",
        ),
        (
            lambda: pt.Inputs.from_frame(pd.DataFrame({"a": [np.inf]})),
            ValueError,
            "column `a` should hold finite numbers",
        ),
        (
            lambda: pt.Inputs.from_frame(pd.DataFrame({"a": ["x"]}), numeric=["a"]),
            TypeError,
            "column `a` should hold numbers",
        ),
        (
            lambda: pt.Inputs.from_frame(pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), categorical=["a"]),
            TypeError,
            "column `a` holds dates or spans of time, which are numbers and no categories",
        ),
        (
            lambda: pt.Inputs.from_frame(pd.DataFrame({("a", "b"): [1.0]})),
            TypeError,
            r"columns should have strings or whole numbers as names; got \('a', 'b'\)",
        ),
        (lambda: pt.EarlyStopping(3), TypeError, "`monitor` should be the name of a column"),
        (lambda: pt.EarlyStopping("a", patience=-1), ValueError, "`patience`"),
        (
            lambda: pt.EarlyStopping("a", min_delta=-1),
            ValueError,
            "`min_delta` should be a number of at least 0; got -1",
        ),
        (lambda: pt.EarlyStopping("a", mode="up"), ValueError, '`mode` should be "auto", "min" or "max"; got \'up\''),
        (lambda: pt.Checkpoint(3), TypeError, "`path` should be the path of a folder; got 3"),
        (lambda: pt.Checkpoint("a", every=0), ValueError, "`every` should be a whole number of at least 1; got 0"),
    ],
)
def test_what_cannot_be_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


def paths():
    """What takes a path, and of what."""
    model = pt.MultiTaskModel(2, tasks=[pt.Task("a"), pt.Task("b")])
    trainer, ensemble = pt.Trainer(model), pt.Ensemble([model])
    data = np.zeros((60, 2), np.float32), {"a": np.arange(60.0), "b": np.arange(60.0)}
    quick = {"epochs": 1, "progress": False}
    of_files = [pt.load, pt.MultiTaskModel.load, model.save, trainer.save, trainer.restore, pt.callbacks.CSV]
    of_folders = [
        pt.Ensemble.load,
        ensemble.save,
        pt.callbacks.TensorBoard,
        pt.Checkpoint,
        lambda path: pt.search(model, data, space={"lr": [0.1, 0.2]}, path=path, **quick),
        lambda path: pt.compare({"one": model, "other": model}, data, path=path, seeds=2, **quick),
        lambda path: trainer.fit(data, resume=path, **quick),
    ]
    return [*((call, "a file") for call in of_files), *((call, "a folder") for call in of_folders)]


@pytest.mark.parametrize("wrong", [3, b"a", "", 1.5])
def test_what_is_no_path_is_named(wrong):
    for call, of in paths():
        says = rf"^`(path|folder|logdir|resume)` should be the path of {of}; got {wrong!r}$"
        with pytest.raises(TypeError, match=says):
            call(wrong)
    with pytest.raises(TypeError, match=r"`other` should be .*the path of"):
        pt.MultiTaskModel(2, tasks=[pt.Task("a")]).start_from(3)


STUDIES = {
    "search": pt.search,
    "ensemble": partial(pt.search, ensemble="greedy"),
    "recommend": partial(pt.recommend, trees=None),
    "best": partial(pt.recommend, trees=None, quality="best"),
    "relatedness": pt.relatedness,
}


@pytest.mark.parametrize("study", STUDIES)
def test_what_are_no_tasks_is_named(study):
    frame = pd.DataFrame({"a": np.arange(60.0), "price": np.arange(60.0)})
    expected = "a pt.MultiTaskModel, a pt.Trainer or a list of pt.Task was expected; got "
    for wrong, shown in [(["price"], "'price' in it"), ([pt.Task("a"), 3], "3 in it"), ({"price": 1}, "'price' in it"),
                         ("price", "'price'"), (3, "3")]:  # fmt: skip
        with pytest.raises(TypeError, match=f"{re.escape(expected + shown)}$"):
            STUDIES[study](wrong, frame, progress=False)
