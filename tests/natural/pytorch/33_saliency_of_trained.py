"""After fit I want saliency maps: gradients of one task's output after the input of the trained model."""

import polytask as pt
import torch

torch.manual_seed(0)
x = torch.randn(300, 6)
model = pt.MultiTaskModel(6, tasks=[pt.Task("first"), pt.Task("last")], encoder=pt.encoder.MLP([32]), seed=0)
pt.Trainer(model, lr=1e-2).fit((x, 3 * x[:, 0], 3 * x[:, 5]), epochs=15, batch_size=30)
model.eval()
probe = x[:50].clone().requires_grad_()
saliency = torch.autograd.grad(model(probe)["first"].sum(), probe)[0].abs().mean(0)
assert saliency.argmax() == 0
with torch.no_grad():
    again = model(x)["first"]
assert not again.requires_grad
assert torch.allclose(again.flatten(), torch.as_tensor(model.predict(x)["first"]).float(), atol=1e-4)
