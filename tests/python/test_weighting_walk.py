"""Every weighting with every sharing scheme trains on conflicting tasks with missing labels, and resumes bit by bit."""

import numpy as np
import polytask as pt
import pytest
from conftest import same_bits, without_seconds
from polytask import registry

FIT = {"epochs": 4, "batch_size": 24, "progress": False}


def names(family):
    return [info["name"] for info in registry.REGISTRY if info["family"] == family]


#: Schemes for funnels, whose tasks are decisions.
FUNNELS = {"esmm", "aitm"}


def conflicting(sharing, rows=120, seed=3):
    """Two regressions of opposite sign, a classification, two decisions; a third of each task's labels is missing. For
    funnels decisions of opposite sign."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 6)).astype(np.float32)
    up = (x @ generator.normal(size=6)).astype(np.float32)
    y = {"up": up, "down": -up + 0.1 * x[:, 0], "side": (x[:, 1] > 0).astype(int), "flags": (x[:, 2:4] > 0) * 1.0}
    if sharing in FUNNELS:
        y = {name: (labels if labels.ndim == 1 else labels[:, 0]) > 0 for name, labels in y.items()}
    for k, name in enumerate(y):
        lost = (np.arange(rows) + k) % 3 == 0
        y[name] = np.where(lost, -1, y[name]) if name == "side" else np.asarray(y[name], np.float32)
        if name != "side":
            y[name][lost] = np.nan
    # One whole batch without a label of one task.
    y["up"][:24] = np.nan
    return x, y


def trainer(weighting, sharing, folder=None):
    tasks = [
        pt.Task("up"),
        pt.Task("down"),
        pt.Task("side", classes=2),
        pt.Task("flags", loss="binary_cross_entropy", outputs=2),
    ]
    if sharing in FUNNELS:
        tasks = [pt.Task(task.name, loss="binary_cross_entropy") for task in tasks]
    encoder = pt.encoder.MLP([8, 8], dropout=0.1, norm="batch")
    model = pt.MultiTaskModel(6, tasks=tasks, encoder=encoder, sharing=sharing, seed=2)
    callbacks = [] if folder is None else [pt.Checkpoint(folder, every_steps=1)]
    return pt.Trainer(model, pt.optim.Adam(lr=1e-2), weighting=weighting, callbacks=callbacks, clip_norm=5.0, seed=4)


class Interrupt(pt.Callback):
    """Breaks off after so many batches."""

    def __init__(self, after):
        self.every_steps = after

    def on_steps(self, trainer):
        raise SystemExit


@pytest.mark.parametrize("sharing", names("sharing"))
@pytest.mark.parametrize("weighting", names("weighting"))
def test_it_trains_and_resumes(weighting, sharing, tmp_path):
    data, validation = conflicting(sharing), conflicting(sharing, rows=60, seed=5)
    whole = trainer(weighting, sharing)
    before = whole.evaluate(data)
    history = whole.fit(data, validation=validation, shuffle=False, **FIT)
    state = whole.model.state_dict()
    assert all(np.isfinite(array).all() for array in state.values())
    after = whole.evaluate(data)
    losses = [[float(results[name]["loss"]) for name in ("up", "down", "side", "flags")] for results in (before, after)]
    assert np.isfinite(losses).all()
    assert sum(losses[1]) < sum(losses[0]), "it learned nothing"
    with pytest.raises(SystemExit):
        trainer(weighting, sharing, tmp_path).fit(
            data, validation=validation, shuffle=False, callbacks=[Interrupt(13)], **FIT
        )
    resumed = trainer(weighting, sharing, tmp_path)
    got = resumed.fit(data, validation=validation, shuffle=False, resume=tmp_path, **FIT)
    assert same_bits(resumed.model.state_dict(), state)
    assert without_seconds(got) == without_seconds(history)


#: Weightings whose steps are the same here: constants of 1; logarithms, for as long as STCH warms up.
ALIKE = [{"equal", "static"}, {"scale_invariant", "stch"}]

#: And where tasks share nothing, so that no gradients conflict: surgery cuts nothing, projections are the mean.
ALIKE_APART = [
    {"equal", "static", "graddrop", "gradvac", "pcgrad"},
    {"scale_invariant", "stch"},
    {"dualproj", "upgrad"},
]


@pytest.mark.parametrize(
    ("sharing", "alike"), [("hard", ALIKE), ("ple", ALIKE), ("soft", ALIKE_APART)], ids=["hard", "ple", "soft"]
)
def test_each_weighting_makes_steps_of_its_own(sharing, alike):
    data, validation = conflicting(sharing), conflicting(sharing, rows=60, seed=5)
    alone = {}
    for weighting in names("weighting"):
        trained = trainer(weighting, sharing)
        trained.fit(data, validation=validation, shuffle=False, train_metrics=False, **FIT)
        state = b"".join(array.tobytes() for array in trained.model.state_dict().values())
        alone.setdefault(state, set()).add(weighting)
    together = [weightings for weightings in alone.values() if len(weightings) > 1]
    assert sorted(map(sorted, together)) == sorted(map(sorted, alike))
