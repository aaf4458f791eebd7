"""What a caller does to a module between runs of the model that has it: modes, numbers, statistics, parts, threads."""

import copy
import logging
import threading

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits
from torch import nn

ROWS = 64


@pytest.fixture(autouse=True)
def _own_draws():
    with torch.random.fork_rng(devices=[]):
        yield


def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3)).astype(np.float32)
    return x, {"kind": rng.integers(0, 3, ROWS), "size": x[:, 0] - x[:, 1]}


def layers(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5))


def model_of(module, seed=0):
    return pt.MultiTaskModel(3, tasks=[pt.Task("kind", classes=3), pt.Task("size")], encoder=module, seed=seed)


def epoch(model, epochs=1, **how):
    return pt.Trainer(model, pt.optim.SGD(lr=0.1), **how).fit(table(), epochs=epochs, batch_size=16, progress=False)


def trained_elsewhere():
    module = layers(7)
    with torch.no_grad():
        module[1].running_mean.fill_(2.0)
        module[1].running_var.fill_(5.0)
    return module


def holds(model, module):
    state = model.state_dict()
    return all(np.array_equal(state[f"encoder.{name}"], x.detach()) for name, x in module.state_dict().items())


def test_a_prediction_evaluates_in_whatever_mode_the_module_was_left():
    module = layers()
    model = model_of(module)
    epoch(model)
    want = model.predict(table()[0])
    for part in (module, module[1], module[3]):
        part.train()
        assert same_bits(model.predict(table()[0]), want)


def test_a_step_trains_in_whatever_mode_the_module_was_left():
    class Evaluating(pt.Callback):
        every_steps = 1

        def on_steps(self, trainer):
            trainer.model._modules.encoder.first.module.eval()

    plain, switched = model_of(layers()), model_of(layers())
    epoch(plain, 2)
    epoch(switched, 2, callbacks=[Evaluating()])
    assert same_bits(plain.state_dict(), switched.state_dict())


def test_what_overrides_train_for_a_part_keeps_it():
    class Still(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
            return self

    module = Still(*layers())
    before = module[1].running_mean.clone()
    epoch(model_of(module))
    assert torch.equal(module[1].running_mean, before)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("assign", [False, True])
def test_statistics_that_are_loaded_into_the_module_count(trained, assign):
    module, source = layers(), trained_elsewhere()
    model = model_of(module)
    if trained:
        epoch(model)
    module.load_state_dict(source.state_dict(), assign=assign)
    want = model_of(trained_elsewhere())
    want.load_state_dict({**model.state_dict(), **{f"encoder.{k}": v for k, v in source.state_dict().items()}})
    assert same_bits(model.predict(table()[0]), want.predict(table()[0]))
    assert holds(model, source)
    # And a forward of the caller's own that moves them.
    module.train()
    module(torch.ones(4, 3))
    moved = module[1].running_mean.clone()
    model.predict(table()[0])
    assert torch.equal(module[1].running_mean, moved)
    assert holds(model, module)


@pytest.mark.parametrize("failing", [False, True])
def test_what_a_run_does_to_statistics_is_no_change_of_the_callers(failing):
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(3, 6)
            self.register_buffer("runs", torch.zeros(()))

        def forward(self, x):
            self.runs += 1
            if failing and self.runs > 3 and self.training:
                raise ArithmeticError
            return super().forward(x)

    module = Counting()
    model = model_of(module)
    try:
        epoch(model)
    except ArithmeticError:
        assert failing
    count = 3 if failing else 4
    for _ in range(2):
        model.predict(table()[0])
        assert model.state_dict()["encoder.runs"] == count


def test_numbers_that_are_loaded_count_before_the_model_runs(tmp_path):
    source = trained_elsewhere()
    ways = {
        "state": lambda model: model,
        "copy": copy.deepcopy,
        "file": lambda model: (model.save(tmp_path / "m"), pt.MultiTaskModel.load(tmp_path / "m"))[1],
        "torch": lambda model: pt.MultiTaskModel.from_torch(model.to_torch()),
        "task": lambda model: model.add_task(pt.Task("more")),
    }
    for trained in (False, True):
        for way in ways.values():
            module = layers()
            model = model_of(module)
            if trained:
                epoch(model)
            module.load_state_dict(source.state_dict(), assign=trained)
            assert holds(way(model), source)
            # What is loaded into the model later is newer.
            model.load_state_dict(model_of(layers(3)).state_dict())
            model.predict(table()[0])
            assert holds(model, layers(3))


def test_a_part_in_anothers_place_is_the_models(caplog):
    module, new = layers(), nn.Linear(3, 6)
    model = model_of(module)
    epoch(model)
    module[0] = new
    start = new.weight.detach().clone()
    assert np.array_equal(model.state_dict()["encoder.0.weight"], start)
    assert "their numbers are taken back into it: `0.weight`, `0.bias`" in caplog.text
    epoch(model)
    assert not torch.equal(new.weight, start)
    assert np.array_equal(model.state_dict()["encoder.0.weight"], new.weight.detach())
    norm = nn.BatchNorm1d(6)
    module[1] = norm
    epoch(model)
    assert norm.num_batches_tracked == 4
    assert holds(model, module)


def _more(module):
    module[0].more = nn.Parameter(torch.ones(3))


def _fewer(module):
    module[0].bias = None


def _other(module):
    module[1] = nn.BatchNorm1d(6, track_running_stats=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_more, "should have the parameters with which the model was made; `0.more` are new: make another model of it"),
        (_fewer, "should have the parameters with which the model was made; `0.bias` are gone: make another model"),
        (_other, r"should have the buffers with which the model was made; `1.running_mean` was \[6\] and is None"),
    ],
)
@pytest.mark.parametrize("use", [epoch, lambda model: model.predict(table()[0])])
def test_other_parameters_than_the_models_are_refused(change, message, use):
    module = layers()
    model = model_of(module)
    epoch(model)
    change(module)
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"`encoder`: the module `Sequential` {message}"):
            use(model)


@pytest.mark.parametrize("trained", [False, True])
def test_what_requires_no_gradient_any_more_is_frozen(trained):
    module = layers()
    model = model_of(module)
    if trained:
        epoch(model)
    module[0].requires_grad_(False)
    before = model.state_dict()
    assert model.frozen == ["encoder.0.weight", "encoder.0.bias"]
    epoch(model)
    after = model.state_dict()
    assert np.array_equal(before["encoder.0.weight"], after["encoder.0.weight"])
    assert not np.array_equal(before["encoder.1.weight"], after["encoder.1.weight"])
    module.requires_grad_(True)
    epoch(model)
    assert not np.array_equal(after["encoder.0.weight"], model.state_dict()["encoder.0.weight"])
    # What was frozen by name stays so, whatever the module says of itself.
    model.freeze("encoder")
    for _ in range(2):
        epoch(model)
        assert "encoder.0.weight" in model.frozen


def test_two_models_of_one_module_predict_side_by_side():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 400), nn.Tanh(), nn.Linear(400, 400), nn.BatchNorm1d(400))
    models = [model_of(module, seed) for seed in (0, 1)]
    for rate, model in enumerate(models, 1):
        pt.Trainer(model, pt.optim.SGD(lr=0.001 * rate)).fit(table(), epochs=1, batch_size=16, progress=False)
    x = np.random.default_rng(1).normal(size=(2000, 3)).astype(np.float32)
    wanted = [model.predict(x, batch_size=100) for model in models]
    assert np.isfinite(wanted[1]["size"]).all()
    assert not same_bits(*wanted)
    wrong = []

    def predict(which):
        for _ in range(30):
            if not same_bits(models[which].predict(x, batch_size=100), wanted[which]):
                wrong.append(which)

    threads = [threading.Thread(target=predict, args=(which,)) for which in (0, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_step_that_failed_leaves_the_module_to_other_threads():
    module = layers()
    other = model_of(module)

    def failing(raw, labels):
        raise ArithmeticError

    model = pt.MultiTaskModel(3, tasks=[pt.Task("size", loss=failing)], encoder=module)
    x, labels = table()
    trainer = pt.Trainer(model)
    want = other.predict(x)
    for fail in (
        lambda: trainer.step((x, labels["size"])),
        lambda: trainer.fit((x, labels["size"]), epochs=1, progress=False),
    ):
        with pytest.raises(ArithmeticError):
            fail()
        found: list = []
        thread = threading.Thread(target=lambda found=found: found.append(other.predict(x)))
        thread.start()
        thread.join()
        assert same_bits(*found, want)


def test_parts_that_share_parameters_are_said_to_be_apart(caplog):
    module = layers()
    head = nn.Sequential(nn.Linear(6, 3), module[0], nn.Linear(6, 1))
    with caplog.at_level(logging.WARNING, "polytask"):
        pt.MultiTaskModel(3, tasks=[pt.Task("size", head=head)], encoder=module)
    assert "task `size`: `head`: the module `Sequential` has parameters that another part of" in caplog.text
    assert "they are apart in the model: `1.weight`, `1.bias`" in caplog.text


def test_what_a_hook_after_an_epoch_loads_counts_in_the_next():
    module, other = layers(), layers()

    class Loads(pt.Callback):
        def on_epoch_end(self, trainer, row):
            if row["epoch"] == 1:
                module.load_state_dict(trained_elsewhere().state_dict())

    model = model_of(module)
    epoch(model, 2, callbacks=[Loads()])
    want = model_of(other)
    trainer = pt.Trainer(want, pt.optim.SGD(lr=0.1))
    how = {"epochs": 1, "batch_size": 16, "progress": False}
    trainer.fit(table(), **how)
    other.load_state_dict(trained_elsewhere().state_dict())
    trainer.fit(table(), **how)
    assert same_bits(model.state_dict(), want.state_dict())


def test_a_call_on_tensors_follows_the_modules_parts_and_settings():
    class Scaled(nn.Sequential):
        factor = 1.0

        def forward(self, x):
            return super().forward(x) * self.factor

    module = Scaled(*layers())
    model = model_of(module)
    epoch(model)
    x = torch.from_numpy(table()[0])

    def set_factor():
        module.factor = 3.0

    before = model.predict(table()[0])
    for change in (set_factor, lambda: module.__setitem__(2, nn.Tanh()), lambda: setattr(module[1], "eps", 0.5)):
        model(x, raw=False)
        change()
        want = model.predict(table()[0])
        assert not np.allclose(want["size"], before["size"], atol=1e-3)
        for name, y in model(x, raw=False).items():
            np.testing.assert_allclose(y.detach(), want[name], atol=1e-5)
        before = want


def _assign(module):
    module.load_state_dict({name: x + 1 for name, x in module.state_dict().items()}, assign=True)


def _replace(module):
    module[0] = nn.Linear(3, 6)


def _statistics(module):
    module[1].running_mean.fill_(3.0)


@pytest.mark.parametrize("change", [_assign, _replace, _statistics])
@pytest.mark.parametrize("ran", [True, False])
def test_what_is_put_in_a_module_of_two_models_is_that_ones_whose_it_was(change, ran):
    module = layers()
    one, other = model_of(module, 1), model_of(module, 2)
    if ran:
        epoch(other)
        epoch(one)
    else:
        one.predict(table()[0])
    kept = other.state_dict()
    with torch.no_grad():
        change(module)
    want = {name: x.detach().numpy().copy() for name, x in module.state_dict().items()}
    other.predict(table()[0])
    assert same_bits(other.state_dict(), kept)
    assert all(np.array_equal(one.state_dict()[f"encoder.{name}"], x) for name, x in want.items())
    one.predict(table()[0])
    assert holds(one, module)
    assert all(np.array_equal(module.state_dict()[name], x) for name, x in want.items())


def test_what_is_put_in_a_module_before_another_model_has_it_is_both_ones():
    module = layers()
    one = model_of(module, 1)
    module.load_state_dict(layers(5).state_dict())
    other = model_of(module, 2)
    assert holds(other, module)
    assert holds(one, module)


def test_what_is_frozen_in_a_module_of_two_models_is_so_for_the_one_whose_it_was():
    module = layers()
    one, other = model_of(module, 1), model_of(module, 2)
    epoch(other)
    epoch(one)
    module[0].requires_grad_(False)
    epoch(other)
    assert other.frozen == []
    assert one.frozen == ["encoder.0.bias", "encoder.0.weight"] or one.frozen == ["encoder.0.weight", "encoder.0.bias"]
    before = one.state_dict()["encoder.0.weight"]
    epoch(one)
    assert np.array_equal(one.state_dict()["encoder.0.weight"], before)


@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m.eval(), torch.zeros(2, 3))])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_modules_of_torchscript_are_refused_by_name(make):
    for module in (make(layers()), nn.Sequential(make(layers()), nn.ReLU())):
        with pytest.raises(TypeError, match=r"`encoder`: `\w+` is of TorchScript, .* pass the module that it was made"):
            model_of(module)
