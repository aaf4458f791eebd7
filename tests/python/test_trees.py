"""Boosted trees beside networks: whose they are, what they see, and what is said of them."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import sklearn.ensemble  # noqa: F401, which says something to OpenMP in the environment when it is imported
from polytask.studies import trees


def table(rows=300, seed=0):
    """Sharp cuts, which trees learn and a network of one epoch does not; a category that says all of `kind`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "city": rng.choice(["A", "B", "C"], rows)})
    frame["age"] = 10.0 * (np.sin(4 * x[:, 0]) > 0)
    frame["kind"] = frame["city"].map({"A": 0, "B": 1, "C": 2})
    frame.loc[::9, "kind"] = np.nan
    return frame


def model_of(frame, **more):
    tasks = [pt.Task("age", metrics=["rmse"]), pt.Task("kind", classes=3)]
    inputs = pt.Inputs.from_frame(frame, exclude=["age", "kind"], **more)
    return pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.MLP([4]))


class Leaf:
    """A stand-in for a library's trees: what was asked of it, and one answer for all rows."""

    asked: list = []  # noqa: RUF012

    def __init__(self, **how):
        self.how = how

    def fit(self, x, y, **how):
        self.mean = float(np.mean(y))
        self.classes_ = np.unique(y)
        type(self).asked.append((self.how, x, y, how))

    def predict(self, x):
        return np.full(len(x), self.mean)

    def predict_proba(self, x):
        return np.full((len(x), len(self.classes_)), 1 / len(self.classes_))


@pytest.fixture
def fakes(monkeypatch):
    """LightGBM and CatBoost, neither of which is needed for these tests."""
    monkeypatch.setattr(Leaf, "asked", [])
    stops = SimpleNamespace(early_stopping=lambda rounds, verbose: ("stops", rounds))
    monkeypatch.setitem(
        sys.modules, "lightgbm", SimpleNamespace(LGBMClassifier=Leaf, LGBMRegressor=Leaf, **vars(stops))
    )
    monkeypatch.setitem(sys.modules, "catboost", SimpleNamespace(CatBoostClassifier=Leaf, CatBoostRegressor=Leaf))
    return Leaf.asked


@pytest.fixture
def none(monkeypatch):
    for name in ("sklearn.ensemble", "lightgbm", "catboost"):
        monkeypatch.setitem(sys.modules, name, None)


def test_libraries_that_are_there(fakes):
    assert trees.libraries("auto") == ["scikit-learn"]
    assert trees.libraries("all") == ["scikit-learn", "LightGBM", "CatBoost"]
    assert trees.libraries(["CatBoost"]) == trees.libraries("CatBoost") == ["CatBoost"]
    assert trees.libraries(None) == []


@pytest.mark.usefixtures("none")
def test_libraries_that_are_not_there():
    assert trees.libraries("auto") == trees.libraries("all") == []
    with pytest.raises(ValueError, match="`trees`: LightGBM is not installed"):
        trees.libraries("LightGBM")
    with pytest.raises(
        ValueError, match=r"`trees`: unknown library 'XGBoost'; .*there are `auto`, `all`, `scikit-learn`"
    ):
        trees.libraries(["XGBoost"])
    with pytest.raises(TypeError, match='`trees` should be "auto", "all", libraries or None; got 3'):
        trees.libraries(3)


def test_each_library_sees_numbers_categories_and_rows_to_stop_by(fakes):
    frame = table()
    model = model_of(frame, indicators=True)
    parts = tuple(model.reader.rows(part) for part in (frame[:200], frame[200:250], frame[250:]))
    scores = {"age": {"rmse": 0.1}, "kind": {"accuracy": 1.0}}
    found = trees.beside(model, parts, scores, ["LightGBM", "CatBoost"], rounds=7)
    assert [each["library"] for each in found.values()] == ["LightGBM", "LightGBM"], "the first of equal ones"
    assert [each["better"] for each in found.values()] == [False, False]
    light, cat, of_kind, _ = fakes
    assert light[0]["n_estimators"] == cat[0]["iterations"] == 7
    assert light[3]["categorical_feature"] == cat[3]["cat_features"] == [2]
    assert light[1].shape == (200, 3)
    assert all(isinstance(code, int) for code in cat[1][:, 2])
    assert len(light[3]["eval_set"][0][1]) == len(cat[3]["eval_set"][1]) == 50
    assert len(of_kind[2]) == frame["kind"][:200].notna().sum()


def test_the_better_library_by_the_validation_rows_is_the_one_that_counts(fakes):
    frame = table()
    model = model_of(frame)
    parts = tuple(model.reader.rows(part) for part in (frame[:200], frame[200:250], frame[250:]))
    scores = {"age": {"rmse": 4.0}, "kind": {"accuracy": float("nan")}}
    found = trees.beside(model, parts, scores, ["CatBoost", "scikit-learn"])
    assert list(found) == ["age"], "a metric that is undefined says nothing"
    assert found["age"]["library"] == "scikit-learn"
    assert found["age"]["trees"] < 3.5
    assert found["age"]["better"], "of a metric whose lower values are better"
    assert trees.beside(model, parts, scores, ["scikit-learn"], until=0) == {}


def test_what_trees_do_not_predict_is_left_out():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    y = {
        "several": rng.normal(size=(60, 2)),
        "none": np.zeros(60),
        "one": np.zeros(60, int),
        "soft": rng.random(60) > 0.5,
    }
    tasks = [
        pt.Task("several", outputs=2),
        pt.Task("none", metrics=[]),
        pt.Task("one", classes=3),
        pt.Task("soft", loss="binary_cross_entropy"),
    ]
    model = pt.MultiTaskModel(3, tasks=tasks)
    rows = model.reader.rows((x, y))
    scores = {"several": {"mae": 1.0}, "one": {"accuracy": 0.5}, "soft": {"auroc": 0.5}}
    found = trees.beside(model, (rows, rows, rows), scores, ["scikit-learn"], rounds=3)
    assert list(found) == ["one", "soft"]
    assert found["one"]["trees"] == 1.0, "a single class is always predicted"


def asked(frame, **more):
    how = {"budget": 60, "seeds": 2, "epochs": 2, "batch_size": 32, "progress": False, **more}
    return pt.recommend(model_of(frame), frame, validation=0.3, **how)


def test_a_recommendation_says_where_trees_are_better(fakes):
    frame = table()
    found = asked(frame)
    assert set(found.trees) == {"age", "kind"}
    assert found.trees["age"]["library"] == "scikit-learn"
    assert found.trees["age"]["better"]
    assert found.trees["age"]["metric"] == "rmse"
    said = [sentence for sentence in found.sentences if "Boosted trees" in sentence]
    assert said[0].startswith("Boosted trees are better at `age`: rmse ")
    assert "(scikit-learn), the network's is " in said[0]
    assert found.trees["kind"]["network"] <= found.trees["kind"]["trees"] == 1.0
    assert fakes == [], "the others are not asked unless it is said"
    assert asked(frame, trees=None).trees == {}
    asked(frame, trees="all")
    assert len(fakes) == 4


@pytest.mark.usefixtures("none")
def test_a_recommendation_without_libraries_and_one_without_time():
    found = asked(table())
    assert found.trees == {}
    assert "Boosted trees" not in repr(found)


def test_trees_that_there_is_no_time_for_are_said():
    found = asked(table(), budget=1e-3)
    assert found.trees == {}
    assert "boosted trees" in found.skipped
