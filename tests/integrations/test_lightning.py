"""A weighting in Lightning's manual optimization; run by name, since it needs the package lightning."""

import copy

import lightning as L
import polytask as pt
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset

# The trainers warn of few workers and missing loggers.
pytestmark = pytest.mark.filterwarnings("ignore")
STEPS_OF_ONE_EPOCH, BATCH_SIZE = 8, 32


class Network(nn.Module):
    """A trunk and two heads."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.kind, self.size = nn.Linear(16, 3), nn.Linear(16, 1)

    def losses(self, x, kind, size):
        features = self.trunk(x)
        return {"kind": cross_entropy(self.kind(features), kind), "size": mse_loss(self.size(features)[:, 0], size)}


class TwoTasks(L.LightningModule):
    """The optimization is manual, and `self.manual_backward(loss)` becomes `self.balancer.backward(losses)`."""

    def __init__(self, network, weighting="upgrad", scaler=None):
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.balancer = pt.torch.Balancer(weighting, scaler=scaler)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        losses = self.network.losses(*batch)
        optimizer.zero_grad()
        self.balancer.backward(losses, epoch=self.current_epoch)
        optimizer.step()
        self.log_dict({f"loss/{task}": loss.detach() for task, loss in losses.items()})
        self.log_dict({f"weight/{task}": weight for task, weight in self.balancer.weights.items()})

    def configure_optimizers(self):
        return torch.optim.SGD(self.network.parameters(), lr=0.05)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["balancer"] = self.balancer.state_dict()

    def on_load_checkpoint(self, checkpoint):
        self.balancer.load_state_dict(checkpoint["balancer"])


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS_OF_ONE_EPOCH * BATCH_SIZE, 6, generator=generator)
    kind = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    return TensorDataset(x, kind, 3 * x[:, 0] - 2 * x[:, 2])


def trained(module, **limits):
    trainer = L.Trainer(
        **limits,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(data(), batch_size=BATCH_SIZE))
    return trainer


def plain(network, weighting, steps):
    """The same steps in a loop of one's own."""
    balancer = pt.torch.Balancer(weighting)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for step, batch in zip(range(steps), DataLoader(data(), batch_size=BATCH_SIZE), strict=False):
        optimizer.zero_grad()
        balancer.backward(network.losses(*batch), epoch=step // STEPS_OF_ONE_EPOCH)
        optimizer.step()
    return balancer


def same(network, other):
    """Gradients and parameters are equal bit by bit; those of the trunk are no zeros."""
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert one.grad.abs().max() > 0
        assert torch.equal(one.grad, two.grad)
        assert torch.equal(one, two)


def test_steps_are_those_of_a_plain_loop():
    for weighting in ("upgrad", "dwa", pt.weighting.GradNorm()):
        for steps in (1, STEPS_OF_ONE_EPOCH):
            torch.manual_seed(0)
            one = Network()
            two = copy.deepcopy(one)
            module = TwoTasks(one, copy.deepcopy(weighting))
            trained(module, max_steps=steps)
            balancer = plain(two, copy.deepcopy(weighting), steps)
            same(one, two)
            assert module.balancer.weights == balancer.weights


def test_it_is_another_step_than_that_of_the_sum():
    torch.manual_seed(0)
    network = Network()
    other = copy.deepcopy(network)
    trained(TwoTasks(network, pt.weighting.PCGrad()), max_steps=1)
    trained(TwoTasks(other, "equal"), max_steps=1)
    assert not torch.equal(network.trunk[0].weight.grad, other.trunk[0].weight.grad)


def test_every_loss_goes_down():
    torch.manual_seed(0)
    module = TwoTasks(Network())
    with torch.no_grad():
        before = module.network.losses(*data().tensors)
    trainer = trained(module, max_epochs=30)
    with torch.no_grad():
        after = module.network.losses(*data().tensors)
    for task, loss in before.items():
        assert after[task] < 0.5 * loss, (task, loss, after[task])
        assert f"weight/{task}" in trainer.callback_metrics


def test_half_precision_takes_the_steps_of_a_plain_loop():
    torch.manual_seed(0)
    network = Network()
    other = copy.deepcopy(network)
    scalers = [torch.amp.GradScaler("cpu", init_scale=1024.0) for _ in range(2)]
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scalers[0])
    trained(TwoTasks(network, scaler=scalers[0]), max_steps=1, plugins=[plugin])
    optimizer = torch.optim.SGD(other.parameters(), lr=0.05)
    with torch.autocast("cpu", torch.float16):
        losses = other.losses(*data()[:BATCH_SIZE])
    pt.torch.backward(losses, weighting="upgrad", scaler=scalers[1])
    scalers[1].step(optimizer)
    same(network, other)


def test_a_checkpoint_has_what_the_weighting_learned(tmp_path):
    torch.manual_seed(0)
    module = TwoTasks(Network(), pt.weighting.GradNorm())
    trainer = trained(module, max_epochs=2)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = TwoTasks.load_from_checkpoint(tmp_path / "a.ckpt", network=Network(), weighting=pt.weighting.GradNorm())
    batch = data()[:BATCH_SIZE]
    for each in (module, again):
        each.network.zero_grad()
        each.balancer.backward(each.network.losses(*batch), epoch=2)
    assert again.balancer.weights == module.balancer.weights != {"kind": 1.0, "size": 1.0}
    same(again.network, module.network)
