"""Optimizers and schedulers of PyTorch in the trainer, against the same loop in plain PyTorch."""

import copy
import math
import pickle
import warnings
from functools import partial

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits, without_seconds
from polytask.training.own_optimizer import OwnOptimizer, read
from torch import nn
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True)


@pytest.fixture(autouse=True)
def own_draws():
    """Modules draw their parameters; the generator is as before afterwards."""
    with torch.random.fork_rng([]):
        yield


def data(rows=120):
    x = np.random.default_rng(0).normal(size=(rows, 6)).astype(np.float32)
    return x, x[:, 0] + x[:, 2], x[:, 1] * x[:, 0]


def batches(count=20, rows=30):
    whole = data(count * rows)
    return [tuple(each[i * rows : (i + 1) * rows] for each in whole) for i in range(count)]


def model(**more):
    encoder = pt.encoder.MLP([8], activation="tanh")
    return pt.MultiTaskModel(6, tasks=[pt.Task("a"), pt.Task("b", weight=0.5)], encoder=encoder, seed=0, **more)


class Plain(nn.Module):
    """The same network in PyTorch."""

    def __init__(self, of):
        super().__init__()
        state = {name: torch.from_numpy(array.copy()) for name, array in of.state_dict().items()}
        self.trunk = nn.Linear(6, 8)
        self.a, self.b = nn.Linear(8, 1), nn.Linear(8, 1)
        self.paths = {"encoder.0": self.trunk, "heads.a": self.a, "heads.b": self.b}
        with torch.no_grad():
            for path, linear in self.paths.items():
                linear.weight.copy_(state[f"{path}.weight"])
                linear.bias.copy_(state[f"{path}.bias"])

    def objective(self, x, a, b):
        h = torch.tanh(self.trunk(torch.from_numpy(x)))
        each = [(head(h)[:, 0] - torch.from_numpy(y)).square().mean() for head, y in ((self.a, a), (self.b, b))]
        return each[0] + 0.5 * each[1]

    def ordered(self, of):
        """Its parameters in the order of a model's."""
        named = {f"{path}.{kind}": getattr(linear, kind) for path, linear in self.paths.items()
                 for kind in ("weight", "bias")}  # fmt: skip
        return [named[name] for name in of.state_dict()]

    def close_to(self, trained, tolerance=1e-6):
        for (name, array), parameter in zip(trained.state_dict().items(), self.ordered(trained), strict=True):
            np.testing.assert_allclose(array, parameter.detach(), rtol=tolerance, atol=tolerance, err_msg=name)


def trained_plainly(plain, ours, make, schedule=None, clip=None, penalty=0.0):
    """The learning rates of 20 steps."""
    optimizer = make(plain.ordered(ours))
    scheduler = None if schedule is None else schedule(optimizer)
    rates = []
    for batch in batches():
        optimizer.zero_grad()
        objective = plain.objective(*batch)
        if penalty:
            weights = [linear.weight for linear in plain.paths.values()]
            objective = objective + penalty * sum(weight.square().sum() for weight in weights)
        objective.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return rates


MAKERS = {
    "sgd": partial(torch.optim.SGD, lr=0.05),
    "momentum": SGD,
    "adam": partial(torch.optim.Adam, lr=0.01, amsgrad=True),
    "adamw": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "adamax": partial(torch.optim.Adamax, lr=0.01),
    "rprop": partial(torch.optim.Rprop, lr=0.01),
    "nadam": partial(torch.optim.NAdam, lr=0.01),
    "function": lambda parameters: torch.optim.RMSprop([one(parameters[0]), *map(two, parameters[1:])]),
}


def one(parameter):
    return {"params": [parameter], "lr": 0.01}


def two(parameter):
    return {"params": [parameter], "lr": 0.02}


@pytest.mark.parametrize("name", MAKERS)
def test_steps_are_those_of_torch(name):
    ours = model()
    plain = Plain(ours)
    trainer = pt.Trainer(ours, optimizer=MAKERS[name])
    rates = []
    for batch in batches():
        trainer.step(batch)
        rates.append(trainer.lr)
    assert rates == trained_plainly(plain, ours, MAKERS[name])
    # Where gradients are nearly 0, what divides by their size makes rounding large.
    plain.close_to(ours, 1e-6 if name in ("sgd", "momentum") else 2e-5)


SCHEDULES = {
    "one cycle": partial(OneCycleLR, max_lr=0.05, total_steps=21),
    "cosine": partial(CosineAnnealingLR, T_max=20),
    "steps": partial(MultiStepLR, milestones=[4, 9, 9], gamma=0.5),
    "lambda": partial(LambdaLR, lr_lambda=lambda step: 1 / (step + 1)),
    "in turn": lambda optimizer: SequentialLR(
        optimizer, [ConstantLR(optimizer, 0.1, 5), ExponentialLR(optimizer, 0.9)], milestones=[5]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedulers_step_once_a_step(name):
    ours = model()
    plain = Plain(ours)
    trainer = pt.Trainer(ours, optimizer=SGD, schedule=SCHEDULES[name])
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch in batches():
            trainer.step(batch)
            rates.append(trainer.lr)
    with warnings.catch_warnings():
        # The order of calls there is torch's own business.
        warnings.simplefilter("ignore")
        assert rates == trained_plainly(plain, ours, SGD, SCHEDULES[name])
    assert len(set(rates)) > 1
    plain.close_to(ours)


def test_clipping_and_regularizers_are_as_ever():
    ours = model()
    plain = Plain(ours)
    trainer = pt.Trainer(ours, optimizer=SGD, clip_norm=0.5, regularizers=[pt.regularizer.L2(0.01)])
    for batch in batches():
        trainer.step(batch)
    trained_plainly(plain, ours, SGD, clip=0.5, penalty=0.01)
    plain.close_to(ours)


def test_weightings_and_micro_batches_are_as_ever():
    torchs, ours = (
        pt.Trainer(model(), optimizer=optimizer, weighting="upgrad", accumulate=2)
        for optimizer in (partial(torch.optim.SGD, lr=0.1), pt.optim.SGD(lr=0.1))
    )
    for trainer in (torchs, ours):
        for batch in batches():
            trainer.step(batch)
    for name, array in ours.model.state_dict().items():
        np.testing.assert_allclose(array, torchs.model.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_the_history_has_the_learning_rate():
    schedule = partial(OneCycleLR, max_lr=0.05, total_steps=40)
    trainer = pt.Trainer(model(), optimizer=SGD, schedule=schedule)
    assert trainer.lr == pytest.approx(0.05 / 25)
    history = trainer.fit(data(), epochs=10, batch_size=30, progress=False)
    plain = SGD([nn.Parameter(torch.zeros(1))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = schedule(plain)
        rates = []
        for step in range(40):
            if step % 4 == 3:
                rates.append(plain.param_groups[0]["lr"])
            theirs.step()
    assert history["lr"] == rates
    assert repr(trainer).startswith("Trainer(optimizer='SGD', schedule='OneCycleLR', weighting='equal', steps=40,")


def test_a_schedule_of_ours_multiplies_the_rates_of_all_groups():
    groups = lambda parameters: torch.optim.SGD([{"params": parameters[:1], "lr": 0.2}, one(parameters[1])], lr=1.0)  # noqa: E731
    trainer = pt.Trainer(model(), optimizer=groups, schedule=pt.schedule.Cosine(warmup=2))
    ours = pt.Trainer(model(), optimizer=pt.optim.SGD(lr=0.2), schedule=pt.schedule.Cosine(warmup=2))
    theirs = [each.fit(data(), epochs=3, batch_size=30, progress=False)["lr"] for each in (trainer, ours)]
    assert theirs[0] == pytest.approx(theirs[1])
    rates = [group["lr"] for group in trainer._own["optimizer"]._optimizer.param_groups]
    assert rates[0] == pytest.approx(20 * rates[1])
    plateau = pt.Trainer(
        model(), optimizer=SGD, schedule=pt.schedule.Plateau(monitor="loss", patience=0, threshold=0.9)
    )
    assert plateau.fit(data(), epochs=4, progress=False)["lr"][-1] < 0.05


def test_a_class_takes_lr():
    ours, plain = pt.Trainer(model(), optimizer=torch.optim.SGD, lr=0.1), Plain(model())
    for batch in batches():
        ours.step(batch)
    assert ours.lr == 0.1
    trained_plainly(plain, ours.model, partial(torch.optim.SGD, lr=0.1))
    plain.close_to(ours.model)
    assert pt.Trainer(model(), optimizer=torch.optim.SGD).lr == 1e-3


def test_a_function_may_ask_for_names():
    seen = []

    def by_name(named_parameters):
        seen.extend(named_parameters)
        heads = [p for name, p in named_parameters if name.startswith("heads")]
        return torch.optim.SGD(heads, lr=0.1)

    ours = model()
    before = ours.state_dict()
    trainer = pt.Trainer(ours, optimizer=by_name)
    trainer.step(batches()[0])
    assert [name for name, _ in seen] == list(before)
    assert all(tuple(p.shape) == before[name].shape for name, p in seen)
    after = ours.state_dict()
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {
        name for name in before if name.startswith("heads")
    }
    # What they hold is the model's own memory.
    assert all(np.array_equal(p.detach().numpy(), after[name]) for name, p in seen)


class Replaces(torch.optim.Optimizer):
    """Puts new tensors in the place of the old ones."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.05})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data = p.data - group["lr"] * p.grad


def test_one_that_replaces_tensors_moves_the_model_too():
    ours = model()
    plain = Plain(ours)
    trainer = pt.Trainer(ours, optimizer=Replaces)
    for batch in batches():
        trainer.step(batch)
    trained_plainly(plain, ours, partial(torch.optim.SGD, lr=0.05))
    plain.close_to(ours)


def test_what_is_frozen_is_not_given_and_has_no_gradient():
    given = []

    def make(named_parameters):
        given.extend(name for name, _ in named_parameters)
        return torch.optim.SGD([p for _, p in named_parameters], lr=0.1, momentum=0.9, weight_decay=0.1)

    ours = model()
    ours.freeze("heads.a")
    before = ours.state_dict()
    trainer = pt.Trainer(ours, optimizer=make)
    assert given == [name for name in before if not name.startswith("heads.a")]
    steps = batches()
    trainer.step(steps[0])
    ours.freeze("encoder")
    between = ours.state_dict()
    trainer.step(steps[1])
    after = ours.state_dict()
    # Neither momentum nor decay moves what is frozen.
    for name in before:
        moved = [not np.array_equal(x[name], y[name]) for x, y in ((before, between), (between, after))]
        assert moved == [not name.startswith("heads.a"), name.startswith("heads.b")], name
    ours.unfreeze("encoder")
    trainer.step(steps[2])
    assert not np.array_equal(after["encoder.0.weight"], ours.state_dict()["encoder.0.weight"])
    ours.unfreeze("heads.a")
    with pytest.raises(ValueError, match=r"`heads\.a\.weight`, `heads\.a\.bias` were frozen when `make` was made"):
        trainer.step(steps[3])


def test_all_frozen_waits():
    ours = model()
    ours.freeze()
    trainer = pt.Trainer(ours, optimizer=SGD)
    assert trainer.lr == 0.0
    with pytest.raises(ValueError, match="nothing to train"):
        trainer.step(batches()[0])
    ours.unfreeze()
    trainer.step(batches()[0])
    assert trainer.lr == 0.05


RESUMED = {
    "momentum": (SGD, "constant"),
    "adam": (MAKERS["adam"], SCHEDULES["steps"]),
    "one cycle": (SGD, partial(OneCycleLR, max_lr=0.05, total_steps=100)),
    "in turn": (MAKERS["adamw"], SCHEDULES["in turn"]),
    "ours": (MAKERS["nadam"], pt.schedule.Cosine(warmup=3)),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("name", RESUMED)
def test_a_run_resumes_with_the_same_bits(name, tmp_path):
    optimizer, schedule = RESUMED[name]

    def run(epochs, folder):
        callbacks = [pt.Checkpoint(folder, every_steps=3)]
        trainer = pt.Trainer(
            model(), optimizer=optimizer, schedule=schedule, callbacks=callbacks, weighting="dwa", clip_norm=1.0
        )
        history = trainer.fit(data(), epochs=epochs, batch_size=30, progress=False, resume=folder)
        return trainer.model.state_dict(), history

    if name == "ours":  # whose length is that of the call
        trainer = pt.Trainer(model(), optimizer=optimizer, schedule=schedule)
        trainer.fit(data(), epochs=3, batch_size=30, progress=False)
        trainer.save(tmp_path / "a.safetensors")
        other = pt.Trainer(model(), optimizer=optimizer, schedule=schedule)
        other.restore(tmp_path / "a.safetensors")
        for each in (trainer, other):
            each.fit(data(), epochs=2, batch_size=30, progress=False)
        assert same_bits(trainer.model.state_dict(), other.model.state_dict())
        return
    want, history = run(5, tmp_path / "whole")
    run(2, tmp_path / "halves")
    got, resumed = run(5, tmp_path / "halves")
    assert same_bits(want, got)
    assert without_seconds(history) == without_seconds(resumed)


def test_a_checkpoint_says_by_name_what_must_be_passed_again(tmp_path):
    path = tmp_path / "a.safetensors"
    trainer = pt.Trainer(model(), optimizer=SGD)
    trainer.step(batches()[0])
    trainer.save(path)
    with pytest.raises(
        ValueError, match="its optimizer was code of your own, `SGD`, which no file holds: pass it again"
    ):
        pt.Trainer(model()).restore(path)
    with pytest.raises(ValueError, match="`SGD`, and here it is `Adam`"):
        pt.Trainer(model(), optimizer=torch.optim.Adam).restore(path)
    with pytest.raises(ValueError, match="other settings: `optimizer`"):
        pt.Trainer(model(), optimizer=SGD, schedule=SCHEDULES["cosine"]).restore(path)
    trainer.model.save(tmp_path / "model.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "model.safetensors")
    assert same_bits(loaded.state_dict(), trainer.model.state_dict())


def fit_of(trainer, folder, epochs):
    checkpoint = pt.Checkpoint(folder)
    trainer.fit(data(), epochs=epochs, batch_size=30, progress=False, callbacks=[checkpoint], resume=folder)


@pytest.mark.parametrize("at_first", [False, True])
@pytest.mark.parametrize("here", [False, True])
def test_a_checkpoint_brings_along_what_is_frozen_and_what_the_optimizer_was_made_of(at_first, here, tmp_path):
    ours, other = model(), model()
    if at_first:
        ours.freeze("heads.a")
    trainer = pt.Trainer(ours, optimizer=SGD, schedule=SCHEDULES["cosine"])
    trainer.step(batches()[0])
    ours.freeze("heads.a")
    fit_of(trainer, tmp_path, 1)
    if here:
        other.freeze("heads.a")
    resumed = pt.Trainer(other, optimizer=SGD, schedule=SCHEDULES["cosine"])
    fit_of(resumed, tmp_path, 1)
    assert other.frozen == ours.frozen == ["heads.a.weight", "heads.a.bias"]
    each = [trainer, resumed, copy.deepcopy(trainer), pickle.loads(pickle.dumps(resumed))]
    for one in each:
        one.step(batches()[1])
        if not at_first:
            one.model.unfreeze("heads.a")
            one.step(batches()[2])
    assert all(same_bits(one.model.state_dict(), ours.state_dict()) and one.lr == trainer.lr for one in each)
    if at_first:
        resumed.model.unfreeze("heads.a")
        with pytest.raises(ValueError, match="were frozen when `SGD` was made"):
            resumed.step(batches()[2])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_copies_go_on_with_the_same_bits(copied):
    trainer = pt.Trainer(model(), optimizer=SGD, schedule=partial(CosineAnnealingLR, T_max=20))
    steps = batches(6)
    for batch in steps[:3]:
        trainer.step(batch)
    other = copied(trainer)
    before = trainer.model.state_dict()
    other.step(steps[3])
    assert same_bits(before, trainer.model.state_dict())
    trainer.step(steps[3])
    for each in (trainer, other):
        for batch in steps[4:]:
            each.step(batch)
    assert same_bits(trainer.model.state_dict(), other.model.state_dict())
    assert trainer.lr == other.lr


def an_optimizer():
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.05)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (lambda: {"optimizer": an_optimizer()}, TypeError,
         r"such as `functools.partial\(torch.optim.SGD, lr=0.05\)`; got a SGD, which was made of others"),
        (lambda: {"optimizer": SGD, "schedule": ExponentialLR(an_optimizer(), 0.9)}, TypeError,
         r"functools.partial\(torch.optim.lr_scheduler.ExponentialLR, ...\)`; got a ExponentialLR"),
        (lambda: {"schedule": partial(ExponentialLR, gamma=0.9)}, TypeError,
         "`schedule`: `ExponentialLR` is for an optimizer of torch's, such as `optimizer=functools.partial"),
        (lambda: {"optimizer": pt.optim.SGD(lr=0.1), "schedule": ExponentialLR}, TypeError, "goes one of pt.schedule"),
        (lambda: {"optimizer": "sgd", "schedule": lambda optimizer: optimizer}, TypeError, "`<lambda>` is for"),
        (lambda: {"optimizer": SGD, "lr": 0.1}, TypeError, "`lr` is given twice: 0.1 and in `optimizer`, 0.05"),
        (lambda: {"optimizer": torch.optim.SGD, "lr": {"encoder": 0.1}}, TypeError, "`lr` by group is for pt.optim;"),
        (lambda: {"optimizer": pt.optim.SGD}, TypeError, r"should be an instance, SGD\(...\); got the class SGD"),
        (lambda: {"schedule": pt.schedule.Cosine}, TypeError, r"should be an instance, Cosine\(...\)"),
        (lambda: {"optimizer": lambda parameters: None}, TypeError, "should make a torch.optim.Optimizer .* NoneType"),
        (lambda: {"optimizer": lambda parameters: an_optimizer()}, ValueError, "of the parameters it is given, and"),
        (lambda: {"optimizer": torch.optim.LBFGS}, ValueError, "LBFGS evaluates the model several times a step"),
        (lambda: {"optimizer": SGD, "schedule": ReduceLROnPlateau}, TypeError, "pt.schedule.Plateau is the same"),
        (lambda: {"optimizer": SGD, "schedule": lambda optimizer: 3}, TypeError, "should make a scheduler .* got int"),
        (lambda: {"optimizer": partial(torch.optim.SGD, lr=-1.0)}, ValueError, "Invalid learning rate"),
        (lambda: {"optimizer": 3}, TypeError, "should be one of pt.optim or its name"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(arguments, kind, message):
    with pytest.raises(kind, match=message):
        pt.Trainer(model(), **arguments())


def test_sparse_tables_are_refused():
    inputs = pt.Inputs(numeric=2, categorical=[10], sparse=True)
    wide = pt.MultiTaskModel(inputs, tasks=[pt.Task("a")])
    with pytest.raises(ValueError, match=r"the sparse table embedding\.0.* learns by one of pt\.optim alone"):
        pt.Trainer(wide, optimizer=SGD)


def test_what_its_step_raises_arrives():
    class Breaks(torch.optim.SGD):
        def step(self, closure=None):
            raise OverflowError("mine")

    ours = model()
    before = ours.state_dict()
    trainer = pt.Trainer(ours, optimizer=Breaks)
    with pytest.raises(OverflowError, match="mine") as raised:
        trainer.step(batches()[0])
    assert raised.traceback[-1].name == "step"
    assert same_bits(before, ours.state_dict())
    assert trainer.steps == 0


def test_what_is_not_finite_reaches_no_optimizer():
    ours = model()
    before = ours.state_dict()
    trainer = pt.Trainer(ours, optimizer=SGD, clip_norm=1.0)
    x, a, b = batches()[0]
    with pytest.raises(ValueError, match="loss"):
        trainer.step((x, np.full_like(a, 3e38), b))
    assert same_bits(before, ours.state_dict())
    assert not trainer._own["optimizer"]._optimizer.state


def test_modules_of_ones_own_and_experts_learn_by_it():
    def make(features):
        return nn.Sequential(nn.Linear(features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))

    for more in ({"encoder": make(6)}, {"sharing": "mmoe", "head": pt.head.Tower(4), "encoder": pt.encoder.MLP([8])}):
        ours, theirs = (
            pt.MultiTaskModel(6, tasks=[pt.Task("a"), pt.Task("b")], seed=0, **copy.deepcopy(more)) for _ in range(2)
        )
        first = pt.Trainer(ours, optimizer=pt.optim.SGD(lr=0.02, momentum=0.9))
        second = pt.Trainer(theirs, optimizer=partial(torch.optim.SGD, lr=0.02, momentum=0.9))
        for batch in batches(10):
            first.step(batch)
            second.step(batch)
        for name, array in ours.state_dict().items():
            np.testing.assert_allclose(array, theirs.state_dict()[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_what_is_read():
    made = read(torch.optim.SGD, 0.1, partial(CosineAnnealingLR, T_max=3))
    assert isinstance(made, OwnOptimizer)
    assert made.describe() == {"name": "custom", "class": "SGD", "schedule": "CosineAnnealingLR"}
    assert str(made) == "SGD"
    assert read(None, None, "constant") is None
    assert read("sgd", 0.1, "cosine") is None
    assert math.isclose(made.step(1.0), 0.1) if made._optimizer else made.state() == {}
