"""Builds of the package side by side: of an older commit, and of the files as they are."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BESIDE = ROOT / "target" / "compare"
#: All builds are built from this one folder: cargo takes what lies in another for the same package.
SOURCE = BESIDE / "source"
BUILT = BESIDE / "build"


def build(commit: str | None) -> Path:
    """The folder of Python with the extension in it, of a commit or of the files as they are; built once."""
    name = _name(commit)
    python = BESIDE / name / "python"
    extension = python / "polytask" / "_core.abi3.so"
    if not extension.exists():
        print(f"building {name}", flush=True)
        # All of the files are new, so that cargo builds the package again.
        shutil.rmtree(SOURCE, ignore_errors=True)
        lay_out(commit, SOURCE)
        _take_dependencies()
        settings = {"PYO3_BUILD_EXTENSION_MODULE": "1", "CARGO_TARGET_DIR": str(BUILT), "CARGO_INCREMENTAL": "0"}
        command = ["cargo", "build", "--release", "--lib", "--features", "python"]
        subprocess.run(command, cwd=SOURCE, env={**os.environ, **settings}, check=True)
        shutil.rmtree(python, ignore_errors=True)
        unwanted = shutil.ignore_patterns("_core*.so", "__pycache__")
        shutil.copytree(SOURCE / "python" / "polytask", python / "polytask", ignore=unwanted)
        part = extension.with_suffix(".part")
        made = BUILT / "release" / ("libpolytask.dylib" if sys.platform == "darwin" else "libpolytask.so")
        shutil.copyfile(made, part)
        part.rename(extension)
    return python


def environment(python: Path, threads: int) -> dict[str, str]:
    """Of a process that imports this build and has so many threads."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return {**os.environ, **counts, "PYTHONPATH": str(python)}


def lay_out(commit: str | None, folder: Path) -> None:
    """Puts the files of a commit, or those that are there, into a new folder."""
    folder.mkdir(parents=True)
    if commit is not None:
        # `m`: not the times of the commit, which cargo would take for older than what is built.
        subprocess.run(["tar", "xm"], cwd=folder, check=True, input=_git("archive", commit))
        return
    for path in _files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)


def at_hand(python: Path) -> None:
    """Checks that this process imports that build and no other."""
    import polytask

    if not Path(polytask.__file__).is_relative_to(python):
        sys.exit(f"polytask should come from {python}; it comes from {polytask.__file__}")


def _name(commit: str | None) -> str:
    if commit is not None:
        return _git("rev-parse", "--short=12", "--verify", f"{commit}^{{commit}}").decode().strip()
    hashed = hashlib.sha256()
    for path in _files():
        if path.parts[0] in ("src", "python") or len(path.parts) == 1:
            hashed.update(f"{path}\0".encode() + (ROOT / path).read_bytes() + b"\0")
    return f"files-{hashed.hexdigest()[:12]}"


def _files() -> list[Path]:
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0")
    return [Path(name) for name in sorted(set(listed)) if name and (ROOT / name).is_file()]


def _take_dependencies() -> None:
    """Copies the dependencies that are built already, of which torch-sys takes minutes."""
    usual = ROOT / "target" / "release"
    if not BUILT.exists() and usual.exists():
        for part in ("deps", "build", ".fingerprint"):
            ours = shutil.ignore_patterns("*polytask*")
            shutil.copytree(usual / part, BUILT / "release" / part, ignore=ours, dirs_exist_ok=True)


def _git(*command: str) -> bytes:
    return subprocess.run(["git", *command], cwd=ROOT, check=True, capture_output=True).stdout
