"""Metrics of positions within rows: those of rows, over all labelled positions, of rows that are held out."""

import numpy as np
import polytask as pt
import pytest
import torchmetrics
from scipy import stats
from sklearn import metrics as sk
from test_positions import INPUTS, TAGS, Sentences

DATA = Sentences(300, seed=4)
FIT = {"epochs": 2, "batch_size": 32, "progress": False}
WEIGHTS = (np.arange(300) % 5 != 0).astype(np.float32)


def classes(p, y):
    """What scikit-learn says of probabilities and labels that are all there."""
    found = p.argmax(1)
    macro = {"average": "macro", "zero_division": 0}
    return {
        "accuracy": sk.accuracy_score(y, found),
        "balanced_accuracy": sk.balanced_accuracy_score(y, found),
        "f1": sk.f1_score(y, found, **macro),
        "precision": sk.precision_score(y, found, **macro),
        "recall": sk.recall_score(y, found, **macro),
        "log_loss": sk.log_loss(y, p, labels=range(p.shape[1])),
        "ordinal_mae": np.abs(found - y).mean(),
        "quadratic_kappa": sk.cohen_kappa_score(y, found, weights="quadratic"),
    }


def make_model(metrics, inputs=INPUTS, **task):
    tasks = [pt.Task("tag", per="tokens", metrics=metrics, **{"classes": TAGS} | task), pt.Task("mood", classes=2)]
    return pt.MultiTaskModel(inputs, tasks=tasks, encoder="window", seed=2)


def labelled(predicted, tags, there):
    """Probabilities and labels of the positions that have one, of some rows."""
    p, y = (np.concatenate([row for row, some in zip(rows, there, strict=True) if some]) for rows in (predicted, tags))
    p = p[y >= 0].astype(np.float64)
    return p / p.sum(1, keepdims=True), y[y >= 0]


@pytest.mark.parametrize("loss", ["cross_entropy", "crf", "ordinal"])
def test_they_are_those_of_all_labelled_positions(loss):
    names = list(classes(np.eye(TAGS), np.arange(TAGS)))
    model = make_model(names, loss=loss)
    trainer = pt.Trainer(model, lr=0.05)
    trainer.fit(DATA.whole, **FIT)
    want = classes(*labelled(model.predict(DATA.whole[0])["tag"], DATA.tags, np.ones(300, bool)))
    for batch_size in (7, 4096):
        found = trainer.evaluate(DATA.whole, batch_size=batch_size)["tag"]
        assert [found[name] for name in names] == pytest.approx(list(want.values()), rel=1e-5)


def test_rows_without_weight_or_labels_do_not_count():
    model = make_model(["f1", "log_loss"])
    trainer = pt.Trainer(model, lr=0.05)
    tags = [None if at % 7 == 0 else row for at, row in enumerate(DATA.tags)]
    data = DATA.whole[0], {"tag": tags, "mood": DATA.mood}, WEIGHTS
    there = (np.arange(300) % 7 != 0) & (WEIGHTS > 0)
    want = classes(*labelled(model.predict(DATA.whole[0])["tag"], DATA.tags, there))
    found = trainer.evaluate(data)["tag"]
    assert [found["f1"], found["log_loss"]] == pytest.approx([want["f1"], want["log_loss"]], rel=1e-5)
    none = trainer.evaluate((DATA.whole[0], {"mood": DATA.mood}))["tag"]
    assert np.isnan([none["f1"], none["log_loss"]]).all()


def test_a_history_has_them_of_validation():
    model = make_model(["accuracy", "f1", "log_loss"])
    trainer = pt.Trainer(model, lr=0.05, callbacks=[pt.EarlyStopping("tag/f1", patience=5)])
    history = trainer.fit(DATA.whole, validation=DATA.whole, **FIT)
    own = ["tag/loss", "tag/accuracy", "mood/loss", "mood/accuracy"]
    assert [name for name in history.columns if name.partition("/")[0] in ("tag", "mood")] == own
    found = trainer.evaluate(DATA.whole)["tag"]
    assert [history[f"validation/tag/{name}"][-1] for name in ("f1", "log_loss")] == [found["f1"], found["log_loss"]]
    with pytest.raises(ValueError, match="the history will have no column 'tag/f1'"):
        trainer.fit(DATA.whole, **FIT)


def test_batches_from_outside():
    model = make_model(["f1"])
    trainer = pt.Trainer(model, lr=0.05)
    batches = [DATA.some(np.arange(at, at + 30)) for at in range(0, 300, 30)]
    history = trainer.fit(batches, validation=batches, epochs=1, progress=False)
    assert history["validation/tag/f1"][-1] == pytest.approx(trainer.evaluate(DATA.whole)["tag"]["f1"], rel=1e-6)
    assert "tag/f1" not in history.columns


def test_numbers_and_several_labels():
    rng = np.random.default_rng(3)
    numbers = [rng.normal(size=len(words)) + words for words in DATA.tokens]
    flags = [np.stack([words > 9, words % 2], 1).astype(float) for words in DATA.tokens]
    for row in flags:
        row[rng.random(row.shape) < 0.1] = np.nan
    tasks = [
        pt.Task("size", per="tokens", metrics=["pearson", "spearman", "explained_variance", "mae"]),
        pt.Task("flag", per="tokens", loss="binary_cross_entropy", outputs=2, metrics=["f1", "balanced_accuracy"]),
    ]
    model = pt.MultiTaskModel(INPUTS, tasks=tasks, encoder="window", seed=2)
    trainer = pt.Trainer(model, lr=0.05)
    data = DATA.whole[0], {"size": numbers, "flag": flags}
    trainer.fit(data, **FIT)
    p, y = (np.concatenate(list(each)) for each in (model.predict(data[0])["size"], numbers))
    want = [stats.pearsonr(p, y)[0], stats.spearmanr(p, y)[0], sk.explained_variance_score(y, p)]
    found = trainer.evaluate(data)
    assert [found["size"][name] for name in ("pearson", "spearman", "explained_variance")] == pytest.approx(want, 1e-5)
    p, y = (np.concatenate(list(each)) for each in (model.predict(data[0])["flag"], flags))
    known = ~np.isnan(y)
    each = [sk.f1_score(y[known[:, j], j], p[known[:, j], j] > 0.5) for j in range(2)]
    assert found["flag"]["f1"] == pytest.approx(np.mean(each), rel=1e-6)


def test_metrics_of_peoples_own():
    def share(p, y):
        return (p.argmax(1) == y).double().mean()

    other = torchmetrics.classification.MulticlassAccuracy(num_classes=TAGS, average="micro")
    model = make_model(["accuracy", share, {"other": other}])
    found = pt.Trainer(model).evaluate(DATA.whole)["tag"]
    assert [found["share"], found["other"]] == pytest.approx([found["accuracy"]] * 2, rel=1e-6)


class Largest:
    """How many positions came at a time, at most."""

    def __call__(self, p, y):
        return len(y)

    def reset(self):
        self.most = 0

    def update(self, p, y):
        self.most = max(self.most, len(y))

    def compute(self):
        return self.most


def test_outputs_of_a_part_are_there_at_a_time():
    model = make_model([{"largest": Largest()}])
    data = {"tokens": [[1, 2]] * 10_000}, {"tag": [[1, 2]] * 10_000}
    assert pt.Trainer(model).evaluate(data, batch_size=64)["tag"]["largest"] == 2 * 4096
