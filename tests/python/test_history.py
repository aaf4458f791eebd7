"""The history: rows, columns, tables, frames, pictures, and the bar while it grows."""

import math

import numpy as np
import polytask as pt
import pytest
from conftest import Data, make_model


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
    with pytest.raises(KeyError, match="no column 'incme/loss'; there are `epoch`"):
        history["incme/loss"]


def test_the_loss_is_the_weighted_sum_of_the_tasks_losses(history):
    for row in history:
        for prefix in ("", "validation/"):
            parts = row[f"{prefix}income/loss"] + 0.5 * row[f"{prefix}age/loss"] + row[f"{prefix}topics/loss"]
            assert row[f"{prefix}loss"] == pytest.approx(parts, rel=0.05 if prefix == "" else 1e-9)


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


def test_cosine_knows_the_length_of_the_run(data):
    trainer = pt.Trainer(make_model(), lr=0.1, schedule="cosine")
    lr = trainer.fit(data.whole, epochs=4, batch_size=40, progress=False)["lr"]
    assert lr == sorted(lr, reverse=True)
    assert lr[-1] < 0.01
    assert math.isclose(lr[1], 0.1 * 0.5 * (1 + np.cos(np.pi * 7 / 16)), rel_tol=0.02)
