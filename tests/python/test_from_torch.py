"""A model's modules of torch beside the model: memory that they share, calls on tensors, copies, and the way back."""

import copy
import pickle

import numpy as np
import polytask as pt
import pytest
import torch
from test_copying import through_torch as saved
from test_to_torch import (
    FOLLOWS,
    ROWS,
    SAME,
    apart,
    every_loss,
    features,
    losses,
    make,
    ours,
    own_model,
    steps,
    targets,
)
from torch import nn


def test_memory_is_shared_when_asked():
    model = make("nddr")
    x, y = features(), targets(model)
    module = model.to_torch(share=True, raw=True, terms=True)
    before = model.state_dict()
    steps(model, module, model.tensors(x), y, count=3)
    after = model.state_dict()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    # A bias before a batch norm has no effect.
    assert moved >= {name for name in before if not name.endswith("bias")}
    assert apart(module.state_dict(), after) == 0
    assert apart(module(**model.tensors(x))[0], model.predict(x, raw=True)) < SAME
    ours(model, x, y, count=3)
    assert apart(module.state_dict(), after) > 1e-3
    assert apart(module(**model.tensors(x))[0], model.predict(x, raw=True)) < SAME
    # All modules of a model have the very same parameters; a copy has others.
    other = dict(model.to_torch(share=True).named_parameters())
    assert all(parameter is other[name] for name, parameter in module.named_parameters())
    apart_from_it = model.to_torch()
    with torch.no_grad():
        next(apart_from_it.parameters()).add_(1)
    assert apart(module.state_dict(), model.state_dict()) == 0


@pytest.mark.usefixtures("own_seed")
def test_modules_of_the_callers_own_share_memory_too():
    model = own_model("hard")
    x, y = features(), targets(model)
    module = model.to_torch(share=True, raw=True, terms=True)
    steps(model, module, model.tensors(x), y, count=3)
    assert apart(module(**model.tensors(x))[0], model.predict(x, raw=True)) < SAME
    ours(model, x, y, count=3)
    assert apart(module(**model.tensors(x))[0], model.predict(x, raw=True)) < SAME


def test_shared_memory_outlives_the_model():
    model = make()
    x = model.tensors(features())
    module, expected = model.to_torch(share=True), model.predict(features())
    del model
    assert apart(module(**x), expected) < SAME


def test_parameters_follow_the_model_to_other_memory():
    model = make()
    x = features()
    module = model.to_torch(share=True)
    parameter = next(module.parameters())
    parameter.grad = torch.ones_like(parameter)
    # A card has other memory, and is tried where there is one.
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    # By formulas on the processor the memory stays the same.
    model._core.to("formulas")
    with torch.no_grad():
        parameter.mul_(0.5)
    assert apart(module(**model.tensors(x)), model.predict(x)) < 2e-6
    for device in [*devices, "cpu"]:
        model.to(device)
        assert next(module.parameters()) is parameter
        assert parameter.device.type == device
        with torch.no_grad():
            parameter.mul_(0.5)
        assert apart({k: v.cpu() for k, v in module(**model.tensors(x)).items()}, model.predict(x)) < 2e-6


def test_a_model_is_called_on_tensors():
    model = make("mmoe", pt.encoder.MLP([12], activation="tanh"))
    x, y = features(), targets(model)
    given = model.tensors(x)
    given["numeric"].requires_grad_()
    outputs = model(given)
    assert apart(outputs, model.predict(x, raw=True)) < SAME
    assert apart(model(given, raw=False), model.predict(x)) < SAME
    sum(losses(model, outputs, y)).backward()
    parameters = dict(model.to_torch(share=True).named_parameters())
    expected = model._core.gradients(model.reader.rows((x, y)).core(), "sum")
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    assert apart(gradients, {name: expected[name] for name in gradients}) < SAME
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-2


def test_a_call_is_differentiable_with_regard_to_its_input():
    model = pt.MultiTaskModel(4, tasks=[pt.Task("a"), pt.Task("b", classes=3)],
                              encoder=pt.encoder.MLP([8, 8], activation="tanh"), seed=1)  # fmt: skip
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    given = torch.from_numpy(x).requires_grad_()
    outputs = model(given)
    (outputs["a"].sum() + outputs["b"][:, 1].sum()).backward()
    size = 1e-2

    def total(moved):
        raw = model.predict(moved, raw=True)
        return raw["a"].astype(float) + raw["b"][:, 1]

    slopes = np.stack([(total(x + size * e) - total(x - size * e)) / (2 * size) for e in np.eye(4, dtype=x.dtype)], 1)
    np.testing.assert_allclose(given.grad, slopes, atol=1e-3)
    assert np.abs(slopes).max() > 0.05


@pytest.mark.usefixtures("own_seed")
def test_a_model_trains_as_part_of_another_module():
    model = make()
    x, y = features(), targets(model)
    given = model.tensors(x)
    before = nn.Linear(5, 5)
    nn.init.eye_(before.weight)
    nn.init.zeros_(before.bias)
    parameters = [*before.parameters(), *model.to_torch(share=True).parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-2)
    history = []
    for _ in range(30):
        outputs = model({**given, "numeric": before(given["numeric"])}, training=True)
        loss = sum(losses(model, outputs, y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.8 * history[0]
    with torch.no_grad():
        moved = {**x, "numeric": before(given["numeric"]).numpy()}
        assert apart(model({**given, "numeric": before(given["numeric"])}), model.predict(moved, raw=True)) < 2e-6
    assert not torch.equal(before.weight, torch.eye(5))


def test_terms_are_those_of_the_network():
    model = make(pt.sharing.DSelectK(experts=5, k=2, entropy=0.3))
    x, y = features(), targets(model)
    outputs, terms = model(model.tensors(x), terms=True, training=True)
    trainer = pt.Trainer(model, optimizer=pt.optim.SGD(lr=0.0))
    history = trainer.fit((x, y), epochs=1, batch_size=ROWS, shuffle=False, progress=False)
    assert set(terms) == {"entropy", "spare_codes"}
    for name, term in terms.items():
        assert term.item() == pytest.approx(history[f"term/{name}"][0], abs=1e-5)
        assert term.item() > 1e-3
    total = sum([*losses(model, outputs, y), *terms.values()]).item()
    assert total == pytest.approx(history["loss"][0], abs=1e-5)
    assert make("hard").to_torch(terms=True)(**model.tensors(x))[1] == {}


@pytest.mark.usefixtures("own_seed")
def test_training_draws_and_evaluation_does_not():
    encoder = pt.encoder.MLP([200], activation=None, dropout=0.25)
    module = pt.MultiTaskModel(4, tasks=[pt.Task("a"), pt.Task("b")], encoder=encoder).to_torch()
    x = torch.ones(50, 4)
    assert torch.equal(module(x)["a"], module(x)["a"])
    dropped = []
    module.get_submodule("dropout.1").register_forward_hook(lambda _, given, found: dropped.append((given[0], found)))
    module.train()
    assert not torch.equal(module(x)["a"], module(x)["a"])
    given, found = dropped[0]
    assert ((found == 0) | torch.isclose(found, given / 0.75)).all()
    assert (found == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.usefixtures("own_seed")
def test_sampled_branches_follow_their_law():
    each = [pt.Task("a"), pt.Task("b")]
    scheme = pt.sharing.LTB(branches=3, temperature=2.0, decay=0.5, lowest=1e-3)
    model = pt.MultiTaskModel(4, tasks=each, encoder=pt.encoder.MLP([6]), sharing=scheme)
    state = model.state_dict()
    for name in state:
        if name.startswith("branching"):
            state[name][:] = [0.3, 1.5, -0.6]
    model.load_state_dict(state)
    module = model.to_torch()
    (choice,) = [part for part in module.modules() if type(part).__name__ == "Choice"]
    weights = torch.tensor([[0.3, 1.5, -0.6]]).expand(20_000, 3)
    assert torch.equal(choice(weights)[0], torch.tensor([0.0, 1.0, 0.0]))
    module.train()
    soft = choice(weights)
    assert int(choice.steps) == 1
    assert torch.allclose(soft.sum(1), torch.ones(()))
    # At a low temperature samples are single sources, as often as the softmax says.
    choice.steps.fill_(100)
    frequencies = choice(weights).mean(0)
    assert torch.allclose(frequencies, weights[0].softmax(0), atol=0.02)
    assert soft.max(1).values.mean() < 0.9 < choice(weights).max(1).values.mean()


def test_what_is_frozen_requires_no_gradient_and_stays():
    model = make()
    model.freeze("encoder", "heads.a.bias")
    x, y = features(), targets(model)
    module = model.to_torch(raw=True, terms=True)
    learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert set(model.state_dict()) - learning == set(model.frozen)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    steps(model, module, model.tensors(x), y)
    after = module.state_dict()
    assert {name for name in before if torch.equal(before[name], after[name])} == set(model.frozen)
    ours(model, x, y)
    assert apart(after, model.state_dict()) < FOLLOWS
    shared = dict(model.to_torch(share=True).named_parameters())
    assert not shared["heads.a.bias"].requires_grad
    model.unfreeze()
    model(model.tensors(x))
    assert shared["heads.a.bias"].requires_grad


def test_a_batch_of_one_row_has_no_statistics():
    model = make()
    x = model.tensors(features(1))
    module = model.to_torch()
    expected = module(**x)
    assert apart(module.train()(**x), expected) == 0
    assert apart(module.state_dict(), model.state_dict()) == 0


def test_states_load_into_each_other():
    one, other = make("ple", seed=1), make("ple", seed=2)
    module = one.to_torch()
    x = features()
    other.load_state_dict(module.state_dict())
    assert apart(other.predict(x), one.predict(x)) == 0
    third = make("ple", seed=3)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in third.state_dict().items()})
    assert apart(module(**third.tensors(x)), third.predict(x)) < SAME


#: Tasks that are called as parts of modules are, or as other tasks with a dot.
NAMES = ["type", "train", "weight", "children", "a", "a.b", "forward", "dépôt", "two words", "class"]


def test_tasks_may_be_called_as_parts_of_modules_are():
    model = make(tasks=[pt.Task(name) for name in NAMES], head=pt.head.Tower(3))
    x = features()
    module = model.to_torch()
    module.train()
    module.eval()
    for each in (module, copy.deepcopy(module)):
        assert apart(each(**model.tensors(x)), model.predict(x)) < SAME
        assert apart(each.state_dict(), model.state_dict()) == 0
        each.load_state_dict(each.state_dict())
    pickled = pickle.loads(pickle.dumps(module))
    assert apart(pt.MultiTaskModel.from_torch(pickled).predict(x), model.predict(x)) == 0


def test_a_name_that_no_module_can_have_is_refused():
    with pytest.raises(ValueError, match=r"`heads.a..b.0?"):
        make(tasks=[pt.Task("a..b"), pt.Task("c")]).to_torch()


COPIES = {
    "itself": lambda module: module,
    "a copy": copy.deepcopy,
    "a pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "a file": saved,
    "a copy of a pickle of a copy": lambda module: copy.deepcopy(saved(copy.deepcopy(module))),
    "in double precision": lambda module: module.double(),
}


@pytest.mark.parametrize("through", COPIES)
def test_a_module_becomes_a_model_again(through):
    labelled = [pt.Task("animal", classes=["cat", "dog", "emu"]), pt.Task("b", metrics=["mae"]), pt.Task("c")]
    model = make(pt.sharing.DSelectK(experts=3), tasks=labelled)
    model.freeze("embedding")
    module = model.to_torch(raw=True)
    with torch.no_grad():
        module.get_submodule("heads.b").weight.mul_(2)
    again = pt.MultiTaskModel.from_torch(COPIES[through](module))
    x = features()
    expected = model.state_dict()
    expected["heads.b.weight"] *= 2
    assert apart(again.state_dict(), expected) == 0
    assert repr(again) == repr(model)
    assert again.frozen == model.frozen
    assert again.classes(again.predict(x))["animal"][0] in ("cat", "dog", "emu")
    y = {"animal": ["cat"] * ROWS, "b": np.zeros(ROWS), "c": np.ones(ROWS)}
    pt.Trainer(again).fit((x, y), epochs=1, progress=False)
    assert apart(again.state_dict(), expected) > 0
    assert np.array_equal(model.state_dict()["heads.c.weight"], expected["heads.c.weight"])


def test_a_python_loss_is_given_back():
    model = make(tasks=every_loss())
    module = model.to_torch()
    lost = pt.MultiTaskModel.from_torch(module)
    x = features()
    assert apart(lost.predict(x), model.predict(x)) == 0
    own = {task.name: task.loss for task in model.tasks if task.custom}
    assert repr(pt.MultiTaskModel.from_torch(module, own).tasks) == repr(model.tasks)


@pytest.mark.parametrize(("module", "error"), [(nn.Linear(2, 2), ValueError), ("model", TypeError)])
def test_other_modules_become_no_model(module, error):
    with pytest.raises(error, match="`module` should be"):
        pt.MultiTaskModel.from_torch(module)


def test_a_frame_goes_through_what_was_learned_of_it():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"age": rng.normal(40, 10, 60), "city": rng.choice(["Rome", "Oslo"], 60), "y": rng.normal(size=60)}
    )
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame, exclude=["y"]), tasks=[pt.Task("y")])
    pt.Trainer(model).fit(frame, epochs=1, progress=False)
    given = model.tensors(frame.drop(columns="y"))
    assert {name: tensor.dtype for name, tensor in given.items()} == {
        "numeric": torch.float32,
        "categorical": torch.int64,
    }
    module = model.to_torch()
    assert apart(module(**given), model.predict(frame)) < SAME
    assert apart(pt.MultiTaskModel.from_torch(module).predict(frame), model.predict(frame)) == 0


WRONG = [
    (lambda x: np.ones((3, 4)), TypeError, r"should be a torch.Tensor.*got ndarray.*`predict` takes"),
    (lambda x: x["numeric"], TypeError, "dict of tensors with the keys `numeric`, `categorical`; got one tensor"),
    (lambda x: {"numeric": x["numeric"]}, ValueError, "keys `numeric`, `categorical`; got `numeric`"),
    (
        lambda x: {**x, "numeric": x["numeric"].double()},
        ValueError,
        r"\[rows, 5\] of float32; got \[40, 5\] of float64",
    ),
    (lambda x: {**x, "numeric": x["numeric"][:, :3]}, ValueError, r"`x\['numeric'\]` should be \[rows, 5\]"),
    (lambda x: {**x, "categorical": x["numeric"][:, :4]}, ValueError, r"of int64; got \[40, 4\] of float32"),
    (lambda x: {**x, "categorical": [1]}, TypeError, r"`x\['categorical'\]` should be a torch.Tensor; got list"),
]


@pytest.mark.parametrize(("wrong", "error", "says"), WRONG)
def test_a_call_on_something_else_is_refused(wrong, error, says):
    model = make()
    with pytest.raises(error, match=says):
        model(wrong(model.tensors(features())))


def test_a_node_without_translation_is_named(monkeypatch):
    from polytask.torch.module import nodes

    monkeypatch.delitem(nodes.TRANSLATIONS, "Mixture")
    with pytest.raises(ValueError, match="node `Mixture`, which has no translation"):
        make("mmoe").to_torch()


def test_modules_that_are_made_in_inference_mode_train():
    model = make(pt.sharing.LTB(branches=2), tasks=[pt.Task("a", scale="standardize"), pt.Task("b")])
    x = features()
    y = {name: np.arange(ROWS, dtype=np.float32) for name in "ab"}
    pt.Trainer(model).fit((x, y), epochs=1, progress=False)
    with torch.inference_mode():
        module = model.to_torch()
        assert apart(model(model.tensors(x), raw=False), model.predict(x)) < 1e-5
    model(model.tensors(x))["a"].sum().backward()
    module.train()
    with torch.random.fork_rng(devices=[]):
        module(**model.tensors(x))["a"].sum().backward()
    for each in (module, model.to_torch(share=True)):
        assert dict(each.named_parameters())["heads.a.weight"].grad.abs().max() > 0


def test_sparse_tables_have_their_memory_too():
    described = pt.Inputs(categorical=[1000], embedding=4, sparse=True)
    model = pt.MultiTaskModel(described, tasks=[pt.Task("a"), pt.Task("b")])
    codes = np.arange(30).reshape(30, 1)
    module = model.to_torch(share=True)
    assert apart(module(torch.from_numpy(codes)), model.predict(codes)) < SAME
    pt.Trainer(model, lr=0.1).fit((codes, np.ones(30), np.ones(30)), epochs=2, progress=False)
    assert apart(module(torch.from_numpy(codes)), model.predict(codes)) < SAME


def test_copies_of_a_model_share_nothing_with_its_modules():
    model = make()
    module = model.to_torch(share=True)
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    with torch.no_grad():
        next(module.parameters()).add_(1)
    x = features()
    for twin in twins:
        assert apart(twin.predict(x), model.predict(x)) > 1e-3
        assert apart(twin(twin.tensors(x)), twin.predict(x, raw=True)) < SAME


def test_a_module_is_made_within_transforms_of_functions():
    """A first call within them makes it, of memory that the core can see."""
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    make = lambda: pt.MultiTaskModel(5, tasks=[pt.Task("value")], encoder=pt.encoder.MLP([8], "tanh"), seed=0)  # noqa: E731
    want = x.clone().requires_grad_()
    make()(want)["value"].sum().backward()
    fresh, other = make(), make()
    assert torch.allclose(torch.func.grad(lambda row: fresh(row)["value"].sum())(x), want.grad)
    rows = torch.func.vmap(torch.func.jacrev(lambda row: other.to_torch()(row[None])["value"][0]))(x)
    assert torch.allclose(rows, want.grad)


def test_a_model_is_trained_and_evaluated_like_a_module():
    encoder = pt.encoder.MLP([16], dropout=0.5)
    model = pt.MultiTaskModel(5, tasks=[pt.Task("a"), pt.Task("b")], encoder=encoder, seed=0)
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    assert not model.training
    assert torch.equal(model(x)["a"], model(x)["a"])
    with torch.random.fork_rng([]):
        assert model.train() is model
        assert not torch.equal(model(x)["a"], model(x)["a"])
        assert copy.deepcopy(model).training
        assert torch.equal(model(x, training=False)["a"], model.eval()(x)["a"])
    named = dict(model.named_parameters())
    assert named.keys() == model.parameters().keys()
    optimizer = torch.optim.SGD(named.values(), lr=0.1)
    before = model.predict(x)["a"]
    model(x)["a"].square().mean().backward()
    optimizer.step()
    assert np.array_equal(model.state_dict()["heads.a.weight"], named["heads.a.weight"].detach())
    assert not np.array_equal(model.predict(x)["a"], before)


def test_a_module_over_the_models_memory_is_made_when_scales_are_known():
    model = pt.MultiTaskModel(5, tasks=[pt.Task("a"), pt.Task("b", scale="standardize")], seed=0)
    with pytest.raises(ValueError, match=r"task `b` has scale='standardize', which the first `fit` learns"):
        model.to_torch(share=True)
    raw = model.to_torch(share=True, raw=True)
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    pt.Trainer(model, lr=0.01).fit((x, x[:, 0], 500 + 10 * x[:, 1]), epochs=3, progress=False)
    given = torch.from_numpy(x)
    assert np.allclose(raw(given)["b"].detach(), model.predict(x, raw=True)["b"].squeeze(), atol=1e-5)
    assert np.allclose(model.to_torch(share=True)(given)["b"].detach(), model.predict(x)["b"], rtol=1e-6)
    assert all(p is q for p, q in zip(raw.parameters(), dict(model.named_parameters()).values(), strict=True))
