"""I export the model as nn.Module, train it with torch.optim, and load it back."""

import polytask as pt
import torch

torch.manual_seed(0)
x = torch.randn(128, 6)
y = x[:, 0] - x[:, 1]
kind = (x[:, 2] > 0).long()
model = pt.MultiTaskModel(6, tasks=[pt.Task("y"), pt.Task("kind", classes=2)], encoder=pt.encoder.MLP([24]), seed=0)
module = model.to_torch()
assert isinstance(module, torch.nn.Module)
optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
losses = []
for _ in range(30):
    out = module(x)
    loss = (out["y"].squeeze(-1) - y).square().mean() + torch.nn.functional.cross_entropy(out["kind"], kind)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0]
back = pt.MultiTaskModel.from_torch(module)
module.eval()
expected = module(x)["y"].detach().squeeze(-1)
assert torch.allclose(torch.as_tensor(back.predict(x)["y"]).float(), expected, atol=1e-4)
