"""Times steps of two builds in turns: what the newer one takes of the older one's time.

    make compare-times OLD=<commit>

Both builds have a process of their own, which keeps its model; they take turns, old new, new old, on the same core (or
on all cores, in rows with two threads). A new pair of processes starts after every few pairs, because where a process
lies in memory is worth a percent. Rows are written to a file as they come; a run that was cut off goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import builds
import numpy as np
import rows

#: Pairs of a row, and of a row whose median lies above its bound.
PAIRS, AGAIN = 15, 60
#: Pairs of one pair of processes.
TOGETHER = 5
#: Seconds that a measurement should take, and of steps before it that are not measured.
TURN, WARM = 0.2, 0.02
#: What the geometric mean over rows may be, and a row.
MEAN, BOUND = 1.01, 1.03
#: What a row below so many microseconds may be: whichever is more, a ratio or microseconds.
SHORT, SHORT_BOUND, SHORT_MORE = 100.0, 1.06, 0.3

#: Microseconds a step: of the older build, of the newer one.
Pair = tuple[float, float]


@dataclass
class Verdict:
    """Of a row: microseconds a step of both, the ratio in the middle, its interval, and what it may be."""

    old: float
    new: float
    ratio: float
    low: float
    high: float
    bound: float
    pairs: int

    def __str__(self) -> str:
        mark = " ABOVE" if self.low > self.bound else ""
        return (
            f"{self.old:10.2f} {self.new:10.2f}  {self.ratio:6.4f} ({self.low:.4f}-{self.high:.4f}), may be "
            f"{self.bound:.3f}, {self.pairs} pairs{mark}"
        )


def verdict(pairs: list[Pair]) -> Verdict:
    """The median of the pairs' ratios, with its 95 % bootstrap interval."""
    old, new = np.array(pairs).T
    ratios = new / old
    drawn = np.random.default_rng(0).integers(0, len(ratios), (10_000, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), (0.025, 0.975))
    took = float(np.median(old))
    bound = max(SHORT_BOUND, 1 + SHORT_MORE / took) if took < SHORT else BOUND
    return Verdict(took, float(np.median(new)), float(np.median(ratios)), float(low), float(high), bound, len(pairs))


class Worker:
    """A process that has one of the builds and takes steps when it is told to."""

    def __init__(self, python: Path, threads: int) -> None:
        command = [sys.executable, __file__, "--worker", str(python), str(threads)]
        environment = builds.environment(python, threads)
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, row: rows.Row, steps: int) -> float:
        """How long so many steps of a row take."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(row), steps]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"a build ended at the row `{row}`")
        return float(json.loads(answer))

    def close(self) -> None:
        """Ends it."""
        self.process.communicate()


def serve(python: Path, threads: int) -> None:
    """Takes the steps of rows that come in, and answers how long they took."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    builds.at_hand(python)
    known = {str(row): row for row in rows.rows()}
    name, way = "", None
    for line in sys.stdin:
        wanted, steps = json.loads(line)
        if wanted != name:
            name, way = wanted, known[wanted].make()
            way(known[name].epoch)
        start = time.perf_counter()
        way(steps)
        print(json.dumps(time.perf_counter() - start), file=answers, flush=True)


def measure(row: rows.Row, old: Worker, new: Worker, turns: range) -> list[Pair]:
    """Microseconds a step, a pair a turn; who begins changes from turn to turn."""
    each = max(min(worker.seconds(row, row.epoch) for _ in range(3)) for worker in (old, new))
    steps, warm = (row.epoch * math.ceil(seconds / each) for seconds in (TURN, WARM))
    found: list[Pair] = []
    for turn in turns:
        took: dict[Worker, float] = {}
        for worker in (old, new) if turn % 2 == 0 else (new, old):
            worker.seconds(row, warm)
            took[worker] = worker.seconds(row, steps) / steps * 1e6
        found.append((took[old], took[new]))
    return found


@dataclass
class Record:
    """The pairs of every row, in a file of a line for every few of them."""

    path: Path
    pairs: defaultdict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            name, pairs = json.loads(line)
            self.pairs[name] += [tuple(pair) for pair in pairs]

    def add(self, row: rows.Row, pairs: list[Pair]) -> None:
        """Writes them down."""
        with self.path.open("a") as file:
            file.write(json.dumps([str(row), pairs]) + "\n")
        self.pairs[str(row)] += pairs


def fill(record: Record, old: Path, new: Path, wanted: dict[str, int], known: dict[str, rows.Row]) -> None:
    """Measures until every row has as many pairs as wanted."""
    while missing := [known[name] for name, pairs in wanted.items() if len(record.pairs[name]) < pairs]:
        for threads in sorted({row.threads for row in missing}):
            workers = [Worker(python, threads) for python in (old, new)]
            for row in (row for row in missing if row.threads == threads):
                have = len(record.pairs[str(row)])
                turns = range(have, min(have + TOGETHER, wanted[str(row)]))
                record.add(row, measure(row, *workers, turns))
                print(f"{row!s:75} {verdict(record.pairs[str(row)])}", flush=True)
            for worker in workers:
                worker.close()


def main() -> int:
    """Builds, measures, measures some rows again, says what is slower."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a commit")
    parser.add_argument("--new", help="a commit; the files as they are if none is given")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--again", type=int, default=AGAIN, help="pairs of a row whose median lies above its bound")
    parser.add_argument("--afresh", action="store_true", help="measure again what an earlier run has written")
    options = parser.parse_args()
    old, new = builds.build(options.old), builds.build(options.new)
    stem = f"times-{old.parent.name}-{new.parent.name}"
    first, second = (builds.BESIDE / f"{stem}{part}.jsonl" for part in ("", "-again"))
    if options.afresh:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)
    known = {str(row): row for row in rows.rows() if options.only in str(row)}
    once = Record(first)
    fill(once, old, new, dict.fromkeys(known, options.pairs), known)
    verdicts = {name: verdict(once.pairs[name]) for name in known}
    doubtful = [name for name, each in verdicts.items() if each.ratio > each.bound]
    again = Record(second)
    fill(again, old, new, dict.fromkeys(doubtful, options.again), known)
    verdicts |= {name: verdict(again.pairs[name]) for name in doubtful}
    return 0 if report(verdicts) else 1


def report(verdicts: dict[str, Verdict]) -> bool:
    """Prints every row; whether none is slower than it may be, nor all together."""
    print(f"\n{'microseconds a step':75} {'old':>10} {'new':>10}   ratio")
    for name, each in verdicts.items():
        print(f"{name:75} {each}")
    mean = statistics.geometric_mean(each.ratio for each in verdicts.values())
    above = [name for name, each in verdicts.items() if each.low > each.bound]
    print(f"geometric mean over {len(verdicts)} rows: {mean:.4f}, may be {MEAN}")
    print("no row lies wholly above what it may be" if not above else f"wholly above: {'; '.join(above)}")
    return mean <= MEAN and not above


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main())
