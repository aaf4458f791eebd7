"""The history: rows, columns, tables, frames, pictures, and the bar while it grows."""

import math

import numpy as np
import polytask as pt
import pytest
from conftest import Data, make_model
from polytask.plots import pictures


@pytest.fixture
def history(data):
    trainer = pt.Trainer(make_model(), lr=0.01)
    return trainer.fit(data.whole, validation=Data(seed=1).whole, epochs=3, progress=False)


def test_rows_and_columns(history):
    assert len(history) == 3
    assert history["epoch"] == [1, 2, 3]
    each = ["loss", "income/loss", "income/auroc", "income/accuracy", "age/loss", "age/mae", "age/r2",
            "topics/loss", "topics/auroc"]  # fmt: skip
    assert set(history.columns) == {*each, *(f"validation/{name}" for name in each), "epoch", "lr", "seconds"}
    assert history[-1]["income/loss"] == history["income/loss"][-1]
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert len(history[1:]) == 2
    assert all(isinstance(value, float) for value in history["age/r2"])
    with pytest.raises(KeyError, match=r"no column 'incme/loss'; did you mean `income/loss`. there are `epoch`"):
        history["incme/loss"]


def test_the_loss_is_the_weighted_sum_of_the_tasks_losses(history):
    for row in history:
        for prefix in ("", "validation/"):
            parts = row[f"{prefix}income/loss"] + 0.5 * row[f"{prefix}age/loss"] + row[f"{prefix}topics/loss"]
            assert row[f"{prefix}loss"] == pytest.approx(parts, rel=1e-12)


def test_a_short_last_batch_counts_by_its_rows():
    x = np.random.default_rng(0).normal(size=(33, 4)).astype(np.float32)
    y = np.r_[np.zeros(32), 100.0]
    model = pt.MultiTaskModel(4, tasks=[pt.Task("a")], encoder=pt.encoder.MLP([8]))
    trainer = pt.Trainer(model, "sgd", lr=1e-12)
    for form in ((x, y), [(x[:32], y[:32]), (x[32:], y[32:])]):
        row = trainer.fit(form, epochs=1, batch_size=32, shuffle=False, progress=False)[-1]
        assert row["loss"] == row["a/loss"] == pytest.approx(((model.predict(x)["a"] - y) ** 2).mean(), rel=1e-5)


def two(x, y, weight=1.0, **settings):
    """A trainer of a regression and a label whose parameters stay where they are, with its data."""
    tasks = [pt.Task("a", weight=weight), pt.Task("b", loss="binary_cross_entropy")]
    model = pt.MultiTaskModel(4, tasks=tasks, encoder=pt.encoder.MLP([8]), seed=1)
    return pt.Trainer(model, "sgd", lr=1e-12, **settings), (x, 3 * y, (x[:, 1] > 0).astype(int))


@pytest.fixture
def xy():
    rng = np.random.default_rng(0)
    return rng.normal(size=(96, 4)).astype(np.float32), rng.normal(size=96)


@pytest.mark.parametrize(
    "weighting", ["equal", "mean", "rlw", "gls", "uncertainty", "famo", "scale_invariant", "upgrad"]
)
def test_training_and_validation_loss_are_one_formula(xy, weighting):
    trainer, data = two(*xy, weight=10.0, weighting=weighting, regularizers=["l2", "mean_regularized"])
    row = trainer.fit(data, validation=data, epochs=1, batch_size=96, progress=False)[-1]
    penalty = row["regularizer/l2"] + row["regularizer/mean_regularized"]
    assert penalty > 1e-4
    assert row["loss"] == pytest.approx(10 * row["a/loss"] + row["b/loss"] + penalty, rel=1e-9)
    assert row["validation/loss"] == pytest.approx(row["loss"], rel=1e-6)
    assert trainer.evaluate(data).loss == pytest.approx(row["loss"], rel=1e-6)
    assert trainer.step(data)["loss"] == pytest.approx(row["loss"], rel=1e-6)


def test_constants_of_static_count_as_weights_of_the_tasks(xy):
    inside = pt.weighting.CRMOGM(inner=pt.weighting.Static({"a": 10.0}))
    for weighting in (pt.weighting.Static({"a": 10.0}), pt.weighting.Static([10.0, 1.0]), inside):
        trainer, data = two(*xy, weighting=weighting)
        row = trainer.fit(data, validation=data, epochs=1, batch_size=96, progress=False)[-1]
        want = 10 * row["a/loss"] + row["b/loss"]
        for loss in (row["loss"], row["validation/loss"], trainer.evaluate(data).loss, trainer.step(data)["loss"]):
            assert loss == pytest.approx(want, rel=1e-6)
        assert "objective" not in row


OBJECTIVES = {
    "mean": lambda a, b, w: (a + b) / 2,
    "scale_invariant": lambda a, b, w: np.log(a) + np.log(b),
    "gls": lambda a, b, w: np.sqrt(a * b),
    "uncertainty": lambda a, b, w: w @ [a, b] - np.log(w / [0.5, 1.0]).sum() / 2,
    "imtl_l": lambda a, b, w: w @ [a, b] - np.log(w).sum(),
    "rlw": lambda a, b, w: w @ [a, b],
    "famo": lambda a, b, w: w @ [a, b],
    "dwa": lambda a, b, w: w @ [a, b],
    "cr_mogm": lambda a, b, w: w @ [a, b],
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_a_weighting_of_losses_minimises_is_a_column(xy, name):
    own = {"uncertainty": pt.weighting.Uncertainty(lr=0.1), "imtl_l": pt.weighting.IMTLL(lr=0.1),
           "cr_mogm": pt.weighting.CRMOGM(inner="rlw")}  # fmt: skip
    trainer, data = two(*xy, weighting=own.get(name, name), observe="weights", regularizers=["l2"])
    for row in trainer.fit(data, validation=data, epochs=4, batch_size=96, progress=False):
        weights = np.array([row["a/weight"], row["b/weight"]])
        want = OBJECTIVES[name](row["a/loss"], row["b/loss"], weights) + row["regularizer/l2"]
        assert row["objective"] == pytest.approx(want, rel=1e-6)
        assert "validation/objective" not in row
    step = trainer.step(data)
    assert list(step) == ["loss", "objective", "a/loss", "b/loss"]
    assert step["loss"] == pytest.approx(step["a/loss"] + step["b/loss"] + row["regularizer/l2"], rel=1e-6)


@pytest.mark.parametrize("weighting", ["equal", "static", "upgrad", "imtl", "gradnorm"])
def test_other_weightings_have_no_such_column(xy, weighting):
    trainer, data = two(*xy, weighting=weighting)
    assert "objective" not in trainer.fit(data, epochs=1, progress=False).columns
    assert "objective" not in trainer.step(data)


@pytest.mark.parametrize("weighting", ["scale_invariant", "stch", pt.weighting.IMTLL(exact=True), "gls"])
def test_a_run_that_improves_goes_on_under_weights_that_hold_their_sum_constant(xy, weighting):
    stop = pt.EarlyStopping(patience=3)
    trainer = pt.Trainer(two(*xy)[0].model, lr=0.01, weighting=weighting, callbacks=[stop],
                         schedule=pt.schedule.Plateau(patience=3))  # fmt: skip
    history = trainer.fit((xy[0], 3 * xy[0][:, 0], (xy[0][:, 1] > 0).astype(int)), epochs=40, progress=False)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["lr"][15] == 0.01
    assert stop.best_epoch > 30


def test_early_stopping_may_watch_the_objective(xy):
    trainer, data = two(*xy, weighting="gls", callbacks=[pt.EarlyStopping("objective", patience=2)])
    assert len(trainer.fit(data, epochs=9, batch_size=96, progress=False)) <= 9
    trainer, data = two(*xy, callbacks=[pt.EarlyStopping("objective")])
    with pytest.raises(ValueError, match="the history will have no column 'objective'"):
        trainer.fit(data, epochs=1, progress=False)


def test_what_an_accumulating_step_does_not_know_yet_is_nan(xy):
    trainer, data = two(*xy, accumulate=3, weighting="gls")
    first, second, third = (trainer.step(data) for _ in range(3))
    assert all(np.isnan(list(each.values())).all() for each in (first, second))
    assert third["loss"] == pytest.approx(third["a/loss"] + third["b/loss"], rel=1e-6)
    assert trainer.steps == 1


def test_the_bar_counts_waiting_batches_as_nothing(xy, monkeypatch):
    trainer, (x, a, b) = two(*xy, accumulate=4)
    seen = []
    monkeypatch.setattr("polytask.training.progress._PAUSE", 0.0)
    monkeypatch.setattr("polytask.training.progress.Progress.update", lambda bar, done, total, loss: seen.append(loss))
    batches = [(x[i : i + 8], a[i : i + 8], b[i : i + 8]) for i in range(0, 96, 8)]
    row = trainer.fit(batches, epochs=1, progress=True)[-1]
    assert len(seen) == 13
    assert np.isnan(seen[:3]).all()
    assert seen[3] == seen[4] == seen[6] != seen[7]
    assert seen[11] == seen[12] == row["loss"]


def test_metrics_of_training_count_the_rows_of_a_last_short_accumulation(xy):
    x, y = xy
    tasks = [pt.Task("a", metrics=["mse"])]
    batches = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 96, 8)]
    for accumulate in (1, 5):
        model = pt.MultiTaskModel(4, tasks=tasks, encoder=pt.encoder.MLP([8]), seed=1)
        row = pt.Trainer(model, "sgd", lr=1e-12, accumulate=accumulate).fit(batches, epochs=1, progress=False)[-1]
        assert row["a/mse"] == pytest.approx(row["a/loss"], rel=1e-6)


def test_terms_of_the_network_are_part_of_the_loss_while_training_only(data):
    model = make_model(sharing=pt.sharing.DSelectK(experts=5, gamma=8.0, entropy=0.2))
    trainer = pt.Trainer(model)
    history = trainer.fit(data.whole, validation=0.2, epochs=2, batch_size=1000, progress=False)
    assert [name for name in history.columns if "term" in name] == ["term/entropy", "term/spare_codes"]
    for row in history:
        losses = {
            p: row[f"{p}income/loss"] + 0.5 * row[f"{p}age/loss"] + row[f"{p}topics/loss"] for p in ("", "validation/")
        }
        terms = row["term/entropy"] + row["term/spare_codes"]
        assert min(row["term/entropy"], row["term/spare_codes"]) > 0
        assert row["loss"] == pytest.approx(losses[""] + terms, rel=1e-6)
        assert row["validation/loss"] == pytest.approx(losses["validation/"], rel=1e-6)


def test_regularizers_are_part_of_the_loss_but_not_of_the_tasks(data):
    kwargs = {"epochs": 1, "batch_size": 160, "progress": False}
    plain = pt.Trainer(make_model()).fit(data.whole, **kwargs)
    heavy = pt.Trainer(make_model(), regularizers=[pt.regularizer.L2(10.0)]).fit(data.whole, **kwargs)
    assert heavy["loss"][0] > plain["loss"][0] + 1
    assert heavy["income/loss"] == plain["income/loss"]


def test_it_is_shown_as_a_table_a_frame_and_a_picture(history):
    assert "validation/age/r2" in repr(history).splitlines()[0]
    assert len(repr(history).splitlines()) == 4
    assert history._repr_html_().count("<tr>") == 4
    frame = history.to_frame()
    assert frame.shape == (3, len(history.columns))
    assert frame["epoch"].tolist() == [1, 2, 3]
    axes = history.plot()
    assert [axis.get_title() for axis in axes] == ["loss", "auroc", "accuracy", "mae", "r2"]
    assert len(axes[0].lines) == 8
    assert len(history.plot("income/auroc")[0].lines) == 1
    with pytest.raises(ValueError, match="`columns`: the history has no 'x'"):
        history.plot(["x"])


def test_pictures_are_saved_by_their_figure(history, tmp_path):
    every = [history.plot(), history[:1].plot("age/r2")]
    every += [pictures.grid(5, "A.plot"), pictures.stacked("A.plot")]
    for at, axes in enumerate(every):
        assert all(axis.figure is axes.figure for axis in axes)
        axes.figure.savefig(tmp_path / f"{at}.png")
        axes.savefig(tmp_path / f"{at}.svg", dpi=50)
        assert (tmp_path / f"{at}.png").read_bytes()[1:4] == b"PNG"
        assert "<svg" in (tmp_path / f"{at}.svg").read_text()
    assert [len(axes) for axes in every] == [5, 1, 5, 2]


def test_an_empty_history_can_be_shown():
    assert repr(pt.History()) == "History()"
    assert pt.History().columns == []


def test_training_metrics_are_of_the_outputs_of_training(data):
    model = make_model()
    before = pt.Trainer(model).evaluate(data.whole)
    history = pt.Trainer(pt.MultiTaskModel(8, tasks=model.tasks, seed=3), "sgd", lr=1e-12).fit(
        data.whole, epochs=1, progress=False
    )
    other = pt.MultiTaskModel(8, tasks=model.tasks, seed=3)
    want = pt.Trainer(other).evaluate(data.whole)
    assert history[0]["income/auroc"] == pytest.approx(want["income"]["auroc"], abs=1e-6)
    assert history[0]["age/r2"] == pytest.approx(want["age"]["r2"], abs=1e-4)
    assert before["income"]["auroc"] != want["income"]["auroc"]


def test_training_metrics_can_be_left_out(data):
    history = pt.Trainer(make_model()).fit(data.whole, epochs=1, train_metrics=False, validation=0.2, progress=False)
    assert "income/auroc" not in history.columns
    assert "validation/income/auroc" in history.columns
    assert "income/loss" in history.columns


def test_the_bar_can_be_seen_and_silenced(data, capsys):
    trainer = pt.Trainer(make_model())
    trainer.fit(data.whole, epochs=2, progress=False)
    assert capsys.readouterr() == ("", "")
    trainer.fit(data.whole, epochs=2)
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown
    assert "10/10" in shown
    assert "loss=" in shown


def test_a_plateau_watches_the_validation_loss(data):
    schedule = pt.schedule.Plateau(patience=0, factor=0.5, threshold=0.0)
    trainer = pt.Trainer(make_model(), "sgd", lr=1e-12, schedule=schedule)
    history = trainer.fit(data.whole, validation=data.whole, epochs=4, progress=False)
    assert history["lr"][-1] < history["lr"][0]


def test_a_plateau_watches_what_it_is_told(data, caplog):
    def rates(validation=data.whole, regularizers=(), **how):
        schedule = pt.schedule.Plateau(patience=0, factor=0.5, **how)
        trainer = pt.Trainer(make_model(), "sgd", lr=1e-12, schedule=schedule, regularizers=regularizers)
        return trainer.fit(data.whole, validation=validation, epochs=4, progress=False)["lr"]

    falls = [1e-12, 1e-12, 0.5e-12, 0.25e-12]
    assert rates() == pytest.approx(falls)
    assert rates(monitor="income/auroc") == pytest.approx(falls)
    with pytest.raises(
        ValueError, match="`schedule`: argument `monitor`: the history will have no column 'x'; it will"
    ):
        rates(monitor="x")
    with pytest.raises(ValueError, match=r'whether a higher .* is better is not known; say mode="max" or "min"'):
        rates(monitor="regularizer/l2", regularizers=["l2"])
    assert not caplog.records
    one = (data.x, {**data.targets, "income": np.zeros_like(data.targets["income"])})
    assert rates(one, monitor="income/auroc") == pytest.approx([1e-12] * 4)
    assert "`validation/income/auroc`, which the schedule watches, is NaN and does not count" in caplog.text


def test_a_plateau_knows_which_direction_is_better():
    """Training that lowers the loss and lifts AUROC: only who takes AUROC for a loss sees a plateau."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=300) > 0).astype(int)

    def last(**how):
        model = pt.MultiTaskModel(4, tasks=[pt.Task("y", loss="binary_cross_entropy")], encoder=pt.encoder.MLP([8]))
        schedule = pt.schedule.Plateau(patience=1, factor=0.5, threshold=0.0, **how)
        return pt.Trainer(model, lr=0.001, schedule=schedule).fit((x, y), epochs=6, progress=False)["lr"][-1]

    assert last() == last(mode="min") == last(monitor="y/auroc") == last(monitor="y/auroc", mode="max") == 0.001
    assert last(mode="max") == last(monitor="y/auroc", mode="min") < 0.001


@pytest.mark.parametrize(("shift", "sign"), [(0.0, -1), (5.0, 1)])
def test_a_plateau_acts_on_losses_of_either_sign(shift, sign):
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    model = pt.MultiTaskModel(3, tasks=[pt.Task("y", loss="gaussian_nll")], encoder=pt.encoder.MLP([8]))
    pt.Trainer(model, lr=0.05).fit((x, np.full(64, 0.5)), epochs=60, progress=False)
    data = (x, np.full(64, 0.5 + shift))
    schedule = pt.schedule.Plateau(patience=1, factor=0.5)
    history = pt.Trainer(model, "sgd", lr=1e-12, schedule=schedule).fit(data, validation=data, epochs=6, progress=False)
    assert np.sign(history["validation/loss"]).tolist() == [sign] * 6
    assert history["lr"] == pytest.approx([1e-12, 1e-12, 1e-12, 0.5e-12, 0.5e-12, 0.25e-12])


def test_cosine_knows_the_length_of_the_run(data):
    trainer = pt.Trainer(make_model(), lr=0.1, schedule="cosine")
    lr = trainer.fit(data.whole, epochs=4, batch_size=40, progress=False)["lr"]
    assert lr == sorted(lr, reverse=True)
    assert lr[-1] < 0.01
    assert math.isclose(lr[1], 0.1 * 0.5 * (1 + np.cos(np.pi * 7 / 16)), rel_tol=0.02)


def test_a_second_fit_has_a_schedule_of_its_own_length(data):
    """A cosine over the steps of all calls so far falls on in the second as it does in the first."""
    trainer = pt.Trainer(make_model(), schedule="cosine", lr=0.1)
    first = trainer.fit(data.whole, epochs=4, batch_size=40, progress=False)["lr"]
    both = trainer.fit(data.whole, epochs=4, batch_size=40, progress=False)["lr"]
    assert both[:4] == first
    whole = pt.Trainer(make_model(), schedule="cosine", lr=0.1).fit(
        data.whole, epochs=8, batch_size=40, progress=False
    )["lr"]
    assert both[4:] == whole[4:]
    assert both[4] > 0.02


def test_a_column_has_a_value_for_each_epoch(data):
    """NaN for epochs that did not look, so that columns of one history have one length."""
    trainer = pt.Trainer(make_model())
    trainer.fit(data.whole, epochs=2, progress=False)
    history = trainer.fit(data.whole, validation=data.whole, epochs=1, progress=False)
    assert [math.isnan(value) for value in history["validation/loss"]] == [True, True, False]
    assert len(history["epoch"]) == len(history["validation/loss"]) == len(history["validation/age/mae"]) == 3


def test_a_schedule_counts_the_steps_that_accumulate_batches(data):
    """Six batches, four a step, are two steps an epoch: the rates are those of two batches an epoch."""

    def rates(batch_size, accumulate):
        trainer = pt.Trainer(make_model(), schedule="cosine", lr=0.1, accumulate=accumulate)
        return trainer.fit((data.x[:120], {name: y[:120] for name, y in data.targets.items()}), epochs=3,
                           batch_size=batch_size, progress=False)["lr"]  # fmt: skip

    assert rates(20, 4) == rates(60, 1)
    assert len(set(rates(20, 4))) == 3


def test_results_by_the_columns_of_a_history(data):
    trainer = pt.Trainer(make_model())
    results = trainer.evaluate(data.whole)
    assert results["income/auroc"] == results["income"]["auroc"]
    assert results["loss"] == results.loss
    assert list(results) == ["income", "age", "topics"]
    assert {name: results[name] for name in results.columns()} == results.columns()
    meant = {"incme": "income", "income/auc": "income/auroc", "val_loss": "loss", "train/age/r2": "age/r2"}
    for name, near in meant.items():
        with pytest.raises(KeyError, match=f"no task or column '{name}'; did you mean `{near}`. there are `income`"):
            results[name]
    assert results.get("income/nothing") is None


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("val_loss", "validation/loss"), ("valid/loss", "validation/loss"), ("train_loss", "loss"),
     ("val_income/auroc", "validation/income/auroc"), ("val/income/auc", "validation/income/auroc")],
)  # fmt: skip
def test_columns_by_the_names_of_other_libraries(data, theirs, ours):
    callback = pt.EarlyStopping(theirs)
    trainer = pt.Trainer(make_model())
    with pytest.raises(ValueError, match=rf"no column '{theirs}'; did you mean `{ours}`\?"):
        trainer.fit(data.whole, validation=data.whole, epochs=1, progress=False, callbacks=[callback])
    history = trainer.fit(data.whole, validation=data.whole, epochs=1, progress=False)
    with pytest.raises(KeyError, match=rf"no column '{theirs}'; did you mean `{ours}`\?"):
        history[theirs]
