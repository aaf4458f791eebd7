"""An own loop: bfloat16 autocast, clipping, a scheduler, labels that are missing, and a checkpoint from which it goes on."""

import torch
from torch import nn
from torch.nn import functional as F

import polytask as pt

g = torch.Generator().manual_seed(0)
x = torch.randn(512, 10, generator=g)
sick = (x[:, 0] + x[:, 1] > 0).float()
dose = torch.where(torch.rand(512, generator=g) < 0.6, x[:, 2] * 2, torch.nan)


def build():
    torch.manual_seed(1)
    net = nn.ModuleDict({"trunk": nn.Sequential(nn.Linear(10, 32), nn.GELU()), "sick": nn.Linear(32, 1), "dose": nn.Linear(32, 1)})
    opt = torch.optim.AdamW(net.parameters(), lr=1e-2)
    sched = torch.optim.lr_scheduler.StepLR(opt, 20, 0.5)
    return net, opt, sched, pt.torch.Balancer("nash_mtl", tasks=["sick", "dose"])


def train(net, opt, sched, balancer, steps):
    for step in steps:
        rows = slice(step * 64 % 512, step * 64 % 512 + 64)
        opt.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = net["trunk"](x[rows])
            a, b = net["sick"](h).squeeze(1), net["dose"](h).squeeze(1)
        known = ~dose[rows].isnan()
        losses = {"sick": F.binary_cross_entropy_with_logits(a.float(), sick[rows])}
        losses["dose"] = F.mse_loss(b.float()[known], dose[rows][known]) if step % 5 else None
        balancer.backward(losses)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        sched.step()
    return {name: loss.item() for name, loss in losses.items()}


whole = build()
last = train(*whole, range(60))
half = build()
train(*half, range(30))
torch.save([part.state_dict() for part in half], "/tmp/half.pt")
again = build()
for part, state in zip(again, torch.load("/tmp/half.pt")):
    part.load_state_dict(state)
resumed = train(*again, range(30, 60))
assert resumed == last and last["sick"] < 0.3
for p, q in zip(whole[0].parameters(), again[0].parameters()):
    assert torch.equal(p, q)
