"""Weightings that are the caller's own function or object, in the trainer and in a loop, against plain PyTorch."""

import copy
import pickle
from functools import partial

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits, without_seconds
from polytask.components.own_weighting import OwnWeighting, read
from polytask.training import packed
from torch import nn

NAMES = ["big", "small"]


@pytest.fixture(autouse=True)
def own_draws():
    """Modules draw their parameters; the generator is as before afterwards."""
    with torch.random.fork_rng([]):
        yield


def inverse_norm(losses, gramian):
    norms = gramian.diagonal().clamp(min=1e-12).sqrt()
    return (1 / norms) / (1 / norms).sum()


def inverse_loss(losses):
    return 1 / (losses + 0.1)


class RunningMean:
    """Weighs by running means of the losses, a task's own each, and says what it knows."""

    def __init__(self, decay=0.9):
        self.decay, self.means, self.seen = decay, {}, []

    def weigh(self, losses, *, tasks):
        self.seen.append(tasks)
        for task, loss in zip(tasks, losses.tolist(), strict=True):
            self.means[task] = self.decay * self.means.get(task, loss) + (1 - self.decay) * loss
        return np.array([1 / (self.means[task] + 0.1) for task in tasks])


class Kept(RunningMean):
    def state_dict(self):
        means = [self.means.get(name, np.nan) for name in NAMES]
        return {"decay": self.decay, "means": torch.tensor(means, dtype=torch.float64)}

    def load_state_dict(self, state):
        self.means = {k: v for k, v in zip(NAMES, state["means"].tolist(), strict=True) if v == v}


def data(rows=120, missing=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 6)).astype(np.float32)
    small = x[:, 1].copy()
    if missing:
        small[: rows // 3] = np.nan
    return x, 10 * x[:, 0], small


def model(**more):
    tasks = [pt.Task(name) for name in NAMES]
    return pt.MultiTaskModel(6, tasks=tasks, encoder=pt.encoder.MLP([8], activation="tanh"), seed=0, **more)


class Plain(nn.Module):
    """The same network in PyTorch."""

    def __init__(self, of):
        super().__init__()
        state = {name: torch.from_numpy(array).clone() for name, array in of.state_dict().items()}
        self.trunk = nn.Linear(6, 8)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in NAMES)
        with torch.no_grad():
            for linear, path in zip([self.trunk, *self.heads], ["encoder.0", "heads.big", "heads.small"], strict=True):
                linear.weight.copy_(state[f"{path}.weight"])
                linear.bias.copy_(state[f"{path}.bias"])

    def losses(self, x, *targets):
        h = torch.tanh(self.trunk(torch.from_numpy(x)))
        pairs = zip(self.heads, targets, strict=True)
        return [(head(h)[:, 0] - torch.from_numpy(y)).square().mean() for head, y in pairs]


def close_to(plain, trained):
    state = trained.state_dict()
    for linear, path in zip([plain.trunk, *plain.heads], ["encoder.0", "heads.big", "heads.small"], strict=True):
        np.testing.assert_allclose(state[f"{path}.weight"], linear.weight.detach(), rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(state[f"{path}.bias"], linear.bias.detach(), rtol=2e-5, atol=2e-6)


def batches(count=20, rows=30):
    x, big, small = data(count * rows)
    return [tuple(each[i * rows : (i + 1) * rows] for each in (x, big, small)) for i in range(count)]


def test_a_function_of_losses_and_gramian_weighs_shared_gradients():
    ours = model()
    plain = Plain(ours)
    trainer = pt.Trainer(ours, optimizer=pt.optim.SGD(lr=0.05), weighting=inverse_norm)
    for batch in batches():
        trainer.step(batch)
        losses = plain.losses(*batch)
        shared = list(plain.trunk.parameters())
        rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
        jacobian = torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])
        weights = inverse_norm(torch.stack(losses).detach(), jacobian @ jacobian.T)
        heads = torch.autograd.grad(sum(losses), list(plain.heads.parameters()))
        with torch.no_grad():
            for k, parameter in enumerate(shared):
                parameter -= 0.05 * sum(w * row[k] for w, row in zip(weights, rows, strict=True))
            for parameter, gradient in zip(plain.heads.parameters(), heads, strict=True):
                parameter -= 0.05 * gradient
    close_to(plain, ours)


def test_a_function_of_losses_weighs_losses_at_the_price_of_one_backward():
    ours = model()
    plain = Plain(ours)
    trainer = pt.Trainer(ours, optimizer=pt.optim.SGD(lr=0.05), weighting=inverse_loss)
    assert not trainer._core.compares
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05)
    for batch in batches():
        step = trainer.step(batch)
        losses = torch.stack(plain.losses(*batch))
        optimizer.zero_grad()
        objective = (inverse_loss(losses.detach()) * losses).sum()
        objective.backward()
        optimizer.step()
        assert step["objective"] == pytest.approx(objective.item(), rel=1e-4)
    close_to(plain, ours)


def test_built_in_weightings_written_as_functions_give_the_same():
    def two_tasks_of_mgda(losses, gramian):
        g = gramian.double()
        first = ((g[1, 1] - g[0, 1]) / (g[0, 0] + g[1, 1] - 2 * g[0, 1])).clamp(0, 1)
        return [first, 1 - first]

    for own, ours in ((two_tasks_of_mgda, "mgda"), (lambda losses: [1.0, 1.0], "equal")):
        trained = []
        for weighting in (own, ours):
            trainer = pt.Trainer(model(), lr=0.01, weighting=weighting, observe="weights")
            history = trainer.fit(data(), epochs=3, progress=False)
            trained.append((trainer.model.state_dict(), history["big/weight"][-1]))
        for name, array in trained[0][0].items():
            np.testing.assert_allclose(array, trained[1][0][name], rtol=1e-3, atol=1e-4, err_msg=f"{ours} {name}")
        assert trained[0][1] == pytest.approx(trained[1][1], rel=1e-3)


def test_weights_are_observed_and_seen_in_the_history():
    mine = RunningMean()
    trainer = pt.Trainer(model(), lr=0.01, weighting=mine, observe=["weights", "gradients"])
    history = trainer.fit(data(), epochs=2, batch_size=30, progress=False)
    assert len(mine.seen) == 8
    assert history["small/weight"][-1] > history["big/weight"][-1] > 0
    assert "cosine/big/small" in history.columns
    assert repr(trainer).startswith("Trainer(optimizer='adam', schedule='constant', weighting='RunningMean',")


def test_it_sees_the_tasks_that_have_a_label():
    mine = RunningMean()
    x, big, small = data(90, missing=True)
    trainer = pt.Trainer(model(), lr=0.01, weighting=mine, observe="weights")
    for i in range(0, 90, 30):
        trainer.step((x[i : i + 30], big[i : i + 30], small[i : i + 30]))
    assert mine.seen == [["big"], ["big", "small"], ["big", "small"]]
    balancer = pt.torch.Balancer(mine, tasks=NAMES)
    plain = Plain(trainer.model)
    balancer.backward({"small": plain.losses(*batches(1)[0])[1]})
    assert mine.seen[-1] == ["small"]
    assert balancer.weights["big"] == 0.0
    assert balancer.weights["small"] == pytest.approx(1 / (mine.means["small"] + 0.1))


def test_micro_batches_are_one_step():
    whole, parts = model(), model()
    batch = batches(1, 60)[0]
    pt.Trainer(whole, lr=0.01, weighting=inverse_norm).step(batch)
    trainer = pt.Trainer(parts, lr=0.01, weighting=inverse_norm, accumulate=2)
    trainer.step(tuple(each[:30] for each in batch))
    trainer.step(tuple(each[30:] for each in batch))
    for name, array in whole.state_dict().items():
        np.testing.assert_allclose(array, parts.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_code_of_ones_own_may_ask_the_model_for_predictions():
    x, *_ = data()
    found = []

    def curious(losses):
        found.append(trained.predict(x[:5])["big"])
        return torch.ones(2)

    trained = model()
    before = trained.predict(x[:5])["big"]
    pt.Trainer(trained, lr=0.1, weighting=curious).step(batches(1)[0])
    np.testing.assert_array_equal(found[0], before)
    assert not np.array_equal(trained.predict(x[:5])["big"], before)


class Method:
    def __init__(self):
        self.calls = 0

    def gave(self, losses, gramian):
        self.calls += 1
        return [1.0, 2.0]


class Callable:
    def __call__(self, losses):
        return np.float32([1.0, 2.0])


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, losses):
        return self.weights


@pytest.mark.parametrize(
    ("code", "needs", "called"),
    [
        (lambda losses: [1, 2], "losses", "<lambda>"),
        (lambda x: (1.0, 2.0), "losses", "<lambda>"),
        (lambda x, y: torch.tensor([1.0, 2.0]).bfloat16(), "gramian", "<lambda>"),
        (lambda gramian: [1.0, 2.0], "gramian", "<lambda>"),
        (lambda gramian, losses: gramian.diagonal() * 0 + torch.tensor([1.0, 2.0]), "gramian", "<lambda>"),
        (lambda losses, gramian=None: [1.0, 2.0], "gramian", "<lambda>"),
        (lambda losses, temperature=2.0: [1.0, temperature], "losses", "<lambda>"),
        (lambda losses, *, gramian, tasks: [1.0, float(len(tasks))], "gramian", "<lambda>"),
        (partial(lambda high, losses: [1.0, high], 2.0), "losses", "<lambda>"),
        (partial(lambda losses, high: [1.0, high], high=2.0), "losses", "<lambda>"),
        (Method().gave, "gramian", "Method"),
        (Callable(), "losses", "Callable"),
        (Learned(), "losses", "Learned"),
    ],
)
def test_ways_to_say_it(code, needs, called):
    own = read(code)
    assert own.describe() == {"name": "custom", "class": called, "needs": needs}
    trainer = pt.Trainer(model(), lr=0.01, weighting=code, observe="weights")
    row = trainer.fit(data(30), epochs=1, progress=False)[0]
    assert (row["big/weight"], row["small/weight"]) == (1.0, 2.0)
    balancer = pt.torch.Balancer(code, tasks=NAMES)
    balancer.backward(dict(zip(NAMES, Plain(trainer.model).losses(*batches(1)[0]), strict=True)))
    assert balancer.weights == {"big": 1.0, "small": 2.0}


class Inherits(pt.weighting.UPGrad):
    def weigh(self, losses, gramian):
        return [1.0, 2.0]


@pytest.mark.parametrize(
    ("weighting", "message"),
    [
        (RunningMean, r"should be an instance, RunningMean\(\.\.\.\); got the class RunningMean"),
        (pt.weighting.UPGrad, r"should be an instance, UPGrad\(\.\.\.\); got the class UPGrad"),
        (Inherits(), "Inherits inherits from pt.weighting, by which it would weigh"),
        (pt.Callback(), "should be one of pt.weighting or its name.*a function of your own takes `losses`"),
        (pt.optim.Adam(), "of pt.optim"),
        (3, "should be one of pt.weighting or its name.*a function of your own takes"),
        (lambda: [1.0], "`<lambda>` takes none: a function of your own takes"),
        (lambda a, b, c: [1.0], "`<lambda>` takes `a`, `b`, `c`: a function"),
        (lambda tasks: [1.0], "`<lambda>` takes `tasks`: a function"),
        (lambda losses, *, alpha: [1.0], "`<lambda>` takes `losses`, `alpha`"),
        (lambda *args: [1.0], "`<lambda>` takes none"),
        (lambda matrix: matrix.sum(0), "asks for `matrix`, but the gradients themselves are not shown"),
        (lambda losses, jacobian: jacobian, "asks for `jacobian`, but the gradients"),
    ],
)
def test_what_is_no_weighting_is_refused(weighting, message):
    with pytest.raises(TypeError, match=message):
        pt.Trainer(model(), weighting=weighting)
    with pytest.raises(TypeError, match=message):
        pt.torch.Balancer(weighting)


def fails(losses):
    raise KeyError("mine")


@pytest.mark.parametrize(
    ("weighting", "kind", "message"),
    [
        (lambda losses: [1.0], ValueError, "should give one weight a task, 2 .`big`, `small`.; got 1"),
        (lambda losses: torch.ones(2, 1), ValueError, r"should give one weight a task, \[tasks\]; got shape \[2, 1\]"),
        (lambda losses: 1.0, ValueError, r"\[tasks\]; got shape \[\]"),
        (lambda losses: [1.0, float("nan")], ValueError, "gave a weight of NaN for `small` at step 1"),
        (lambda losses: losses / 0, ValueError, "gave a weight of inf for `big` at step 1"),
        (lambda losses: None, TypeError, r"\[tasks\]; got NoneType"),
        (lambda losses: "ab", TypeError, r"\[tasks\]; got str"),
        (lambda losses: ["a", "b"], TypeError, r"\[tasks\]; got list of <U1"),
        (lambda losses: {"big": 1.0, "small": 1.0}, TypeError, r"\[tasks\]; got dict"),
        (fails, KeyError, "mine"),
    ],
)
def test_what_it_should_not_give_is_named_and_changes_nothing(weighting, kind, message):
    ours = model()
    before = ours.state_dict()
    trainer = pt.Trainer(ours, lr=0.1, weighting=weighting)
    with pytest.raises(kind, match=message) as raised:
        trainer.step(batches(1)[0])
    if weighting is fails:
        assert raised.traceback[-1].name == "fails"
    assert same_bits(before, ours.state_dict())
    plain = Plain(ours)
    with pytest.raises(kind, match=message):
        pt.torch.backward(dict(zip(NAMES, plain.losses(*batches(1)[0]), strict=True)), weighting=weighting)
    assert all(parameter.grad is None for parameter in plain.parameters())


def noisy(losses):
    return 0.5 + torch.rand(len(losses))


@pytest.mark.parametrize("make", [Kept, lambda: noisy, lambda: inverse_norm], ids=["object", "draws", "function"])
def test_a_run_resumes_with_the_same_bits(make, tmp_path):
    def run(epochs, folder):
        checkpoint = pt.Checkpoint(folder, every_steps=3)
        trainer = pt.Trainer(model(), lr=0.01, weighting=make(), callbacks=[checkpoint])
        history = trainer.fit(data(), epochs=epochs, batch_size=30, progress=False, resume=folder)
        return trainer.model.state_dict(), history

    torch.manual_seed(1)
    want, history = run(4, tmp_path / "whole")
    torch.manual_seed(1)
    run(2, tmp_path / "halves")
    torch.manual_seed(2)
    got, resumed = run(4, tmp_path / "halves")
    assert same_bits(want, got)
    assert without_seconds(history) == without_seconds(resumed)


def test_a_checkpoint_says_by_name_what_must_be_passed_again(tmp_path, caplog):
    path = tmp_path / "a.safetensors"
    trainer = pt.Trainer(model(), weighting=inverse_norm)
    trainer.step(batches(1)[0])
    trainer.save(path)
    with pytest.raises(ValueError, match=r"its weighting was code of your own, `inverse_norm`, which no file holds"):
        pt.Trainer(model()).restore(path)
    with pytest.raises(ValueError, match=r"`inverse_norm`, and here it is `inverse_loss`"):
        pt.Trainer(model(), weighting=inverse_loss).restore(path)
    pt.Trainer(model(), weighting=inverse_norm).restore(path)
    assert not caplog.messages
    pt.Trainer(model()).save(path)
    with pytest.raises(ValueError, match="other settings: `weighting`"):
        pt.Trainer(model(), weighting=inverse_norm).restore(path)
    # A model's own file holds none of it.
    trainer.model.save(tmp_path / "model.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "model.safetensors")
    assert same_bits(loaded.state_dict(), trainer.model.state_dict())


def test_what_an_object_does_not_say_is_missed_in_words(tmp_path, caplog):
    trainer = pt.Trainer(model(), weighting=RunningMean())
    trainer.step(batches(1)[0])
    trainer.save(tmp_path / "a.safetensors")
    pt.Trainer(model(), weighting=RunningMean()).restore(tmp_path / "a.safetensors")
    assert "what `RunningMean` had learned is not in the checkpoint" in caplog.text

    class Odd(Kept):
        def state_dict(self):
            return {"means": [self]}

    odd = pt.Trainer(model(), weighting=Odd())
    with pytest.raises(TypeError, match=r"the state of `Odd`\['means'\]\[0\] should be what a file can hold.*got Odd"):
        odd.save(tmp_path / "b.safetensors")


def test_a_checkpoint_that_does_not_fit_leaves_the_object_as_it_was(tmp_path):
    class Picky(Kept):
        def load_state_dict(self, state):
            self.means = {}
            if state["decay"] != self.decay:
                raise ValueError("another decay")
            super().load_state_dict(state)

    first, second = pt.Trainer(model(), weighting=Picky(0.9)), Picky(0.5)
    first.step(batches(1)[0])
    first.save(tmp_path / "a.safetensors")
    other = pt.Trainer(model(), weighting=second)
    other.step(batches(2)[1])
    before = dict(second.means)
    with pytest.raises(ValueError, match=r"nothing goes on from it \(ValueError\('another decay'\)\)"):
        other.restore(tmp_path / "a.safetensors")
    assert second.means == before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_copies_go_on_with_the_same_bits(copied):
    trainer = pt.Trainer(model(), lr=0.01, weighting=RunningMean())
    steps = batches(6)
    for batch in steps[:3]:
        trainer.step(batch)
    other = copied(trainer)
    for each in (trainer, other):
        for batch in steps[3:]:
            each.step(batch)
    assert same_bits(trainer.model.state_dict(), other.model.state_dict())
    mine, theirs = (each._own["weighting"].code for each in (trainer, other))
    assert mine is not theirs
    assert (len(mine.seen), mine.means) == (len(theirs.seen), theirs.means)


def test_a_balancer_keeps_the_state_of_an_object(tmp_path):
    plain = Plain(model())
    steps = batches(4)
    first = pt.torch.Balancer(Kept(), tasks=NAMES)
    for batch in steps[:3]:
        first.backward(dict(zip(NAMES, plain.losses(*batch), strict=True)))
    torch.save(first.state_dict(), tmp_path / "a.pt")
    again = pt.torch.Balancer(Kept(), tasks=NAMES)
    again.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))
    for balancer in (first, again):
        balancer.backward(dict(zip(NAMES, plain.losses(*steps[3]), strict=True)))
    assert first.weights == again.weights
    assert first.weighting.means == again.weighting.means
    with pytest.raises(ValueError, match="should be of inverse_norm; got one of"):
        pt.torch.Balancer(inverse_norm).load_state_dict(first.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_loop_shows_numbers_in_the_type_of_its_losses(dtype):
    seen = []

    def look(losses, gramian):
        seen.extend([losses.dtype, gramian.dtype])
        return torch.ones(2)

    layer = nn.Linear(3, 2).to(dtype)
    losses = layer(torch.ones(4, 3, dtype=dtype)).square().mean(0).unbind()
    pt.torch.backward(losses, weighting=look)
    assert set(seen) == {torch.float32 if dtype == torch.bfloat16 else dtype}


def test_names_reach_weightings_that_go_by_them():
    plain = Plain(model())
    balancer = pt.torch.Balancer(pt.weighting.Static({"small": 3.0}), tasks=NAMES)
    balancer.backward(dict(zip(NAMES, plain.losses(*batches(1)[0]), strict=True)))
    assert balancer.weights == {"big": 1.0, "small": 3.0}
    # A dict says them too.
    weighting = pt.weighting.Static({"small": 3.0})
    pt.torch.backward(dict(zip(NAMES, plain.losses(*batches(1)[0]), strict=True)), weighting=weighting)
    with pytest.raises(ValueError, match='there is no task "small"; there are `x`, `y`'):
        pt.torch.Balancer(weighting, tasks=["x", "y"]).backward(plain.losses(*batches(1)[0]))


def test_states_are_packed_without_loss():
    value = {
        "a": [1, 2.5, float("inf"), None, True, "x", (1, (2,))],
        3: torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
        (1, "b"): {"empty": torch.zeros(0, 2), "scalar": torch.tensor(7), "flags": torch.tensor([True, False])},
        "numbers": np.arange(4.0).reshape(2, 2)[:, ::-1],
        "one": np.float32(1.5),
    }
    text, arrays = packed.pack(value, "it")
    back = packed.unpack(text, arrays)
    assert list(back) == list(value)
    assert back["a"] == value["a"]
    assert back[3].dtype == torch.bfloat16
    assert torch.equal(back[3], value[3])
    for key, tensor in value[1, "b"].items():
        assert torch.equal(back[1, "b"][key], tensor)
        assert back[1, "b"][key].dtype == tensor.dtype
    np.testing.assert_array_equal(back["numbers"], value["numbers"])
    assert back["one"].dtype == np.float32
    for wrong, where in (({"a": object()}, r"it\['a'\]"), ([set()], r"it\[0\]"), (np.array(["a"]), "it should")):
        with pytest.raises(TypeError, match=where):
            packed.pack(wrong, "it")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ({"tensor": [0, "float32", [3]]}, ValueError),
        ({"tensor": [0, "float32", [-2]]}, ValueError),
        ({"tensor": [1, "float32", [0, 1 << 60, 1 << 60]]}, LookupError),
        ({"tensor": [0, "manual_seed", [2]]}, TypeError),
        ({"array": [0, "|O", [1]]}, ValueError),
        ({"array": [0, "<f4", [3]]}, ValueError),
        ({"set": [1]}, ValueError),
        ([1], AttributeError),
        ({"dict": [[{"list": []}, 1]]}, TypeError),
    ],
)
def test_damaged_states_are_refused(text, error):
    with pytest.raises(error):
        packed.unpack(text, [np.zeros(8, np.uint8)])


def test_what_is_said_of_one():
    own = OwnWeighting(inverse_norm)
    assert repr(own) == "inverse_norm"
    assert own == read(inverse_norm) != read(inverse_loss)
    assert hash(own) == hash(read(inverse_norm))
    assert not own.forgets
    assert OwnWeighting(RunningMean()).forgets
    assert not OwnWeighting(Kept()).forgets
