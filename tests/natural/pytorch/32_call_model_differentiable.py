"""model(x) on torch tensors gives outputs by task; I differentiate them after x and the parameters."""

import polytask as pt
import torch

torch.manual_seed(0)
model = pt.MultiTaskModel(5, tasks=[pt.Task("a"), pt.Task("b", classes=3)], encoder=pt.encoder.MLP([16]), seed=0)
x = torch.randn(10, 5, requires_grad=True)
output = model(x)
assert output["b"].shape == (10, 3)
loss = output["a"].square().mean() + torch.nn.functional.cross_entropy(output["b"], torch.zeros(10, dtype=torch.long))
loss.backward()
assert x.grad.shape == (10, 5)
assert x.grad.abs().sum() > 0
gradients = [p.grad for p in model.parameters()]
assert gradients
assert all(g is not None and torch.isfinite(g).all() for g in gradients)
