"""Three taggers on one transformer: a step, beside the same network by `scaled_dot_product_attention` and TorchJD.

    python benches/transformer.py           # five minutes
    python benches/transformer.py --write   # also puts the table into docs/benchmarks.md
    python benches/transformer.py --quick   # a few turns of short rows alone

Sentences of 1 to 45 tokens (23 in the mean), and of 1 to 255, 128 numbers each, 32 or 8 a batch; two blocks of width
128, four heads, hidden layers of 512, no dropout; three heads over each token. By `Trainer.fit`, and by a loop of plain
PyTorch whose batches were padded beforehand, with fused Adam, taking turns, on one thread or as many as `--threads`
says. The loop is that which is faster: all layers over padded rows, or all but attention over the tokens alone. For
UPGrad it takes TorchJD's `mtl_backward` and `jac_to_grad`, with rows at once or one after the other; "three backwards"
is one of each loss, without any aggregation. Losses of 20 steps of SGD from the same start are compared on the way.
Memory is what a process of its own grows by at most while it learns for two epochs, of PyTorch by the faster loop.
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

WIDTH, LAYERS, HEADS, TAGS, TASKS = 128, 2, 4, 9, 3
BATCHES, EPOCHS, TURNS = 4, 2, 11
#: The longest rows, and how many a batch.
SHAPES = {"1 to 45": (45, 32), "1 to 255": (255, 8)}


class Block(nn.Module):
    """Attention and a hidden layer, each behind a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.first, self.second = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor, there: Tensor | None, turns: tuple[Tensor, Tensor]) -> Tensor:
        inner = self.inner(self.norm1(x))
        if there is not None:
            inner = inner.new_zeros(*there.shape, 3 * WIDTH).index_put((there,), inner)
        q, k, v = inner.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(turned(q, turns), turned(k, turns), v, attn_mask=mask)
        y = y.transpose(1, 2).flatten(2)
        x = x + self.outer(y if there is None else y[there])
        return x + self.second(functional.gelu(self.first(self.norm2(x))))


def turned(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary places."""
    cos, sin = turns
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Trunk(nn.Module):
    """What all tasks share: from padded rows to the tokens that are there."""

    def __init__(self, longest: int, packed: bool) -> None:
        super().__init__()
        self.input = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.packed = packed
        half = WIDTH // HEADS // 2
        angles = torch.arange(longest)[:, None] * 10_000 ** (-torch.arange(half) / half)
        self.cos, self.sin = angles.cos(), angles.sin()

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        turns = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
        mask = there[:, None, None]
        x = self.input(x[there] if self.packed else x)
        for block in self.blocks:
            x = block(x, mask, there if self.packed else None, turns)
        return self.norm(x if self.packed else x[there])


class Plain(nn.Module):
    """The network by PyTorch, with the parameters of a model."""

    def __init__(self, state: dict[str, np.ndarray], longest: int, packed: bool) -> None:
        super().__init__()
        self.trunk = Trunk(longest, packed)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, TAGS) for _ in range(TASKS))
        places = {"trunk.input": "encoder.input", "trunk.norm": "encoder.norm"}
        places |= {f"heads.{k}": f"heads.{k}" for k in range(TASKS)}
        parts = {"norm1": "attention.norm", "inner": "attention.input", "outer": "attention.output"}
        parts |= {"norm2": "feedforward.norm", "first": "feedforward.first", "second": "feedforward.second"}
        for layer in range(LAYERS):
            places |= {f"trunk.blocks.{layer}.{own}": f"encoder.{layer}.{name}" for own, name in parts.items()}
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                layer_name, _, part = name.rpartition(".")
                parameter.copy_(torch.from_numpy(state[f"{places[layer_name]}.{part}"]))

    def losses(self, features: Tensor, tags: list[Tensor]) -> list[Tensor]:
        """Of the tasks, from what the trunk gives."""
        return [functional.cross_entropy(head(features), y) for head, y in zip(self.heads, tags, strict=True)]


class Problem:
    """Sentences, and the ways of learning from them."""

    def __init__(self, longest: int, sentences: int, threads: int = 1) -> None:
        self.longest, self.sentences, self.threads = longest, sentences, threads
        rng = np.random.default_rng(0)
        rows = sentences * BATCHES
        self.words = [rng.normal(size=(n, WIDTH)).astype(np.float32) for n in rng.integers(1, longest + 1, rows)]
        signs = rng.normal(size=(WIDTH, TASKS, TAGS))
        tags = [np.einsum("nw,wkt->nkt", words + words.mean(0), signs).argmax(2) for words in self.words]
        self.tags = {f"{k}": [each[:, k] for each in tags] for k in range(TASKS)}
        self.padded = []
        for start in range(0, rows, sentences):
            part = slice(start, start + sentences)
            x = nn.utils.rnn.pad_sequence([torch.from_numpy(words) for words in self.words[part]], batch_first=True)
            lengths = torch.tensor([len(words) for words in self.words[part]])
            there = torch.arange(x.shape[1]) < lengths[:, None]
            y = [torch.from_numpy(np.concatenate(labels[part])) for labels in self.tags.values()]
            self.padded.append((x, there, y))

    def trainer(self, optimizer: object, weighting: str = "equal") -> pt.Trainer:
        """Ours."""
        tasks = [pt.Task(name, classes=TAGS, per="words", metrics=[]) for name in self.tags]
        inputs = pt.Inputs(positions={"words": pt.Inputs(numeric=WIDTH)})
        encoder = pt.encoder.Transformer(LAYERS, WIDTH, HEADS, dropout=0.0)
        model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=encoder, seed=0)
        return pt.Trainer(model, optimizer, weighting=weighting, threads=self.threads)

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
            for x, there, y in self.padded:
                loss = torch.stack(network.losses(network.trunk(x, there), y)).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            return losses

        return epoch

    def backwards(self, network: Plain) -> Callable[[], None]:
        """An epoch of one backward a task, whose gradients of the trunk are kept apart."""
        shared = list(network.trunk.parameters())

        def epoch() -> None:
            for x, there, y in self.padded:
                losses = network.losses(network.trunk(x, there), y)
                for k, loss in enumerate(losses):
                    own = [*shared, *network.heads[k].parameters()]
                    torch.autograd.grad(loss, own, retain_graph=k + 1 < TASKS)

        return epoch

    def torchjd(self, network: Plain, chunk: int | None) -> Callable[[], None]:
        """An epoch of TorchJD's UPGrad."""
        from torchjd.aggregation import UPGrad
        from torchjd.autojac import jac_to_grad, mtl_backward

        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        shared = list(network.trunk.parameters())
        own = [list(head.parameters()) for head in network.heads]
        aggregator = UPGrad()

        def epoch() -> None:
            for x, there, y in self.padded:
                features = network.trunk(x, there)
                losses = network.losses(features, y)
                optimizer.zero_grad()
                mtl_backward(losses, features, tasks_params=own, shared_params=shared, parallel_chunk_size=chunk)
                jac_to_grad(shared, aggregator)
                optimizer.step()

        return epoch

    def apart(self) -> float:
        """How far losses of 20 steps of SGD are from those of the plain loop."""
        trainer = self.trainer(pt.optim.SGD(lr=0.02))
        network = Plain(trainer.model.state_dict(), self.longest, packed=False)
        epoch = self.plain(network, lambda parameters: torch.optim.SGD(parameters, lr=0.02))
        ours: list[float] = []
        theirs: list[float] = []
        while len(ours) < 20:
            theirs += [float(loss) for loss in epoch()]
            for start in range(0, len(self.words), self.sentences):
                part = slice(start, start + self.sentences)
                labels = {name: each[part] for name, each in self.tags.items()}
                ours.append(trainer.step(({"words": self.words[part]}, labels))["loss"])
        return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))

    def times(self, turns: int) -> dict[str, list[float]]:
        """Microseconds a step of the ways, in turns."""
        fit = {"epochs": EPOCHS, "batch_size": self.sentences, "shuffle": False, "progress": False}
        ours = {name: self.trainer("adam", name) for name in ("equal", "upgrad")}
        state = ours["equal"].model.state_dict()
        of_epochs: dict[str, Callable[[], object]] = {}
        for laid, packed in (("padded", False), ("packed", True)):
            adam = lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True)  # noqa: E731
            of_epochs[f"plain, {laid}"] = self.plain(Plain(state, self.longest, packed), adam)
            of_epochs[f"backwards, {laid}"] = self.backwards(Plain(state, self.longest, packed))
            for name, chunk in (("rows at once", None), ("row by row", 1)):
                try:
                    way = self.torchjd(Plain(state, self.longest, packed), chunk)
                    way()
                except (ImportError, RuntimeError) as error:
                    print(f"TorchJD, {laid}, {name}: {str(error).splitlines()[0]}")
                else:
                    of_epochs[f"torchjd, {laid}, {name}"] = way
        ways: dict[str, Callable[[], object]] = {
            name: lambda trainer=trainer: trainer.fit(self.data, **fit) for name, trainer in ours.items()
        }
        for name, epoch in of_epochs.items():
            ways[name] = lambda epoch=epoch: [epoch() for _ in range(EPOCHS)]
        return timing.measure(ways, EPOCHS * BATCHES, turns)


def peak(problem: Problem, way: str) -> float:
    """MiB that the process grows by, at most, while it learns for two epochs."""

    def learn() -> None:
        ours = problem.trainer("adam")
        if way == "equal":
            ours.fit(problem.data, epochs=2, batch_size=problem.sentences, progress=False)
            return
        network = Plain(ours.model.state_dict(), problem.longest, packed=way == "packed")
        epoch = problem.plain(network, lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True))
        for _ in range(2):
            epoch()

    return timing.peak(learn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--quick", action="store_true", help="a few turns of short rows alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", choices=SHAPES, help="say alone by how many MiB the process grows")
    parser.add_argument("--way", choices=["equal", "padded", "packed"], default="equal", help="of `--peak`")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak is not None:
        print(peak(Problem(*SHAPES[arguments.peak], arguments.threads), arguments.way))
        return
    lines = [
        "| tokens a row, rows (us a step) | PyTorch | Polytask | of PyTorch | three backwards | TorchJD | UPGrad "
        "| of TorchJD | losses apart | MiB, PyTorch | Polytask |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, (longest, sentences) in list(SHAPES.items())[: 1 if arguments.quick else None]:
        problem = Problem(longest, sentences, arguments.threads)
        apart = problem.apart()
        times = problem.times(3 if arguments.quick else TURNS)
        middle = {way: statistics.median(each) for way, each in times.items()}
        print({way: round(each) for way, each in middle.items()}, flush=True)

        def best(kind: str, middle: dict[str, float] = middle) -> str | None:
            return min((way for way in middle if way.startswith(kind)), key=middle.__getitem__, default=None)

        def paired(ours: str, theirs: str, times: dict[str, list[float]] = times) -> str:
            return timing.interval([a / b for a, b in zip(times[ours], times[theirs], strict=True)])

        plain, jd, three = best("plain"), best("torchjd"), best("backwards")
        of_jd = ["", ""] if jd is None else [f"{middle[jd]:.0f}", f"**{paired('upgrad', jd)}**"]
        laid = plain.split(", ")[1]
        asked = ["--threads", f"{arguments.threads}", "--peak", name, "--way"]
        memory = [timing.in_a_process(__file__, *asked, way) for way in (laid, "equal")]
        lines.append(
            f"| {name}, {sentences} | {middle[plain]:.0f} ({laid}) | {middle['equal']:.0f} "
            f"| **{paired('equal', plain)}** | {middle[three]:.0f} | {of_jd[0]} | {middle['upgrad']:.0f} "
            f"| {of_jd[1]} | {apart:.0e} | {memory[0]:.0f} | {memory[1]:.0f} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join([f"{timing.machine()} Threads: {arguments.threads}.", "", *lines])
    print(text)
    if arguments.write:
        timing.write(Path(timing.ROOT) / "docs" / "benchmarks.md", text, "transformer")


if __name__ == "__main__":
    main()
