"""Eight threads that predict with one model, beside one thread that makes as many calls.

    python benches/serving.py           # about a minute
    python benches/serving.py --write   # also puts the table into docs/benchmarks.md

64 numeric features, an MLP of [256, 128], a regression and a binary task; calls of 1, 64 and 4,096 rows. One thread and
eight take turns; each thread computes alone (`torch.set_num_threads(1)`, as a server with several workers has it), and
every prediction is compared with that of one thread, bit by bit. Medians, with minimum and maximum of all turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polytask as pt
import timing
import torch

THREADS = 8
TURNS = 9
#: Rows a call, and calls a turn.
CALLS = {1: 4000, 64: 2000, 4096: 64}


def turns(model: pt.MultiTaskModel, rows: int, calls: int) -> tuple[list[float], list[float]]:
    """Seconds of one thread and of eight, for as many calls.

    Raises:
        AssertionError: a prediction differs from that of one thread.
    """
    x = np.random.default_rng(rows).normal(size=(rows, 64)).astype(np.float32)
    alone = model.predict(x)

    def work(count: int) -> dict[str, np.ndarray]:
        for _ in range(count):
            last = model.predict(x)
            for task, values in alone.items():
                assert np.array_equal(last[task], values), f"{task}: another prediction in another thread"
        return last

    one, eight = [], []
    with ThreadPoolExecutor(THREADS) as pool:
        for turn in range(TURNS + 1):
            start = time.perf_counter()
            work(calls)
            middle = time.perf_counter()
            list(pool.map(work, [calls // THREADS] * THREADS))
            end = time.perf_counter()
            if turn > 0:
                one.append(middle - start)
                eight.append(end - middle)
    return one, eight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tasks = [pt.Task("a"), pt.Task("b", loss="binary_cross_entropy")]
    model = pt.MultiTaskModel(64, tasks=tasks, encoder=pt.encoder.MLP([256, 128]), seed=0)
    lines = ["| rows a call | one thread, calls a second | eight threads | times as many |", "|--:|--:|--:|--:|"]
    for rows, calls in CALLS.items():
        one, eight = turns(model, rows, calls)
        ratios = [a / b for a, b in zip(one, eight, strict=True)]
        per = [calls / statistics.median(seconds) for seconds in (one, eight)]
        lines.append(
            f"| {rows:,} | {per[0]:,.0f} | {per[1]:,.0f} | **{statistics.median(ratios):.2f}** "
            f"({min(ratios):.2f}-{max(ratios):.2f}) |"
        )
        print(lines[-1], flush=True)
    text = "\n".join([timing.machine(), "Every prediction of eight threads is that of one, bit by bit.", "", *lines])
    print(text)
    if arguments.write:
        timing.write(Path(timing.ROOT) / "docs" / "benchmarks.md", text, "serving")


if __name__ == "__main__":
    main()
