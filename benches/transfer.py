"""Transfer gains between Yeast's 14 labels: 14 single networks and 91 pairs a seed, ours against eager PyTorch.

    python benches/transfer.py yeast.csv.gz [--batch-size 32] [--seeds 3] [--epochs 50] [--turns 5]

`yeast.csv.gz` is that of the package `river` (`river/datasets/yeast.csv.gz`); its first 1,500 rows train, the others
validate. Trunk 103 -> 128 -> 64. Both sides have as many threads as torch: ours trains networks side by side with one
each; PyTorch one after another with good practice (fused Adam, arrays as tensors, gathered batches, no metrics), of
which some networks are timed, in turns with ours, and scaled to all. The floor is the bare matrix products of the
same steps, in chunks of 16 networks as batched products on all threads. Losses of each network are compared over its
first steps and at its best epochs.
"""

import argparse
import itertools
import time

import numpy as np
import polytask as pt
import torch
from timing import interval

WIDTHS = [103, 128, 64]
TASKS = 14
TRAIN = 1500
CHUNK = 16


def yeast(path: str) -> tuple[np.ndarray, np.ndarray]:
    import pandas

    table = pandas.read_csv(path).to_numpy()
    features, labels = table[:, :103], table[:, 103:]
    return features.astype(np.float32), labels.astype(np.float32)


def model(members: tuple[int, ...], seed: int) -> pt.MultiTaskModel:
    tasks = [pt.Task(f"class{i}", loss="binary_cross_entropy", metrics=[]) for i in members]
    return pt.MultiTaskModel(103, tasks=tasks, encoder=pt.encoder.MLP(WIDTHS[1:]), seed=seed)


class Plain(torch.nn.Module):
    """The same network, from the same start."""

    def __init__(self, members: tuple[int, ...], seed: int) -> None:
        super().__init__()
        sizes = itertools.pairwise(WIDTHS)
        self.trunk = torch.nn.Sequential(*(part for a, b in sizes for part in (torch.nn.Linear(a, b), torch.nn.ReLU())))
        self.heads = torch.nn.ModuleList(torch.nn.Linear(WIDTHS[-1], 1) for _ in members)
        start = model(members, seed).state_dict()
        layers = [layer for layer in self.trunk if isinstance(layer, torch.nn.Linear)]
        with torch.no_grad():
            for at, layer in enumerate(layers):
                layer.weight.copy_(torch.from_numpy(start[f"encoder.{at}.weight"]))
                layer.bias.copy_(torch.from_numpy(start[f"encoder.{at}.bias"]))
            for i, head in zip(members, self.heads, strict=True):
                head.weight.copy_(torch.from_numpy(start[f"heads.class{i}.weight"]))
                head.bias.copy_(torch.from_numpy(start[f"heads.class{i}.bias"]))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        h = self.trunk(x)
        return [head(h)[:, 0] for head in self.heads]


def eager(members, seed, x, y, orders, size, held_out):
    """Trains it as a plain loop would; gives the best validation loss of each task, and the steps' losses."""
    net = Plain(members, seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    best = [float("inf")] * len(members)
    steps = []
    for order in orders:
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            batch, labels = x[rows], y[rows]
            optimizer.zero_grad(set_to_none=True)
            losses = [loss(out, labels[:, i]) for out, i in zip(net(batch), members, strict=True)]
            sum(losses).backward()
            optimizer.step()
            if len(steps) < 100:
                steps.append([each.item() for each in losses])
        with torch.no_grad():
            each = [loss(out, held_out[1][:, i]).item() for out, i in zip(net(held_out[0]), members, strict=True)]
        best = [min(pair) for pair in zip(best, each, strict=True)]
    return best, steps


def floor(size: int, steps: int, networks: int) -> float:
    """Seconds of the bare products of so many networks' steps, in chunks of batched products."""
    sizes = [*itertools.pairwise(WIDTHS), (WIDTHS[-1], 2)]
    values = [torch.randn(CHUNK, size, width) for width in [*WIDTHS, 2]]
    weights = [torch.randn(CHUNK, a, b) for a, b in sizes]
    flipped = [weight.transpose(1, 2) for weight in weights]
    outs = [torch.empty_like(value) for value in values]
    slabs = [torch.empty_like(weight) for weight in weights]

    def step() -> None:
        for at, weight in enumerate(weights):
            torch.bmm(values[at], weight, out=outs[at + 1])
        for at in reversed(range(len(weights))):
            torch.bmm(values[at].transpose(1, 2), values[at + 1], out=slabs[at])
            if at:
                torch.bmm(values[at + 1], flipped[at], out=outs[at])

    for _ in range(20):
        step()
    count = 200
    began = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - began) / count * steps * networks / CHUNK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    size, seeds, epochs = asked.batch_size, asked.seeds, asked.epochs
    x, y = yeast(asked.data)
    sets = [*((i,) for i in range(TASKS)), *itertools.combinations(range(TASKS), 2)]
    whole = model(tuple(range(TASKS)), 0)
    targets = {f"class{i}": y[:, i] for i in range(TASKS)}
    train = x[:TRAIN], {name: values[:TRAIN] for name, values in targets.items()}
    held_out = x[TRAIN:], {name: values[TRAIN:] for name, values in targets.items()}
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    outside = tensors[0][TRAIN:], tensors[1][TRAIN:]
    per_epoch = -(-TRAIN // size)
    networks = len(sets) * seeds
    threads = f"{torch.get_num_threads()} threads, level {pt._core.level}"
    print(f"{networks} networks, {epochs} epochs of {per_epoch} steps of {size} rows, {threads}")

    def ours() -> pt.Relatedness:
        return pt.relatedness(
            whole, train, "transfer", validation=held_out, epochs=epochs, batch_size=size, seeds=seeds, progress=False
        )

    def orders(seed: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [torch.randperm(TRAIN, generator=generator) for _ in range(epochs)]

    single, pair = (0,), (0, 1)
    ratios, floors = [], []
    for turn in range(asked.turns):
        began = time.perf_counter()
        found = ours()
        mine = time.perf_counter() - began
        theirs = 0.0
        for members, count in ((single, TASKS), (pair, len(sets) - TASKS)):
            began = time.perf_counter()
            eager(members, turn, *tensors, orders(turn), size, outside)
            theirs += (time.perf_counter() - began) * count * seeds
        bare = floor(size, per_epoch * epochs, networks)
        ratios.append(theirs / mine)
        floors.append(mine / bare)
        print(
            f"turn {turn}: ours {mine:.1f} s, eager PyTorch {theirs:.1f} s (scaled), products {bare:.1f} s", flush=True
        )
    print(f"eager PyTorch / ours: {interval(ratios)}")
    print(f"ours / bare products: {interval(floors)}")
    check(asked, train, tensors, outside, found)


def check(asked, train, tensors, outside, found) -> None:
    """Losses over the first 100 steps from one start and in one order, and best losses of some networks."""
    size = asked.batch_size
    apart = 0.0
    for members in ((0,), (13,), (0, 1), (5, 9)):
        ours = pt.Trainer(model(members, 0), optimizer="adam", threads=1)
        order = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(0))
        _, theirs = eager(members, 0, *tensors, [order, order, order], size, outside)
        for at, losses in enumerate(theirs):
            start = at % -(-TRAIN // size) * size
            rows = order[start : start + size].numpy()
            step = ours.step((train[0][rows], {f"class{i}": train[1][f"class{i}"][rows] for i in members}))
            each = [abs(step[f"class{i}/loss"] - loss) for i, loss in zip(members, losses, strict=True)]
            apart = max(apart, *each)
    print(f"losses of the first 100 steps from one start, at most {apart:.1e} apart")
    pairs = [(0, 1), (2, 3), (5, 9), (10, 12)]
    within = []
    for first, second in pairs:
        gains = []
        for seed in range(asked.seeds):
            generator = torch.Generator().manual_seed(seed)
            orders = [torch.randperm(TRAIN, generator=generator) for _ in range(asked.epochs)]
            alone = eager((first,), seed, *tensors, orders, size, outside)[0][0]
            together = eager((first, second), seed, *tensors, orders, size, outside)[0][0]
            gains.append((alone - together) / alone)
        error = np.hypot(np.std(gains, ddof=1) / np.sqrt(len(gains)), found.errors[first, second])
        difference = abs(np.mean(gains) - found.matrix[first, second])
        within.append(difference <= error)
        print(f"class{first} beside class{second}: ours {found.matrix[first, second]:+.4f}, one by one "
              f"{np.mean(gains):+.4f}, {difference / error:.2f} standard errors apart")  # fmt: skip
    print(f"{sum(within)} of {len(pairs)} within one standard error")


if __name__ == "__main__":
    main()
