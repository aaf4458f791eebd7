"""`polytask.torch.backward` in a loop of the caller's own, against plain autograd and TorchJD."""

import copy
import subprocess
import sys

import numpy as np
import polytask as pt
import pytest
import torch
from polytask.components.registry import component
from polytask.torch import decided, gradients
from test_standalone import ALONE, made
from torch import nn
from torch._functorch import config as functorch_config
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.checkpoint import checkpoint

TASKS = ("a", "b", "c")


@pytest.fixture(autouse=True)
def own_draws():
    """Modules draw their parameters; the generator is as before afterwards."""
    with torch.random.fork_rng([]):
        yield


class Network(nn.Module):
    """A trunk and three heads of different losses."""

    def __init__(self, trunk=None, width=8, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, width)) if trunk is None else trunk
        self.heads = nn.ModuleList(nn.Linear(width, out) for out in (1, 3, 2))
        self.to(dtype)

    def forward(self, x):
        features = self.trunk(x)
        features = features[0] if isinstance(features, tuple) else features
        return [head(features.flatten(1)) for head in self.heads]


def batch(shape=(12, 5), dtype=torch.float64):
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=shape)).to(dtype)
    rows = shape[0]
    number, classes = rng.normal(size=(rows, 1)), rng.integers(0, 3, rows)
    return x, (torch.from_numpy(number).to(dtype), torch.from_numpy(classes), torch.from_numpy(classes % 2))


def losses_of(network, x, y):
    number, several, two = network(x)
    return [mse_loss(number.to(y[0].dtype), y[0]), cross_entropy(several, y[1]), 2 * cross_entropy(two, y[2])]


def rows_of(losses, parameters):
    """Each loss's gradient as a row, by autograd alone."""
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        found = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        rows.append(torch.cat([gradient.reshape(-1) for gradient in found]))
    return torch.stack(rows)


def flat(parameters):
    return torch.cat([p.grad.reshape(-1) for p in parameters])


def close(got, want, tolerance=1e-9):
    got, want = torch.as_tensor(got).double(), torch.as_tensor(want).double()
    assert torch.isfinite(want).all()
    assert torch.linalg.norm(got - want) <= tolerance * max(torch.linalg.norm(want), 1e-3), (got, want)


def check(weighting, network, losses, tolerance=1e-9, **more):
    """`.grad` against what the weighting makes of rows that autograd gave one by one."""
    shared, heads = list(network.trunk.parameters()), [list(head.parameters()) for head in network.heads]
    jacobian = rows_of(losses, shared)
    values = torch.stack([loss.detach() for loss in losses])
    own = [rows_of([loss], head)[0] for loss, head in zip(losses, heads, strict=True)]
    needs = weighting._made().needs
    given = {"losses": values} if needs == "losses" else {"jacobian": jacobian, "losses": values}
    given = {name: x.double().numpy() for name, x in given.items()}
    weights, direction, factors = made_again(weighting)._weigh(given, None, 0)
    direction = weights @ jacobian.double().numpy() if direction is None else direction
    network.zero_grad()
    pt.torch.Balancer(weighting, **more).backward(losses)
    close(flat(shared), direction, tolerance)
    for head, row, factor in zip(heads, own, factors, strict=True):
        close(flat(head), factor * row, tolerance)


def made_again(weighting):
    return type(weighting)(**{name: value for name, value in vars(weighting).items() if name != "_held"})


# What GradDrop draws for each parameter depends on their order, which is as they are named or found.
@pytest.mark.parametrize(
    ("info", "named"),
    [(info, named) for info in ALONE for named in (False, True) if named or info["name"] != "graddrop"],
    ids=lambda value: value["name"] if isinstance(value, dict) else str(value),
)
def test_every_weighting_gives_what_it_makes_of_plain_gradients(info, named):
    network = Network()
    x, y = batch()
    # Some keep gradients in single precision.
    tolerance = 1e-9 if info["traits"]["needs"] != "jacobian" else 1e-6
    shared = network.trunk.parameters() if named else None
    check(made(info), network, losses_of(network, x, y), tolerance, shared=shared)


# TorchJD's name, our weighting, and whether it says the same length too.
RIVALS = {
    "UPGrad": (pt.weighting.UPGrad(), True),
    "DualProj": (pt.weighting.DualProj(), True),
    "PCGrad": (pt.weighting.PCGrad(), True),
    "Sum": (pt.weighting.Equal(), True),
    "IMTLG": (pt.weighting.IMTLG(), False),
    "AlignedMTL": (pt.weighting.AlignedMTL(), False),
    "ConFIG": (pt.weighting.ConFIG(), False),
}


@pytest.mark.parametrize("name", RIVALS)
def test_torchjd_gives_the_same(name):
    torchjd = pytest.importorskip("torchjd")
    weighting, as_long = RIVALS[name]
    arguments = {}
    if name in ("UPGrad", "DualProj"):
        # What it adds to Gramians, so that it can solve them, is no part of the method.
        arguments["projector"] = torchjd.linalg.QuadprogProjector(reg_eps=1e-12)
    for seed in range(5):
        torch.manual_seed(seed)
        network = Network()
        x, y = batch()
        # PCGrad's order of tasks is random, and of two there is one.
        losses = losses_of(network, x, y)[: 2 if name == "PCGrad" else 3]
        shared = list(network.trunk.parameters())
        torchjd.autojac.backward(losses, inputs=shared, retain_graph=True)
        torchjd.autojac.jac_to_grad(shared, getattr(torchjd.aggregation, name)(**arguments))
        want = flat(shared)
        network.zero_grad()
        pt.torch.backward(losses, weighting=weighting, shared=shared)
        got = flat(shared)
        close(got if as_long else got * torch.linalg.norm(want) / torch.linalg.norm(got), want, 1e-5)


def trunks():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x):
            return self.inside(x, x, x, need_weights=False)[0].mean(1)

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.LSTM(6, 8, batch_first=True)

        def forward(self, x):
            return self.inside(x)[0][:, -1]

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            return 2 * x * gradient

    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Linear(5, 8)

        def forward(self, x):
            return Doubled.apply(self.inside(x))

    class Checkpointed(nn.Sequential):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=False)

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Linear(5, 5)

        def forward(self, x):
            return self.inside(torch.tanh(self.inside(x)))

    images = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    plain = lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 8))  # noqa: E731
    return {
        "mlp": (plain, (12, 5), 8),
        "convolution": (images, (6, 3, 7, 7), 8),
        "channels last": (lambda: images().to(memory_format=torch.channels_last), (6, 3, 7, 7), 8),
        "lstm": (Recurrent, (6, 4, 6), 8),
        "attention": (Attention, (6, 4, 6), 6),
        "custom function": (Custom, (12, 5), 8),
        "checkpoint": (lambda: Checkpointed(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 8)), (12, 5), 8),
        "tied": (Tied, (12, 5), 5),
        "compiled mlp": (lambda: torch.compile(plain(), backend="aot_eager"), (12, 5), 8),
        "compiled convolution": (lambda: torch.compile(images(), backend="aot_eager"), (6, 3, 7, 7), 8),
    }


@pytest.mark.parametrize("few", [0, gradients.FEW])
@pytest.mark.parametrize("name", trunks())
def test_trunks_of_every_kind(name, few, monkeypatch):
    monkeypatch.setattr(gradients, "FEW", few)
    make, shape, width = trunks()[name]
    network = Network(make(), width, torch.float32)
    x, y = batch(shape, torch.float32)
    x = x.to(memory_format=torch.channels_last) if name == "channels last" else x
    # The second call knows what the first found out of such a graph.
    with functorch_config.patch(donated_buffer=False):
        for _ in range(2):
            check(pt.weighting.UPGrad(), network, losses_of(network, x, y), 1e-4)
    if name == "channels last":
        assert network.trunk[0].weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_gradients_go_at_once_where_autograd_can():
    network = Network()
    x, y = batch()
    gradients._PROVEN.clear()
    pt.torch.backward(losses_of(network, x, y), weighting="upgrad")
    assert len(gradients._PROVEN) == 1
    compiled = Network(torch.compile(copy.deepcopy(network.trunk), backend="aot_eager"))
    gradients._REFUSED.clear()
    with functorch_config.patch(donated_buffer=False):
        pt.torch.backward(losses_of(compiled, x, y), weighting="upgrad")
    assert len(gradients._PROVEN) + len(gradients._REFUSED) == 2


def test_a_convolution_that_is_one_tasks_own_is_no_reason_to_go_task_by_task():
    class Convolved(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Conv1d(1, 1, 8)

        def forward(self, features):
            return self.inside(features.unsqueeze(1)).flatten(1)

    network = Network()
    network.heads[0] = Convolved().double()
    x, y = batch()
    gradients._PROVEN.clear()
    check(pt.weighting.UPGrad(), network, losses_of(network, x, y))
    assert len(gradients._PROVEN) == 1


def test_a_compiled_part_that_gives_its_buffers_away_says_what_helps():
    network = Network(torch.compile(trunks()["convolution"][0](), backend="aot_eager"), dtype=torch.float32)
    x, y = batch((6, 3, 7, 7), torch.float32)
    with pytest.raises(RuntimeError, match=r"set `torch\._functorch\.config\.donated_buffer = False` before"):
        pt.torch.backward(losses_of(network, x, y), weighting="upgrad")
    # One backward through it is all that these take.
    for weighting in (pt.weighting.UPGrad(at="representation"), "dwa"):
        network.zero_grad()
        pt.torch.backward(losses_of(network, x, y), weighting=weighting)
        assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in network.trunk.parameters())


def test_what_is_shared_within_one_compiled_graph_is_named():
    network = Network()
    x, y = batch()
    compiled = torch.compile(network, backend="aot_eager")
    message = "`shared`: the losses come out of one compiled graph, in which it is not seen what they have in common"
    with functorch_config.patch(donated_buffer=False):
        for weighting in (pt.weighting.UPGrad(), pt.weighting.UPGrad(at="representation")):
            with pytest.raises(ValueError, match=message):
                pt.torch.backward(losses_of(compiled, x, y), weighting=weighting)
        assert all(p.grad is None for p in network.parameters())
        pt.torch.backward(losses_of(network, x, y), weighting="upgrad")
        want = [p.grad.clone() for p in network.parameters()]
        network.zero_grad()
        pt.torch.backward(losses_of(compiled, x, y), weighting="upgrad", shared=network.trunk.parameters())
    for p, gradient in zip(network.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, gradient)


def test_a_graph_of_equal_names_is_tried_anew():
    def function_of(along):
        class Same(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, gradient):
                return along(gradient)

        return Same

    def alone(gradient):
        # By way of NumPy, which gradients of several tasks at once cannot go.
        return torch.from_numpy(gradient.numpy() * 2)

    for along in (lambda gradient: gradient * 2, alone):
        function = function_of(along)

        class Doubled(nn.Linear):
            def forward(self, x, function=function):
                return function.apply(super().forward(x))

        x, y = batch()
        network = Network(Doubled(5, 8))
        for _ in range(2):
            check(pt.weighting.UPGrad(), network, losses_of(network, x, y))


def test_a_named_part_is_shared_and_the_rest_keeps_its_own():
    network = Network()
    x, y = batch()
    losses = losses_of(network, x, y)
    first, second = list(network.trunk[0].parameters()), list(network.trunk[2].parameters())
    jacobian = rows_of(losses, first)
    rest = rows_of([sum(losses)], second)[0]
    pt.torch.backward(dict(zip(TASKS, losses, strict=True)), shared=iter(first), weighting=pt.weighting.UPGrad())
    close(flat(first), pt.weighting.UPGrad().aggregate(jacobian))
    close(flat(second), rest)


def test_frozen_parameters_and_parameters_that_nobody_uses():
    network = Network()
    network.trunk[0].requires_grad_(False)
    unused = nn.Linear(2, 2).double()
    x, y = batch()
    losses = losses_of(network, x, y)
    shared = list(network.trunk[2].parameters())
    want = pt.weighting.UPGrad().aggregate(rows_of(losses, shared))
    named = [*network.trunk.parameters(), *unused.parameters()]
    pt.torch.backward(losses, weighting="upgrad", shared=named)
    close(flat(shared), want)
    assert network.trunk[0].weight.grad is None
    assert unused.weight.grad is None


def test_tasks_without_a_label_have_no_part():
    network = Network()
    x, y = batch()
    shared = list(network.trunk.parameters())
    losses = losses_of(network, x, y)
    want = pt.weighting.UPGrad().aggregate(rows_of(losses[:2], shared))
    nothing = cross_entropy(network(x)[2], torch.full((12,), -100))
    assert torch.isnan(nothing)
    for absent in (None, nothing, torch.tensor(float("nan"))):
        network.zero_grad()
        some = {"a": losses[0], "b": losses[1], "c": absent}
        pt.torch.backward(some, weighting="upgrad", shared=shared, retain_graph=True)
        close(flat(shared), want)
        assert network.heads[2].weight.grad is None
        network.zero_grad()
        pt.torch.backward([losses[0], losses[1], absent], weighting="dwa", retain_graph=True)
        close(flat(shared), rows_of([losses[0] + losses[1]], shared)[0])
    stacked = torch.stack([*losses[:2], nothing])
    network.zero_grad()
    pt.torch.backward(stacked, weighting="upgrad", shared=shared)
    close(flat(shared), want)


@pytest.mark.parametrize("weighting", ["upgrad", "imtl", "graddrop", pt.weighting.UPGrad(at="representation")], ids=str)
def test_one_task_alone_keeps_its_gradient_of_what_is_shared(weighting):
    network = Network()
    x, y = batch()
    shared = list(network.trunk.parameters())
    method = component("weighting", weighting, "weighting")
    losses = losses_of(network, x, y)[:1]
    want = made_again(method).aggregate(rows_of(losses, shared), losses=torch.stack(losses).detach())
    assert want.abs().sum() > 0
    # Named, or known from a call before.
    for balancer in (pt.torch.Balancer(made_again(method), shared=shared), pt.torch.Balancer(made_again(method))):
        if balancer._shared is None:
            balancer.backward(losses_of(network, x, y))
            balancer.weighting.reset()
        network.zero_grad()
        balancer.backward([losses_of(network, x, y)[0], None, None])
        close(flat(shared), want, 1e-6)
        assert network.heads[1].weight.grad is None
    # In a first call nobody knows: all is the task's own.
    network.zero_grad()
    pt.torch.Balancer(made_again(method)).backward(losses_of(network, x, y)[:1])
    close(flat(shared), rows_of(losses_of(network, x, y)[:1], shared)[0])


def test_what_is_named_has_its_rows_whoever_reaches_it():
    network = Network()
    x, y = batch()
    losses = losses_of(network, x, y)
    named = [*network.trunk.parameters(), *network.heads[0].parameters()]
    want = pt.weighting.UPGrad().aggregate(rows_of(losses, named))
    pt.torch.backward(losses, weighting="upgrad", shared=named)
    close(flat(named), want)


@pytest.mark.parametrize("weighting", ["upgrad", "db_mtl", pt.weighting.UPGrad(at="representation")], ids=str)
def test_losses_that_share_nothing_keep_their_gradients(weighting):
    first, second = Network(), Network()
    x, y = batch()
    losses = [losses_of(first, x, y)[0], losses_of(second, x, y)[1]]
    want = [rows_of([loss], list(net.trunk.parameters()))[0] for loss, net in zip(losses, (first, second), strict=True)]
    pt.torch.backward(losses, weighting=weighting)
    for net, row in zip((first, second), want, strict=True):
        close(flat(net.trunk.parameters()), row)


def test_one_tensor_of_losses_has_a_task_each_entry():
    network = Network()
    x, y = batch()
    shared = list(network.trunk.parameters())
    everything = [*shared, *network.heads[1].parameters()]
    # A loss a row: all parameters are common.
    rows = cross_entropy(network(x)[1], y[1], reduction="none")
    want = pt.weighting.UPGrad().aggregate(rows_of(list(rows), everything))
    for _ in range(2):
        network.zero_grad()
        pt.torch.backward(rows, weighting="upgrad", retain_graph=True)
        close(flat(everything), want)
    network.zero_grad()
    losses = losses_of(network, x, y)
    pt.torch.backward(torch.stack(losses), weighting="upgrad", retain_graph=True)
    close(flat(shared), pt.weighting.UPGrad().aggregate(rows_of(losses, shared)))
    close(flat(network.heads[0].parameters()), rows_of(losses[:1], list(network.heads[0].parameters()))[0])
    with pytest.raises(ValueError, match="entries of one tensor cannot be left out"):
        pt.torch.backward(rows * torch.tensor([float("nan"), *[1.0] * 11]), weighting="upgrad")


@pytest.mark.parametrize("name", ["upgrad", "mgda", "pcgrad", "nash_mtl"])
def test_the_representation_is_where_the_tasks_part(name):
    network = Network()
    x, y = batch()
    shared = list(network.trunk.parameters())
    features = network.trunk(x)
    features.retain_grad()
    outputs = [head(features) for head in network.heads]
    losses = [mse_loss(outputs[0], y[0]), cross_entropy(outputs[1], y[1]), 2 * cross_entropy(outputs[2], y[2])]
    at = torch.stack([torch.autograd.grad(loss, features, retain_graph=True)[0] for loss in losses])
    method = type(component("weighting", name, "name"))
    weights = method().weights((at.flatten(1) @ at.flatten(1).T), losses=torch.stack(losses).detach())
    want = torch.autograd.grad(features, shared, torch.einsum("t,trw->rw", weights, at), retain_graph=True)
    network.zero_grad()
    pt.torch.Balancer(method(at="representation")).backward(losses)
    close(flat(shared), torch.cat([x.reshape(-1) for x in want]), 1e-6)
    for head, loss in zip(network.heads, losses_of(network, x, y), strict=True):
        close(flat(head.parameters()), rows_of([loss], list(head.parameters()))[0])


@pytest.mark.parametrize("weighting", ["upgrad", "dwa", pt.weighting.UPGrad(at="representation"), "graddrop"], ids=str)
def test_a_scaler_changes_nothing_but_the_scale(weighting):
    network = Network(dtype=torch.float32)
    x, y = batch(dtype=torch.float32)
    plain = pt.torch.Balancer(weighting)
    plain.backward(losses_of(network, x, y))
    want = flat(network.parameters())
    network.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    pt.torch.Balancer(made_again(plain.weighting), scaler=scaler).backward(losses_of(network, x, y))
    close(flat(network.parameters()) / 2**10, want, 1e-5)
    if weighting == "dwa":
        return
    # What overflows is left to the scaler, which leaves the step out.
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    network.zero_grad()
    losses = losses_of(network, x, y)
    losses[0] = losses[0] * 3e38
    pt.torch.Balancer(made_again(plain.weighting), scaler=scaler).backward(losses)
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())
    assert scaler.get_scale() == 2.0**9


def test_autocast():
    network = Network(dtype=torch.float32)
    x, y = batch(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(network, x, y)
    check(pt.weighting.UPGrad(normalize="l2"), network, losses, 1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("weighting", ["upgrad", "graddrop", pt.weighting.UPGrad(at="representation"), "dwa"], ids=str)
def test_autocast_around_the_call_changes_nothing(weighting, dtype):
    """As in a training step of Lightning: products of half numbers are too coarse for a weighting, or overflow."""
    network = Network(dtype=torch.float32)
    x, y = batch(dtype=torch.float32)
    found = []
    for around in (False, True):
        network.zero_grad()
        balancer = pt.torch.Balancer(weighting, scaler=torch.amp.GradScaler("cpu", init_scale=2.0**12))
        with torch.autocast("cpu", dtype):
            losses = losses_of(network, x, y)
            if around:
                balancer.backward(losses)
        if not around:
            balancer.backward(losses)
        assert torch.is_autocast_enabled("cpu") is False
        found.append((flat(network.parameters()), balancer.weights, balancer.cosines))
    (gradients, weights, cosines), (within, weights_within, cosines_within) = found
    assert torch.equal(within, gradients)
    assert weights_within == weights
    np.testing.assert_array_equal(cosines_within, cosines)


def test_calls_add_up_and_make_one_step_of_several():
    network = Network()
    x, y = batch()
    parts = [(x[:5], [each[:5] for each in y]), (x[5:], [each[5:] for each in y])]
    shared = list(network.trunk.parameters())
    each = [rows_of(losses_of(network, *part), shared) for part in parts]
    for part in parts:
        pt.torch.backward(losses_of(network, *part), weighting="upgrad")
    close(flat(shared), sum(pt.weighting.UPGrad().aggregate(rows) for rows in each))
    own = flat(network.heads.parameters())
    network.zero_grad()
    balancer = pt.torch.Balancer("upgrad", accumulate=2)
    balancer.backward(losses_of(network, *parts[0]))
    assert shared[0].grad is None
    assert balancer.weights is None
    balancer.backward(losses_of(network, *parts[1]))
    close(flat(shared), pt.weighting.UPGrad().aggregate(sum(each)))
    close(flat(network.heads.parameters()), own)
    with pytest.raises(ValueError, match="each call is a step"):
        pt.torch.Balancer(pt.weighting.UPGrad(at="representation"), accumulate=2).backward(losses_of(network, x, y))


@pytest.mark.parametrize("name", ["famo", "dwa", "uncertainty", "nash_mtl", "gradnorm", "db_mtl", "rlw", "pcgrad"])
def test_what_was_learned_goes_on_from_a_state(name, tmp_path):
    x, y = batch()

    def run(balancer, network, steps):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            losses = losses_of(network, x, y)
            balancer.backward(dict(zip(TASKS, losses, strict=True)))
            optimizer.step()
            if name == "famo":
                balancer.look_back(torch.stack(losses).detach(), torch.stack(losses_of(network, x, y)).detach())
        return flat(network.parameters())

    one, network = pt.torch.Balancer(name, seed=3), Network()
    want = run(one, network, 6)
    half, other = pt.torch.Balancer(name, seed=3), Network()
    run(half, other, 3)
    torch.save(half.state_dict(), tmp_path / "state.pt")
    again = pt.torch.Balancer(name, seed=3)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=False))
    assert torch.equal(run(again, other, 3), want)
    assert (again.weights is None) == (one.weights is None)
    if one.weights is not None:
        assert list(one.weights) == list(TASKS)
        assert one.weights == again.weights
    with pytest.raises(ValueError, match="should be of Equal"):
        pt.torch.Balancer().load_state_dict(half.state_dict())


def test_cosines_are_those_of_the_rows():
    network = Network()
    x, y = batch()
    rows = rows_of(losses_of(network, x, y), list(network.trunk.parameters()))
    balancer = pt.torch.Balancer("upgrad")
    balancer.backward([*losses_of(network, x, y)[:2], None])
    unit = rows[:2] / torch.linalg.norm(rows[:2], dim=1, keepdim=True)
    close(balancer.cosines[:2, :2], unit @ unit.T)
    assert np.isnan(balancer.cosines[2]).all()


def test_the_history_says_what_was_decided_and_on_what(tmp_path):
    network = Network()
    x, y = batch()
    shared = list(network.trunk.parameters())
    balancer = pt.torch.Balancer("upgrad", tasks=TASKS, shared=shared)
    assert len(balancer.history) == 0
    want = []
    for absent in (None, "b", None):
        losses = losses_of(network, x, y)
        # Opposite to the first, so that there is a conflict.
        losses[2] = losses[2] - 3 * losses[0]
        named = {name: loss for name, loss in zip(TASKS, losses, strict=True) if name != absent}
        rows = rows_of(losses, shared)
        unit = rows / torch.linalg.norm(rows, dim=1, keepdim=True)
        balancer.backward(named)
        want.append((losses, rows, unit @ unit.T, balancer.weights))
    history = balancer.history
    assert history["step"] == [1, 2, 3]
    for step, (losses, rows, cosines, weights) in enumerate(want):
        there = ["a", "c"] if step == 1 else list(TASKS)
        for task, name in enumerate(TASKS):
            got = [history[f"{name}/{what}"][step] for what in ("loss", "weight", "gradient_norm")]
            if name in there:
                close(got, [losses[task].item(), weights[name], torch.linalg.norm(rows[task]).item()])
            else:
                assert np.isnan(got).all()
        pairs = {("a", "b"): cosines[0, 1], ("a", "c"): cosines[0, 2], ("b", "c"): cosines[1, 2]}
        pairs = {pair: cosine.item() for pair, cosine in pairs.items() if set(pair) <= set(there)}
        for pair, cosine in pairs.items():
            close(history["cosine/" + "/".join(pair)][step], cosine)
        assert history["conflict"][step] == np.mean([cosine < 0 for cosine in pairs.values()])
        assert pairs["a", "c"] < 0
    assert np.isnan(history["cosine/a/b"][1])
    conflicts = history.conflicts()
    assert list(conflicts) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert conflicts["a", "c"] == 1.0
    assert conflicts["a", "b"] == np.mean([want[step][2][0, 1].item() < 0 for step in (0, 2)])
    torch.save(balancer.state_dict(), tmp_path / "state.pt")
    again = pt.torch.Balancer("upgrad", tasks=TASKS, shared=shared)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert repr(again.history) == repr(history)
    again.backward(dict(zip(TASKS, losses_of(network, x, y), strict=True)))
    assert again.history["step"] == [1, 2, 3, 4]
    assert repr(again.history[:3]) == repr(history)


def test_the_history_of_a_weighting_of_losses_and_of_a_direction_has_what_there_is():
    network = Network()
    x, y = batch()
    named, unnamed = pt.torch.Balancer("dwa", tasks=TASKS), pt.torch.Balancer("graddrop")
    for balancer in (named, unnamed):
        balancer.backward(losses_of(network, x, y))
    assert named.history.columns == ["step", "a/loss", "b/loss", "c/loss", "a/weight", "b/weight", "c/weight"]
    assert [named.history[f"{name}/weight"][0] for name in TASKS] == list(named.weights.values())
    assert named.history.conflicts() == {}
    assert np.isnan(unnamed.history["0/weight"]).all()
    assert unnamed.history["cosine/0/2"][0] == unnamed.cosines[0, 2]


def test_the_history_is_bounded(monkeypatch):
    network = Network()
    x, y = batch()
    few, none = pt.torch.Balancer("dwa", history=2), pt.torch.Balancer("dwa", history=0)
    for _ in range(3):
        few.backward(losses_of(network, x, y))
        none.backward(losses_of(network, x, y))
    assert few.history["step"] == [2, 3]
    assert len(none.history) == 0
    assert "losses" not in none.state_dict()["history"]
    with pytest.raises(ValueError, match="`history` should be"):
        pt.torch.Balancer("dwa", history=-1)
    # Of very many tasks there are fewer.
    monkeypatch.setattr(decided, "_NUMBERS", 2 * 12 * 14)
    rows = pt.torch.Balancer("upgrad", shared=network.parameters())
    for _ in range(3):
        rows.backward(cross_entropy(network(x)[1], y[1], reduction="none"))
    assert rows.history["step"] == [2, 3]


def test_the_history_is_drawn_by_steps():
    pytest.importorskip("matplotlib").use("agg")
    network = Network()
    x, y = batch()
    balancer = pt.torch.Balancer("upgrad", tasks=TASKS)
    for _ in range(2):
        balancer.backward(losses_of(network, x, y))
    assert [line.get_label() for line in balancer.history.plot()[0].lines] == list(TASKS)
    share, cosines = balancer.history.plot("conflict")
    assert share.get_xlabel() == "step"
    assert list(share.lines[0].get_xdata()) == [1, 2]
    assert cosines.get_title() == "cosines of gradients, step 2"


def test_wrong_input_is_named_and_changes_nothing():
    network = Network()
    x, y = batch()
    shared = list(network.trunk.parameters())
    wrong = [
        (ValueError, "the loss of `b` has no graph", lambda a, b: {"a": a, "b": b.detach()}, {}),
        (
            ValueError,
            r"the loss of task 1 should be one number, or one a row, \[rows\]; got shape \[2, 3\]",
            lambda a, b: [a, b.expand(2, 3)],
            {},
        ),
        (TypeError, "the loss of task 1 should be a tensor; got float", lambda a, b: [a, b.item()], {}),
        (ValueError, "should have at least one task", lambda a, b: [], {}),
        (ValueError, "at least one task with a label", lambda a, b: [None, None], {}),
        (TypeError, "`losses` should be a dict or a list", lambda a, b: "ab", {}),
        (ValueError, r"should be a tensor \[tasks\]", lambda a, b: torch.stack([a, b])[None], {}),
        (ValueError, "got none: `parameters", lambda a, b: [a, b], {"shared": iter(())}),
        (TypeError, "got one tensor", lambda a, b: [a, b], {"shared": shared[0]}),
        (ValueError, "computed from others", lambda a, b: [a, b], {"shared": [shared[0] * 1]}),
        (ValueError, "finite", lambda a, b: [a, b * float("inf")], {}),
        (ValueError, "work.* in a Trainer", lambda a, b: [a, b], {"weighting": "auto_lambda"}),
        (ValueError, "`per` should be", lambda a, b: [a, b], {"weighting": pt.weighting.UPGrad(per="layer")}),
        (ValueError, "unknown|no weighting|upgrad", lambda a, b: [a, b], {"weighting": "upgradd"}),
        (TypeError, "pt.weighting", lambda a, b: [a, b], {"weighting": pt.optim.SGD(lr=0.1)}),
    ]
    for kind, message, make, more in wrong:
        losses = losses_of(network, x, y)
        with pytest.raises(kind, match=message):
            pt.torch.backward(make(*losses[:2]), **{"weighting": "upgrad", **more})
        assert all(p.grad is None for p in network.parameters()), message
    balancer = pt.torch.Balancer("upgrad")
    balancer.backward(dict(zip(TASKS, losses_of(network, x, y), strict=True)))
    with pytest.raises(ValueError, match="should be those of `a`, `b`, `c`, as before; got `a`"):
        balancer.backward({"a": losses_of(network, x, y)[0]})


def test_tasks_with_names_may_be_left_out_and_come_in_any_order():
    network = Network()
    x, y = batch()
    balancer = pt.torch.Balancer("upgrad", tasks=TASKS)
    balancer.backward(dict(zip(reversed(TASKS), reversed(losses_of(network, x, y)), strict=True)))
    assert list(balancer.weights) == list(TASKS)
    want = rows_of(losses_of(network, x, y), list(network.trunk.parameters()))
    close(flat(network.trunk.parameters()), pt.weighting.UPGrad().aggregate(want))
    network.zero_grad()
    balancer.backward({"c": losses_of(network, x, y)[2], "a": losses_of(network, x, y)[0]})
    close(flat(network.trunk.parameters()), pt.weighting.UPGrad().aggregate(want[[0, 2]]))
    assert network.heads[1].weight.grad is None
    assert list(balancer.weights) == list(TASKS)
    assert balancer.weights["b"] == 0.0
    # A list or a tensor has one entry a task, and gets its weights by name too.
    balancer.backward([losses_of(network, x, y)[0], None, losses_of(network, x, y)[2]])
    balancer.backward(torch.stack(losses_of(network, x, y)))
    assert list(balancer.weights) == list(TASKS)
    network.zero_grad()
    pt.torch.backward({"c": losses_of(network, x, y)[2]}, tasks=TASKS, weighting="mean")
    close(flat(network.trunk.parameters()), want[2])


def test_a_task_that_comes_later_is_known_by_its_name():
    network = Network()
    x, y = batch()
    named, unnamed = pt.torch.Balancer("dwa", tasks=TASKS), pt.torch.Balancer("dwa")
    for step in range(6):
        losses, again = losses_of(network, x, y), losses_of(network, x, y)
        named.backward(dict(zip(TASKS, losses, strict=True)) if step % 2 else {"b": losses[1]})
        unnamed.backward(again if step % 2 else [None, again[1], None])
        assert list(named.weights.values()) == unnamed.weights


def test_losses_row_by_row_are_their_means():
    network = Network()
    x, y = batch()
    known = torch.arange(12) % 3 > 0
    parameters = list(network.parameters())

    def by_row():
        number, several, two = network(x)
        return [
            mse_loss(number, y[0], reduction="none"),
            cross_entropy(several[known], y[1][known], reduction="none"),
            2 * cross_entropy(two[:1], y[2][:1], reduction="none"),
        ]

    sum(loss.mean() for loss in by_row()).backward()
    want = flat(parameters)
    for losses in (by_row(), dict(zip(TASKS, by_row(), strict=True))):
        network.zero_grad()
        pt.torch.backward(losses, weighting="equal")
        close(flat(parameters), want)
    check(pt.weighting.UPGrad(), network, [loss.mean() for loss in by_row()])
    means = flat(parameters)
    network.zero_grad()
    balancer = pt.torch.Balancer("upgrad")
    balancer.backward(by_row())
    close(flat(parameters), means)
    # No row with a label is no task; a row without a label among others is a mistake that nobody would see.
    network.zero_grad()
    balancer.backward([by_row()[0], by_row()[1][:0], by_row()[2]])
    assert balancer.weights[1] == 0.0
    assert network.heads[1].weight.grad is None
    gaps = by_row()
    gaps[1] = torch.where(torch.arange(8) == 5, float("nan"), gaps[1])
    with pytest.raises(ValueError, match="the loss of task 1 is NaN in row 5 and a number in others"):
        balancer.backward(gaps)


@pytest.mark.parametrize("name", ["dwa", "gradnorm", "db_mtl", "equal"])
def test_a_state_is_of_types_that_torch_opens_without_trust(name, tmp_path):
    network = Network()
    x, y = batch()
    balancer = pt.torch.Balancer(name, tasks=TASKS)
    for _ in range(3):
        balancer.backward(dict(zip(TASKS, losses_of(network, x, y), strict=True)))
    torch.save(balancer.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = pt.torch.Balancer(name, tasks=TASKS)
    again.load_state_dict(state)
    network.zero_grad()
    again.backward(dict(zip(TASKS, losses_of(network, x, y), strict=True)))
    got = flat(network.parameters())
    network.zero_grad()
    balancer.backward(dict(zip(TASKS, losses_of(network, x, y), strict=True)))
    assert torch.equal(got, flat(network.parameters()))
    with pytest.raises(ValueError, match="should be of the tasks `a`, `b`; got one of `a`, `b`, `c`"):
        pt.torch.Balancer(name, tasks=["a", "b"]).load_state_dict(state)
    # One of an earlier version has arrays of NumPy, and no names.
    old = {key: value for key, value in balancer.state_dict().items() if key != "tasks"}
    again.load_state_dict({**old, "arrays": {key: array.numpy() for key, array in old["arrays"].items()}})


def test_wrong_names_are_named():
    network = Network()
    x, y = batch()
    for tasks, kind, message in (
        ("abc", TypeError, "`tasks` should be a list of names; got 'abc'"),
        ([1, 2], TypeError, "got 1 in it"),
        ([], ValueError, "at least one name; got none"),
        (["a", "b", "a"], ValueError, "different names; got 'a' twice"),
    ):
        with pytest.raises(kind, match=message):
            pt.torch.Balancer("equal", tasks=tasks)
    balancer = pt.torch.Balancer("equal", tasks=["depth", "normal"])
    losses = losses_of(network, x, y)
    with pytest.raises(ValueError, match="there is no task 'dept'; did you mean `depth`"):
        balancer.backward({"dept": losses[0]})
    with pytest.raises(ValueError, match=r"one entry a task, 2 \(`depth`, `normal`\); got 3"):
        balancer.backward(losses)
    with pytest.raises(ValueError, match=r"one entry a task, 2 \(`depth`, `normal`\); got 3"):
        balancer.backward(torch.stack(losses))
    with pytest.raises(ValueError, match="at least one task with a label"):
        balancer.backward({})


def test_it_is_loaded_on_first_use():
    code = "import sys, polytask as pt; assert 'polytask.torch' not in sys.modules; pt.torch.backward; import torch.nn"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("shown", [False, True])
def test_that_a_weighting_was_not_shown_the_losses_after_a_step_is_said_once(shown, caplog):
    x, y = batch()
    network = Network()
    balancer = pt.torch.Balancer(pt.weighting.FAMO(lr=0.5))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        losses = dict(zip(TASKS, losses_of(network, x, y), strict=True))
        balancer.backward(losses)
        optimizer.step()
        if shown:
            # By name, in any order.
            after = dict(zip(TASKS, losses_of(network, x, y), strict=True))
            balancer.look_back(losses, dict(reversed(after.items())))
    assert caplog.text.count("learns from the losses after each step, and was not shown them") == (not shown)
    # Weights times losses are the method's shares, which are equal as long as it has learned nothing.
    shares = np.array([balancer.weights[name] * loss.item() for name, loss in losses.items()])
    assert shown == (np.ptp(shares / shares.sum()) > 1e-3)
    with pytest.raises(ValueError, match="`losses` should be those of"):
        balancer.look_back({"another": 1.0}, {"another": 1.0})
