"""I have a weighting of my own: a function of losses and Gramian that gives one weight a task."""

import polytask as pt
import torch
from torch import nn


def inverse_norm(losses, gramian):
    norms = gramian.diagonal().clamp(min=1e-12).sqrt()
    return (1 / norms) / (1 / norms).sum()


torch.manual_seed(0)
trunk, heads = nn.Linear(4, 8), nn.ModuleList([nn.Linear(8, 1), nn.Linear(8, 1)])
x = torch.randn(30, 4)
h = torch.tanh(trunk(x))
losses = [100 * (heads[0](h) - 1).square().mean(), (heads[1](h) + 1).square().mean()]

rows = [torch.autograd.grad(loss, list(trunk.parameters()), retain_graph=True) for loss in losses]
jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
weights = inverse_norm(torch.stack(losses), jacobian @ jacobian.T)
expected = (weights[:, None] * jacobian).sum(0)

pt.torch.backward(losses, weighting=inverse_norm)
got = torch.cat([p.grad.flatten() for p in trunk.parameters()])
torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
