"""I save the balancer's state_dict beside the others, and the run goes on as if never stopped."""

import io

import polytask as pt
import torch
from torch import nn

x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))


def start():
    torch.manual_seed(1)
    net = nn.ModuleDict({"trunk": nn.Linear(3, 8), "a": nn.Linear(8, 1), "b": nn.Linear(8, 1)})
    return net, torch.optim.Adam(net.parameters(), lr=1e-2), pt.torch.Balancer(pt.weighting.DWA(), tasks=["a", "b"])


def steps(net, optimizer, balancer, count):
    for _ in range(count):
        h = torch.relu(net["trunk"](x))
        optimizer.zero_grad()
        balancer.backward({"a": (net["a"](h)[:, 0] - x[:, 0]).square().mean(), "b": (net["b"](h) - 1).abs().mean()})
        optimizer.step()


straight = start()
steps(*straight, 10)
stopped = start()
steps(*stopped, 5)
file = io.BytesIO()
torch.save([part.state_dict() for part in stopped], file)
file.seek(0)
resumed = start()
for part, state in zip(resumed, torch.load(file), strict=True):
    part.load_state_dict(state)
steps(*resumed, 5)
assert all(torch.equal(p, q) for p, q in zip(straight[0].parameters(), resumed[0].parameters(), strict=True))
