"""`pt.encoder.Torch` and `pt.head.Torch`: what more is said of a module of one's own than that it is one."""

import copy
import pickle
import re
from collections import OrderedDict, namedtuple

import numpy as np
import polytask as pt
import pytest
import torch
from torch import nn

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
Y = {"a": X[:, 0], "b": (X[:, 1] > 0).float()}
Pair = namedtuple("Pair", ["tokens", "pooled"])


class ModelOutput(OrderedDict):
    """As that of Hugging Face: a dict of whose entries places count too."""

    def to_tuple(self):
        return tuple(self[name] for name in self.keys())

    def __getitem__(self, key):
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]


class Several(nn.Module):
    """Gives two outputs, in one of several forms."""

    def __init__(self, form=dict, width=4):
        super().__init__()
        self.inner = nn.Linear(6, width)
        self.form = form

    def forward(self, x):
        h = self.inner(x)
        pooled = torch.tanh(h)
        if self.form in (dict, ModelOutput):
            return self.form(tokens=h, pooled=pooled)
        return self.form((h, pooled)) if self.form in (tuple, list) else self.form(h, pooled)


class Single(Several):
    """The output that the tests mean, and no other."""

    def forward(self, x):
        return torch.tanh(self.inner(x))


@pytest.fixture(autouse=True)
def _own_draws():
    with torch.random.fork_rng(devices=[]):
        yield


def seeded(make, *args):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make(*args)


def tasks():
    return [pt.Task("a"), pt.Task("b", loss="binary_cross_entropy")]


def trained(encoder, **more):
    model = pt.MultiTaskModel(6, tasks=tasks(), encoder=encoder, seed=1, **more)
    losses = pt.Trainer(model, lr=1e-2).fit((X, Y), epochs=2, batch_size=16, progress=False)["loss"]
    return model, list(losses)


def last(y):
    return y["pooled"]


@pytest.mark.parametrize(
    ("form", "output"),
    [(dict, "pooled"), (dict, last), (tuple, 1), (list, -1), (Pair, "pooled"), (ModelOutput, "pooled"),
     (ModelOutput, 1)],
)  # fmt: skip
def test_the_output_that_is_meant_is_the_representation(form, output):
    plain, want = trained(seeded(Single))
    model, losses = trained(pt.encoder.Torch(seeded(Several, form), output=output))
    assert losses == want
    module = model.to_torch()
    for task, predicted in model.predict(X).items():
        assert np.array_equal(predicted, plain.predict(X)[task])
        np.testing.assert_allclose(module(X)[task].detach(), predicted, atol=1e-6)
    assert module.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("output", ["pooled", last])
def test_copies_files_and_modules_of_torch_keep_what_was_meant(tmp_path, output):
    model, _ = trained(pt.encoder.Torch(seeded(Several), output=output))
    want = model.predict(X)["a"]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)),
                  pt.MultiTaskModel.from_torch(copy.deepcopy(model.to_torch())),
                  model.add_task(pt.Task("c"))):  # fmt: skip
        assert np.array_equal(other.predict(X)["a"], want)
    model.save(tmp_path / "model")
    shown = repr(output) if output == "pooled" else "last"
    assert f"encoder=Torch(Several(...), output={shown})" in repr(model)
    lost = pt.MultiTaskModel.load(tmp_path / "model")
    assert repr(lost) == repr(model)
    said = output if callable(output) else '"pooled"'
    needed = f"encoder=pt.encoder.Torch(Several(...), output={'last' if callable(said) else said})"
    with pytest.raises(ValueError, match=re.escape(needed)):
        lost.predict(X)
    again = pt.MultiTaskModel.load(tmp_path / "model", encoder=pt.encoder.Torch(Several(), output=output))
    assert np.array_equal(again.predict(X)["a"], want)
    if callable(output):
        with pytest.raises(ValueError, match=r"say which, pt\.encoder\.Torch\(module, output=\.\.\.\)"):
            pt.MultiTaskModel.load(tmp_path / "model", encoder=Several())
        return
    assert np.array_equal(pt.MultiTaskModel.load(tmp_path / "model", encoder=Several()).predict(X)["a"], want)
    with pytest.raises(ValueError, match="`encoder`: the model was made with output='pooled'; got 'tokens'"):
        pt.MultiTaskModel.load(tmp_path / "model", encoder=pt.encoder.Torch(Several(), output="tokens"))


def test_schemes_of_several_encoders_take_a_function():
    made = [seeded(Single) for _ in range(9)]
    given = iter(made)
    _, want = trained(lambda: next(given), sharing=pt.sharing.MMoE(experts=3))
    model, losses = trained(
        pt.encoder.Torch(lambda: seeded(Several, tuple), output=1), sharing=pt.sharing.MMoE(experts=3)
    )
    assert losses == want
    with pytest.raises(ValueError, match='"mmoe" wants 3 encoders, and a module of your own is one'):
        trained(pt.encoder.Torch(Several(tuple), output=1), sharing=pt.sharing.MMoE(experts=3))
    again = pt.MultiTaskModel.from_torch(model.to_torch())
    assert np.array_equal(again.predict(X)["a"], model.predict(X)["a"])


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.LSTM(3, 5, batch_first=True)

    def forward(self, x):
        return self.inner(x)


def test_positions_may_have_several_outputs_too():
    inputs = pt.Inputs(positions={"tokens": pt.Inputs(3)})
    module = seeded(Tagger)
    model = pt.MultiTaskModel(
        inputs, tasks=[pt.Task("tag", per="tokens")], encoder=pt.encoder.Torch(module, output=0), seed=1
    )
    rows = [np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)]
    alone = model.predict({"tokens": rows})["tag"]
    assert [len(row) for row in alone] == [2, 4]
    outputs = model.to_torch()(**model.tensors({"tokens": rows}))["tag"].detach()
    np.testing.assert_allclose(outputs, np.concatenate(alone), atol=1e-6)


class Strict(nn.Module):
    """Does not work on zeros, as what divides by a norm of its own that it checks."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 3)

    def forward(self, x):
        if not x.abs().sum(1).all():
            raise ArithmeticError("a row of zeros has no direction")
        return self.inner(x / x.norm(dim=1, keepdim=True))


def test_with_a_width_a_module_need_not_work_on_zeros(tmp_path):
    with pytest.raises(ValueError, match="a row of zeros has no direction"):
        trained(Strict())
    model, losses = trained(pt.encoder.Torch(Strict(), width=3))
    assert losses[-1] < losses[0]
    assert "encoder=Torch(Strict(...), width=3)" in repr(model)
    model.save(tmp_path / "model")
    again = pt.MultiTaskModel.load(tmp_path / "model", encoder=Strict())
    assert np.array_equal(again.predict(X)["a"], model.predict(X)["a"])
    with pytest.raises(ValueError, match=r"should give a float32 tensor \[64, 4\]; it gave float32 \[64, 3\]"):
        pt.MultiTaskModel(6, tasks=tasks(), encoder=pt.encoder.Torch(Strict(), width=4)).predict(X)
    with pytest.raises(ValueError, match=r"should give a float32 tensor \[rows, 5\]; for .* it gave float32 \[2, 4\]"):
        trained(pt.encoder.Torch(Single(), width=5))


class StrictPair(Strict):
    def forward(self, x):
        return {"all": x, "direction": super().forward(x)}


def test_what_is_not_said_again_is_what_was_said_before(tmp_path):
    model, _ = trained(pt.encoder.Torch(StrictPair(), output="direction", width=3))
    want = model.predict(X)["a"]
    model.save(tmp_path / "model")
    for again in (
        pt.MultiTaskModel.from_torch(model.to_torch()),
        pt.MultiTaskModel.load(tmp_path / "model", encoder=pt.encoder.Torch(StrictPair(), output="direction")),
        pt.MultiTaskModel.load(tmp_path / "model", encoder=pt.encoder.Torch(StrictPair(), width=3)),
    ):
        assert np.array_equal(again.predict(X)["a"], want)
        assert repr(again) == repr(model)


class TwoHeads(nn.Module):
    def __init__(self, features, outputs):
        super().__init__()
        self.mean = nn.Linear(features, outputs)

    def forward(self, h):
        return {"mean": self.mean(h), "hidden": h}


def test_a_head_may_have_several_outputs_too(tmp_path):
    head = pt.head.Torch(TwoHeads, output="mean")
    model = pt.MultiTaskModel(6, tasks=tasks(), head=head, seed=1)
    own = pt.MultiTaskModel(6, tasks=[pt.Task("a", head=pt.head.Torch(TwoHeads(128, 1), output="mean"))], seed=1)
    assert "head=Torch(TwoHeads(...), output='mean')" in repr(own.tasks[0])
    assert "head=Torch(TwoHeads, output='mean')" in repr(model)
    for each in (model, own):
        history = pt.Trainer(each, lr=1e-2).fit(
            (X, {task.name: Y[task.name] for task in each.tasks}), epochs=2, progress=False
        )
        assert history["loss"][-1] < history["loss"][0]
        each.save(tmp_path / "model")
        again = pt.MultiTaskModel.load(tmp_path / "model", heads=TwoHeads)
        assert np.array_equal(again.predict(X)["a"], each.predict(X)["a"])
        module = each.to_torch()
        np.testing.assert_allclose(module(X)["a"].detach(), each.predict(X)["a"], atol=1e-6)
        assert np.array_equal(pt.MultiTaskModel.from_torch(module).predict(X)["a"], each.predict(X)["a"])
    with pytest.raises(ValueError, match=r'`heads=\{"a": pt\.head\.Torch\(TwoHeads\(\.\.\.\), output="mean"\)\}`'):
        pt.MultiTaskModel.load(tmp_path / "model").predict(X)


def test_what_cannot_be_meant_is_refused_by_name():
    def of(output, form=dict):
        return pt.MultiTaskModel(6, tasks=tasks(), encoder=pt.encoder.Torch(Several(form), output=output))

    with pytest.raises(ValueError, match=r"no key 'pooler'; did you mean `pooled`\? there are `tokens`, `pooled`"):
        of("pooler")
    with pytest.raises(ValueError, match="1 is the place; it gave a dict with the keys `tokens`, `pooled`"):
        of(1)
    with pytest.raises(ValueError, match="gave a tuple of 2 outputs, and none at place 2"):
        of(2, tuple)
    with pytest.raises(ValueError, match="with the key `pooler`; it gave a Pair of 2 outputs, `tokens`, `pooled`"):
        of("pooler", Pair)
    with pytest.raises(ValueError, match=r"should be a function of a dict with the keys .* it raised KeyError: 'no'"):
        of(lambda y: y["no"])
    with pytest.raises(ValueError, match=r"gave a tuple of 2 outputs: say which, pt\.encoder\.Torch\(module, output="):
        pt.MultiTaskModel(6, tasks=tasks(), encoder=Several(tuple))
    with pytest.raises(ValueError, match=r"it gave a dict .*: say which, pt\.head\.Torch\(module, output="):
        pt.MultiTaskModel(6, tasks=tasks(), head=TwoHeads)
    with pytest.raises(TypeError, match=r"`encoder` should be pt\.encoder\.Torch\(\.\.\.\); got pt\.head\.Torch"):
        pt.MultiTaskModel(6, tasks=tasks(), encoder=pt.head.Torch(Several(), output="pooled"))
    with pytest.raises(TypeError, match=r"task `a`: `head` should be pt\.head\.Torch\(\.\.\.\); got pt\.encoder"):
        pt.MultiTaskModel(6, tasks=[pt.Task("a", head=pt.encoder.Torch(TwoHeads(128, 1)))])
    for wrong in (3, "mlp", pt.encoder.MLP(), pt.encoder.MLP, pt.encoder.Torch(Several())):
        with pytest.raises(TypeError, match=r"pt\.encoder\.Torch: `module` should be a torch\.nn\.Module, or a func"):
            pt.encoder.Torch(wrong)
    with pytest.raises(TypeError, match="`output` should be the key of one of its outputs, their place, or a function"):
        pt.encoder.Torch(Several(), output=1.5)
    with pytest.raises(TypeError, match=r"Torch: unknown argument `outputs`; did you mean `output`\?"):
        pt.encoder.Torch(Several(), outputs="pooled")
    with pytest.raises(TypeError, match=r"Torch: unknown argument `width`; it has `module`, `output`"):
        pt.head.Torch(TwoHeads, width=3)
    with pytest.raises(ValueError, match="`width` should be a whole number of at least 1; got 0"):
        pt.encoder.Torch(Several(), width=0)


class Block(nn.Module):
    def __init__(self, out=6):
        super().__init__()
        self.inner = nn.Linear(6, out)

    def forward(self, x):
        return torch.relu(self.inner(x))


def test_each_level_of_ple_may_have_modules_of_its_own():
    ple = pt.sharing.PLE(shared_experts=1, task_experts=1, levels=2)
    model, losses = trained(Block, sharing=ple)
    own = {path.rpartition(".inner")[0] for path in model.state_dict() if ".inner" in path}
    assert len(own) == 6
    assert losses[-1] < losses[0]
    for task, predicted in model.to_torch()(X).items():
        np.testing.assert_allclose(predicted.detach(), model.predict(X)[task], atol=1e-6)
    # As of an MLP of as many layers, from the same numbers.
    mlp = pt.MultiTaskModel(6, tasks=tasks(), encoder=pt.encoder.MLP([6, 6]), sharing=ple, seed=1)
    ours = model.state_dict()
    theirs = list(mlp.state_dict())
    same = {path: ours[path if path in ours else _place(path, ours)] for path in theirs}
    mlp.load_state_dict(same)
    np.testing.assert_allclose(mlp.predict(X)["a"], model.predict(X)["a"], atol=1e-6)
    with pytest.raises(ValueError, match="only a module of your own that takes rows of numbers and gives as many"):
        trained(lambda: Block(5), sharing=ple)


def _place(path, ours):
    """The path of an expert's only layer, which in an MLP has a number."""
    above, _, last = path.rpartition(".")
    return next(each for each in ours if each.startswith(above.rpartition(".")[0] + ".inner") and each.endswith(last))


@pytest.mark.parametrize(
    ("make", "ours"),
    [
        (lambda: pt.MultiTaskModel(6, tasks=tasks(), sharing="HPS"), "hard"),
        (lambda: pt.Trainer(pt.MultiTaskModel(6, tasks=tasks()), weighting="EW"), "equal"),
        (lambda: pt.Trainer(pt.MultiTaskModel(6, tasks=tasks()), weighting="UW"), "uncertainty"),
        (lambda: pt.torch.Balancer("Constant"), "static"),
        (lambda: pt.Task("a", loss="MSELoss"), "mean_squared"),
    ],
)
def test_names_of_other_libraries_are_answered_with_those_here(make, ours):
    with pytest.raises(ValueError, match=f"here it is called `{ours}`; there are"):
        make()
