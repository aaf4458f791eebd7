"""Trains in every way with two builds, on one thread and on two, and says which promises hold.

    make compare OLD=<commit>

Each build has a process of its own for each number of threads. `ways.py` has the ways and what is promised of them: the
same bits, or parameters within 1e-6 of their norm. The end is an error if a promise is broken.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import builds
import numpy as np

#: Of the parameters' norm.
NEAR = 1e-6

Numbers = dict[str, np.ndarray]


@dataclass
class Verdict:
    """How two builds end a training: whether as promised, and in words."""

    kept: bool
    word: str
    detail: str = ""


def train(into: Path, ways: Iterable[tuple[str, Callable[[], Numbers], str]]) -> None:
    """Trains in these ways with the polytask at hand; what they end with, by way and name."""
    ends: dict[str, np.ndarray] = {}
    for name, way, promise in ways:
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                numbers = way()
        except Exception as error:
            numbers = {"error": np.array(f"{type(error).__name__}: {error}")}
        ends[f"{name}:promise"] = np.array(promise)
        ends[f"{name}:seconds"] = np.array(time.perf_counter() - start)
        ends |= {f"{name}:{key}": array for key, array in numbers.items()}
    np.savez(into, **ends)  # type: ignore[arg-type]


def by_way(ends: dict[str, np.ndarray]) -> dict[str, Numbers]:
    """What `train` wrote, a dictionary a way."""
    found: dict[str, Numbers] = {}
    for key, array in ends.items():
        name, _, part = key.partition(":")
        found.setdefault(name, {})[part] = array
    for numbers in found.values():
        del numbers["seconds"]
    return found


def verdict(old: Numbers, new: Numbers) -> Verdict:
    """On one way, whose promise is the newer build's."""
    promise = str(new["promise"])
    old, new = ({key: array for key, array in each.items() if key != "promise"} for each in (old, new))
    if "error" in old and "error" in new:
        # Some methods refuse some models, but what has the same bits must have been trained.
        return Verdict(promise != "same", "refused by both", str(new["error"]))
    if "error" in old:
        return Verdict(True, "refused by the older", str(old["error"]))
    if "error" in new:
        return Verdict(False, "refused by the newer alone", str(new["error"]))
    # A newer history may have columns that an older one has not.
    known = old.keys() | {key for key in new if not key.startswith("history/")}
    differ = [key for key in sorted(known) if not same(old.get(key), new.get(key))]
    if not differ:
        return Verdict(True, "identical")
    apart, what = distance(old, new), f"{len(differ)} differ, {differ[0]} first"
    if apart <= NEAR:
        return Verdict(promise != "same", f"within {NEAR:g}", f"{apart:.1e} of the parameters' norm; {what}")
    return Verdict(promise == "said", "different", f"{apart:.1e} of the parameters' norm; {what}")


def same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether both are there, bit by bit."""
    return a is not None and b is not None and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def distance(old: Numbers, new: Numbers) -> float:
    """Of all parameters, against the norm of the old ones."""
    names = [name for name in old if name.startswith("state/")]
    if not names or any(name not in new or new[name].shape != old[name].shape for name in names):
        return float("inf")
    a, b = (np.concatenate([each[name].ravel().astype(np.float64) for name in names]) for each in (old, new))
    apart = float(np.linalg.norm(a - b) / np.linalg.norm(a))
    return apart if np.isfinite(apart) else float("inf")


def report(old: dict[str, Numbers], new: dict[str, Numbers]) -> bool:
    """Prints what is not identical, and how many are; whether all promises hold."""
    verdicts = {name: verdict(old[name], new[name]) for name in new if name in old}
    for name, each in verdicts.items():
        if each.word != "identical":
            broken = "" if each.kept else "BROKEN: "
            print(f"  {broken}{name}: {each.word} ({each.detail})")
    for promise, words in (
        ("same", "whose bits are promised"),
        ("close", f"promised within {NEAR:g}"),
        ("said", "of which nothing is promised"),
    ):
        words_of = [each.word for name, each in verdicts.items() if str(new[name]["promise"]) == promise]
        if not words_of:
            continue
        counts = ", ".join(f"{len(list(some))} {word}" for word, some in itertools.groupby(sorted(words_of)))
        print(f"  {len(words_of)} {words}: {counts}")
    lost = sorted(old.keys() - new.keys())
    if lost:
        print(f"  BROKEN: the newer does not know {', '.join(lost)}")
    return not lost and all(each.kept for each in verdicts.values())


def compare(old: Path, new: Path, threads: int, only: str) -> bool:
    """Both builds, each in a process of its own."""
    # Threads that wait actively take the processor from those they wait for, when there are more than cores.
    patient = {"OMP_WAIT_POLICY": "passive"}
    paths = [builds.BESIDE / f"{which}-{threads}.npz" for which in ("old", "new")]
    running = []
    for python, path in zip((old, new), paths, strict=True):
        command = [sys.executable, __file__, "--train", str(python), str(path), only]
        running.append(subprocess.Popen(command, env={**builds.environment(python, threads), **patient}))
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit("a build ended badly")
    ends: list[dict[str, Any]] = []
    for path in paths:
        with np.load(path) as file:
            ends.append(dict(file))
    took = sum(float(array) for key, array in ends[1].items() if key.endswith(":seconds"))
    print(f"{threads} thread{'s' * (threads > 1)}, {took:.0f} s")
    return report(*map(by_way, ends))


def main() -> int:
    """Builds, trains, compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a commit")
    parser.add_argument("--new", help="a commit; the files as they are if none is given")
    parser.add_argument("--only", default="", help="ways whose name contains this")
    arguments = parser.parse_args()
    old, new = builds.build(arguments.old), builds.build(arguments.new)
    level = "from polytask import _core; print(f'level {_core.level}, of', *_core.levels)"
    subprocess.run([sys.executable, "-u", "-c", level], env=builds.environment(new, 1), check=True)
    kept = [compare(old, new, threads, arguments.only) for threads in (1, 2)]
    print("all promises hold" if all(kept) else "promises are broken")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        import ways

        logging.disable()
        builds.at_hand(Path(sys.argv[2]))
        train(Path(sys.argv[3]), (way for way in ways.ways() if sys.argv[4] in way[0]))
    else:
        sys.exit(main())
