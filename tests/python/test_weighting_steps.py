"""One step of every weighting from gradients, against the same step written with torch's autograd in double precision."""

import numpy as np
import polytask as pt
import pytest
import torch
from polytask import registry

LR = 0.5
ROWS = 24
TASKS = ("a", "b", "c")
LAMBDAS = {"a": 1.0, "b": 0.5, "c": 2.0}


def of_gradients():
    """The classes of weightings that decide from one batch's gradients."""
    for info in registry.REGISTRY:
        if info["family"] == "weighting" and info["needs"] != "losses" and info["parts"] == 1:
            yield getattr(pt.weighting, info["class"])


def rows(missing=True, seed=0):
    """Features and conflicting targets, some of them missing."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(ROWS, 5)).astype(np.float32)
    slopes = generator.normal(size=(5, 3))
    y = {"a": x @ slopes[:, 0], "b": -x @ slopes[:, 0] + 0.5 * x[:, 1], "c": x @ slopes[:, 2]}
    if missing:
        for k, name in enumerate(TASKS):
            y[name] = np.where(np.arange(ROWS) % 4 == k, np.nan, y[name])
    return x, {name: value.astype(np.float32) for name, value in y.items()}


def make(head="linear", weight=LAMBDAS):
    tasks = [pt.Task(name, weight=weight[name]) for name in TASKS]
    return pt.MultiTaskModel(5, tasks=tasks, encoder=pt.encoder.MLP([6, 4], activation="tanh"), head=head, seed=1)


class Autograd:
    """The model's losses and gradients in double precision."""

    def __init__(self, model, x, y, head="linear"):
        self.state = {
            k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in model.state_dict().items()
        }
        h = torch.tensor(x, dtype=torch.float64)
        for k in (0, 1):
            h = torch.tanh(self.linear(h, f"encoder.{k}"))
        self.representation = h
        self.losses = {}
        for name in TASKS:
            out = self.linear(h, f"heads.{name}") if head == "linear" else self.tower(h, name)
            target = torch.tensor(y[name], dtype=torch.float64)
            known = ~target.isnan()
            if known.any():
                self.losses[name] = LAMBDAS[name] * ((out[:, 0] - target)[known] ** 2).mean()
        self.shared = [key for key in self.state if key.startswith("encoder")]

    def linear(self, x, path):
        return x @ self.state[f"{path}.weight"].T + self.state[f"{path}.bias"]

    def tower(self, h, name):
        return self.linear(torch.relu(self.linear(h, f"heads.{name}.0")), f"heads.{name}.1")

    def gradient(self, loss, of):
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, of, retain_graph=True)])

    def jacobian(self, keys=None):
        of = [self.state[key] for key in keys or self.shared]
        return torch.stack([self.gradient(loss, of) for loss in self.losses.values()]).numpy()

    def at_representation(self):
        return torch.stack([self.gradient(loss, [self.representation]) for loss in self.losses.values()]).numpy()

    def stepped(self, direction=None, weights=None, own=None, along=None):
        """Parameters after plain gradient descent: shared ones against a direction or weighted gradients."""
        if direction is None and along is None:
            direction = np.asarray(weights) @ self.jacobian()
        if along is not None:
            of = [self.state[key] for key in self.shared]
            seed = torch.tensor(along).reshape(self.representation.shape)
            grads = torch.autograd.grad(self.representation, of, seed, retain_graph=True)
            direction = torch.cat([g.reshape(-1) for g in grads]).numpy()
        new, at = {key: value.detach().numpy().copy() for key, value in self.state.items()}, 0
        for key in self.shared:
            size = new[key].size
            new[key] -= LR * direction[at : at + size].reshape(new[key].shape)
            at += size
        for k, (name, loss) in enumerate(self.losses.items()):
            for key in (key for key in new if key.startswith(f"heads.{name}.")):
                factor = 1.0 if own is None else own[k]
                new[key] -= LR * factor * self.gradient(loss, [self.state[key]]).numpy().reshape(new[key].shape)
        return new


def trained(model, weighting, data, batch=ROWS, **how):
    trainer = pt.Trainer(model, pt.optim.SGD(lr=LR), weighting=weighting, **how)
    trainer.fit(data, epochs=1, batch_size=batch, shuffle=False, progress=False, train_metrics=False)
    return model.state_dict()


def assert_same(got, want, tolerance=2e-5):
    assert got.keys() == want.keys()
    for key in got:
        np.testing.assert_allclose(got[key], want[key], rtol=tolerance, atol=tolerance, err_msg=key)


def expected(weighting, jacobian, losses):
    """The method's own direction for gradients written down, and its factors on the tasks' own parameters."""
    core = pt._core.Weighting(component_json(weighting))
    weights, direction, own = core.weigh(losses=np.asarray(losses), jacobian=jacobian)
    return (np.asarray(weights) @ jacobian if direction is None else np.asarray(direction)), own


def component_json(weighting):
    import json

    return json.dumps(weighting.describe())


@pytest.mark.parametrize("cls", list(of_gradients()), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("how", ["whole", "micro-batches", "a task is absent"])
def test_a_step_is_the_method_on_the_tasks_gradients(cls, how):
    x, y = rows()
    if how == "a task is absent":
        y["b"] = np.full_like(y["b"], np.nan)
    model = make()
    reference = Autograd(model, x, y)
    losses = [float(loss.detach()) for loss in reference.losses.values()]
    rows_of = [TASKS.index(name) for name in reference.losses]
    jacobian = np.zeros((3, reference.jacobian().shape[1]))
    jacobian[rows_of] = reference.jacobian()
    known = np.full(3, np.nan)
    known[rows_of] = losses
    direction, own = expected(cls(), jacobian, known)
    want = reference.stepped(direction, own=np.asarray(own)[rows_of])
    accumulate = {"accumulate": 3, "batch": ROWS // 3} if how == "micro-batches" else {}
    got = trained(model, cls(), (x, y), **accumulate)
    assert_same(got, want, 1e-4)
