"""I train the Polytask model itself in my own loop: model.parameters() in a torch optimizer, two groups."""

import polytask as pt
import torch

torch.manual_seed(0)
x = torch.randn(100, 4)
target = {"a": x[:, 0], "b": x[:, 1] * 3}
model = pt.MultiTaskModel(4, tasks=[pt.Task("a"), pt.Task("b")], encoder=pt.encoder.MLP([16]), seed=0)
named = dict(model.named_parameters())
optimizer = torch.optim.AdamW(
    [
        {"params": [p for name, p in named.items() if name.startswith("encoder")], "lr": 1e-2},
        {"params": [p for name, p in named.items() if name.startswith("heads")], "lr": 3e-2},
    ]
)
seen = []
for _ in range(30):
    optimizer.zero_grad()
    output = model(x)
    losses = [(output[name].squeeze(-1) - target[name]).square().mean() for name in target]
    pt.torch.backward(losses, weighting="upgrad")
    optimizer.step()
    seen.append(sum(loss.item() for loss in losses))
assert seen[-1] < 0.5 * seen[0]
prediction = torch.as_tensor(model.predict(x)["a"])
assert (prediction - target["a"]).square().mean() < target["a"].var()
