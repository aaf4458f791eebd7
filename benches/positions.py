"""A tagger of tokens and a classifier of sentences on one encoder: a step, beside plain PyTorch on packed rows.

    python benches/positions.py           # a minute
    python benches/positions.py --write   # also puts the table into docs/benchmarks.md

Embeddings, a window over each token and its two neighbours, two layers; a head for each token, and one for the mean of
each sentence's. Sentences of 1 to 39 tokens (20 in the mean), a fifth of all labels missing. By `Trainer.fit`, and by a
loop of plain PyTorch that lays the tokens of a batch end to end just so, its rows indexed and their places found
beforehand, with fused Adam. One thread, taking turns. Beside them the bare matrix products of the same layers. Losses
of 20 steps of SGD from the same start are compared on the way.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polytask as pt
import timing
import torch
from torch.nn import functional

WORDS, TAGS, TURNS = 5000, 9, 15
#: Sentences a batch, width of embeddings and layers.
SIZES = {"16 sentences, 32 -> 64": (16, 32, 64), "64 sentences, 128 -> 256": (64, 128, 256)}
BATCHES = 8


class Problem:
    """Sentences, and the two ways of learning from them."""

    def __init__(self, sentences: int, width: int, hidden: int) -> None:
        rng = np.random.default_rng(0)
        self.sentences, self.width, self.hidden = sentences, width, hidden
        self.lengths = rng.integers(1, 40, sentences * BATCHES)
        self.tokens = [rng.integers(0, WORDS, n) for n in self.lengths]
        self.tags = [np.where(rng.random(len(words)) < 0.2, -1, words % TAGS) for words in self.tokens]
        self.moods = np.where(rng.random(len(self.lengths)) < 0.2, -1, [words.sum() % 2 for words in self.tokens])
        self.data = {"tokens": self.tokens}, {"tag": self.tags, "mood": self.moods}

    def trainer(self, optimizer: object, weighting: str = "equal") -> pt.Trainer:
        """Ours, on one thread."""
        tasks = [pt.Task("tag", classes=TAGS, per="tokens", metrics=[]), pt.Task("mood", classes=2, metrics=[])]
        inputs = pt.Inputs(positions={"tokens": pt.Inputs(categorical=[WORDS], embedding=self.width)})
        encoder = pt.encoder.Window([self.hidden, self.hidden])
        model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=encoder)
        return pt.Trainer(model, optimizer, weighting=weighting, threads=1)

    def plain(self, state: dict[str, np.ndarray]) -> tuple[list[torch.Tensor], Callable[..., list[float]]]:
        """Plain PyTorch from the same start: what it trains, and an epoch of it, which gives the losses."""
        p = {name: torch.from_numpy(x).clone().requires_grad_() for name, x in state.items()}

        def linear(x: torch.Tensor, path: str) -> torch.Tensor:
            return functional.linear(x, p[f"{path}.weight"], p[f"{path}.bias"])

        batches = []
        for start in range(0, len(self.tokens), self.sentences):
            part = slice(start, start + self.sentences)
            lengths = torch.from_numpy(self.lengths[part])
            row = torch.repeat_interleave(torch.arange(self.sentences), lengths)
            count = len(row)
            # The places of neighbours, and of a row of zeros where there is none in the sentence.
            places = []
            for by in (-1, 1):
                other = torch.arange(count) + by
                there = (other >= 0) & (other < count)
                there &= row[other.clamp(0, count - 1)] == row
                places.append(torch.where(there, other, count))
            arrays = [np.concatenate(each[part]) for each in (self.tokens, self.tags)]
            batches.append((row, lengths[:, None], places, *map(torch.from_numpy, (*arrays, self.moods[part]))))

        def epoch(optimizer: torch.optim.Optimizer, listed: bool = False) -> list[float]:
            losses = []
            for row, lengths, (before, after), words, tags, moods in batches:
                x = functional.embedding(words, p["embedding.tokens.0.weight"])
                zero = torch.cat([x, x.new_zeros(1, x.shape[1])])
                h = torch.cat([zero[before], x, zero[after]], 1)
                h = linear(linear(h, "encoder.0").relu(), "encoder.1").relu()
                pooled = h.new_zeros(len(lengths), h.shape[1]).index_add(0, row, h) / lengths
                loss = functional.cross_entropy(linear(h, "heads.tag"), tags, ignore_index=-1)
                loss = loss + functional.cross_entropy(linear(pooled, "heads.mood"), moods, ignore_index=-1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if listed:
                    losses.append(float(loss.detach()))
            return losses

        return list(p.values()), epoch

    def apart(self) -> float:
        """How far losses of 20 steps of SGD are from those of the plain loop."""
        trainer = self.trainer(pt.optim.SGD(lr=0.1))
        learned, epoch = self.plain(trainer.model.state_dict())
        optimizer = torch.optim.SGD(learned, lr=0.1)
        ours: list[float] = []
        theirs: list[float] = []
        while len(ours) < 20:
            theirs += epoch(optimizer, listed=True)
            for start in range(0, len(self.tokens), self.sentences):
                part = slice(start, start + self.sentences)
                x, y = self.data
                batch = {"tokens": x["tokens"][part]}, {name: labels[part] for name, labels in y.items()}
                ours.append(trainer.step(batch)["loss"])
        return max(abs(a - b) / abs(b) for a, b in zip(ours[:20], theirs[:20], strict=True))

    def times(self) -> dict[str, list[float]]:
        """Microseconds a step of the ways, in turns."""
        fit = {"epochs": 4, "batch_size": self.sentences, "shuffle": False, "progress": False}
        ours = {name: self.trainer("adam", name) for name in ("equal", "upgrad")}
        learned, epoch = self.plain(ours["equal"].model.state_dict())
        adam = torch.optim.Adam(learned, lr=1e-3, fused=True)
        rows = int(self.lengths.sum() / BATCHES)
        floor = timing.floor(rows, [3 * self.width, self.hidden, self.hidden, TAGS], True)
        ways: dict[str, Callable[[], object]] = {
            "floor": lambda: [floor() for _ in range(4 * BATCHES)],
            "plain": lambda: [epoch(adam) for _ in range(4)],
            "equal": lambda: ours["equal"].fit(self.data, **fit),
            "upgrad": lambda: ours["upgrad"].fit(self.data, **fit),
        }
        return timing.measure(ways, 4 * BATCHES, TURNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--quick", action="store_true", help="the smaller network alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "| batch, embedding -> layers (us a step) | floor | PyTorch | Polytask | of PyTorch | UPGrad | losses apart |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, sizes in itertools.islice(SIZES.items(), 1 if arguments.quick else None):
        problem = Problem(*sizes)
        apart = problem.apart()
        times = problem.times()
        floor, plain, equal, upgrad = (statistics.median(times[way]) for way in ("floor", "plain", "equal", "upgrad"))
        ratios = [ours / theirs for ours, theirs in zip(times["equal"], times["plain"], strict=True)]
        lines.append(
            f"| {name} | {floor:.0f} | {plain:.0f} | {equal:.0f} | **{timing.interval(ratios)}** "
            f"| {upgrad:.0f} | {apart:.0e} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join([timing.machine(), "", *lines])
    print(text)
    if arguments.write:
        timing.write(Path(timing.ROOT) / "docs" / "benchmarks.md", text, "positions")


if __name__ == "__main__":
    main()
