"""An own weighting, dynamic weight averaging with a temperature, the same object in a Trainer and in an own loop."""

import torch
from torch import nn

import polytask as pt


class DWA:
    def __init__(self, temperature=2.0):
        self.temperature, self.past = temperature, []

    def weigh(self, losses):
        self.past = [*self.past[-1:], losses.detach().clone()]
        if len(self.past) < 2:
            return torch.ones_like(losses)
        return len(losses) * torch.softmax(self.past[1] / self.past[0] / self.temperature, dim=0)

    def state_dict(self):
        return {"past": self.past}

    def load_state_dict(self, state):
        self.past = state["past"]


torch.manual_seed(0)
x = torch.randn(300, 5)
y = torch.stack([x.sum(1), x[:, 0] * x[:, 1], x[:, 2].abs()], 1)
model = pt.MultiTaskModel(5, tasks=[pt.Task("sum"), pt.Task("product"), pt.Task("size")], encoder=pt.encoder.MLP([32]))
trainer = pt.Trainer(model, lr=1e-2, weighting=DWA(), observe="weights")
history = trainer.fit((x, y), epochs=5, progress=False)
total = sum(history[f"{name}/weight"][-1] for name in ["sum", "product", "size"])
assert abs(total - 3) < 1e-3, total

net = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer, weighting = torch.optim.SGD(net.parameters(), lr=0.05), DWA()
before = (net(x) - y).square().mean(0)
for _ in range(50):
    optimizer.zero_grad()
    losses = (net(x) - y).square().mean(0)
    pt.torch.backward(losses, weighting=weighting)
    optimizer.step()
assert len(weighting.past) == 2 and (losses < before).all()
