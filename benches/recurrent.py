"""Three taggers on one recurrent encoder: a step, beside `torch.nn.LSTM` over packed sequences and TorchJD.

    python benches/recurrent.py           # two minutes
    python benches/recurrent.py --write   # also puts the table into docs/benchmarks.md
    python benches/recurrent.py --quick   # a few turns of the LSTM alone

Sentences of 1 to 45 tokens (23 in the mean) of 128 numbers each, 32 a batch, one bidirectional layer of width 128,
three heads over each token. By `Trainer.fit`, and by a loop of plain PyTorch whose batches were packed beforehand,
with fused Adam; one thread, taking turns. For UPGrad the loop takes TorchJD's `mtl_backward` and `jac_to_grad`,
with rows at once or one after the other, whichever is faster; "three backwards" is one of each loss, without any
aggregation. The floor is the bare matrix products of an equal step. Losses of 20 steps of SGD from the same start
are compared on the way, where PyTorch's second biases, which say the same once more, learn nothing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polytask as pt
import timing
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn

WIDTH, HIDDEN, TAGS, TASKS = 128, 128, 9, 3
SENTENCES, BATCHES, EPOCHS, TURNS = 32, 4, 2, 11
MODULES = {"lstm": nn.LSTM, "gru": nn.GRU}


class Plain(nn.Module):
    """The network by PyTorch, with the parameters of a model."""

    def __init__(self, cell: str, state: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.rnn = MODULES[cell](WIDTH, HIDDEN, bidirectional=True)
        self.heads = nn.ModuleList(nn.Linear(2 * HIDDEN, TAGS) for _ in range(TASKS))
        wide = len(state["encoder.0.bias"]) // 2
        with torch.no_grad():
            for direction, name in enumerate(("recurrent", "reversed")):
                part = slice(direction * wide, (direction + 1) * wide)
                end = "l0" + "_reverse" * direction
                getattr(self.rnn, f"weight_ih_{end}").copy_(torch.from_numpy(state["encoder.0.weight"][part]))
                getattr(self.rnn, f"bias_ih_{end}").copy_(torch.from_numpy(state["encoder.0.bias"][part]))
                getattr(self.rnn, f"weight_hh_{end}").copy_(torch.from_numpy(state[f"encoder.0.{name}.weight"]))
                getattr(self.rnn, f"bias_hh_{end}").zero_()
            for k, head in enumerate(self.heads):
                head.weight.copy_(torch.from_numpy(state[f"heads.{k}.weight"]))
                head.bias.copy_(torch.from_numpy(state[f"heads.{k}.bias"]))

    def with_one_bias(self) -> Plain:
        """The same whose second biases learn nothing where the first ones say as much: all but a GRU's last."""
        for name, bias in self.rnn.named_parameters():
            if name.startswith("bias_hh"):
                mask = torch.zeros_like(bias)
                mask[2 * HIDDEN :] = isinstance(self.rnn, nn.GRU)
                bias.register_hook(mask.mul)
        return self

    def losses(self, features: Tensor, tags: list[Tensor]) -> list[Tensor]:
        """Of the tasks, from what the encoder gives."""
        return [functional.cross_entropy(head(features), y) for head, y in zip(self.heads, tags, strict=True)]


class Problem:
    """Sentences, and the ways of learning from them."""

    def __init__(self, cell: str) -> None:
        self.cell = cell
        rng = np.random.default_rng(0)
        rows = SENTENCES * BATCHES
        self.lengths = rng.integers(1, 46, rows)
        self.words = [rng.normal(size=(n, WIDTH)).astype(np.float32) for n in self.lengths]
        signs = rng.normal(size=(WIDTH, TASKS, TAGS))
        tags = [np.einsum("nw,wkt->nkt", np.cumsum(words, 0), signs).argmax(2) for words in self.words]
        self.tags = {f"{k}": [each[:, k] for each in tags] for k in range(TASKS)}
        self.packed = []
        for start in range(0, rows, SENTENCES):
            part = slice(start, start + SENTENCES)
            x = rnn.pack_sequence([torch.from_numpy(words) for words in self.words[part]], enforce_sorted=False)
            y = [
                rnn.pack_sequence([torch.from_numpy(each) for each in labels[part]], enforce_sorted=False).data
                for labels in self.tags.values()
            ]
            self.packed.append((x, y))

    def trainer(self, optimizer: object, weighting: str = "equal") -> pt.Trainer:
        """Ours, on one thread."""
        tasks = [pt.Task(name, classes=TAGS, per="words", metrics=[]) for name in self.tags]
        inputs = pt.Inputs(positions={"words": pt.Inputs(numeric=WIDTH)})
        encoder = pt.encoder.Recurrent(HIDDEN, cell=self.cell)
        model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=encoder, seed=0)
        return pt.Trainer(model, optimizer, weighting=weighting, threads=1)

    @property
    def data(self) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]]]:
        """For `fit`."""
        return {"words": self.words}, self.tags

    def plain(
        self, network: Plain, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    ) -> Callable[[], list[Tensor]]:
        """An epoch of the sum of losses."""
        optimizer = make(list(network.parameters()))

        def epoch() -> list[Tensor]:
            losses = []
            for x, y in self.packed:
                loss = torch.stack(network.losses(network.rnn(x)[0].data, y)).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            return losses

        return epoch

    def backwards(self, state: dict[str, np.ndarray]) -> Callable[[], None]:
        """An epoch of one backward a task, whose gradients of the encoder are kept apart."""
        network = Plain(self.cell, state)
        shared = list(network.rnn.parameters())

        def epoch() -> None:
            for x, y in self.packed:
                losses = network.losses(network.rnn(x)[0].data, y)
                for k, loss in enumerate(losses):
                    own = [*shared, *network.heads[k].parameters()]
                    torch.autograd.grad(loss, own, retain_graph=k + 1 < TASKS)

        return epoch

    def torchjd(self, state: dict[str, np.ndarray], chunk: int | None) -> Callable[[], None]:
        """An epoch of TorchJD's UPGrad."""
        from torchjd.aggregation import UPGrad
        from torchjd.autojac import jac_to_grad, mtl_backward

        network = Plain(self.cell, state)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        shared = list(network.rnn.parameters())
        own = [list(head.parameters()) for head in network.heads]
        aggregator = UPGrad()

        def epoch() -> None:
            for x, y in self.packed:
                features = network.rnn(x)[0].data
                losses = network.losses(features, y)
                optimizer.zero_grad()
                mtl_backward(losses, features, tasks_params=own, shared_params=shared, parallel_chunk_size=chunk)
                jac_to_grad(shared, aggregator)
                optimizer.step()

        return epoch

    def apart(self) -> float:
        """How far losses of 20 steps of SGD are from those of the plain loop."""
        trainer = self.trainer(pt.optim.SGD(lr=0.1))
        network = Plain(self.cell, trainer.model.state_dict()).with_one_bias()
        epoch = self.plain(network, lambda parameters: torch.optim.SGD(parameters, lr=0.1))
        ours: list[float] = []
        theirs: list[float] = []
        while len(ours) < 20:
            theirs += [float(loss) for loss in epoch()]
            for start in range(0, len(self.words), SENTENCES):
                part = slice(start, start + SENTENCES)
                labels = {name: each[part] for name, each in self.tags.items()}
                ours.append(trainer.step(({"words": self.words[part]}, labels))["loss"])
        return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))

    def floor(self) -> Callable[[], None]:
        """The bare products of an equal step: those of the input and heads, and of each direction time by time."""
        gates = {"lstm": 4, "gru": 3}[self.cell] * HIDDEN
        x = self.packed[0][0]
        sizes = [int(size) for size in x.batch_sizes]
        whole = timing.floor(sum(sizes), [WIDTH, 2 * gates], False)
        heads = timing.floor(sum(sizes), [2 * HIDDEN, TASKS * TAGS], True)
        weight = torch.randn(gates, HIDDEN)
        h, wide = torch.randn(sum(sizes), HIDDEN), torch.randn(sum(sizes), gates)
        into, of_h, gradient = torch.empty(SENTENCES, gates), torch.empty(SENTENCES, HIDDEN), torch.empty_like(weight)

        @torch.no_grad()
        def step() -> None:
            whole()
            heads()
            for _ in range(2):
                for size in sizes[1:]:
                    torch.mm(h[:size], weight.t(), out=into[:size])
                for size in sizes[1:]:
                    torch.mm(wide[:size], weight, out=of_h[:size])
                torch.mm(wide.t(), h, out=gradient)

        return step

    def times(self, turns: int) -> dict[str, list[float]]:
        """Microseconds a step of the ways, in turns."""
        fit = {"epochs": EPOCHS, "batch_size": SENTENCES, "shuffle": False, "progress": False}
        ours = {name: self.trainer("adam", name) for name in ("equal", "upgrad")}
        state = ours["equal"].model.state_dict()
        floor = self.floor()
        network = Plain(self.cell, state)
        plain = self.plain(network, lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True))
        of_epochs = {"plain": plain, "backwards": self.backwards(state)}
        for name, chunk in (("rows at once", None), ("row by row", 1)):
            try:
                way = self.torchjd(state, chunk)
                way()
            except (ImportError, RuntimeError) as error:
                print(f"TorchJD, {name}: {str(error).splitlines()[0]}")
            else:
                of_epochs[f"torchjd, {name}"] = way
        ways: dict[str, Callable[[], object]] = {
            "floor": lambda: [floor() for _ in range(EPOCHS * BATCHES)],
            "equal": lambda: ours["equal"].fit(self.data, **fit),
            "upgrad": lambda: ours["upgrad"].fit(self.data, **fit),
        }
        for name, epoch in of_epochs.items():
            ways[name] = lambda epoch=epoch: [epoch() for _ in range(EPOCHS)]
        return timing.measure(ways, EPOCHS * BATCHES, turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--quick", action="store_true", help="a few turns of the LSTM alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "| cell (us a step) | floor | PyTorch | Polytask | of PyTorch | three backwards | TorchJD | UPGrad "
        "| of TorchJD | losses apart |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for cell in ["lstm"] if arguments.quick else MODULES:
        problem = Problem(cell)
        apart = problem.apart()
        times = problem.times(3 if arguments.quick else TURNS)
        middle = {name: statistics.median(each) for name, each in times.items()}
        print({name: round(each) for name, each in middle.items()}, flush=True)
        ours = middle["equal"], middle["upgrad"]
        ratios = [a / b for a, b in zip(times["equal"], times["plain"], strict=True)]
        best = min((name for name in middle if name.startswith("torchjd")), key=middle.__getitem__, default=None)
        of_torchjd = ["", ""]
        if best is not None:
            pairs = zip(times["upgrad"], times[best], strict=True)
            of_torchjd = [f"{middle[best]:.0f}", f"**{timing.interval([a / b for a, b in pairs])}**"]
        lines.append(
            f"| {cell.upper()} | {middle['floor']:.0f} | {middle['plain']:.0f} | {ours[0]:.0f} "
            f"| **{timing.interval(ratios)}** | {middle['backwards']:.0f} | {of_torchjd[0]} | {ours[1]:.0f} "
            f"| {of_torchjd[1]} | {apart:.0e} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join([timing.machine(), "", *lines])
    print(text)
    if arguments.write:
        timing.write(Path(timing.ROOT) / "docs" / "benchmarks.md", text, "recurrent")


if __name__ == "__main__":
    main()
