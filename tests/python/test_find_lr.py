"""The learning-rate range test: what it finds, what it leaves alone, what it refuses."""

import copy
import math

import matplotlib.pyplot as plt
import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_model, make_tasks, same_bits
from polytask.results.learning_rates import LearningRates
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler


def test_each_step_has_its_learning_rate_and_its_loss():
    """One parameter, `L = (w x - y)^2`: plain gradient descent by hand, a step a rate."""
    x = np.full((4, 1), 2.0, np.float32)
    model = pt.MultiTaskModel(1, tasks=[pt.Task("a")], encoder=pt.encoder.MLP([]))
    names = list(model.state_dict())
    start = dict(zip(names, [np.zeros_like(v) for v in model.state_dict().values()], strict=True))
    model.load_state_dict(start)
    found = pt.Trainer(model, "sgd").find_lr((x, np.ones(4)), batch_size=4, min_lr=1e-4, max_lr=1e-2, steps=5)
    assert found.lrs == pytest.approx(np.geomspace(1e-4, 1e-2, 5), rel=1e-12)
    w = b = 0.0
    for lr, loss in zip(found.lrs, found.losses, strict=True):
        error = 2 * w + b - 1
        assert loss == pytest.approx(error**2, rel=1e-5)
        w, b = w - lr * 2 * error * 2, b - lr * 2 * error


def test_the_suggestion_is_where_a_known_curve_falls_most():
    lrs = np.geomspace(1e-5, 1.0, 101)
    falls = 2 - 1 / (1 + np.exp(-4 * (np.log10(lrs) + 3)))  # steepest at 1e-3
    losses = falls + np.where(lrs > 0.1, 30 * (np.log10(lrs) + 1), 0)
    found = LearningRates(lrs.tolist(), losses.tolist())
    assert found.suggestion == pytest.approx(1e-3, rel=0.13)
    noisy = losses + np.random.default_rng(0).normal(scale=0.02, size=101)
    assert 3e-4 < LearningRates(lrs.tolist(), noisy.tolist()).suggestion < 3e-3
    assert repr(found).startswith("LearningRates: tried 101 learning rates from 1e-05 to 1; the loss fell most steeply")
    rising = LearningRates(lrs.tolist(), np.arange(101.0).tolist())
    assert math.isnan(rising.suggestion)
    assert repr(rising).endswith("and the loss fell with none of them")


@pytest.mark.parametrize("steps", [5, 20, 100])
def test_a_fall_that_may_be_chance_is_said(steps):
    rng = np.random.default_rng(0)
    lrs = np.geomspace(1e-5, 1.0, steps)
    noise = [LearningRates(lrs.tolist(), (1 + 0.1 * rng.normal(size=steps)).tolist()) for _ in range(300)]
    assert np.mean([not math.isnan(each.suggestion) and not each.doubtful for each in noise]) < 0.08
    if steps == 5:  # too few to tell a fall from a scatter
        return
    falls = 2 - 1 / (1 + np.exp(-4 * (np.log10(lrs) + 3)))
    real = [LearningRates(lrs.tolist(), (falls + 0.02 * rng.normal(size=steps)).tolist()) for _ in range(300)]
    assert np.mean([each.doubtful for each in real]) < 0.1
    doubtful = next(each for each in noise if each.doubtful)
    assert repr(doubtful).endswith(
        "It fell by no more than losses of batches scatter: `steps` or batches should be larger"
    )
    assert repr(real[0]).partition("lowest at ")[2].count(" ") == 0


def test_a_test_of_few_steps_on_noise_warns(caplog):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(400, 3)).astype(np.float32), rng.normal(size=400)
    found = pt.Trainer(pt.MultiTaskModel(3, tasks=[pt.Task("a")])).find_lr(data, steps=8, batch_size=8, max_lr=1e-3)
    assert found.doubtful
    assert "may be chance: in 8 steps the loss fell by no more than those of batches scatter" in caplog.text


def test_training_with_the_suggestion_learns(data):
    model = make_model()
    found = pt.Trainer(model).find_lr(data.whole)
    assert found.lrs[0] < found.suggestion < found.lrs[-1]
    fitted = pt.Trainer(model, lr=found.suggestion).fit(data.whole, epochs=5, progress=False)
    timid = pt.Trainer(make_model(), lr=found.lrs[0]).fit(data.whole, epochs=5, progress=False)
    assert fitted["loss"][-1] < 0.8 * timid["loss"][-1]


def test_it_ends_where_the_loss_grows_beyond_bounds(data):
    found = pt.Trainer(make_model(), "sgd").find_lr(data.whole, min_lr=1e-3, max_lr=1e6, steps=60)
    assert 5 < len(found.lrs) == len(found.losses) < 60
    assert np.isfinite(found.losses).all()


def loaded(data):
    rows = TensorDataset(*map(torch.from_numpy, (data.x, data.income, data.age, data.topics)))
    order = torch.Generator().manual_seed(1)
    drawn = WeightedRandomSampler(torch.ones(160), 160, generator=torch.Generator().manual_seed(1))
    return {
        "rows": data.whole,
        "a data set": rows,
        "a loader": DataLoader(rows, batch_size=32, shuffle=True, generator=order),
        "a loader by the global generator": DataLoader(rows, batch_size=32, shuffle=True),
        "a sampler": DataLoader(rows, batch_size=32, sampler=drawn),
        "several": {"income": (data.x, data.income), ("age", "topics"): DataLoader(
            TensorDataset(*map(torch.from_numpy, (data.x, data.age, data.topics))), batch_size=32, shuffle=True)},
        "a function": lambda: iter([data.whole]),
    }  # fmt: skip


@pytest.mark.usefixtures("own_seed")
@pytest.mark.parametrize("form", loaded(Data()))
def test_nothing_is_left_changed(data, form):
    """A trainer goes on after the test as one that made none, bit by bit."""
    results = []
    for tests in (False, True):
        torch.manual_seed(3)
        given = loaded(data)[form]
        encoder = pt.encoder.MLP([16], dropout=0.2, norm="batch")
        tasks = [*make_tasks()[:1], pt.Task("age", scale="standardize"), *make_tasks()[2:]]
        trainer = pt.Trainer(pt.MultiTaskModel(8, tasks=tasks, encoder=encoder), weighting="dwa", accumulate=2, lr=0.01)
        trainer.fit(given, epochs=2, progress=False)
        before, history = trainer.model.state_dict(), copy.deepcopy(trainer.history.rows)
        if tests:
            found = trainer.find_lr(given, steps=8)
            assert len(found.losses) == 8
            assert same_bits(before, trainer.model.state_dict())
            assert trainer.history.rows == history
            assert (trainer.epochs, trainer.lr) == (2, 0.01)
        trainer.fit(given, epochs=1, progress=False)
        results.append((trainer.model.state_dict(), trainer.history["loss"], torch.rand(1)))
    (one, losses, drawn), (other, same, too) = results
    assert same_bits(one, other)
    assert losses == same
    assert drawn == too


def test_a_fresh_model_learns_neither_scales_nor_names(data):
    model = pt.MultiTaskModel(8, tasks=[pt.Task("age", scale="standardize")])
    pt.Trainer(model).find_lr((data.x, data.age), steps=5)
    assert model.tasks[0].scaling is None


def test_groups_keep_their_ratios(data):
    groups = {"encoder": 1e-3, "heads": 3e-3}
    trainer = pt.Trainer(make_model(), pt.optim.SGD(lr=groups), schedule="cosine")
    one = trainer.find_lr(data.whole, min_lr=3e-3, max_lr=3.0, steps=20)
    same = pt.Trainer(make_model(), pt.optim.SGD(lr={"encoder": 1.0, "heads": 3.0}))
    assert one.losses == same.find_lr(data.whole, min_lr=3e-3, max_lr=3.0, steps=20).losses
    other = pt.Trainer(make_model(), "sgd").find_lr(data.whole, min_lr=3e-3, max_lr=3.0, steps=20)
    assert one.losses != other.losses
    first = pt.Trainer(make_model(), pt.optim.SGD(lr=groups)).fit(data.whole, epochs=1, progress=False)
    assert one.losses[0] == pytest.approx(first[0]["loss"], rel=0.5)


def test_all_rates_of_muon_rise_together(data):
    how = {"min_lr": 1e-3, "max_lr": 0.1, "steps": 12}
    one = pt.Trainer(make_model(), pt.optim.Muon(lr=0.02, adamw_lr=0.01)).find_lr(data.whole, **how)
    same = pt.Trainer(make_model(), pt.optim.Muon(lr=0.2, adamw_lr={"default": 0.1})).find_lr(data.whole, **how)
    assert one.losses == pytest.approx(same.losses, rel=1e-6)
    still = pt.Trainer(make_model(), pt.optim.Muon(lr=0.02, adamw_lr=0.001)).find_lr(data.whole, **how)
    assert one.losses != pytest.approx(still.losses, rel=1e-3)


def test_without_a_suggestion_it_says_so(data, caplog):
    found = pt.Trainer(make_model(), "sgd").find_lr(data.whole, min_lr=1e-12, max_lr=1e-11, steps=5)
    assert np.isnan(found.suggestion) == ("find_lr has no suggestion" in caplog.text)
    caplog.clear()
    still = pt.MultiTaskModel(8, tasks=make_tasks())
    flat = (np.zeros((40, 8), np.float32), {"age": np.arange(40.0)})
    lrs = pt.Trainer(still, "sgd").find_lr(flat, batch_size=40, min_lr=1e3, max_lr=1e6, steps=6)
    assert np.isnan(lrs.suggestion)
    assert "find_lr has no suggestion: the loss fell with none of" in caplog.text


def test_a_weighting_that_looks_at_validation_rows(data):
    trainer = pt.Trainer(make_model(), weighting="auto_lambda")
    with pytest.raises(ValueError, match="`validation` should be rows in memory"):
        trainer.find_lr(data.whole, steps=5)
    assert len(trainer.find_lr(data.whole, validation=0.25, steps=5).losses) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"min_lr": 0}, ValueError, "`min_lr` should be a number above 0; got 0"),
        ({"max_lr": "1"}, TypeError, "`max_lr` should be a number above 0; got '1'"),
        ({"min_lr": 1.0, "max_lr": 0.1}, ValueError, "`max_lr` should be above `min_lr`, 1.0; got 0.1"),
        ({"steps": 4}, ValueError, "`steps` should be a whole number of at least 5; got 4"),
        ({"batch_size": 0}, ValueError, "`batch_size` should be a whole number of at least 1; got 0"),
        ({"num_iter": 9}, TypeError, "unknown argument `num_iter`; .*`steps`"),
    ],
)
def test_bad_arguments(data, arguments, error, message):
    with pytest.raises(error, match=message):
        pt.Trainer(make_model()).find_lr(data.whole, **arguments)


def test_bad_data(data):
    trainer = pt.Trainer(make_model())
    with pytest.raises(ValueError, match="`data` can be read only once, and would be gone after the test"):
        trainer.find_lr(iter([data.whole]))
    with pytest.raises(ValueError, match="has no batch"):
        trainer.find_lr([])
    wrong = [data.whole, (data.x, {**data.targets, "income": data.income + 5})]
    with pytest.raises(ValueError, match="income"):
        trainer.find_lr(wrong, steps=9)


def test_the_picture(data):
    found = pt.Trainer(make_model()).find_lr(data.whole, steps=20)
    axis = found.plot()
    assert axis.get_xscale() == "log"
    assert axis.lines[0].get_ydata().tolist() == found.losses
    assert axis.lines[2].get_xdata()[0] == found.suggestion
    plt.close(axis.figure)
