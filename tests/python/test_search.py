"""A search for settings by successive halving."""

import json

import numpy as np
import polytask as pt
import pytest
from conftest import interrupted
from polytask.studies.halving import rungs_of
from polytask.studies.space import Space


def rows(n=500, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > 0).astype(np.int64), x[:, 2] * x[:, 3] + 0.1 * rng.normal(size=n)


def model(**how):
    tasks = [pt.Task("sign", classes=2), pt.Task("value", weight=0.5)]
    return pt.MultiTaskModel(6, tasks=tasks, encoder=how.pop("encoder", pt.encoder.MLP([16])), **how)


def found(space, subject=None, data=None, **how):
    said = {"trials": 9, "epochs": 9, "validation": rows(200, 1), "batch_size": 64, "progress": False, **how}
    return pt.search(subject or model(), data or rows(), space, **said)


def drawn(space, trials, seed=0, trainer=None):
    return list(Space(space, trainer or pt.Trainer(model())).draw(trials, seed))


def test_the_trials_that_go_on_have_the_bits_of_an_uninterrupted_training():
    """Pauses at rungs change nothing, schedules included."""
    space = {"lr": (1e-3, 1e-1), "schedule": ["cosine"], "dropout": (0.0, 0.3), "weight/value": (0.2, 2.0),
             "regularizer/l2": (1e-6, 1e-3), "batch_size": [32, 64], "sharing": ["mmoe"],
             "sharing/experts": [2, 3]}  # fmt: skip
    search = found(space)
    best = search.trials[0]
    said = best.settings
    assert len(best.history) == 9
    tasks = [pt.Task("sign", classes=2), pt.Task("value", weight=said["weight/value"])]
    encoder = pt.encoder.MLP([16], dropout=said["dropout"])
    sharing = pt.sharing.MMoE(experts=said["sharing/experts"])
    whole = pt.Trainer(
        pt.MultiTaskModel(6, tasks=tasks, encoder=encoder, sharing=sharing), lr=said["lr"], schedule="cosine",
        regularizers=[pt.regularizer.L2(said["regularizer/l2"])], threads=1,
    )  # fmt: skip
    stop = pt.EarlyStopping("loss", patience=100)
    history = whole.fit(rows(), validation=rows(200, 1), epochs=9, batch_size=said["batch_size"], callbacks=[stop],
                        progress=False)  # fmt: skip
    columns = [name for name in best.history.columns if name != "seconds"]
    assert all(best.history[name] == history[name] for name in columns)
    losses = np.array(history["validation/sign/loss"]) + 0.5 * np.array(history["validation/value/loss"])
    assert best.curve == pytest.approx(losses)
    assert best.best_epoch == 1 + int(np.argmin(losses))
    assert best.values == {"loss": pytest.approx(losses.min())}
    at_best = pt.Trainer(best.model).evaluate(rows(200, 1))
    row = history[best.best_epoch - 1]
    assert at_best["value/loss"] == pytest.approx(row["validation/value/loss"], rel=1e-6)


def test_at_each_rung_the_best_go_on():
    search = found({"lr": (1e-5, 1e-1)}, trials=9, epochs=9)
    assert search.rungs == [1, 3, 9]
    lengths = [len(trial.history) for trial in search.trials]
    assert lengths == [9, 3, 3, 1, 1, 1, 1, 1, 1]
    first = [trial.curve[0] for trial in search.trials]
    assert max(first[:3]) <= min(first[3:])
    assert min(search.trials[0].curve[:3]) <= min(min(trial.curve) for trial in search.trials[1:3])
    assert search.best is search.trials[0].settings
    assert [trial.state for trial in search.trials] == ["complete"] + ["halted"] * 8
    assert found({"lr": (1e-5, 1e-1)}, trials=4, eta=None, epochs=2).rungs == [2]


def testrungs_of():
    assert rungs_of(64, 27, 3, 1) == [1, 3, 9, 27]
    assert rungs_of(64, 20, 3, 1) == [2, 6, 20]
    assert rungs_of(64, 27, 3, 5) == [9, 27]
    assert rungs_of(2, 27, 3, 1) == [27]
    assert rungs_of(5, 16, 2, 1) == [4, 8, 16]


def test_what_is_drawn():
    space = {"lr": (1e-4, 1e-1), "dropout": (0.0, 0.4), "batch_size": (16, 64), "accumulate": (1, 100)}
    each = drawn(space, 400)
    lr = np.log10([one["lr"] for one in each])
    assert lr.min() > -4
    assert lr.max() < -1
    assert abs(lr.mean() + 2.5) < 0.15, "by its logarithm"
    dropout = np.array([one["dropout"] for one in each])
    assert abs(dropout.mean() - 0.2) < 0.02, "evenly"
    sizes = [one["batch_size"] for one in each]
    assert {type(size) for size in sizes} == {int}
    assert (min(sizes), max(sizes)) == (16, 64)
    whole = [one["accumulate"] for one in each]
    assert {type(one) for one in whole} == {int}
    assert 6 < np.median(whole) < 15, "by its logarithm"
    assert drawn(space, 10) == each[:10], "more trials begin with the same"
    assert [one["lr"] for one in drawn({"lr": (1e-4, 1e-1)}, 10)] == [one["lr"] for one in each[:10]]
    assert drawn(space, 10, seed=1) != each[:10]


def test_choices_come_once_each():
    each = drawn({"lr": [0.1, 0.01], "hidden": [[8], [16, 8], 4]}, 64)
    assert len(each) == 6
    assert len({json.dumps(one) for one in each}) == 6
    assert len(drawn({"lr": [0.1, 0.01], "hidden": [[8], [16, 8]]}, 3)) == 3


def test_arguments_count_where_the_part_has_them():
    space = {"optimizer": ["adam", "sgd"], "optimizer/momentum": [0.9], "sharing": ["hard", "mmoe"],
             "sharing/experts": [2]}  # fmt: skip
    search = found(space, trials=4, epochs=1, eta=None)
    assert len(search.trials) == 4
    for trial in search.trials:
        assert ("optimizer/momentum" in trial.settings) == (trial.settings["optimizer"] == pt.optim.SGD())
        assert ("sharing/experts" in trial.settings) == (trial.settings["sharing"] == pt.sharing.MMoE())
        assert ("experts.0.0.weight" in trial.model.state_dict()) == ("sharing/experts" in trial.settings)


def test_several_columns_count_by_their_mean_rank():
    search = found({"lr": (1e-4, 1e-1)}, trials=6, epochs=3, eta=None, monitor=["sign/accuracy", "value/mae"])
    values = np.array([[trial.values["sign/accuracy"], -trial.values["value/mae"]] for trial in search.trials])
    ranks = [sum(np.sum(column > one) + 0.5 * np.sum(column == one) for column, one in zip(values.T, row, strict=True))
             for row in values]  # fmt: skip
    assert ranks == sorted(ranks)
    first = search.trials[0]
    assert first.values["sign/accuracy"] == max(first.history["validation/sign/accuracy"])


def test_trainers_lend_their_settings_and_models_what_they_have_learned():
    start = model()
    pt.Trainer(start, lr=0.01).fit(rows(), epochs=2, progress=False)
    start.freeze("encoder")
    before = start.state_dict()
    trainer = pt.Trainer(start, optimizer=pt.optim.SGD(lr=0.1, momentum=0.5), weighting="uncertainty",
                         regularizers=["l2"], clip_norm=1.0)  # fmt: skip
    search = found({"lr": [0.1, 0.01]}, trainer, epochs=2)
    for trial in search.trials:
        assert trial.model.frozen == start.frozen
        assert np.array_equal(trial.model.state_dict()["encoder.0.weight"], before["encoder.0.weight"])
        assert "regularizer/l2" in trial.history.columns
        assert "objective" in trial.history.columns, "as of uncertainty"
    assert all(np.array_equal(value, before[name]) for name, value in start.state_dict().items())
    assert trainer.steps == 0
    wider = found({"hidden": [[16, 4]]}, trainer, epochs=1).model
    assert np.array_equal(wider.state_dict()["encoder.0.weight"], before["encoder.0.weight"]), "as far as it fits"


def test_one_that_stops_for_itself_keeps_its_best_epoch():
    search = found({"lr": [0.5, 0.3]}, trials=2, epochs=40, eta=None, patience=2)
    assert all(trial.state == "stopped" for trial in search.trials)
    for trial in search.trials:
        assert len(trial.curve) == trial.best_epoch + 2
        assert trial.curve[trial.best_epoch - 1] == min(trial.curve)


def test_a_trial_that_diverges_stays_behind():
    search = found({"optimizer": [pt.optim.SGD(lr=1e30), pt.optim.SGD(lr=0.01)]}, trials=2, epochs=3)
    assert [trial.state for trial in search.trials] == ["complete", "failed"]
    assert "finite" in search.trials[1].error
    assert len(search.ensemble(1)) == 1
    with pytest.raises(ValueError, match="`n` should be at most 1"):
        search.ensemble(2)
    with pytest.raises(ValueError, match=r"every trial failed, the first one: .*finite"):
        found({"optimizer": [pt.optim.SGD(lr=1e30)]}, epochs=3)


def bits(search):
    return [({name: value.tobytes() for name, value in trial.model.state_dict().items()}, trial.curve, trial.state)
            for trial in search.trials]  # fmt: skip


def test_an_interrupted_search_goes_on(tmp_path, monkeypatch):
    space = {"lr": (1e-3, 1e-1), "schedule": ["cosine"]}
    whole = found(space)
    back = interrupted(monkeypatch, pt.Trainer, "_go", 10)
    with pytest.raises(KeyboardInterrupt):
        found(space, path=tmp_path)
    back()
    half = json.loads((tmp_path / "search.json").read_text())["trials"]
    lengths = [len(trial["history"]) for trial in half]
    assert sum(lengths) >= 9
    assert max(lengths) < 9
    epochs = []
    epoch = pt.training.loop.Loop._epoch
    monkeypatch.setattr(pt.training.loop.Loop, "_epoch", lambda self, *how: epochs.append(epoch(self, *how)))
    again = found(space, path=tmp_path)
    assert bits(again) == bits(whole)
    assert 0 < len(epochs) <= 9 * 1 + 3 * 2 + 1 * 6 - sum(lengths), "rungs that were reached are not trained again"
    epochs.clear()
    assert bits(found(space, path=tmp_path)) == bits(whole)
    assert not epochs
    told = json.loads((tmp_path / "search.json").read_text())["trials"]
    assert told[again.trials[0].number]["state"] == "complete"
    with pytest.raises(ValueError, match=r"`path`: the search in .* has another `epochs`"):
        found(space, path=tmp_path, epochs=27)
    with pytest.raises(ValueError, match="has another `data`"):
        found(space, path=tmp_path, data=rows(seed=5))


def test_ctrl_c_arrives(press_ctrl_c):
    press_ctrl_c(0.3)
    with pytest.raises(KeyboardInterrupt):
        found({"lr": (1e-4, 1e-2)}, data=rows(5000), epochs=100_000)


def test_what_was_found_is_shown():
    search = found({"lr": (1e-4, 1e-1), "weighting": ["equal", "upgrad"]}, trials=12, epochs=3)
    assert "and 2 more" in repr(search)
    assert "<table>" in search._repr_html_()
    frame = search.to_frame()
    assert list(frame.columns) == ["trial", "lr", "weighting", "loss", "best_epoch", "epochs", "state"]
    assert len(frame) == 12
    axes = search.plot()
    assert [axis.get_xlabel() for axis in axes] == ["epoch", "lr", "weighting"]
    assert axes[1].get_xscale() == "log"
    assert [label.get_text() for label in axes[2].get_xticklabels()] == list(dict.fromkeys(map(str, frame.weighting)))
    together = search.ensemble(3)
    assert together[0] is search.model
    assert together.predict(rows()[0])["value"].shape == (500,)
    assert "Trial" in repr(search.trials[0])


def test_a_range_between_whole_numbers_is_whole_where_the_setting_is():
    trainer = pt.Trainer(pt.MultiTaskModel(3, tasks=[pt.Task("a")]))
    real = ("dropout", "weight/a", "clip_norm", "regularizer/l2", "optimizer/eps", "lr")
    whole = ("batch_size", "accumulate", "sharing/experts", "hidden")
    given = {**dict.fromkeys(real, (0, 1)), **dict.fromkeys(whole, (1, 8)), "sharing": ["mmoe"], "optimizer": ["adamw"]}
    drawn = list(Space(given, trainer).draw(30, 0))
    for name in real:
        assert len({each[name] for each in drawn}) == 30
        assert all(0 < each[name] < 1 for each in drawn)
    for name in whole:
        assert {type(each[name]) for each in drawn} == {int}
        assert {each[name] for each in drawn} == set(range(1, 9))


@pytest.mark.parametrize(
    ("space", "error", "says"),
    [
        ({}, TypeError, "`space` should be a dict of settings"),
        ({"learning": (0, 1)}, ValueError, "`space`: unknown setting 'learning'; "),
        ({"drop_out": (0, 1)}, ValueError, "did you mean `dropout`"),
        ({"weight/vale": (0.1, 1.0)}, ValueError, "unknown task 'vale'; did you mean `value`"),
        ({"regularizer/l3": (0.1, 1.0)}, ValueError, "unknown regularizer 'l3'; did you mean"),
        ({"optimizer/momentun": [0.9], "optimizer": ["sgd"]}, ValueError, "did you mean `momentum`"),
        ({"sharing/experts": [2]}, ValueError, "'sharing/experts': sharing `hard` has no argument 'experts'"),
        ({"lr": 0.1}, TypeError, r"`space\['lr'\]` should be a list of choices, or a range"),
        ({"lr": ("a", "b")}, TypeError, r"a range `\(low, high\)` of two numbers"),
        ({"lr": (0.1, 0.01)}, ValueError, "should go from a number to a higher one"),
        ({"lr": []}, TypeError, r"`space\['lr'\]` should be a list"),
        ({"sharing": ["hrd"]}, ValueError, "did you mean `hard`"),
        ({"sharing": ("hard", "mmoe")}, TypeError, r"`space\['sharing'\]` should be a list of choices; got"),
        ({"dropout": [2.0]}, ValueError, "dropout"),
        ({"weight/value": [-1.0]}, ValueError, "weight"),
        ({"batch_size": [0]}, ValueError, "batch_size"),
    ],
)
def test_what_cannot_be_is_refused(space, error, says):
    with pytest.raises(error, match=says):
        found(space)


def test_more_that_cannot_be():
    with pytest.raises(ValueError, match=r"no column 'value/mea'; did you mean `value/mae`"):
        found({"lr": [0.1]}, monitor="value/mea")
    with pytest.raises(ValueError, match="`eta` should be a whole number of at least 2"):
        found({"lr": [0.1]}, eta=1)
    with pytest.raises(ValueError, match="`validation` should be data"):
        found({"lr": [0.1]}, validation=None)
    import torch

    own = pt.Trainer(model(encoder=torch.nn.Tanh()), optimizer=torch.optim.SGD, lr=0.1)
    with pytest.raises(ValueError, match=r"'lr' is of one of pt\.optim, and this optimizer is code of your own"):
        found({"lr": [0.1]}, own)
    with pytest.raises(ValueError, match="this encoder is code of your own"):
        found({"hidden": [4]}, own)
    assert len(found({"batch_size": [16, 32]}, own, epochs=2).trials) == 2
