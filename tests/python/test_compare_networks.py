"""Ways to train several tasks against single-task networks."""

import copy
import json
import pickle
import re
import shutil
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import scipy.stats
import torch
from conftest import interrupted
from polytask.plots import svg
from polytask.results.comparison import Way
from polytask.studies import compare as module
from polytask.studies.study import Study
from polytask.training.settings import at_rates


def data(rows=240, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6)).astype(np.float32)
    common = x[:, 0] - x[:, 1]
    return x, {"sign": (common + rng.normal(size=rows) > 0).astype(int), "value": common + rng.normal(size=rows)}


def model(**more):
    tasks = [pt.Task("sign", classes=2), pt.Task("value", metrics=["mae", "r2"])]
    return pt.MultiTaskModel(6, tasks=tasks, encoder=pt.encoder.MLP([8]), **more)


def candidates():
    return {"hard": model(), "upgrad": pt.Trainer(model(sharing="mmoe"), lr=3e-3, weighting="upgrad")}


def compared(given=None, **more):
    settings = {"seeds": 3, "epochs": 4, "batch_size": 32, "progress": False, **more}
    return pt.compare(candidates() if given is None else given, data(), test=data(seed=1), **settings)


def comparison():
    single = {"a": {"auc": [0.80, 0.81, 0.82]}, "b": {"mae": [2.0, 2.1, 1.9], "r2": [0.5, 0.5, 0.5]}}
    shared = {"a": {"auc": [0.70, 0.72, 0.71]}, "b": {"mae": [1.0, 1.2, 0.8], "r2": [0.6, 0.6, 0.6]}}
    losses = {"single-task": {"a": [1.0] * 3, "b": [1.0] * 3}, "shared": {"a": [1.1] * 3, "b": [0.5] * 3}}
    ways = {}
    for name, scores in (("single-task", single), ("shared", shared)):
        arrays = {task: {metric: np.array(v) for metric, v in each.items()} for task, each in scores.items()}
        ways[name] = Way(name, arrays, {task: np.array(v) for task, v in losses[name].items()}, 10, 1.0, [0.3, 1, 3])
    ways["single-task"].factor = {"a": 1, "b": 3}
    ways["shared"].factor = {"a, b": 1}
    ways["shared"].conflicts = np.array([[0, 0.61], [0.61, 0]])
    ways["shared"].cosines = np.array([[1, -0.25], [-0.25, 1]])
    return pt.Comparison(ways, {"a": {"auc": True}, "b": {"mae": False, "r2": True}}, (100, 20, 50), ["It was so."])


def test_the_three_definitions_of_the_improvement():
    found = comparison()
    auc = np.array([0.70 - 0.80, 0.72 - 0.81, 0.71 - 0.82]) / 0.81
    mae = -np.array([1.0 - 2.0, 1.2 - 2.1, 0.8 - 1.9]) / 2.0
    r2 = np.full(3, 0.2)
    assert found.improvement("shared", "delta-m %") == pytest.approx(-100 * (auc + mae + r2) / 3)
    assert found.improvement("shared", "improvement %") == pytest.approx(100 * (auc + (mae + r2) / 2) / 2)
    assert found.improvement("shared", "delta-MTL %") == pytest.approx(100 * (auc + mae) / 2)
    against_means = 100 * ((0.71 - 0.81) / 0.81 + (2.0 - 1.0) / 2.0) / 2
    assert found.improvement("shared", "delta-MTL %").mean() == pytest.approx(against_means)
    assert found.improvement("single-task", "delta-MTL %") == pytest.approx(np.zeros(3))
    assert set(found.definitions) == {"delta-m %", "improvement %", "delta-MTL %"}
    with pytest.raises(KeyError, match="no candidate 'shard'; did you mean `shared`"):
        found.improvement("shard")
    with pytest.raises(KeyError, match="no definition 'delta'"):
        found.improvement("shared", "delta")


def test_differences_are_tested_in_pairs_and_corrected():
    first, second = comparison().differences
    a = scipy.stats.ttest_rel([0.70, 0.72, 0.71], [0.80, 0.81, 0.82]).pvalue
    b = scipy.stats.ttest_rel([1.0, 1.2, 0.8], [2.0, 2.1, 1.9]).pvalue
    assert (first.task, first.metric, second.task, second.metric) == ("a", "auc", "b", "mae")
    assert first.mean == pytest.approx(-0.1)
    assert second.mean == pytest.approx(1.0), "a lower error is better"
    low, high = sorted([a, b])
    assert sorted([first.p, second.p]) == pytest.approx([2 * low, max(2 * low, high)])
    differences = np.array([0.70 - 0.80, 0.72 - 0.81, 0.71 - 0.82])
    ends = scipy.stats.t.interval(0.95, 2, differences.mean(), scipy.stats.sem(differences))
    assert (first.low, first.high) == pytest.approx(ends)


def test_it_says_who_loses_and_to_whom():
    found = comparison()
    said = repr(found)
    assert found.best == "shared"
    assert "`shared` has the lowest validation losses" in said
    lost = r"`a`: auc is worse by 0\.1000 with `shared` than alone \(p = 0\.\d+\); "
    assert re.search(lost + "its gradient conflicts most with that of `b`, in 61 % of looks", said)
    assert "`b`: mae is better by 1.0000 with `shared` than alone (p = " in said
    assert "delta-m %, the mean change over metrics, is better low" in said.splitlines()[-1]
    assert f"<p>{said.splitlines()[-1]}</p>" in found._repr_html_()
    assert "3 learning rates tried for each network" in said
    assert "largest learning rate that was tried was taken for `single-task`: " in said
    found.ways["single-task"].scores["a"]["auc"] = np.array([0.6, 0.9, 0.7])
    perhaps = r"`a`: auc is worse than alone by 0\.02\d* with `shared` \(perhaps by chance, p = 0\.\d+\)"
    assert re.search(perhaps + "; with `shared` its gradient conflicts most with that of `b`, in 61 %", repr(found))
    found.ways["shared"].conflicts = np.zeros((2, 2))
    assert re.search(perhaps + r"; with `shared` its gradient conflicts with none\.", repr(found))
    assert "near 0" not in repr(found)
    found.ways["single-task"].scores["b"]["r2"] = np.array([-0.01, 0.005, -0.012])
    assert "`b`: r2 of single-task networks is -0.0057, near 0, by which changes are divided" in repr(found)
    found.ways["shared"].conflicts = None
    assert re.search(perhaps + r"\.$", repr(found), re.MULTILINE)


def test_the_choice_is_by_validation_whatever_the_test_rows_say():
    found = comparison()
    found.ways["shared"].losses["b"] = np.array([1.0, 1.0, 0.9])
    again = pt.Comparison(found.ways, found.higher, (100, 20, 50))
    assert again.improvement("shared").mean() > 0
    assert again.best == "single-task"
    assert repr(again).startswith("By validation losses nothing is better")


def test_nothing_is_tested_with_one_seed(recwarn):
    found = compared(seeds=1, tune=[1.0])
    assert all(np.isnan([each.p, each.low, each.high]).all() for each in found.differences)
    said = repr(found)
    assert "One seed says nothing of chance" in said
    assert "nan" not in said
    assert "(not tested)" in said
    assert found.ways["hard"].conflicts.shape == (2, 2)
    assert not recwarn


def test_networks_are_as_trained_one_by_one():
    found = compared(tune=[1.0], validation=data(100, seed=2))
    assert list(found.ways) == ["single-task", "hard", "upgrad"]
    assert found.seeds == 3
    for seed in range(3):
        for name, given in candidates().items():
            # The network of the last seed was looked at while it trained, and has the same bits.
            given = given if isinstance(given, pt.Trainer) else pt.Trainer(given)
            sharing = given.model._plain.description["sharing"]["name"]
            more = {"lr": 3e-3, "weighting": "upgrad"} if name == "upgrad" else {}
            stop = pt.EarlyStopping("loss", patience=6)
            alone = pt.Trainer(model(sharing=sharing, seed=seed), seed=seed, threads=1, callbacks=[stop], **more)
            alone.fit(data(), validation=data(100, seed=2), epochs=4, batch_size=32, progress=False)
            tested = alone.evaluate(data(seed=1))
            for task in ("sign", "value"):
                for metric in found.higher[task]:
                    assert found.ways[name].scores[task][metric][seed] == tested[task][metric]
    alone = [model().remove_task(task).summary().parameters for task in ("value", "sign")]
    assert found.ways["single-task"].parameters == sum(alone)
    assert found.ways["upgrad"].parameters == model(sharing="mmoe").summary().parameters


def test_conflicts_are_those_of_gradients_while_a_candidate_trains(monkeypatch):
    looks = {}
    judged = module._Comparing._judged

    def judging(self, job, network):
        looks[job.way, job.tasks, job.seed] = list(job.looks)
        return judged(self, job, network)

    monkeypatch.setattr(module._Comparing, "_judged", judging)
    found = compared(tune=[1.0], seeds=2)
    assert {key for key, seen in looks.items() if seen} == {(name, ("sign", "value"), 1) for name in ("hard", "upgrad")}
    for name in ("hard", "upgrad"):
        gramians = np.array(looks[name, ("sign", "value"), 1])
        cosines = gramians[:, 0, 1] / np.sqrt(gramians[:, 0, 0] * gramians[:, 1, 1])
        assert len(cosines) >= 10
        assert found.ways[name].conflicts[0, 1] == pytest.approx((cosines < 0).mean())
        assert found.ways[name].cosines[0, 1] == pytest.approx(cosines.mean())
    assert found.ways["single-task"].conflicts is None


@pytest.mark.parametrize("sharing", ["soft", "cross_stitch", "ple", "branched"])
def test_schemes_that_share_little_are_compared_too(sharing):
    found = pt.compare({"it": model(sharing=sharing)}, data(), test=data(seed=1), seeds=2, epochs=1, batch_size=32,
                       tune=[1.0], progress=False)  # fmt: skip
    assert len(found.differences) == 2


def test_each_is_tuned_alike_and_chosen_by_validation(monkeypatch):
    seen = []
    judged = module._Comparing._judged

    def judging(self, job, network):
        found = judged(self, job, network)
        seen.append((job.way, job.tasks, job.seed, job.factor, found["losses"]))
        return found

    monkeypatch.setattr(module._Comparing, "_judged", judging)
    found = compared(tune=[0.1, 1.0, 10.0], seeds=2)
    for way, tasks in {(way, tasks) for way, tasks, *_ in seen}:
        each = [one for one in seen if one[:2] == (way, tasks)]
        trials = {factor: losses for _, _, seed, factor, losses in each if seed == 0}
        assert sorted(trials) == [0.1, 1.0, 10.0]
        best = {task: min(losses[task] for losses in trials.values()) for task in tasks}
        score = {factor: np.mean([losses[t] / best[t] for t in tasks]) for factor, losses in trials.items()}
        chosen = min(score, key=score.get)
        assert [factor for _, _, seed, factor, _ in each if seed == 1] == [chosen]
        assert found.ways[way].factor[", ".join(tasks)] == chosen


def test_a_broken_off_comparison_goes_on(tmp_path, monkeypatch, capsys):
    whole = compared(path=tmp_path / "whole")
    trained = []
    network = module._Comparing._network

    def counted(self, job):
        trained.append((job.way, job.tasks, job.seed, job.factor))
        return network(self, job)

    monkeypatch.setattr(module._Comparing, "_network", counted)
    back = interrupted(monkeypatch, module._Comparing, "_keep", 7)
    with pytest.raises(KeyboardInterrupt):
        compared(path=tmp_path / "part")
    assert len(results(tmp_path / "part")) == 7
    back()
    trained.clear()
    found = compared(path=tmp_path / "part")
    assert len(trained) == len(results(tmp_path / "whole")) - 7
    same(found, whole)
    trained.clear()
    capsys.readouterr()
    same(compared(path=tmp_path / "part", progress=True), whole)
    assert trained == []
    assert capsys.readouterr().err == "", "no bar over no networks"
    compared(path=tmp_path / "part", seeds=4)
    assert {seed for _, _, seed, _ in trained} == {3}, "more seeds are more networks"


def results(folder):
    return sorted(file for file in folder.glob("*.json") if file.name != "comparison.json")


def same(found, other):
    assert found.ways.keys() == other.ways.keys()
    for name, way in other.ways.items():
        np.testing.assert_array_equal(found.ways[name].conflicts, way.conflicts)
        for task, scores in way.scores.items():
            np.testing.assert_array_equal(found.ways[name].losses[task], way.losses[task])
            for metric, values in scores.items():
                np.testing.assert_array_equal(values, found.ways[name].scores[task][metric])


def test_a_folder_of_another_comparison_is_refused(tmp_path):
    how = {"path": tmp_path, "seeds": 2, "tune": [1.0], "epochs": 1}
    compared(**how)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"`path`: .*: 'hard' differs in `batch_size`; pass another folder"):
        compared(**{**how, "batch_size": 64})
    with pytest.raises(ValueError, match="differs in `epochs`, `patience`; pass"):
        compared(**{**how, "epochs": 2, "patience": 1})
    with pytest.raises(ValueError, match="'upgrad' differs in its trainer;"):
        compared({**candidates(), "upgrad": pt.Trainer(model(sharing="mmoe"), lr=1e-3, weighting="upgrad")}, **how)
    with pytest.raises(ValueError, match="'hard' differs in its model;"):
        compared({**candidates(), "hard": model(seed=1)}, **how)
    with pytest.raises(ValueError, match="differs in the rows of `test`;"):
        pt.compare(candidates(), data(), test=data(seed=3), batch_size=32, progress=False, **how)
    with pytest.raises(ValueError, match="differs in the rows to learn from, the rows of `validation`;"):
        pt.compare(candidates(), data(seed=3), test=data(seed=1), batch_size=32, progress=False, **how)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    (tmp_path / "comparison.json").write_text("{")
    with pytest.raises(ValueError, match=r"comparison\.json is damaged"):
        compared(**how)


def test_a_damaged_result_is_trained_again(tmp_path, caplog):
    how = {"path": tmp_path, "seeds": 2, "tune": [1.0], "epochs": 1}
    whole = compared(**how)
    for file, text in zip(results(tmp_path), ("{", "[]", "{}"), strict=False):
        file.write_text(text)
    same(compared(**how), whole)
    assert caplog.text.count("is damaged, and its network trains again") == 3


def test_ctrl_c_leaves_whole_results(tmp_path, press_ctrl_c):
    """Of each network that is there the numbers are those of an undisturbed run."""
    how = {"seeds": 2, "tune": [1.0], "epochs": 30}
    compared(path=tmp_path / "whole", **how)
    whole = {file.name: json.loads(file.read_text()) for file in results(tmp_path / "whole")}
    press_ctrl_c(0.3)

    def again_and_again():
        for _ in range(1000):
            shutil.rmtree(tmp_path / "part", ignore_errors=True)
            compared(path=tmp_path / "part", **how)

    with pytest.raises(KeyboardInterrupt):
        again_and_again()
    for file in results(tmp_path / "part"):
        found = json.loads(file.read_text())
        assert json.dumps({**found, "seconds": 0}) == json.dumps({**whole[file.name], "seconds": 0})


def test_a_network_that_was_broken_off_is_not_given():
    class Breaking(pt.Callback):
        beside_others = True

        def on_epoch_end(self, trainer, row):
            raise KeyboardInterrupt

    study = Study(model(), data(), epochs=2, batch_size=32)
    given = []
    with pytest.raises(KeyboardInterrupt):
        given.extend(study.run([study.network()], callbacks=lambda network: [Breaking()]))
    assert given == []


def test_the_report_is_one_page(tmp_path):
    found = compared(seeds=2, tune=[0.3, 1.0], batch_size=16)
    found.save(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    pictures = [each for each in root.iter() if each.tag.endswith("svg")]
    assert len(pictures) == 2
    for picture, task in zip(pictures, found.tasks, strict=True):
        title, told = list(picture)[:2]
        assert picture.attrib["role"] == "img"
        assert (title.tag.rpartition("}")[2], told.tag.rpartition("}")[2]) == ("title", "desc")
        assert title.text.startswith(task)
        assert "hard: " in told.text
        assert "upgrad: " in told.text
    assert all(each.attrib["class"] == "scroll" for each in root.iter() if list(each.findall("table")))
    assert not {each.tag for each in root.iter()} & {"script", "link", "img", "iframe"}
    assert not [value for each in root.iter() for key, value in each.attrib.items() if key in ("src", "href")]
    assert text.count("http") == text.count("http://www.w3.org/2000/svg"), "nothing is loaded from elsewhere"
    assert 'name="viewport"' in text
    assert "color-scheme: light dark" in text
    read = ["".join(each.itertext()) for each in root.iter("p")]
    assert {said.replace("`", "") for said in (*found.sentences, *found.how)} <= set(read)
    assert all(any(line.startswith(f"{name}: ") for line in read) for name in found.definitions)
    assert "share of looks in conflict" in text
    assert "<td>0.3, 1</td>" in text


def test_it_is_shown_in_a_notebook_as_a_frame_and_in_pictures():
    found = comparison()
    assert "<table>" in found._repr_html_()
    assert "<p><code>shared</code> has the lowest validation losses." in found._repr_html_()
    frame = found.to_frame().set_index(["candidate", "task", "metric"])
    assert frame.loc[("shared", "b", "mae"), "mean"] == pytest.approx(1.0)
    ends = scipy.stats.t.interval(0.95, 2, 1.0, scipy.stats.sem([1.0, 1.2, 0.8]))
    assert tuple(frame.loc[("shared", "b", "mae"), ["low", "high"]]) == pytest.approx(ends)
    axes = found.plot()
    assert [axis.get_title() for axis in axes] == ["a", "b"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["shared"]
    assert axes[0].lines[1].get_xdata() == pytest.approx([-0.1])


def test_many_tasks_are_shown_in_rows():
    tasks = [f"task{place}" for place in range(11)]
    ways = {
        name: Way(name, {task: {"mae": np.full(2, value)} for task in tasks}, dict.fromkeys(tasks, np.full(2, value)),
                  10, 1.0, [1.0], {", ".join(tasks): 1.0})
        for name, value in (("single-task", 2.0), ("one", 1.0), ("another", 3.0))
    }  # fmt: skip
    found = pt.Comparison(ways, {task: {"mae": False} for task in tasks}, (100, 20, 50))
    lines = str(found).split("\n\n")[1].splitlines()
    assert lines[0].split() == ["single-task", "*", "one", "another"], "the choice is marked"
    assert [line.split("  ")[0] for line in lines[1:12]] == [f"{task} mae" for task in tasks]
    assert re.split("  +", lines[1])[1:] == ["2.0000 ± 0.0000", "1.0000 ± 0.0000", "3.0000 ± 0.0000"]
    assert re.split("  +", lines[12]) == ["delta-m %", "0.00 ± 0.00", "-50.00 ± 0.00", "50.00 ± 0.00"]
    few = pt.Comparison(ways, {task: {"mae": False} for task in tasks[:3]}, (100, 20, 50))
    assert str(few).split("\n\n")[1].splitlines()[2].split()[:2] == ["*", "one"]


def test_a_pickle_names_public_classes_alone():
    found = comparison()
    pickled = pickle.dumps(found)
    assert b"polytask.results" not in pickled
    assert repr(pickle.loads(pickled)) == repr(copy.deepcopy(found)) == repr(found)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (-0.0071, 0.001, ["-0.006", "-0.004", "-0.002", "0"]),
        (0, 0, ["-1", "0", "+1"]),
        (0, 90, ["0", "+20", "+40", "+60", "+80"]),
    ],
)
def test_ticks_are_round_numbers_that_differ(low, high, labels):
    text = svg.intervals("title", ["one"], np.array([low]), np.array([[low, high]]))
    assert re.findall(r'text-anchor="middle">([^<]+)<', text) == labels


def test_names_and_unknown_numbers_are_drawn_as_text():
    text = svg.intervals("<a>", ["x & y", "z"], np.array([np.nan, 1.0]), np.array([[np.nan, np.nan], [0.5, 1.5]]), "%")
    root = ElementTree.fromstring(text)
    told = root.find("{http://www.w3.org/2000/svg}desc").text
    assert told == "x & y: +nan %; z: +1 %, +0.5 to +1.5"
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 1


def test_rows_for_the_test_are_held_out_where_none_are_given():
    found = pt.compare({"hard": model()}, data(), seeds=2, epochs=1, batch_size=32, tune=[1.0], progress=False)
    assert "144 rows to learn from, 48 to choose by, 48 to test" in repr(found)
    assert any("0.2 of the rows of `data`, kept at random" in each for each in found.how)
    assert any("0.25 of the other rows" in each for each in found.how)


def test_all_are_chosen_by_the_same_rows(monkeypatch):
    seen = []
    judged = module._Comparing._judged

    def judging(self, job, network):
        seen.append(job.study.held_out().fingerprint())
        return judged(self, job, network)

    monkeypatch.setattr(module._Comparing, "_judged", judging)
    compared({"a": pt.Trainer(model(), seed=3), "b": pt.Trainer(model(), seed=4)}, seeds=2, tune=[1.0], epochs=1)
    assert len(set(seen)) == 1


def test_a_list_is_called_by_sharing_and_weighting():
    found = compared([model(), pt.Trainer(model(sharing="mmoe"), weighting="upgrad"), model()], seeds=1, tune=[1.0])
    assert list(found.ways) == ["single-task", "hard, equal", "mmoe, upgrad", "hard, equal (2)"]


def test_a_task_without_metrics_is_judged_by_its_loss():
    tasks = [pt.Task("sign", classes=2), pt.Task("value", metrics=[])]
    given = pt.MultiTaskModel(6, tasks=tasks, encoder=pt.encoder.MLP([8]))
    found = compared({"it": given}, seeds=2, tune=[1.0], epochs=1)
    assert found.higher["value"] == {"loss": False}
    assert found.differences[1].metric == "loss"


def test_callbacks_of_a_trainer_are_said_not_to_be_called(caplog):
    called = []
    given = pt.Trainer(model(), callbacks=[lambda row: called.append(row)])
    compared({"it": given}, seeds=1, tune=[1.0], epochs=1)
    assert called == []
    assert "the callbacks of 'it' are not called" in caplog.text


def test_what_is_given_stays_as_it_is():
    given = candidates()
    before = {name: value.copy() for name, value in given["hard"].state_dict().items()}
    compared(given, seeds=2, tune=[1.0])
    assert all(np.array_equal(value, before[name]) for name, value in given["hard"].state_dict().items())
    assert given["upgrad"].steps == 0


def test_own_optimizers_are_not_tuned():
    given = {"own": pt.Trainer(model(), optimizer=torch.optim.SGD, lr=0.05)}
    found = compared(given, seeds=2)
    assert found.ways["own"].tried == [1.0]


def test_what_cannot_be_is_refused():
    with pytest.raises(TypeError, match="`candidates` should be a dict"):
        pt.compare([], data())
    with pytest.raises(TypeError, match="`candidates` should be a dict"):
        pt.compare(model(), data())
    with pytest.raises(TypeError, match="strings as names; got 1"):
        pt.compare({1: model()}, data())
    with pytest.raises(TypeError, match="`candidates` should be a dict"):
        pt.compare({}, data())
    with pytest.raises(ValueError, match="choose another name"):
        pt.compare({"single-task": model()}, data())
    with pytest.raises(TypeError, match=r"`candidates\['a'\]` should be a pt.MultiTaskModel or a pt.Trainer"):
        pt.compare({"a": "hard"}, data())
    with pytest.raises(ValueError, match="`candidates` should have the same tasks"):
        pt.compare({"a": model(), "b": model().remove_task("sign")}, data())
    with pytest.raises(ValueError, match="`tune` should be factors"):
        compared(tune=[0.0])
    with pytest.raises(ValueError, match="`validation` should be data"):
        compared(validation=None)
    with pytest.raises(ValueError, match="`test` should be rows of one data set in memory"):
        pt.compare({"a": model()}, data(), test=[data()])
    x, targets = data(seed=1)
    for argument, given in (("test", {}), ("validation", {"test": data(seed=1)})):
        without = (x, {**targets, "value": np.full(len(x), np.nan)})
        with pytest.raises(ValueError, match=f"`{argument}` should have labels of every task; .* has one of `value`"):
            pt.compare({"a": model()}, data(), **{"test": without, **given, argument: without})
    with pytest.raises(ValueError, match="`weights` that are arrays are of all rows"):
        pt.compare({"a": model()}, data(), weights=np.ones(240))
    with pytest.raises(ValueError, match=r"`validation` should be data, or a fraction between 0 and 1; got 1\.5"):
        compared(validation=1.5)
    with pytest.raises(ValueError, match="`seeds` should be a whole number of at least 1; got 0"):
        compared(seeds=0)


def test_tasks_that_mean_something_else_are_refused():
    def other(task):
        return pt.MultiTaskModel(6, tasks=[pt.Task("sign", classes=2), task], encoder=pt.encoder.MLP([8]))

    with pytest.raises(ValueError, match=r"`metrics` of task `value` is \['mae', 'r2'\] in 'a' and \['mae'\] in 'b'"):
        pt.compare({"a": model(), "b": other(pt.Task("value", metrics=["mae"]))}, data())
    with pytest.raises(ValueError, match="`loss` of task `value` is"):
        pt.compare({"a": model(), "b": other(pt.Task("value", loss="huber", metrics=["mae", "r2"]))}, data())
    with pytest.raises(ValueError, match="whether a higher `worst` of task `value` is better is not known"):
        pt.compare({"a": other(pt.Task("value", metrics=[{"worst": lambda p, y: (p - y).abs().max()}]))}, data())


def test_a_learning_rate_with_which_losses_are_no_numbers_is_not_taken(monkeypatch):
    judged = module._Comparing._judged
    broken = {0.3: ["sign"], 3.0: ["value"]}

    def judging(self, job, network):
        found = judged(self, job, network)
        return {**found, "losses": {**found["losses"], **dict.fromkeys(broken.get(job.factor, []), float("nan"))}}

    monkeypatch.setattr(module._Comparing, "_judged", judging)
    given = {"it": model()}
    assert compared(given, tune=[0.3, 1.0, 3.0], seeds=1, epochs=1).ways["it"].factor == {"sign, value": 1.0}
    with pytest.raises(ValueError, match="it has no finite validation losses of `sign`, `value` with any factor"):
        compared(given, tune=[0.3, 3.0], seeds=1, epochs=1)


def test_all_rates_of_an_optimizer_are_tuned_together():
    muon = {"name": "muon", "adamw_lr": {"encoder": 0.5, "default": 0.25}, "momentum": 0.9}
    expected = {**muon, "lr": 0.04, "adamw_lr": {"encoder": 1.0, "default": 0.5}}
    assert at_rates(muon, 2.0) == expected
    assert at_rates({"name": "sgd", "lr": {"heads": 0.5}}, 0.5) == {"name": "sgd", "lr": {"heads": 0.25}}
    assert at_rates({"name": "muon"}, 1.0) == {"name": "muon", "lr": 0.02, "adamw_lr": 0.001}


def patients(rows=240, seed=0):
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, 24, rows)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=list("abc"))
    frame["patient"], frame["day"] = patient, rng.permutation(rows)
    return frame.assign(y=frame.a + rng.normal(size=24)[patient], z=frame.b)


@pytest.mark.parametrize("how", ["name", "array", "series", "time"])
def test_rows_for_the_test_are_held_out_as_those_to_choose_by(how, monkeypatch):
    """By groups, which none of the three parts have in common, or by time."""
    frame = patients()
    by = {"name": {"groups": "patient"}, "array": {"groups": frame.patient.to_numpy()},
          "series": {"groups": frame.patient}, "time": {"time": "day"}}[how]  # fmt: skip
    parts = []
    study = module.Study

    def seen(trainer, data, held_out, **more):
        made = study(trainer, data, held_out, **more)
        parts.append((made.train, made.held_out()))
        return made

    read = module.asked.read
    monkeypatch.setattr(module, "Study", seen)
    monkeypatch.setattr(module.asked, "read", lambda *given: parts.append(read(*given)) or parts[-1])
    inputs = pt.Inputs.from_frame(frame, numeric=["a", "b", "c", "patient", "day"], numbers="none")
    made = pt.MultiTaskModel(inputs, tasks=[pt.Task("y"), pt.Task("z")], encoder=pt.encoder.MLP([4]))
    found = pt.compare({"it": made}, frame, validation=pt.data.Split(0.25, **by), seeds=1, epochs=1, tune=[1.0],
                       progress=False)  # fmt: skip
    (train, held_out), test = parts
    assert len(train) + len(held_out) + len(test) == len(frame)
    assert len(test) == pytest.approx(0.2 * len(frame), abs=8)
    at = 4 if how == "time" else 3
    each = [set(np.round(part.numeric[:, at]).astype(int)) for part in (train, held_out, test)]
    if how == "time":
        assert max(each[0]) < min(each[1]) <= max(each[1]) < min(each[2])
    else:
        assert not each[0] & each[1]
        assert not (each[0] | each[1]) & each[2]
    assert any("kept as validation rows are before anything else" in said for said in found.how)


def test_a_report_is_saved_as_a_page_and_as_nothing_else(tmp_path):
    for name in ("report.csv", "report.json", "report.PNG"):
        with pytest.raises(ValueError, match=r"`path` should be that of a page of HTML"):
            comparison().save(tmp_path / name)
    comparison().save(tmp_path / "report")
    assert (tmp_path / "report").read_text().startswith("<!DOCTYPE html>")
