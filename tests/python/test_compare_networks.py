"""Ways to train several tasks against single-task networks."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import polytask as pt
import pytest
import scipy.stats
import torch
from polytask.results.comparison import Way
from polytask.studies import compare as module


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
        ways[name] = Way(name, arrays, {task: np.array(v) for task, v in losses[name].items()}, 10, 1.0, 3)
    higher = {"a": {"auc": True}, "b": {"mae": False, "r2": True}}
    return pt.Comparison(ways, higher, (100, 20, 50), np.array([[np.nan, 0.61], [0.61, np.nan]]))


def test_the_three_definitions_of_the_improvement():
    found = comparison()
    auc = (np.array([0.70, 0.72, 0.71]) - 0.81) / 0.81
    mae = -(np.array([1.0, 1.2, 0.8]) - 2.0) / 2.0
    r2 = np.full(3, 0.2)
    assert found.improvement("shared", "delta-m %") == pytest.approx(-100 * (auc + mae + r2) / 3)
    assert found.improvement("shared", "improvement %") == pytest.approx(100 * (auc + (mae + r2) / 2) / 2)
    assert found.improvement("shared", "delta-MTL %") == pytest.approx(100 * (auc + mae) / 2)
    assert found.improvement("single-task", "delta-MTL %").mean() == pytest.approx(0)
    assert set(found.definitions) == {"delta-m %", "improvement %", "delta-MTL %"}


def test_differences_are_tested_in_pairs_and_corrected():
    first, second = comparison().differences
    a = scipy.stats.ttest_rel([0.70, 0.72, 0.71], [0.80, 0.81, 0.82]).pvalue
    b = scipy.stats.ttest_rel([1.0, 1.2, 0.8], [2.0, 2.1, 1.9]).pvalue
    assert (first.task, first.metric, second.task, second.metric) == ("a", "auc", "b", "mae")
    assert first.mean == pytest.approx(-0.1)
    assert second.mean == pytest.approx(1.0), "a lower error is better"
    low, high = sorted([a, b])
    assert sorted([first.p, second.p]) == pytest.approx([2 * low, max(2 * low, high)])


def test_it_says_who_loses_and_to_whom():
    said = repr(comparison())
    assert "`shared` has the lowest validation losses" in said
    lost = r"`a` loses 0\.1000 auc by shared \(p = 0\.\d+\); "
    assert re.search(lost + "its gradient conflicts most with that of `b`, in 61 % of looks", said)
    assert "`b` gains 1.0000 mae by shared" in said
    assert "3 learning rates tried for each network" in said


def test_networks_are_as_trained_one_by_one():
    found = compared(tune=[1.0], validation=data(100, seed=2))
    assert list(found.ways) == ["single-task", "hard", "upgrad"]
    assert found.seeds == 3
    for seed in range(3):
        for name, given in candidates().items():
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
    single = model().remove_task("value")
    assert found.ways["single-task"].parameters > single.summary().parameters


def test_each_is_tuned_alike_and_chosen_by_validation(monkeypatch):
    seen = []
    judged = module._Comparing._judged

    def judging(self, job, network, seconds):
        found = judged(self, job, network, seconds)
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


def test_a_broken_off_comparison_goes_on(tmp_path, monkeypatch):
    whole = compared(path=tmp_path / "whole")
    trained = []
    network = module._Comparing._network

    def counted(self, job):
        trained.append((job.way, job.tasks, job.seed, job.factor))
        return network(self, job)

    monkeypatch.setattr(module._Comparing, "_network", counted)
    keep = module._Comparing._keep
    kept = []

    def failing(self, job):
        if len(kept) == 7:
            raise KeyboardInterrupt
        keep(self, job)
        kept.append(job)

    monkeypatch.setattr(module._Comparing, "_keep", failing)
    with pytest.raises(KeyboardInterrupt):
        compared(path=tmp_path / "part")
    assert len(list((tmp_path / "part").glob("*.json"))) == 7
    monkeypatch.setattr(module._Comparing, "_keep", keep)
    trained.clear()
    found = compared(path=tmp_path / "part")
    assert len(trained) == len(list((tmp_path / "whole").glob("*.json"))) - 7
    for name, way in whole.ways.items():
        for task, scores in way.scores.items():
            for metric, values in scores.items():
                assert np.array_equal(values, found.ways[name].scores[task][metric])
    trained.clear()
    compared(path=tmp_path / "part", batch_size=64)
    assert len(trained) > 0, "other settings are other networks"


def test_the_report_is_one_page(tmp_path):
    found = compared(seeds=2, tune=[1.0])
    found.save(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    pictures = [each for each in root.iter() if each.tag.endswith("svg")]
    assert len(pictures) == 2
    assert all(picture.attrib["role"] == "img" for picture in pictures)
    assert "<script" not in text
    assert "src=" not in text
    assert 'name="viewport"' in text
    assert "delta-m %" in text
    assert "<table>" in found._repr_html_()
    frame = found.to_frame()
    assert set(frame["candidate"]) == {"single-task", "hard", "upgrad"}


def test_rows_for_the_test_are_held_out_where_none_are_given():
    found = pt.compare({"hard": model()}, data(), seeds=2, epochs=1, batch_size=32, tune=[1.0], progress=False)
    assert "144 rows to learn from, 48 to choose by, 48 to test" in repr(found)


def test_what_is_given_stays_as_it_is():
    given = candidates()
    before = {name: value.copy() for name, value in given["hard"].state_dict().items()}
    compared(given, seeds=2, tune=[1.0])
    assert all(np.array_equal(value, before[name]) for name, value in given["hard"].state_dict().items())
    assert given["upgrad"].steps == 0


def test_own_optimizers_are_not_tuned():
    given = {"own": pt.Trainer(model(), optimizer=torch.optim.SGD, lr=0.05)}
    found = compared(given, seeds=2)
    assert found.ways["own"].trials == 1


def test_what_cannot_be_is_refused():
    with pytest.raises(TypeError, match="`candidates` should be a dict"):
        pt.compare([model()], data())
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
