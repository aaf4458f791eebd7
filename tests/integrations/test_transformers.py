"""A weighting in the Trainer of Hugging Face; run by name, since it needs the packages transformers and accelerate."""

import copy
from pathlib import Path

import polytask as pt
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import BertConfig, BertModel, Trainer, TrainerCallback, TrainingArguments

# The trainer warns of few workers and of pinned memory.
pytestmark = pytest.mark.filterwarnings("ignore")
ROWS, BATCH_SIZE, LR = 128, 16, 2e-3
TASKS = ("topic", "longer")


class Network(nn.Module):
    """A small encoder of tokens with random parameters, and two heads."""

    def __init__(self):
        super().__init__()
        config = BertConfig(
            vocab_size=20,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=8,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.heads = nn.ModuleDict({task: nn.Linear(16, 2) for task in TASKS})

    def forward(self, input_ids, labels=None):
        features = self.encoder(input_ids=input_ids).last_hidden_state.mean(1)
        outputs = {task: head(features) for task, head in self.heads.items()}
        if labels is None:
            return outputs
        losses = {task: cross_entropy(outputs[task], labels[:, k]) for k, task in enumerate(TASKS)}
        return {"losses": losses, "loss": sum(losses.values()).detach(), **outputs}


class KeepBalancer(TrainerCallback):
    """Puts what the weighting has learned beside each checkpoint."""

    def __init__(self, balancer):
        self.balancer = balancer

    def on_save(self, args, state, control, **_):
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        torch.save(self.balancer.state_dict(), folder / "balancer.pt")


class BalancedTrainer(Trainer):
    """The losses go backward through `balancer`; the rest, from clipping to the schedule, is the trainer's."""

    def __init__(self, *args, weighting, **more):
        super().__init__(*args, **more)
        accumulate, scaler = self.args.gradient_accumulation_steps, self.accelerator.scaler
        self.balancer = pt.torch.Balancer(weighting, accumulate=accumulate, scaler=scaler)
        self.add_callback(KeepBalancer(self.balancer))

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        with self.compute_loss_context_manager():
            losses = model(**self._prepare_inputs(inputs))["losses"]
        losses = {task: loss / self.current_gradient_accumulation_steps for task, loss in losses.items()}
        self.balancer.backward(losses, epoch=int(self.state.epoch))
        return sum(losses.values()).detach()


def data():
    """Sentences of six words; whether the first is of the first half, and whether there are more of these than not."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 20, (ROWS, 6), generator=generator)
    labels = torch.stack([ids[:, 0] < 10, (ids < 10).sum(1) > 3], 1).long()
    return [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]


class Gradients:
    """What the parameters and gradients were when the optimizer stepped."""

    def __init__(self, optimizer):
        self.seen = []
        optimizer.register_step_pre_hook(self._look)

    def _look(self, optimizer, args, kwargs):
        self.seen.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])


def trained(network, weighting, folder, accumulate=1, resume=None, save=None, state=None, **limits):
    arguments = TrainingArguments(
        **limits,
        save_strategy="no" if save is None else "steps",
        save_steps=save or 500,
        output_dir=folder,
        per_device_train_batch_size=BATCH_SIZE,
        gradient_accumulation_steps=accumulate,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="epoch",
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    look = Gradients(optimizer)
    trainer = BalancedTrainer(
        network,
        arguments,
        train_dataset=data(),
        eval_dataset=data(),
        optimizers=(optimizer, None),
        weighting=weighting,
    )
    if state is not None:
        trainer.balancer.load_state_dict(state)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, look.seen


def plain(network, balancer, steps, accumulate=1):
    """The same steps in a loop of one's own."""
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    look = Gradients(optimizer)
    batches = iter(DataLoader(data(), batch_size=BATCH_SIZE))
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(accumulate):
            losses = network(**next(batches))["losses"]
            balancer.backward({task: loss / accumulate for task, loss in losses.items()}, epoch=0)
        optimizer.step()
    return look.seen


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("weighting", ["upgrad", "dwa", "gradnorm"])
@pytest.mark.parametrize("steps", [1, 4])
def test_steps_are_those_of_a_plain_loop(tmp_path, weighting, accumulate, steps):
    torch.manual_seed(0)
    network = Network()
    other = copy.deepcopy(network)
    trainer, ours = trained(network, weighting, tmp_path, accumulate, max_steps=steps)
    balancer = pt.torch.Balancer(weighting, accumulate=accumulate)
    theirs = plain(other, balancer, steps, accumulate)
    assert len(ours) == len(theirs) == steps
    for one, two in zip(ours, theirs, strict=True):
        assert all(grad.isfinite().all() for grad in one)
        assert any(grad.abs().max() > 0 for grad in one)
        assert all(map(torch.equal, one, two))
    assert all(map(torch.equal, network.parameters(), other.parameters()))
    assert trainer.balancer.weights == balancer.weights


def test_it_is_another_step_than_that_of_the_sum(tmp_path):
    torch.manual_seed(0)
    network = Network()
    each = [copy.deepcopy(network) for _ in range(2)]
    (one,), (two,) = (
        trained(copied, weighting, tmp_path, max_steps=1)[1]
        for copied, weighting in zip(each, ("upgrad", "equal"), strict=True)
    )
    assert not all(map(torch.equal, one, two))


def test_every_loss_goes_down(tmp_path):
    torch.manual_seed(0)
    network = Network()
    batch = next(iter(DataLoader(data(), batch_size=ROWS)))
    with torch.no_grad():
        before = network(**batch)["losses"]
    trainer, _ = trained(network, "upgrad", tmp_path, num_train_epochs=15)
    with torch.no_grad():
        after = network.eval()(**batch)["losses"]
    for task, loss in before.items():
        assert after[task] < 0.5 * loss, (task, loss, after[task])
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert logged[-1] < 0.5 * logged[0]
    assert sorted(trainer.balancer.weights) == sorted(TASKS)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(sum(after.values())), rel=1e-4)


def test_a_run_that_resumes_takes_the_same_steps(tmp_path):
    torch.manual_seed(0)
    network = Network()
    other = copy.deepcopy(network)
    _, whole = trained(network, "gradnorm", tmp_path / "whole", max_steps=6)
    trained(copy.deepcopy(other), "gradnorm", tmp_path / "parts", save=3, max_steps=3)
    checkpoint = tmp_path / "parts" / "checkpoint-3"
    for keeps in (True, False):
        state = torch.load(checkpoint / "balancer.pt") if keeps else None
        again = copy.deepcopy(other)
        _, rest = trained(again, "gradnorm", tmp_path / "parts", resume=str(checkpoint), state=state, max_steps=6)
        assert len(rest) == 3
        equal = [all(map(torch.equal, one, two)) for one, two in zip(whole[3:], rest, strict=True)]
        assert all(equal) == keeps
