"""torch.compile of the exported module gives the same outputs."""

import polytask as pt
import torch

torch.manual_seed(0)
tasks = [pt.Task("a", loss="binary_cross_entropy"), pt.Task("b", classes=4), pt.Task("c")]
model = pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([32, 16], dropout=0.1), head=pt.head.Tower(8), seed=0)
module = model.to_torch().eval()
compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
x = torch.randn(20, 8)
with torch.no_grad():
    eager, fast = module(x), compiled(x)
assert list(eager) == ["a", "b", "c"]
for name in eager:
    torch.testing.assert_close(fast[name], eager[name])
