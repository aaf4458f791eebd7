"""One step of every weighting from gradients, against the same step by torch's autograd in double precision."""

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
        if info["family"] == "weighting":
            traits = info["traits"]
            if traits["needs"] != "losses" and traits["parts"] == 1:
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


def trained(model, weighting, data, batch=ROWS, reference=None, **how):
    """The parameters after an epoch; of one step, whose losses are those of the reference."""
    trainer = pt.Trainer(model, pt.optim.SGD(lr=LR), weighting=weighting, **how)
    history = trainer.fit(data, epochs=1, batch_size=batch, shuffle=False, progress=False, train_metrics=False)
    if reference is not None:
        got = {name: history[f"{name}/loss"][0] for name in reference.losses}
        want = {name: float(loss.detach()) / LAMBDAS[name] for name, loss in reference.losses.items()}
        assert got == pytest.approx(want, rel=1e-5)
    return model.state_dict()


def assert_same(got, want, tolerance=2e-5):
    assert got.keys() == want.keys()
    for key in got:
        np.testing.assert_allclose(got[key], want[key], rtol=tolerance, atol=tolerance, err_msg=key)


#: What some methods also multiply the tasks' own gradients by, in their first step: from weights and losses.
OWN = {"DBMTL": lambda weights, losses: 1 / losses, "GradNorm": lambda weights, losses: weights}


@pytest.mark.parametrize("cls", list(of_gradients()), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("how", ["whole", "micro-batches", "a task is absent"])
def test_a_step_is_the_method_on_the_tasks_gradients(cls, how):
    x, y = rows()
    if how == "a task is absent":
        y["b"] = np.full_like(y["b"], np.nan)
    model = make()
    reference = Autograd(model, x, y)
    present = [TASKS.index(name) for name in reference.losses]
    losses, jacobian = np.full(3, np.nan), np.zeros((3, reference.jacobian().shape[1]))
    losses[present] = [float(loss.detach()) for loss in reference.losses.values()]
    jacobian[present] = reference.jacobian()
    direction, own = cls().aggregate(jacobian, losses=losses), None
    if cls.__name__ in OWN:
        weights = cls().weights(jacobian @ jacobian.T, losses=losses)[present] if cls.__name__ == "GradNorm" else None
        own = OWN[cls.__name__](weights, losses[present])
    want = reference.stepped(direction, own=own)
    accumulate = {"accumulate": 3, "batch": ROWS // 3} if how == "micro-batches" else {}
    got = trained(model, cls(), (x, y), reference=reference, **accumulate)
    assert_same(got, want, 1e-4)


@pytest.mark.parametrize("head", ["linear", "tower"])
@pytest.mark.parametrize("how", [{}, {"accumulate": 2, "batch": ROWS // 2}], ids=["whole", "micro-batches"])
@pytest.mark.parametrize("name", ["UPGrad", "MGDA", "PCGrad", "GradDrop"])
def test_at_the_representation_one_backward_gives_the_same(name, head, how):
    x, y = rows()
    chosen = pt.head.Tower(3) if head == "tower" else head
    model = make(chosen)
    reference = Autograd(model, x, y, head)
    jacobian = reference.at_representation()
    losses = np.array([float(loss.detach()) for loss in reference.losses.values()])
    along = getattr(pt.weighting, name)().aggregate(jacobian, losses=losses)
    got = trained(model, getattr(pt.weighting, name)(at="representation"), (x, y), reference=reference, **how)
    assert_same(got, reference.stepped(along=along), 1e-4)


def test_what_is_said_of_a_weighting_inside_another_holds():
    x, y = rows()
    for outside, inside in (({}, {"at": "representation"}), ({"at": "representation"}, {})):
        chosen = pt.weighting.CRMOGM(inner=pt.weighting.IMTLG(**inside), **outside)
        model = make()
        reference = Autograd(model, x, y)
        along = pt.weighting.IMTLG().aggregate(reference.at_representation())
        assert_same(trained(model, chosen, (x, y), reference=reference), reference.stepped(along=along), 1e-4)
    direction = reference.stepped(pt.weighting.IMTLG().aggregate(reference.jacobian()))
    assert any(np.abs(direction[key] - value).max() > 1e-3 for key, value in reference.stepped(along=along).items())
    with pytest.raises(
        ValueError, match="CRMOGM: argument `at`: it is given for the weighting inside too; give it once"
    ):
        pt.weighting.CRMOGM(inner=pt.weighting.IMTLG(at="representation"), at="representation")


def test_normalized_gradients_and_scales():
    x, y = rows()
    model = make()
    reference = Autograd(model, x, y)
    jacobian = reference.jacobian()
    losses = np.array([float(loss.detach()) for loss in reference.losses.values()])
    norms = np.linalg.norm(jacobian, axis=1)
    gramian = jacobian @ jacobian.T
    divided = {"none": norms**0, "l2": norms, "loss": losses, "loss+": losses * norms}
    for normalize, by in divided.items():
        rows_of = jacobian / by[:, None]
        weights = pt.weighting.UPGrad().weights(rows_of @ rows_of.T)
        for scale, factor in {"paper": 1, "mean": 1, "sum": 3}.items():
            chosen = pt.weighting.UPGrad(normalize=normalize, scale=scale)
            got = chosen.weights(gramian, losses=losses)
            np.testing.assert_allclose(got, factor * weights / by, rtol=1e-6)
            fresh = make()
            got = trained(fresh, chosen, (x, y), reference=reference)
            assert_same(got, reference.stepped(factor * weights @ rows_of), 1e-4)
    own = pt.weighting.NashMTL().weights(gramian)
    np.testing.assert_allclose(pt.weighting.NashMTL(scale="mean").weights(gramian), own / own.sum(), rtol=1e-9)
    np.testing.assert_allclose(pt.weighting.NashMTL(scale="sum").weights(gramian), 3 * own / own.sum(), rtol=1e-9)


def test_weights_a_layer():
    x, y = rows()
    model = make()
    reference = Autograd(model, x, y)
    layers = [[f"encoder.{k}.weight", f"encoder.{k}.bias"] for k in (0, 1)]
    weights = [pt.weighting.IMTLG().weights(j @ j.T) for j in map(reference.jacobian, layers)]
    assert np.abs(weights[0] - weights[1]).max() > 0.01, "layers that want the same weights show nothing"
    direction = np.concatenate([w @ reference.jacobian(layer) for w, layer in zip(weights, layers, strict=True)])
    got = trained(model, pt.weighting.IMTLG(per="layer"), (x, y), reference=reference)
    assert_same(got, reference.stepped(direction), 1e-4)
    halves = {"batch": ROWS // 2, "accumulate": 2}
    again = trained(make(), pt.weighting.IMTLG(per="layer"), (x, y), reference=reference, **halves)
    assert_same(again, reference.stepped(direction), 1e-4)


def gramian(reference):
    return reference.jacobian() @ reference.jacobian().T


def test_weights_are_kept_between_refreshes():
    x, y = rows()
    weighting = pt.weighting.MGDA(refresh=3)
    model = make()
    trainer = pt.Trainer(model, pt.optim.SGD(lr=LR), weighting=weighting)
    first = Autograd(model, x, y)
    weights = pt.weighting.MGDA().weights(gramian(first))
    for step in range(5):
        reference = Autograd(model, x, y)
        if step == 3:
            weights = pt.weighting.MGDA().weights(gramian(reference))
        trainer.step((x, y))
        assert_same(model.state_dict(), reference.stepped(weights=weights), 1e-3)


def test_the_gradients_norm_is_clipped_after_they_are_combined():
    x, y = rows()
    model = make()
    reference = Autograd(model, x, y)
    want = reference.stepped(pt.weighting.UPGrad().aggregate(reference.jacobian()))
    before = {key: value.detach().numpy() for key, value in reference.state.items()}
    step = {key: want[key] - before[key] for key in want}
    norm = np.sqrt(sum((value**2).sum() for value in step.values())) / LR
    clipped = {key: before[key] + step[key] * 0.1 / norm for key in step}
    assert norm > 0.1
    assert_same(trained(model, "upgrad", (x, y), clip_norm=0.1), clipped, 1e-4)


def test_gradients_whose_squares_overflow_are_clipped():
    x, y = rows(missing=False)
    tasks = [pt.Task(name, loss="mean_absolute") for name in TASKS]
    model = pt.MultiTaskModel(5, tasks=tasks, encoder=pt.encoder.MLP([6]), seed=1)
    before = model.state_dict()
    pt.Trainer(model, pt.optim.SGD(lr=LR), weighting=pt.weighting.Static([1e22, 1.0, 1.0]), clip_norm=0.1).step((x, y))
    moved = np.sqrt(sum(((value - before[key]) ** 2).sum() for key, value in model.state_dict().items()))
    np.testing.assert_allclose(moved, LR * 0.1, rtol=1e-3)


def test_bfloat16_changes_the_gramian_alone():
    x, y = rows(missing=False)
    kept, rounded = make(), make()
    reference = Autograd(kept, x, y)
    trained(kept, pt.weighting.PCGrad(), (x, y))
    trained(rounded, pt.weighting.PCGrad(gramian_precision="bfloat16"), (x, y))
    for key, value in kept.state_dict().items():
        moved = np.abs(value - reference.state[key].detach().numpy()).max()
        assert np.abs(rounded.state_dict()[key] - value).max() < 0.05 * moved
        if key.startswith("heads"):
            np.testing.assert_allclose(rounded.state_dict()[key], value, rtol=1e-5, atol=1e-6)


def test_a_jacobian_beyond_the_budget_gives_the_same_step():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, 1200)).astype(np.float32)
    y = {f"t{k}": generator.normal(size=8).astype(np.float32) for k in range(8)}
    tasks = [pt.Task(name) for name in y]
    size = 8 * 1200 * 1800
    assert size > 16 * 2**20
    models = [pt.MultiTaskModel(1200, tasks=tasks, encoder=pt.encoder.MLP([1800]), seed=0) for _ in range(2)]
    # With weights a layer the Jacobian is kept, however large; here there is one layer.
    for model, per in zip(models, ("all", "layer"), strict=True):
        trained(model, pt.weighting.UPGrad(per=per), (x, y))
    assert_same(models[0].state_dict(), models[1].state_dict(), 1e-6)


def test_combinations_that_cannot_work_are_refused_before_training():
    model = make()
    refused = {
        "`refresh` should be 1": lambda: pt.weighting.GradDrop(refresh=2),
        '`gramian_precision` should be "float32"': lambda: pt.weighting.GradDrop(gramian_precision="bfloat16"),
        '`per` should be "all"': lambda: pt.weighting.GradDrop(per="layer"),
        "UPGrad: argument `at` should be": lambda: pt.weighting.UPGrad(at="heads"),
        "UPGrad: argument `per`": lambda: pt.weighting.UPGrad(at="representation", per="layer"),
        "differ between layers": lambda: pt.weighting.UPGrad(per="layer", refresh=2),
        "averages gradients over steps": lambda: pt.weighting.MoCo(at="representation"),
        "compares parts of a batch": lambda: pt.weighting.MoDo(at="representation"),
        "no per-task products": lambda: pt.weighting.UPGrad(at="representation", gramian_precision="bfloat16"),
        "`accumulate` of 2": lambda: pt.Trainer(
            model, weighting=pt.weighting.UPGrad(gramian_precision="bfloat16"), accumulate=2
        ),
    }
    for message, make_it in refused.items():
        with pytest.raises(ValueError, match=message):
            make_it()
