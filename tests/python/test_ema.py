"""Averages of parameters over steps: the published sums, checkpoints, and nothing else changed."""

import copy
import pickle

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import make_model, make_tasks, same_bits
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

FIT = {"batch_size": 32, "progress": False}


class Steps(pt.Callback):
    """The parameters after each step."""

    every_steps = 1

    def __init__(self):
        self.states = []

    def on_fit_start(self, trainer):
        self.first = trainer.model.state_dict()

    def on_steps(self, trainer):
        self.states.append(trainer.model.state_dict())


def normed(seed=0):
    return pt.MultiTaskModel(8, tasks=make_tasks(), encoder=pt.encoder.MLP([16], norm="batch"), seed=seed)


def averaged(data, ema, model=None, **more):
    model, steps = normed() if model is None else model, Steps()
    pt.Trainer(model, lr=0.01, callbacks=[steps, ema], **more).fit(data.whole, epochs=3, **FIT)
    return ema.model.state_dict(), steps, model


def close(got, want):
    assert got.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_average_is_the_weighted_sum_over_all_steps(data):
    got, steps, model = averaged(data, pt.EMA(decay=0.8))
    weights = 0.8 ** np.arange(len(steps.states))[::-1].astype(float)
    assert len(weights) == 15
    want = {
        name: sum(w * state[name].astype(float) for w, state in zip(weights, steps.states, strict=True)) / weights.sum()
        for name in got
    }
    close(got, want)
    assert any("mean" in name for name in got), "batch statistics are averaged too"
    assert not same_bits(got, model.state_dict())
    plain = normed()
    pt.Trainer(plain, lr=0.01).fit(data.whole, epochs=3, **FIT)
    assert same_bits(plain.state_dict(), model.state_dict())


def test_without_correction_it_is_that_of_torch(data):
    got, steps, _ = averaged(data, pt.EMA(decay=0.9, bias_correction=False))

    def module(state):
        made = torch.nn.Module()
        for name, array in state.items():
            made.register_parameter(name.replace(".", "_"), torch.nn.Parameter(torch.from_numpy(array)))
        return made

    theirs = AveragedModel(module(steps.first), multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.n_averaged += 1  # theirs would begin with the first step, ours with what was there before it
    for state in steps.states:
        theirs.update_parameters(module(state))
    parameters = dict(theirs.module.named_parameters())
    close(got, {name: parameters[name.replace(".", "_")].detach().numpy() for name in got})


def test_the_mean_of_all_steps(data):
    got, steps, _ = averaged(data, pt.EMA(decay=None))
    close(got, {name: np.mean([state[name] for state in steps.states], axis=0) for name in got})


def test_every_so_many_steps_and_with_accumulated_batches(data):
    got, steps, _ = averaged(data, pt.EMA(decay=None, every=4))
    close(got, {name: np.mean([steps.states[i][name] for i in (3, 7, 11)], axis=0) for name in got})
    ema = pt.EMA(decay=None)
    got, steps, _ = averaged(data, ema, accumulate=2)
    assert ema.updates == len(steps.states) == 9
    close(got, {name: np.mean([state[name] for state in steps.states], axis=0) for name in got})


def test_no_decay_at_all_is_the_last_step(data):
    got, _, model = averaged(data, pt.EMA(decay=0.0))
    assert same_bits(got, model.state_dict())


def test_a_run_that_is_resumed_has_the_same_average(data, tmp_path):
    class Break(pt.Callback):
        every_steps = 1

        def on_steps(self, trainer):
            if trainer.steps == 8 and len(trainer.callbacks) == 3:
                raise SystemExit

    def run(folder, *more):
        ema = pt.EMA(decay=0.9)
        callbacks = [ema, *more, pt.Checkpoint(folder, every_steps=3)]
        trainer = pt.Trainer(normed(), lr=0.01, callbacks=callbacks)
        trainer.fit(data.whole, epochs=4, resume=folder, **FIT)
        return ema.model.state_dict(), ema.updates

    with pytest.raises(SystemExit):
        run(tmp_path / "a", Break())
    resumed, whole = run(tmp_path / "a"), run(tmp_path / "b")
    assert resumed[1] == whole[1] == 20
    assert same_bits(resumed[0], whole[0])


def test_it_goes_on_over_calls_and_begins_anew_with_another_model(data):
    ema = pt.EMA()
    with pytest.raises(ValueError, match=r"`ema.model`: nothing was averaged yet; pass pt.Trainer\(callbacks="):
        ema.model  # noqa: B018
    trainer = pt.Trainer(make_model(), callbacks=[ema])
    trainer.fit(data.whole, epochs=1, **FIT)
    trainer.fit(data.whole, epochs=1, **FIT)
    assert ema.updates == 10
    other = pt.MultiTaskModel(8, tasks=[pt.Task("age")])
    pt.Trainer(other, callbacks=[ema]).fit((data.x, data.age), epochs=1, **FIT)
    assert ema.updates == 5
    assert ema.model.state_dict().keys() == other.state_dict().keys()


def test_the_model_of_averages_is_a_copy(data):
    ema = pt.EMA()
    trainer = pt.Trainer(make_model(), callbacks=[ema])
    trainer.fit(data.whole, epochs=2, **FIT)
    averaged, before = ema.model, trainer.model.state_dict()
    smooth, raw = (pt.Trainer(each).evaluate(data.whole).loss for each in (averaged, trainer.model))
    assert np.isfinite(smooth)
    assert smooth != raw
    pt.Trainer(averaged).fit(data.whole, epochs=1, **FIT)
    assert same_bits(before, trainer.model.state_dict())
    assert not same_bits(averaged.state_dict(), ema.model.state_dict())


def test_copies_and_pickles_go_on_by_themselves(data):
    trainer = pt.Trainer(make_model(), callbacks=[pt.EMA(0.9)])
    trainer.fit(data.whole, epochs=1, **FIT)
    others = [copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))]
    for each in (trainer, *others):
        each.fit(data.whole, epochs=1, **FIT)
    first = trainer.callbacks[0]
    for each in others:
        assert each.callbacks[0].updates == first.updates == 10
        assert same_bits(each.callbacks[0].model.state_dict(), first.model.state_dict())


def test_a_module_of_ones_own(data):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(8, 6)
            self.norm = torch.nn.BatchNorm1d(6)

        def forward(self, x):
            return torch.relu(self.norm(self.inner(x)))

    with torch.random.fork_rng(devices=[]):
        model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=Net())
    got, steps, _ = averaged(data, pt.EMA(decay=None), model)
    close(got, {name: np.mean([state[name] for state in steps.states], axis=0) for name in got})


def test_a_checkpoint_of_another_model_is_refused(data):
    ema, other = pt.EMA(), pt.EMA()
    for each, model in ((ema, make_model()), (other, normed())):
        pt.Trainer(model, callbacks=[each]).fit(data.whole, epochs=1, **FIT)
    with pytest.raises(ValueError, match="its averages are of another model"):
        ema.restore(other.state(), other.arrays())
    assert ema.updates == 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"decay": 1.0}, ValueError, "`decay` should be a number from 0 to below 1, or None; got 1.0"),
        ({"decay": "0.9"}, TypeError, "`decay` should be a number from 0 to below 1, or None; got '0.9'"),
        ({"every": 0}, ValueError, "`every` should be a whole number of at least 1; got 0"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        pt.EMA(**arguments)
