"""torch.export of an MMoE model with a dynamic batch size, saved and loaded."""

import io

import polytask as pt
import torch

torch.manual_seed(0)
model = pt.MultiTaskModel(
    10, tasks=[pt.Task("a"), pt.Task("b")], encoder=pt.encoder.MLP([16]), sharing=pt.sharing.MMoE(experts=4), seed=0
)
module = model.to_torch().eval()
batch = torch.export.Dim("batch", min=2, max=1024)
program = torch.export.export(module, (torch.randn(8, 10),), dynamic_shapes=({0: batch},))
file = io.BytesIO()
torch.export.save(program, file)
file.seek(0)
loaded = torch.export.load(file).module()
x = torch.randn(33, 10)
for name, value in module(x).items():
    torch.testing.assert_close(loaded(x)[name], value)
