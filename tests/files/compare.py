"""Whether trainings end with the same bits as at an older commit, on this machine.

    make compare OLD=<commit>

builds the older commit beside this one, trains all cases of `make.py` with both, and says which parameters, predictions
and histories differ. Cases that the older one does not know are named.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import make
import numpy as np

ROOT = Path(__file__).parents[2]
BESIDE = ROOT / "target" / "compare"


def build(commit: str) -> Path:
    """The Python folder of an older commit, built."""
    name = _git("rev-parse", "--short", "--verify", f"{commit}^{{commit}}")
    tree = BESIDE / name
    if not tree.exists():
        packed = subprocess.run(["git", "archive", name], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(tree)
    target = ROOT / "target"
    environment = {**os.environ, "PYO3_BUILD_EXTENSION_MODULE": "1", "CARGO_TARGET_DIR": str(target / "compare-build")}
    subprocess.run(
        ["cargo", "build", "--release", "--lib", "--features", "python"], cwd=tree, env=environment, check=True
    )
    made = next(target.glob("compare-build/release/libpolytask.*[!d]"))
    (tree / "python" / "polytask" / "_core.abi3.so").write_bytes(made.read_bytes())
    return tree / "python"


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def train(into: Path) -> None:
    """Trains every case with the polytask at hand; what it ends with, by case and name."""
    ends: dict[str, np.ndarray] = {}
    for name, (model, settings, x) in make.cases().items():
        try:
            made = model()
            training = make.trainer(made, settings)
            data = make.data(made, x)
            history = training.fit(data, epochs=3, batch_size=8, progress=False, callbacks=make.stopping(name))
            numbers = {f"state/{key}": array for key, array in made.state_dict().items()}
            numbers |= {f"predicted/{key}": array for key, array in made.predict(x).items()}
            numbers |= {f"history/{key}": np.array(history[key]) for key in history.columns if key != "seconds"}
        except Exception as error:
            numbers = {"error": np.array(f"{type(error).__name__}: {error}")}
        ends |= {f"{name}:{key}": array for key, array in numbers.items()}
    np.savez(into, **ends)  # type: ignore[arg-type]


def differ(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """What differs in a bit, and the cases that one of them cannot train."""
    unknown = {name.partition(":")[0] for name in old.keys() | new.keys() if name.endswith(":error")}
    known = [name for name in sorted(old.keys() | new.keys()) if name.partition(":")[0] not in unknown]

    def same(name: str) -> bool:
        a, b = old.get(name), new.get(name)
        return a is not None and b is not None and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())

    return [name for name in known if not same(name)], sorted(unknown)


def main(commit: str) -> int:
    """Builds, trains, compares."""
    ends: list[dict[str, Any]] = []
    for name, python in (("old", build(commit)), ("new", ROOT / "python")):
        path = BESIDE / f"{name}.npz"
        command = [sys.executable, str(Path(__file__)), "--train", str(path)]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(python)}, check=True)
        with np.load(path) as file:
            ends.append(dict(file))
    other, unknown = differ(*ends)
    for name in unknown:
        print(f"not trained by both: {name}")
    for name in other:
        print(f"differs: {name}")
    cases = {name.partition(":")[0] for name in ends[1]} - set(unknown)
    print(
        f"{len(cases) - len({name.partition(':')[0] for name in other})} of {len(cases)} cases end with the same bits"
    )
    return 1 if other else 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--train", path]:
            train(Path(path))
        case [commit]:
            sys.exit(main(commit))
        case _:
            sys.exit("make compare OLD=<commit>")
