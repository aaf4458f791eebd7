"""What a trainer observes of weights and gradients: columns of the history, and pictures of them."""

import numpy as np
import polytask as pt
import pytest
from conftest import make_model, without_seconds

FIT = {"epochs": 3, "batch_size": 40, "progress": False}
TASKS = ["income", "age", "topics"]


def test_weights_and_gradients_are_columns_of_the_history(data):
    trainer = pt.Trainer(make_model(), weighting=pt.weighting.Static([1.0, 2.0, 3.0]), observe=["weights", "gradients"])
    history = trainer.fit(data.whole, **FIT)
    assert history["income/weight"] == [1.0] * 3
    assert history["topics/weight"] == [3.0] * 3
    pairs = ["cosine/income/age", "cosine/income/topics", "cosine/age/topics"]
    assert [name for name in history.columns if name.startswith("cosine/")] == pairs
    assert all(-1 <= cosine <= 1 for pair in pairs for cosine in history[pair])
    assert all(norm > 0 for task in TASKS for norm in history[f"{task}/gradient_norm"])
    assert all(0 <= share <= 1 for share in history["conflict"])


def test_nothing_is_observed_unless_asked(data):
    history = pt.Trainer(make_model()).fit(data.whole, **FIT)
    assert not [name for name in history.columns if "weight" in name or "cosine" in name or name == "conflict"]
    history = pt.Trainer(make_model(), observe="weights").fit(data.whole, **FIT)
    assert "income/weight" in history.columns
    assert "conflict" not in history.columns


@pytest.mark.parametrize("weighting", [pt.weighting.Static([1.0, 3.0, 0.25]), "uncertainty", "upgrad"])
def test_observing_changes_nothing(data, weighting):
    def trained(observe, weighting=weighting):
        model = make_model()
        trainer = pt.Trainer(model, "sgd", lr=0.1, weighting=weighting, observe=observe)
        return trainer.fit(data.whole, **FIT)["loss"], model.state_dict()

    (plain, before), (seen, after) = trained(()), trained("weights")
    assert seen == plain
    assert all((after[name] == before[name]).all() for name in before)
    # Gradients are looked at one by one and then added up, which rounds in another way.
    seen, after = trained(["weights", "gradients"])
    np.testing.assert_allclose(seen, plain, rtol=1e-6)
    assert all(np.allclose(after[name], before[name], rtol=1e-5, atol=1e-6) for name in before)
    # So close only the same weights come.
    _, others = trained((), weighting="mean")
    assert not all(np.allclose(others[name], before[name], rtol=1e-3, atol=1e-4) for name in before)


def test_the_numbers_are_those_of_the_gradients(data):
    model = make_model(seed=1)
    model = pt.MultiTaskModel(8, tasks=model.tasks, encoder=pt.encoder.MLP([16, 8]), seed=1)
    rows = model.reader.rows(data.whole)
    gramian = model._core.gradients(rows.core(), "gramian")
    history = pt.Trainer(model, "sgd", lr=1e-12, observe="gradients").fit(
        data.whole, epochs=1, batch_size=160, shuffle=False, progress=False
    )
    norms = np.sqrt(np.diag(gramian))
    cosines = gramian / np.outer(norms, norms)
    got = [history[0][f"{task}/gradient_norm"] for task in TASKS]
    np.testing.assert_allclose(got, norms, rtol=1e-4)
    assert history[0]["cosine/income/topics"] == pytest.approx(cosines[0, 2], abs=1e-4)
    assert history[0]["conflict"] == pytest.approx(np.mean(cosines[np.triu_indices(3, 1)] < 0))


def test_a_task_without_labels_has_no_numbers(data):
    y = {**data.targets, "age": np.full(160, np.nan)}
    history = pt.Trainer(make_model(), observe=["weights", "gradients"]).fit((data.x, y), **FIT)
    for name in ("age/weight", "age/gradient_norm", "cosine/income/age", "cosine/age/topics"):
        assert np.isnan(history[name]).all()
    assert np.isfinite(history["cosine/income/topics"]).all()


def test_batches_from_outside_are_observed_too(data):
    batches = [
        (data.x[i : i + 40], {name: y[i : i + 40] for name, y in data.targets.items()}) for i in range(0, 160, 40)
    ]
    inside = pt.Trainer(make_model(), observe="gradients").fit(data.whole, **FIT, shuffle=False)
    outside = pt.Trainer(make_model(), observe="gradients").fit(batches, epochs=3, progress=False)
    assert inside["conflict"] == outside["conflict"]


def test_a_run_resumes_with_what_it_observed(data, tmp_path):
    def trainer():
        return pt.Trainer(make_model(), observe=["weights", "gradients"])

    whole = trainer().fit(data.whole, **FIT)
    checkpoint = pt.Checkpoint(tmp_path, every_steps=3)
    trainer().fit(data.whole, **{**FIT, "epochs": 2}, callbacks=[checkpoint])
    resumed = trainer()
    history = resumed.fit(data.whole, **FIT, resume=tmp_path)
    assert without_seconds(history) == without_seconds(whole)


def test_callbacks_can_watch_it(data):
    trainer = pt.Trainer(make_model(), observe="gradients", callbacks=[pt.EarlyStopping("conflict", patience=5)])
    assert len(trainer.fit(data.whole, **FIT)) == 3
    trainer = pt.Trainer(make_model(), observe="weights", callbacks=[pt.EarlyStopping("age/weight", patience=5)])
    with pytest.raises(ValueError, match="whether a higher 'age/weight' is better is not known"):
        trainer.fit(data.whole, **FIT)


def test_pictures(data):
    history = pt.Trainer(make_model(), observe=["weights", "gradients"]).fit(data.whole, **FIT)
    (axis,) = history.plot("weights")
    assert [line.get_label() for line in axis.lines] == TASKS
    share, cosines = history.plot("conflict")
    assert share.lines[0].get_ydata().tolist() == history["conflict"]
    matrix = cosines.images[0].get_array()
    assert matrix[0, 1] == matrix[1, 0] == history[-1]["cosine/income/age"]
    assert [label.get_text() for label in cosines.get_xticklabels()] == TASKS
    assert [axis.get_title() for axis in history.plot()] == ["loss", "auroc", "accuracy", "mae", "r2"]
    titles = [axis.get_title() for axis in history.plot(["age/weight", "income/weight", "cosine/income/age"])]
    assert titles == ["weight", "cosine"]


def test_pictures_of_what_was_not_observed_are_refused(data):
    history = pt.Trainer(make_model()).fit(data.whole, **FIT)
    with pytest.raises(ValueError, match=r'has no weights: pass observe="weights" to pt.Trainer'):
        history.plot("weights")
    with pytest.raises(ValueError, match=r'has no gradients: pass observe="gradients" to pt.Trainer'):
        history.plot("conflict")


@pytest.mark.parametrize(
    ("observe", "error", "got"),
    [
        ("losses", ValueError, "'losses'"),
        (["weights", 3], ValueError, "3"),
        (3, TypeError, "3"),
        (None, TypeError, "None"),
    ],
)
def test_wrong_wishes_are_refused(observe, error, got):
    with pytest.raises(error, match=f'`observe` should be "weights", "gradients" or both; got {got}'):
        pt.Trainer(make_model(), observe=observe)


def test_each_epoch_has_means_of_its_own(data):
    """Those of a second epoch know nothing of the first: a call for it alone sees the same."""
    how = {"observe": ["weights", "gradients"], "weighting": "uncertainty"}
    fit = {**FIT, "shuffle": False}
    whole = pt.Trainer(make_model(), "sgd", lr=0.1, **how).fit(data.whole, **{**fit, "epochs": 2})
    trainer = pt.Trainer(make_model(), "sgd", lr=0.1, **how)
    rows = [trainer.fit(data.whole, **{**fit, "epochs": 1})[-1] for _ in range(2)]
    for name in ("income/weight", "conflict", "cosine/income/age", "age/gradient_norm"):
        assert whole[name] == [row[name] for row in rows]
    # An epoch of one batch is what that batch gave.
    first, second = (pt.MultiTaskModel(8, tasks=make_model().tasks, encoder=pt.encoder.MLP([16, 8])) for _ in range(2))
    norms, trainer = [], pt.Trainer(first, "sgd", lr=0.1)
    for _ in range(2):
        norms.append(np.sqrt(np.diag(first._core.gradients(first.reader.rows(data.whole).core(), "gramian")))[1])
        trainer.step(data.whole)
    trainer = pt.Trainer(second, "sgd", lr=0.1, observe="gradients")
    seen = trainer.fit([data.whole], epochs=2, progress=False)["age/gradient_norm"]
    assert seen == pytest.approx(norms, rel=1e-4)
    assert norms[0] != pytest.approx(norms[1], rel=1e-3)
