"""Three taggers on one recurrent encoder, or two and a parser: a step, beside plain PyTorch and TorchJD.

    python benches/recurrent.py           # three minutes
    python benches/recurrent.py --write   # also puts the table into docs/benchmarks.md
    python benches/recurrent.py --quick   # a few turns of the LSTM alone

Sentences of 1 to 45 tokens (23 in the mean) of 128 numbers each, 32 a batch, one bidirectional layer of width 128,
three heads over each token; in the last case one of them attaches each token to another one by 30 kinds, as a tree
does, with biaffine forms of width 128 and 64, where PyTorch scores kinds of the right arcs alone. By `Trainer.fit`, and
by a loop of plain PyTorch with `torch.nn.LSTM` over batches that were packed beforehand and fused Adam, taking turns,
on one thread or as many as `--threads` says. For UPGrad the loop takes TorchJD's `mtl_backward` and `jac_to_grad`, with
rows at once or one after the other, whichever is faster; "three backwards" is one of each loss, without any
aggregation. The floor is the bare matrix products of an equal step, of the parser those of its linear layers. Losses of
20 steps of SGD from the same start are compared on the way, where PyTorch's second biases, which say the same once
more, learn nothing. Memory is what a process of its own grows by at most while it learns for two epochs.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polytask as pt
import timing
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn

WIDTH, HIDDEN, TAGS, TASKS = 128, 128, 9, 3
#: Relations, and the widths of the forms of arcs and of kinds.
KINDS, ARCS, FORM = 30, 128, 64
SENTENCES, BATCHES, EPOCHS, TURNS = 32, 4, 2, 11
MODULES = {"lstm": nn.LSTM, "gru": nn.GRU}
#: The cell, and whether the last task is a parser.
CASES = {"LSTM": ("lstm", False), "GRU": ("gru", False), "LSTM, a parser": ("lstm", True)}


class Form(nn.Module):
    """What is behind a biaffine form: `a` of each first position, and a vector of each second one a column."""

    def __init__(self, width: int, columns: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2 * HIDDEN, width), nn.Linear(2 * HIDDEN, width)
        self.form = nn.Linear(width, columns * (width + 1))
        self.columns = columns

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = functional.leaky_relu(self.first(x))
        b = self.form(functional.leaky_relu(self.second(x))).unflatten(-1, (self.columns, -1))
        return a, b[..., :-1], b[..., -1]


class Parser(nn.Module):
    """The loss of a tree: arcs over all pairs of a padded row, kinds where the right arc is."""

    def __init__(self) -> None:
        super().__init__()
        self.arcs, self.kinds = Form(ARCS, 1), Form(FORM, KINDS)

    def forward(self, x: Tensor, y: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        place, there, heads, kinds = y
        x = x[place]
        a, b, bias = self.arcs(x)
        arcs = (a @ b[..., 0, :].mT + bias.mT).masked_fill(~there[:, None], float("-inf"))
        loss = functional.cross_entropy(arcs[there], heads[there])
        a, b, bias = (each[there] for each in self.kinds(x))
        first = torch.arange(len(x))[:, None].expand_as(heads)[there]
        number = torch.zeros_like(heads).masked_scatter(there, torch.arange(len(a)))
        head = number[first, heads[there]]
        scores = (b[head] @ a[:, :, None])[..., 0] + bias[head]
        return loss + functional.cross_entropy(scores, kinds[there])


class Plain(nn.Module):
    """The network by PyTorch, with the parameters of a model."""

    def __init__(self, cell: str, parser: bool, state: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.rnn = MODULES[cell](WIDTH, HIDDEN, bidirectional=True)
        heads: list[nn.Module] = [nn.Linear(2 * HIDDEN, TAGS) for _ in range(TASKS - parser)]
        self.heads = nn.ModuleList(heads + [Parser()] * parser)
        wide = len(state["encoder.0.bias"]) // 2
        with torch.no_grad():
            for direction, name in enumerate(("recurrent", "reversed")):
                part = slice(direction * wide, (direction + 1) * wide)
                end = "l0" + "_reverse" * direction
                getattr(self.rnn, f"weight_ih_{end}").copy_(torch.from_numpy(state["encoder.0.weight"][part]))
                getattr(self.rnn, f"bias_ih_{end}").copy_(torch.from_numpy(state["encoder.0.bias"][part]))
                getattr(self.rnn, f"weight_hh_{end}").copy_(torch.from_numpy(state[f"encoder.0.{name}.weight"]))
                getattr(self.rnn, f"bias_hh_{end}").zero_()
            for name, parameter in self.heads.named_parameters():
                parameter.copy_(torch.from_numpy(state[f"heads.{name.replace('.kinds.', '.')}"]))

    def with_one_bias(self) -> Plain:
        """The same whose second biases learn nothing where the first ones say as much: all but a GRU's last."""
        for name, bias in self.rnn.named_parameters():
            if name.startswith("bias_hh"):
                mask = torch.zeros_like(bias)
                mask[2 * HIDDEN :] = isinstance(self.rnn, nn.GRU)
                bias.register_hook(mask.mul)
        return self

    def losses(self, features: Tensor, labels: list[Any]) -> list[Tensor]:
        """Of the tasks, from what the encoder gives."""
        return [
            head(features, y) if isinstance(head, Parser) else functional.cross_entropy(head(features), y)
            for head, y in zip(self.heads, labels, strict=True)
        ]


class Problem:
    """Sentences, and the ways of learning from them."""

    def __init__(self, cell: str, parser: bool, threads: int = 1) -> None:
        self.cell, self.parser, self.threads = cell, parser, threads
        rng = np.random.default_rng(0)
        rows = SENTENCES * BATCHES
        self.lengths = rng.integers(1, 46, rows)
        self.words = [rng.normal(size=(n, WIDTH)).astype(np.float32) for n in self.lengths]
        signs = rng.normal(size=(WIDTH, TASKS, TAGS))
        tags = [np.einsum("nw,wkt->nkt", np.cumsum(words, 0), signs).argmax(2) for words in self.words]
        self.tags: dict[str, list[Any]] = {f"{k}": [each[:, k] for each in tags] for k in range(TASKS)}
        # Each token is attached to the first one, which is the root, or to one before it.
        heads = [rng.integers(0, np.maximum(np.arange(n), 1)) for n in self.lengths]
        kinds = [rng.integers(0, KINDS, n) for n in self.lengths]
        if parser:
            each = zip(heads, kinds, strict=True)
            self.tags[f"{TASKS - 1}"] = [
                [(i, int(j), f"{kind}") for i, (j, kind) in enumerate(zip(*row, strict=True))] for row in each
            ]
        self.packed = []
        for start in range(0, rows, SENTENCES):
            part = slice(start, start + SENTENCES)
            x = rnn.pack_sequence([torch.from_numpy(words) for words in self.words[part]], enforce_sorted=False)
            y: list[Any] = [
                rnn.pack_sequence([torch.from_numpy(each) for each in labels[part]], enforce_sorted=False).data
                for labels in list(self.tags.values())[: TASKS - parser]
            ]
            if parser:
                place = rnn.pad_packed_sequence(x._replace(data=torch.arange(len(x.data))), batch_first=True)[0]
                there = torch.arange(place.shape[1]) < torch.from_numpy(self.lengths[part])[:, None]
                padded = [
                    rnn.pad_sequence([torch.from_numpy(each) for each in of[part]], batch_first=True)
                    for of in (heads, kinds)
                ]
                y.append((place, there, *padded))
            self.packed.append((x, y))

    def trainer(self, optimizer: object, weighting: str = "equal") -> pt.Trainer:
        """Ours."""
        tasks = [pt.Task(name, classes=TAGS, per="words", metrics=[]) for name in self.tags]
        if self.parser:
            how = {"head": pt.head.Biaffine(width=FORM, arcs=ARCS), "metrics": []}
            tasks[-1] = pt.Task(
                tasks[-1].name, classes=[f"{kind}" for kind in range(KINDS)], per="pair", tree=True, **how
            )
        inputs = pt.Inputs(positions={"words": pt.Inputs(numeric=WIDTH)})
        encoder = pt.encoder.Recurrent(HIDDEN, cell=self.cell)
        model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=encoder, seed=0)
        return pt.Trainer(model, optimizer, weighting=weighting, threads=self.threads)

    @property
    def data(self) -> tuple[dict[str, list[np.ndarray]], dict[str, list[Any]]]:
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
        network = Plain(self.cell, self.parser, state)
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

        network = Plain(self.cell, self.parser, state)
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
        network = Plain(self.cell, self.parser, trainer.model.state_dict()).with_one_bias()
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
        layers = [[2 * HIDDEN, (TASKS - self.parser) * TAGS]]
        if self.parser:
            layers += [[2 * HIDDEN, ARCS]] * 2 + [[ARCS, ARCS + 1]]
            layers += [[2 * HIDDEN, FORM]] * 2 + [[FORM, KINDS * (FORM + 1)]]
        heads = [timing.floor(sum(sizes), widths, True) for widths in layers]
        weight = torch.randn(gates, HIDDEN)
        h, wide = torch.randn(sum(sizes), HIDDEN), torch.randn(sum(sizes), gates)
        into, of_h, gradient = torch.empty(SENTENCES, gates), torch.empty(SENTENCES, HIDDEN), torch.empty_like(weight)

        @torch.no_grad()
        def step() -> None:
            whole()
            for head in heads:
                head()
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
        network = Plain(self.cell, self.parser, state)
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


def peak(problem: Problem, way: str) -> float:
    """MiB that the process grows by, at most, while it learns for two epochs."""

    def learn() -> None:
        ours = problem.trainer("adam")
        if way == "equal":
            ours.fit(problem.data, epochs=2, batch_size=SENTENCES, progress=False)
            return
        network = Plain(problem.cell, problem.parser, ours.model.state_dict())
        epoch = problem.plain(network, lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True))
        for _ in range(2):
            epoch()

    return timing.peak(learn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", choices=CASES, help="say alone by how many MiB the process grows")
    parser.add_argument("--way", choices=["equal", "plain"], default="equal", help="of `--peak`")
    parser.add_argument("--quick", action="store_true", help="a few turns of the LSTM alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak is not None:
        print(peak(Problem(*CASES[arguments.peak], arguments.threads), arguments.way))
        return
    lines = [
        "| case (us a step) | floor | PyTorch | Polytask | of PyTorch | three backwards | TorchJD | UPGrad "
        "| of TorchJD | losses apart | MiB, PyTorch | Polytask |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for case in ["LSTM"] if arguments.quick else CASES:
        problem = Problem(*CASES[case], arguments.threads)
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
        asked = ["--threads", f"{arguments.threads}", "--peak", case, "--way"]
        memory = [timing.in_a_process(__file__, *asked, way) for way in ("plain", "equal")]
        lines.append(
            f"| {case} | {middle['floor']:.0f} | {middle['plain']:.0f} | {ours[0]:.0f} "
            f"| **{timing.interval(ratios)}** | {middle['backwards']:.0f} | {of_torchjd[0]} | {ours[1]:.0f} "
            f"| {of_torchjd[1]} | {apart:.0e} | {memory[0]:.0f} | {memory[1]:.0f} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join([f"{timing.machine()} Threads: {arguments.threads}.", "", *lines])
    print(text)
    if arguments.write:
        timing.write(Path(timing.ROOT) / "docs" / "benchmarks.md", text, "recurrent")


if __name__ == "__main__":
    main()
