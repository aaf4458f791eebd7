"""Fine-tunes `to_torch` with an exponential moving average, exports it, compiles it, and brings the average back."""

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import polytask as pt

rng = np.random.default_rng(1)
x = rng.normal(size=(500, 6)).astype("float32")
kind, price = (x[:, 0] > 0).astype("int64"), np.exp(x[:, 1] / 2).astype("float32")
tasks = [pt.Task("kind", classes=["cheap", "dear"]), pt.Task("price", loss="huber")]
model = pt.MultiTaskModel(6, tasks=tasks, sharing=pt.sharing.MMoE(experts=3), head=pt.head.Tower(8), seed=0)
pt.Trainer(model, lr=1e-2).fit((x, np.array(["cheap", "dear"])[kind], price), epochs=3, progress=False)

net = model.to_torch(raw=True).train()
ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for _ in range(30):
    out = net(torch.from_numpy(x))
    loss = F.cross_entropy(out["kind"], torch.from_numpy(kind)) + F.huber_loss(out["price"], torch.from_numpy(price))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    ema.update_parameters(net)

back = pt.MultiTaskModel.from_torch(ema.module)
assert np.allclose(back.predict(x)["price"], ema(torch.from_numpy(x))["price"].detach(), atol=1e-5)
back.save("/tmp/ema.safetensors")
module = pt.MultiTaskModel.load("/tmp/ema.safetensors").to_torch().eval()
batch = torch.export.Dim("batch")
program = torch.export.export(module, (torch.from_numpy(x[:8]),), dynamic_shapes=({0: batch},))
served = program.module()(torch.from_numpy(x))
assert np.allclose(served["kind"].detach(), back.predict(x)["kind"], atol=1e-5)
assert set(back.classes(back.predict(x))["kind"]) == {"cheap", "dear"}
