"""The command `polytask`: reports and predictions for tables, and what is said of wrong ones."""

import argparse
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import polytask as pt
import pytest
from polytask.cli import leaks, tables
from polytask.cli import report as report_module
from polytask.cli.main import main
from polytask.results.recommendation import of_trees
from polytask.studies import trees
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import r2_score, roc_auc_score


def table(rows=600, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4))
    frame = pd.DataFrame(x, columns=["a", "b", "c", "d"])
    frame["city"] = rng.choice(["rome", "oslo", "lima"], rows)
    frame["day"] = np.arange(rows)
    frame["rich"] = np.where(x[:, 0] + x[:, 1] + 0.5 * rng.normal(size=rows) > 0, "yes", "no")
    frame["kind"] = (x[:, :2].sum(axis=1) > 0).astype(int) + (x[:, 2] > 0)
    frame["age"] = 40 + 9 * x[:, 0] + 3 * rng.normal(size=rows)
    frame.loc[::7, "age"] = np.nan
    return frame


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "people.csv"
    table().to_csv(path, index=False)
    return path


def report(data, *more, tasks=("rich", "kind", "age")):
    out = data.parent / "out"
    status = main(["report", str(data), "--tasks", *tasks, "--budget", "2s", "--out", str(out), "--quiet", *more])
    return status, out


def rerun(out, script, *options):
    """Runs a script where the report left it, from anywhere else; gives what it says."""
    (out / "reproduce.py").write_text(script, encoding="utf-8")
    before = {each.name for each in out.iterdir()}
    done = subprocess.run([sys.executable, *options, str(out / "reproduce.py")], check=True, cwd=out.parent.parent,
                          capture_output=True, text=True)  # fmt: skip
    left = {each.name for each in out.iterdir()} - before
    assert left
    assert all(name.startswith("reproduced") for name in left)
    assert "loss" in done.stdout
    return done.stdout


def test_a_report_leaves_page_model_and_script(data, capsys):
    status, out = report(data)
    said = capsys.readouterr().out
    assert status == 0
    assert "task rich: 2 classes" in said
    assert "task kind: 3 classes" in said
    assert "task age: numbers from" in said
    assert "86 missing" in said
    assert "384 rows to learn from, 96 to choose by, 120 to test" in said
    assert "Train " in said
    for metric in ("auroc", "accuracy", "r2", "mae"):
        assert metric in said.split("Train ")[1], "what test rows say is shown by each task's metrics"
    assert said.count("Boosted trees are ") == 3
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("Boosted trees are ") == 3
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    pictures = [each for each in root.iter() if each.tag.endswith("svg")]
    assert pictures
    for picture in pictures:
        assert picture.attrib["role"] == "img"
        assert [child.tag.rpartition("}")[2] for child in picture][:2] == ["title", "desc"]
    assert "<script" not in page
    assert page.count("http") == page.count("http://www.w3.org/2000/svg"), "nothing is loaded from elsewhere"
    model = (
        pt.Ensemble.load(out / "model")
        if (out / "model").is_dir()
        else pt.MultiTaskModel.load(out / "model.safetensors")
    )
    assert {task.name for task in model.tasks} == {"rich", "kind", "age"}
    script = (out / "reproduce.py").read_text(encoding="utf-8")
    again = script.replace("epochs=60", "epochs=1")
    rerun(out, again)


@pytest.mark.parametrize(("tasks", "quality"), [(["age"], "fast"), (["rich"], "best"), (["kind", "age"], "good"),
                                                (["rich", "age"], "best")])  # fmt: skip
def test_a_report_takes_more_trouble_where_that_is_asked(data, capsys, tasks, quality):
    status, out = report(data, "--quality", quality, "--exclude", "day", tasks=tasks)
    said = capsys.readouterr().out
    assert status == 0
    assert ("There is one task and nothing to share." in said) == (len(tasks) == 1)
    assert ("Its model is an ensemble: " in said) == (quality == "best")
    assert said.count("Boosted trees are ") == len(tasks)
    page = (out / "report.html").read_text(encoding="utf-8")
    ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    assert ("Its model is an ensemble: " in page) == (quality == "best")
    script = (out / "reproduce.py").read_text(encoding="utf-8")
    assert ("TabM" in script) == (quality == "good")
    # Half of the time went into the choice.
    assert script.count("budget=1") == (quality == "best")
    again = script.replace("epochs=60", "epochs=1").replace('"greedy"', '"greedy", trials=2, epochs=1, progress=False')
    rerun(out, again)
    assert main(["predict", str(out / ("model" if (out / "model").is_dir() else "model.safetensors")), str(data)]) == 0
    predicted = pd.read_csv(data.with_name("people-predicted.csv"))
    if tasks[-1] == "age":
        known = predicted.age.notna()
        assert r2_score(predicted.age[known], predicted.age_predicted[known]) > 0.5


@pytest.mark.parametrize("zone", ["", "T00:00:00+02:00"])
def test_strings_that_are_dates_are_read_as_dates(data, capsys, zone):
    frame = table().assign(since=[f"2024-{1 + row % 12:02}-{1 + row % 28:02}{zone}" for row in range(600)])
    frame["age"] = 20.5 + 5 * (np.arange(600) % 12)
    frame.loc[3, "since"] = np.nan
    frame.drop(columns="day").to_csv(data, index=False)
    status, out = report(data, "--quality", "best", tasks=("age",))
    assert status == 0
    assert "days since 1970-01-01: `since`" in capsys.readouterr().out
    script = (out / "reproduce.py").read_text().replace('"greedy"', '"greedy", trials=2, epochs=1, progress=False')
    rerun(out, script, "-W", "error")
    assert main(["predict", str(out / "model"), str(data)]) == 0
    predicted = pd.read_csv(data.with_name("people-predicted.csv"))
    assert predicted.since[0] == frame.since[0]
    assert r2_score(predicted.age, predicted.age_predicted) > 0.5
    frame.assign(since="soon").to_csv(data.with_name("new.csv"))
    assert main(["predict", str(out / "model"), str(data.with_name("new.csv"))]) == 1
    assert "column `since` should hold dates; got 'soon' at row 0: write dates as 2024-01-31" in capsys.readouterr().err
    assert report(data, "--categorical", "since", tasks=("age",))[0] == 0
    assert "`since` (" in capsys.readouterr().out


@pytest.mark.parametrize(("row", "held_out"), [(0, False), (2, True), (5, True)])
def test_what_is_no_date_in_any_row_makes_a_column_one_of_categories(data, capsys, row, held_out):
    """Wherever the row stands: to learn from, to choose by, to test."""
    since = [f"2024-{1 + at % 12:02}-{1 + at % 28:02}" for at in range(600)]
    since[row] = "31.12.2024"
    table().assign(since=since).to_csv(data, index=False)
    status, out = report(data, tasks=("age",))
    assert status == 0
    said = capsys.readouterr().out
    assert "`since` (" in said
    assert ("Column `since` holds dates, but not in all rows: it is read as categories" in said) == held_out
    assert ("categorical=['since']" in (out / "reproduce.py").read_text()) == held_out


def test_dates_that_there_are_not_stay_categories(data, capsys):
    frame = table().assign(end=["2024-01-01", "0000-00-00", "2023-02-30"] * 200)
    frame.to_csv(data, index=False)
    status, out = report(data, "--groups", "city", "--categorical", "kind", tasks=("rich", "age"))
    assert status == 0
    assert "`end` (3 values)" in capsys.readouterr().out
    script = (out / "reproduce.py").read_text()
    assert "categorical=['kind']" in script
    assert "validation=pt.data.Split(0.2, groups='city')" in script
    rerun(out, script.replace("epochs=60", "epochs=1"))


def test_trees_are_those_of_scikit_learn():
    frame = table().rename(columns={"day": "w"})
    frame["w"] = 1 + frame.w % 3
    train, validation, test = frame[:300], frame[300:400], frame[400:]
    tasks = [pt.Task("rich", classes=["no", "yes"], metrics=["auroc"]), pt.Task("age", metrics=["r2", "mae"])]
    inputs = pt.Inputs.from_frame(train, exclude=["rich", "age", "kind", "w", "city"])
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.MLP([4]))
    parts = tuple(model.reader.rows(part, weights="w") for part in (train, validation, test))
    ours = pt.Trainer(model).evaluate(test)
    found = trees.beside(model, parts, ours, ["scikit-learn"])
    # Numbers alone, which trees see as they are but for their scale.
    x = [part[inputs.names] for part in (train, validation, test)]
    one = HistGradientBoostingClassifier(max_iter=1000, early_stopping=True, random_state=0)
    one.fit(x[0], train.rich, train.w, X_val=x[1], y_val=validation.rich)
    assert found["rich"]["trees"] == pytest.approx(roc_auc_score(test.rich, one.predict_proba(x[2])[:, 1]), abs=0.01)
    known = [part.age.notna() for part in (train, validation, test)]
    other = HistGradientBoostingRegressor(max_iter=1000, early_stopping=True, random_state=0)
    other.fit(x[0][known[0]], train.age[known[0]], train.w[known[0]], X_val=x[1][known[1]],
              y_val=validation.age[known[1]])  # fmt: skip
    expected = r2_score(test.age[known[2]], other.predict(x[2][known[2]]))
    assert found["age"]["trees"] == pytest.approx(expected, abs=0.01)
    assert found["age"]["metric"] == "r2"
    assert found["age"]["network"] == ours["age"]["r2"]
    said = of_trees(found)
    assert said[0].startswith("Boosted trees are better at `rich`: auroc 0.9")
    assert "(scikit-learn), the network's is 0." in said[0]
    perfect = {"rich": {"auroc": 1.0}, "age": {"r2": 1.0}}
    other = trees.beside(model, parts, perfect, ["scikit-learn"])
    assert [each["better"] for each in other.values()] == [False, False]
    assert of_trees(other)[0].startswith("Boosted trees are not better at `rich`")
    constants = {"rich": 0.5, "age": r2_score(test.age[known[2]], np.full(known[2].sum(), np.average(
        train.age[known[0]], weights=train.w[known[0]])))}  # fmt: skip
    for name, constant in constants.items():
        assert found[name]["constant"] == pytest.approx(constant, abs=1e-6)
    assert all("every row" not in sentence for sentence in of_trees(other))
    below = trees.beside(model, parts, {"rich": {"auroc": 0.5}, "age": {"r2": -1.0}}, ["scikit-learn"])
    assert all(". The network's is not better than that of the same prediction" in each for each in of_trees(below))


@pytest.mark.parametrize(
    ("metric", "network", "forest", "ending"),
    [
        ("accuracy", 0.6, 0.7, "the network's is 0.6000."),
        ("accuracy", 0.5, 0.7, "The network's is not better than that of the same prediction for every row, 0.5500."),
        ("accuracy", 0.5, 0.55, "Neither is better than that of the same prediction for every row, 0.5500."),
        ("accuracy", 0.5, 0.4, "Neither is better than that of the same prediction for every row, 0.5500."),
        ("accuracy", 0.55, 0.55, "Neither is better than that of the same prediction for every row, 0.5500."),
        ("log_loss", 0.5, 0.4, "the network's is 0.5000."),
        ("log_loss", 0.8, 0.6, "The network's is not better than that of the same prediction for every row, 0.6881."),
        ("log_loss", 0.8, 0.7, "Neither is better than that of the same prediction for every row, 0.6881."),
        ("log_loss", 0.8, 0.9, "Neither is better than that of the same prediction for every row, 0.6881."),
    ],
)
def test_what_is_no_better_than_a_constant_is_said(monkeypatch, metric, network, forest, ending):
    """Of classes in the shares 0.55 and 0.45, which rows to learn from and to test have alike."""
    frame = pd.DataFrame({"a": np.arange(100.0), "y": np.arange(100) % 20 < 9})
    score = pt.metrics.Metric.score
    monkeypatch.setattr(trees, "_fitted", lambda table, name: lambda x: np.full((len(x), 1), np.nan))

    def scored(self, kind, predicted, known):
        return forest if np.isnan(predicted).any() else score(self, kind, predicted, known)

    monkeypatch.setattr(pt.metrics.Metric, "score", scored)
    task = pt.Task("y", classes=2, metrics=[metric])
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame, exclude=["y"]), tasks=[task])
    rows = model.reader.rows(frame)
    found = trees.beside(model, (rows, rows, rows), {"y": {metric: network}}, ["scikit-learn"])
    assert of_trees(found)[0].endswith(ending)


def test_trees_do_not_see_the_bins_of_numbers():
    """Which are for networks, and would stand beside the numbers that they were cut from."""
    frame = table().drop(columns=["kind", "age"])
    parts = frame[:300], frame[300:400], frame[400:]
    found = []
    for bins in (None, 40):
        inputs = pt.Inputs.from_frame(parts[0], exclude=["rich"], numbers="quantile", bins=bins)
        model = pt.MultiTaskModel(inputs, tasks=[pt.Task("rich", classes=["no", "yes"])], encoder=pt.encoder.MLP([4]))
        scores = pt.Trainer(model).evaluate(parts[2])
        read = tuple(map(model.reader.rows, parts))
        found.append(trees.beside(model, read, {"rich": {**scores["rich"], "accuracy": 0.5}}, ["scikit-learn"]))
    assert found[0] == found[1]


@pytest.mark.parametrize("choice", ["one each", "all in one"])
def test_predictions_stand_beside_the_rows(data, capsys, monkeypatch, choice):
    monkeypatch.setattr(pt.Recommendation, "gains", lambda self, name: np.zeros(2) - (name != choice))
    status, out = report(data)
    assert status == 0
    file = str(out / ("model" if choice == "one each" else "model.safetensors"))
    fresh = data.with_name("new.csv")
    table(20, seed=1).drop(columns=["rich", "kind", "age"]).to_csv(fresh, index=False)
    assert main(["predict", file, str(fresh)]) == 0
    found = pd.read_csv(data.with_name("new-predicted.csv"))
    assert len(found) == 20
    assert set(found["rich_predicted"]) <= {"yes", "no"}
    assert set(found["kind_predicted"]) <= {0, 1, 2}
    assert found["rich_probability_yes"].between(0, 1).all()
    total = found[[f"kind_probability_{label}" for label in range(3)]].sum(axis=1)
    assert np.allclose(total, 1, atol=1e-5)
    assert found["age_predicted"].between(0, 100).all()
    assert main(["predict", file, str(data.with_name("new-predicted.csv"))]) == 1
    assert "has a column `rich_predicted` already" in capsys.readouterr().err


@pytest.mark.parametrize("more", [("--time", "day"), ("--groups", "city"), ("--stratify", "rich")])
def test_rows_are_split_as_asked(data, more, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "polytask.cli.report.recommend", lambda trainer, train, **how: seen.update(train=train, **how) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        report(data, *more)
    train, validation = seen["train"], seen["validation"]
    frame = table()
    if more[0] == "--time":
        assert "day" not in train.columns
        assert train.index.max() < validation.index.min() <= validation.index.max() < 480
    if more[0] == "--groups":
        assert not set(frame.loc[train.index, "city"]) & set(frame.loc[validation.index, "city"])
    if more[0] == "--stratify":
        shares = [(part["rich"] == "yes").mean() for part in (train, validation)]
        assert abs(shares[0] - shares[1]) < 0.01


def test_columns_that_are_made_of_a_task_are_named():
    frame = table(2000)
    frame["copy"] = frame["age"] * 2 + 1
    frame["code"] = np.where(frame["rich"] == "yes", "y", "n")
    frame["flag"] = np.where(frame["rich"] == "yes", 7.5, np.random.default_rng(0).normal(size=2000))
    first, second = frame.iloc[:1500], frame.iloc[1500:]
    tasks = [tables.task(frame, name, False, False)[0] for name in ("rich", "age")]
    found = leaks.found(first, second, tasks, ["a", "city", "copy", "code", "flag"])
    assert len(found) == 3
    assert "Column `code` alone predicts `rich` with AUC 1.0000" in found[0]
    assert "`flag` alone predicts `rich`" in found[1]
    assert "Column `copy` alone predicts `age` with R2" in found[2]


def test_a_class_of_few_rows_tells_of_no_column():
    frame = table(2000)
    rare = np.zeros(2000, int)
    rare[[10, 1700]] = 1
    frame["rare"] = np.where(rare == 1, "x", np.where(frame["a"] > 0, "y", "z"))
    frame["hint"] = rare
    task = tables.task(frame, "rare", False, False)[0]
    assert leaks.found(frame.iloc[:1500], frame.iloc[1500:], [task], ["hint"]) == []


def test_kinds_of_tasks_may_be_said():
    frame = pd.DataFrame({"grade": np.arange(100) % 5, "price": np.arange(100) * 1.5})
    assert tables.task(frame, "grade", False, False)[0].classes == 5
    assert tables.task(frame, "grade", False, True)[0].scale == "standardize"
    assert tables.task(frame, "price", True, False)[0].classes == 100


def test_whole_labels_stay_whole_beside_missing_ones():
    one, far = [0.0, np.nan, 1.0], [1e300, 2e300, np.nan]
    each = {"sold": one, "stars": [1.0, 5.0, np.nan], "share": [0.5, 1.0, 2.0], "far": far}
    frame = pd.DataFrame({name: values * 20 for name, values in each.items()})
    found = {name: tables.task(frame, name, True, False) for name in frame}
    assert [found[name][0].labels for name in frame] == [[0, 1], [1, 5], [0.5, 1.0, 2.0], [1e300, 2e300]]
    assert all(type(label) is int for name in ("sold", "stars") for label in found[name][0].labels)
    assert all(type(label) is float for label in found["far"][0].labels)
    assert found["sold"][1] == "2 classes, 0 in 50.0 %, 20 missing"


def test_columns_that_may_name_rows_are_named(data, capsys):
    frame = table().assign(customer=np.random.default_rng(0).permutation(600) + 10_000, visits=np.arange(600) // 2)
    frame.to_csv(data)
    assert report(data, "--exclude", "day", tasks=("age",))[0] == 0
    said = capsys.readouterr().out
    for name in ("Unnamed: 0", "customer"):
        assert f"Column `{name}` is another whole number in each row: if it only names the rows" in said
    assert said.count("another whole number") == 2


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (None, ("--tasks", "rich", "wealth"), "--tasks: unknown column 'wealth'"),
        (None, ("--tasks", "rich", "rich"), "named twice"),
        (None, ("--tasks", "rich", "age", "--time", "dya"), "--time: unknown column 'dya'; did you mean `day`?"),
        (None, ("--tasks", "rich", "age", "--numbers", "rich"), "--numbers, but it holds 'no'"),
        (None, ("--tasks", "rich", "age", "--budget", "soon"), "`budget` should be seconds above 0"),
        (lambda frame: frame.assign(age=np.nan), ("--tasks", "rich", "age"), "none of 600 rows has a label"),
        (
            lambda frame: frame.assign(day=frame.day.where(frame.index != 53)),
            ("--tasks", "rich", "age", "--time", "day"),
            "--time: `day` should be known for each row; it is missing at row 53",
        ),
        (lambda frame: frame.assign(rich="yes"), ("--tasks", "rich", "age"), "all labels are 'yes'"),
        (lambda frame: frame.head(20), ("--tasks", "rich", "age"), "has 20 rows, and at least 100"),
        (lambda frame: frame.head(0), ("--tasks", "rich", "age"), "has no rows"),
        (lambda frame: frame[["rich", "age"]], ("--tasks", "rich", "age"), "no column is left to predict from"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, capsys, change, arguments, message):
    path = tmp_path / "people.csv"
    frame = table()
    (frame if change is None else change(frame)).to_csv(path, index=False)
    assert main(["report", str(path), *arguments, "--out", str(tmp_path / "out"), "--quiet"]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_report_replaces_none_but_another_report(data, capsys, monkeypatch):
    out = data.parent / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert report(data)[0] == 1
    assert "has files already, and no report that could be replaced" in capsys.readouterr().err
    (out / "thesis.txt").unlink()

    def recommended(choice):
        monkeypatch.setattr(pt.Recommendation, "gains", lambda self, name: np.zeros(2) - (name != choice))
        assert report(data)[0] == 0
        return {each.name for each in out.iterdir() if each.name.startswith("model")}

    assert recommended("one each") == {"model"}
    assert recommended("all in one") == {"model.safetensors"}
    assert recommended("one each") == {"model"}
    (out / "model" / "notes.txt").write_text("of days")
    assert recommended("all in one") == {"model", "model.safetensors"}
    assert [each.name for each in (out / "model").iterdir()] == ["notes.txt"]
    assert main(["report", str(data), "--tasks", "rich", "age", "--out", str(data)]) == 1
    assert "should be a folder" in capsys.readouterr().err


def test_wrong_files_are_refused(tmp_path, capsys):
    tasks = ["--tasks", "a", "b"]
    assert main(["report", str(tmp_path / "none.csv"), *tasks]) == 1
    assert "there is no such file" in capsys.readouterr().err
    (tmp_path / "text.docx").write_text("hello")
    assert main(["report", str(tmp_path / "text.docx"), *tasks]) == 1
    assert "a table is known by the end of its name" in capsys.readouterr().err
    (tmp_path / "broken.parquet").write_bytes(b"nothing of the kind")
    assert main(["report", str(tmp_path / "broken.parquet"), *tasks]) == 1
    assert "broken.parquet is no table of this kind" in capsys.readouterr().err
    (tmp_path / "empty.csv").write_text("")
    assert main(["report", str(tmp_path / "empty.csv"), *tasks]) == 1
    assert "empty.csv is no table of this kind" in capsys.readouterr().err
    for mark in ";\t|":
        table().to_csv(tmp_path / "other.csv", sep=mark, index=False)
        assert main(["report", str(tmp_path / "other.csv"), *tasks]) == 1
        assert f"sep={mark!r}).to_csv does" in capsys.readouterr().err
    pd.DataFrame({"a|b": [1.0, 2.0]}).to_parquet(tmp_path / "one.parquet")
    assert tables.read(tmp_path / "one.parquet").shape == (2, 1)
    pd.DataFrame({"city": ["Orléans", "Köln"]}).to_csv(tmp_path / "west.csv", encoding="latin-1")
    assert main(["report", str(tmp_path / "west.csv"), *tasks]) == 1
    assert "west.csv is not written in UTF-8" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["report"])


def test_parquet_is_read_too(tmp_path):
    path = tmp_path / "people.parquet"
    table().to_parquet(path)
    assert tables.read(path).shape == (600, 9)


@pytest.mark.parametrize("more", [{}, {"groups": "city"}, {"time": "day"}, {"stratify": "rich"}])
def test_the_script_holds_out_the_rows_of_the_report(more):
    frame = table()
    asked = argparse.Namespace(**{"stratify": None, "groups": None, "time": None, "seed": 3, "test": 0.2, "data": "a",
                                  "tasks": ["rich", "age"], **more})  # fmt: skip
    train, held_out, test = report_module._parts(asked, frame)
    rows, other = pt.data.split(frame, 0.2, **more, seed=3)
    assert other.index.equals(test.index)
    kept, chosen = pt.data.split(rows, 0.2, **more, seed=3)
    assert (kept.index.tolist(), chosen.index.tolist()) == (train.index.tolist(), held_out.index.tolist())


def test_the_script_of_several_networks_trains_each_on_the_rows_of_the_report(data, monkeypatch):
    monkeypatch.setattr(pt.Recommendation, "gains", lambda self, name: np.zeros(2) - (name != "one each"))
    parts, found = report_module._parts, []
    monkeypatch.setattr(report_module, "_parts", lambda *given: found.append(parts(*given)) or found[-1])
    assert report(data, "--seed", "7", tasks=("rich", "age"))[0] == 0
    out = data.parent / "out"
    script = (out / "reproduce.py").read_text(encoding="utf-8")
    said = rerun(out, script.replace("epochs=60", "epochs=1") + "\nprint(test.index.tolist())\n")
    assert str(found[0][2].index.tolist()) in said
    each = {name: pt.load(out / f"reproduced-{name}.safetensors") for name in ("rich", "age")}
    assert {name: [task.name for task in model.tasks] for name, model in each.items()} == {
        "rich": ["rich"],
        "age": ["age"],
    }


@pytest.mark.parametrize("values", [[f"{1000 + 37 * row:,}" for row in range(600)],
                                    [f"{row}.{row % 10}0 %" for row in range(600)],
                                    [f"{1 + row % 28:02}.03.2024" for row in range(600)]])  # fmt: skip
def test_labels_that_look_like_numbers_or_dates_are_refused_before_all_else(data, capsys, values):
    table().assign(price=values).to_csv(data, index=False)
    assert report(data, tasks=("price", "age"))[0] == 1
    said = capsys.readouterr().err
    assert "task `price` has" in said
    assert "different strings that look like " in said
    assert "say --classes price" in said


def test_trees_that_do_not_take_a_task_are_left_out(data, capsys, monkeypatch):
    class OfAnotherLibraryError(Exception):
        """As LightGBM and CatBoost have them."""

    def fails(table, name):
        raise OfAnotherLibraryError("the least populated class has one member")

    monkeypatch.setattr(trees, "_fitted", fails)
    status, out = report(data, tasks=("age",))
    assert status == 0
    assert (out / "report.html").exists()
    assert "Boosted trees are" not in capsys.readouterr().out


@pytest.mark.parametrize("made", [lambda y: y, lambda y: 1.01 * y, np.log, lambda y: -y])
def test_a_column_made_of_a_long_tailed_target_is_named(made):
    rng = np.random.default_rng(0)
    a = rng.normal(size=600)
    price = np.exp(a + 1.5 * rng.normal(size=600))
    frame = pd.DataFrame({"a": a, "price": price, "made": made(price)})
    found = leaks.found(frame[:400], frame[400:], [pt.Task("price")], ["a", "made"])
    assert len(found) == 1
    assert "`made` alone predicts `price`" in found[0]


def test_that_metrics_count_rows_alike_is_said_where_rows_have_weights(data, capsys):
    table().assign(w=np.arange(600) % 3).to_csv(data, index=False)
    status, out = report(data, "--weights", "w", tasks=("age",))
    assert status == 0
    for said in (capsys.readouterr().out, (out / "report.html").read_text(encoding="utf-8")):
        assert "metrics count all rows alike whose weight is above 0" in said
    frame = table().assign(w=np.arange(600) % 3).dropna()
    model = pt.load(out / "model.safetensors")
    known = frame[frame.w > 0]
    weighed = model.evaluate(frame, weights="w")["age"]
    assert weighed["mae"] == pytest.approx(np.abs(model.predict(known)["age"] - known.age).mean(), rel=1e-5)
    assert report(data, tasks=("age",))[0] == 0
    assert "alike" not in capsys.readouterr().out + (out / "report.html").read_text(encoding="utf-8")
