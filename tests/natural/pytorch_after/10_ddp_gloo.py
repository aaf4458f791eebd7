"""Two processes with DistributedDataParallel, a DistributedSampler and a Balancer give the same parameters."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import polytask as pt


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU())
        self.one, self.two = nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, x):
        h = self.body(x)
        return self.one(h).squeeze(1), self.two(h).squeeze(1)


def work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(0)
    x = torch.randn(256, 6)
    data = TensorDataset(x, x[:, 0] - x[:, 1], x[:, 1] + x[:, 2])
    loader = DataLoader(data, batch_size=32, sampler=DistributedSampler(data))
    ddp = DDP(Net())
    optimizer = torch.optim.Adam(ddp.parameters(), lr=1e-2)
    balancer = pt.torch.Balancer(pt.weighting.CAGrad(c=0.5), ddp=ddp)
    for epoch in range(10):
        loader.sampler.set_epoch(epoch)
        for x, y1, y2 in loader:
            optimizer.zero_grad()
            with ddp.no_sync():
                a, b = ddp(x)
                balancer.backward([nn.functional.mse_loss(a, y1), nn.functional.mse_loss(b, y2)])
            optimizer.step()
    assert len(balancer.weights) == 2
    torch.save((ddp.module.state_dict(), balancer.weights), os.path.join(folder, f"{rank}.pt"))
    dist.destroy_process_group()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, args=(folder,), nprocs=2)
        (one, w1), (two, w2) = (torch.load(os.path.join(folder, f"{rank}.pt")) for rank in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one) and w1 == w2
