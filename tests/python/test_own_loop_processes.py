"""A weighting in a loop of several processes, against one process with all rows."""

import multiprocessing
import socket

import numpy as np
import polytask as pt
import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

#: Rows of the two processes, and which of them have labels of the second task.
HALVES = [slice(0, 12), slice(12, 24)]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
        self.a, self.b, self.c = nn.Linear(8, 1), nn.Linear(8, 1), nn.Linear(8, 3)

    def forward(self, x):
        h = self.trunk(x)
        return {"a": self.a(h)[:, 0], "b": self.b(h)[:, 0], "c": self.c(h)}


def data(labels):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(24, 5)))
    y = {"a": x[:, 0] * 3, "b": -x[:, 0] + x[:, 1], "c": torch.from_numpy(rng.integers(0, 3, 24))}
    known = torch.ones(24, dtype=torch.bool)
    if labels == "uneven":
        known[2:12] = False
    elif labels == "one process":
        known[:12] = False
    return x, y, known


def losses(net, labels, rows, by_row):
    x, y, known = data(labels)
    x, known = x[rows], known[rows]
    out = net(x)
    b = (out["b"] - y["b"][rows]).square()[known]
    found = {"a": (out["a"] - y["a"][rows]).square(), "b": b}
    found["c"] = nn.functional.cross_entropy(out["c"], y["c"][rows], reduction="none")
    if not by_row:
        found = {name: loss.mean() if len(loss) else None for name, loss in found.items()}
    return {name: loss for name, loss in found.items() if loss is not None and loss.numel()}


def net():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Net().double()


def steps(model, balancer, optimizer, labels, rows, by_row):
    seen = []
    for _ in range(3):
        optimizer.zero_grad()
        balancer.backward(losses(model, labels, rows, by_row))
        seen.append({name: p.grad.clone() for name, p in model.named_parameters()})
        optimizer.step()
    return seen


def stacked(net, labels, rows):
    """As one tensor, in which NaN is a task without a label."""
    found = losses(net, labels, rows, False)
    nothing = torch.full((), float("nan"), dtype=torch.float64)
    return torch.stack([found.get(name, nothing) for name in ("b", "c")])


def process(rank, port, weighting, labels, by_row, accumulate, queue):
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    try:
        model = net()
        wrapped = DistributedDataParallel(model)
        balancer = pt.torch.Balancer(weighting, tasks=["a", "b", "c"], ddp=wrapped, accumulate=accumulate)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with wrapped.no_sync():
            if by_row == "stacked":
                balancer = pt.torch.Balancer(weighting, ddp=wrapped)
                # In the first process neither task has a label in the first call.
                given = stacked(wrapped, labels, HALVES[rank])
                balancer.backward(given * float("nan") if rank == 0 else given)
                seen = [{name: torch.zeros(()) if p.grad is None else p.grad for name, p in model.named_parameters()}]
            elif accumulate == 1:
                seen = steps(wrapped, balancer, optimizer, labels, HALVES[rank], by_row)
                seen = [{name.removeprefix("module."): x for name, x in each.items()} for each in seen]
            else:
                for _ in range(accumulate):
                    balancer.backward(losses(wrapped, labels, HALVES[rank], by_row))
                seen = [{name: p.grad.clone() for name, p in model.named_parameters()}]
        queue.put((rank, [{name: x.numpy() for name, x in each.items()} for each in seen], balancer.weights))
    finally:
        distributed.destroy_process_group()


def in_two_processes(weighting, labels="all", by_row=False, accumulate=1):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    each = [
        context.Process(target=process, args=(rank, port, weighting, labels, by_row, accumulate, queue))
        for rank in range(2)
    ]
    for one in each:
        one.start()
    found = {rank: (seen, weights) for rank, seen, weights in (queue.get(timeout=60) for _ in each)}
    for one in each:
        one.join(60)
        assert one.exitcode == 0
    return found


@pytest.mark.parametrize("weighting", ["equal", "dwa", "upgrad", "pcgrad", "graddrop"])
@pytest.mark.parametrize(
    ("labels", "by_row"), [("all", False), ("all", True), ("uneven", True), ("one process", False)]
)
def test_gradients_are_those_of_one_process_with_all_rows(weighting, labels, by_row):
    model = net()
    # In the order of the module's parameters, since some weightings draw a number a parameter.
    balancer = pt.torch.Balancer(weighting, tasks=["a", "b", "c"], shared=model.trunk.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    want = steps(model, balancer, optimizer, labels, slice(None), by_row)
    found = in_two_processes(weighting, labels, by_row)
    for seen, weights in found.values():
        assert weights == pytest.approx(balancer.weights) if balancer.weights else weights is None
        for got, wanted in zip(seen, want, strict=True):
            assert got.keys() == wanted.keys()
            for name, x in wanted.items():
                np.testing.assert_allclose(got[name], x, rtol=1e-9, atol=1e-12, err_msg=name)
    # To the bit in all of them.
    for one, other in zip(found[0][0], found[1][0], strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_calls_that_make_one_step():
    model = net()
    balancer = pt.torch.Balancer("upgrad", tasks=["a", "b", "c"], accumulate=2)
    for _ in range(2):
        balancer.backward(losses(model, "uneven", slice(None), True))
    for (seen,), _ in in_two_processes("upgrad", "uneven", True, accumulate=2).values():
        for name, parameter in model.named_parameters():
            np.testing.assert_allclose(seen[name], parameter.grad, rtol=1e-9, atol=1e-12)


def test_another_module_is_refused():
    with pytest.raises(TypeError, match=r"`ddp` should be the torch.nn.parallel.DistributedDataParallel .*; got Net"):
        pt.torch.Balancer("upgrad", ddp=net())


@pytest.mark.parametrize("weighting", ["dwa", "upgrad"])
def test_a_process_without_any_label_takes_part(weighting):
    model = net()
    pt.torch.Balancer(weighting).backward(stacked(model, "all", HALVES[1]))
    for (seen,), _ in in_two_processes(weighting, "all", "stacked").values():
        for name, parameter in model.named_parameters():
            want = 0.0 if parameter.grad is None else parameter.grad
            np.testing.assert_allclose(seen[name], want, rtol=1e-9, atol=1e-12, err_msg=name)
