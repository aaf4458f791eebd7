"""What a step takes on one thread, on two and on as many as `threads="auto"` takes, in quiet and beside busy processes.

    python benches/threads.py           # about five minutes, on a machine that is quiet otherwise
    python benches/threads.py --write   # also puts the table into docs/benchmarks.md

256 features, an MLP of [512, 512], four tasks of ten classes, batches of 512 rows, Adam; torch is told two threads.
Busy processes are two that do nothing but loop, started and ended here. Each run is `Trainer.fit` with a trainer of
its own, which knows nothing of the machine when it begins; ways take turns. Milliseconds a step of whole runs, what
"auto" tries included: median, and minimum and maximum of all turns.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polytask as pt
import timing
import torch

TURNS = 5
ROWS, BATCH = 512 * 20, 512
WAYS: list[int | str] = [1, 2, "auto"]
BUSY = 2


@contextlib.contextmanager
def company(count: int) -> Iterator[None]:
    """So many processes that want a processor all the time."""
    each = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.5 if count else 0)
        yield
    finally:
        for process in each:
            process.kill()
            process.wait()


def run(threads: int | str, epochs: int) -> tuple[float, list[tuple[int, int]]]:
    """Milliseconds a step of a new trainer, and the number of threads from which step on."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 256)).astype(np.float32)
    labels = [rng.integers(0, 10, ROWS) for _ in range(4)]
    tasks = [pt.Task(f"task {k}", classes=10) for k in range(4)]
    model = pt.MultiTaskModel(256, tasks=tasks, encoder=pt.encoder.MLP([512, 512]), seed=0)
    trainer = pt.Trainer(model, lr=1e-3, threads=threads, seed=0)
    start = time.perf_counter()
    trainer.fit((x, *labels), epochs=epochs, batch_size=BATCH, progress=False, train_metrics=False)
    return (time.perf_counter() - start) / trainer.steps * 1e3, trainer.history.threads


def shown(stretches: list[tuple[int, int]], steps: int) -> str:
    """How many of the steps had fewer threads than two."""
    ends = [first for first, _ in stretches[1:]] + [steps]
    fewer = sum(end - first for (first, count), end in zip(stretches, ends, strict=True) if count < 2)
    return f"{100 * fewer / steps:.0f} % of steps on one"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--epochs", type=int, default=40, help="of 20 steps, a run")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    took: dict[tuple[int, int | str], list[float]] = {(busy, way): [] for busy in (0, BUSY) for way in WAYS}
    seen: dict[tuple[int, int | str], list[str]] = {key: [] for key in took}
    run(2, 2)
    for _ in range(TURNS):
        for busy in (0, BUSY):
            with company(busy):
                for way in WAYS:
                    # Two threads beside busy processes take many times as long, and no longer to tell.
                    epochs = max(2, arguments.epochs // 10) if busy and way == 2 else arguments.epochs
                    each, stretches = run(way, epochs)
                    took[busy, way].append(each)
                    seen[busy, way].append(shown(stretches, 20 * epochs))
                    print(f"{busy} busy, threads={way}: {each:.2f} ms, {seen[busy, way][-1]}, {stretches}", flush=True)
    lines = ["| busy processes | one thread | two threads | auto | auto against one thread |", "|--:|--:|--:|--:|--:|"]
    for busy in (0, BUSY):
        cells = [f"{statistics.median(t):.2f} ({min(t):.2f}-{max(t):.2f})" for t in (took[busy, way] for way in WAYS)]
        ratios = [a / one for a, one in zip(took[busy, "auto"], took[busy, 1], strict=True)]
        cells.append(f"**{statistics.median(ratios):.2f}** (up to {max(ratios):.2f})")
        lines.append(f"| {busy} | {' | '.join(cells)} |")
    each = {busy: "; ".join(seen[busy, "auto"]) for busy in (0, BUSY)}
    told = f'With "auto" beside busy processes: {each[BUSY]}; in quiet: {each[0]}.'
    text = "\n".join([*lines, "", told, "", timing.machine()])
    print(text)
    if arguments.write:
        timing.write(Path(timing.ROOT) / "docs" / "benchmarks.md", text, "threads")


if __name__ == "__main__":
    main()
