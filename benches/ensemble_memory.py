"""What memory an ensemble run takes: 64 networks of the built-in space on 200,000 rows, a class and a price with a long
tail, whose logarithms are tried too.

    python benches/ensemble_memory.py            # two epochs on two threads
    python benches/ensemble_memory.py --write    # also puts the table into docs/benchmarks.md

Networks train side by side whatever the epochs are, and the members that are kept are there from the first one on.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pandas as pd
import polytask as pt
import timing
import torch

NUMBERS, CATEGORIES, LEVELS = 12, 4, 20


def table(rows: int) -> pd.DataFrame:
    """A table whose targets are of its columns."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, NUMBERS)), columns=[f"n{i}" for i in range(NUMBERS)])
    for i in range(CATEGORIES):
        frame[f"c{i}"] = rng.integers(0, LEVELS, rows).astype(str)
    common = frame["n0"] * frame["n1"] + np.sin(2 * frame["n2"]) + 0.1 * frame["c0"].astype(int)
    frame["rich"] = np.where(common + rng.normal(size=rows) > 1, "yes", "no")
    frame["price"] = np.exp(3 + 0.5 * common + 0.3 * rng.normal(size=rows))
    return frame


def peak() -> float:
    """The most GiB that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Trains and says what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    frame = table(asked.rows)
    before, began = peak(), time.perf_counter()
    tasks = [pt.Task("rich", classes=["no", "yes"]), pt.Task("price")]
    found = pt.search(tasks, frame, ensemble="greedy", trials=asked.trials, epochs=asked.epochs, progress=False)
    scales = {each.settings.get("scale/price") for each in found.trials}
    assert scales == {"standardize", "log1p"} or asked.trials < 8, scales
    text = "\n".join([
        "| networks | rows | epochs | members kept | GiB before | GiB at most | seconds |",
        "|--:|--:|--:|--:|--:|--:|--:|",
        f"| {asked.trials} | {asked.rows:,} | {asked.epochs} | {len(found)} | {before:.2f} | {peak():.2f} | "
        f"{time.perf_counter() - began:.0f} |",
        "",
        timing.machine(),
    ])  # fmt: skip
    print(text)
    if asked.write:
        timing.write(timing.ROOT / "docs" / "benchmarks.md", text, "ensemble_memory")


if __name__ == "__main__":
    main()
