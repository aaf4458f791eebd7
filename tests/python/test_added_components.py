"""A component is one file and one line: one of each family is added to a copy of the project, built and trained with.

The files are in `tests/added`, each called after the folder that it goes to.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from polytask import _core

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "wheels"))

import torches  # noqa: E402

ADDED = sorted((ROOT / "tests" / "added").glob("*.rs"))
#: What trains with each, and what it must show: run where the copy's extension is.
TRAINS = """
import math

import numpy as np
import polytask as pt

rng = np.random.default_rng(0)
x = rng.normal(size=(256, 5)).astype(np.float32)
number = (x @ rng.normal(size=5)).astype(np.float32)
rows = x, {"number": number, "side": (number > 0).astype(np.int64)}


def fit(loss="mean_squared", encoder=None, sharing="hard", head="linear", optimizer=None, metrics=None, **how):
    tasks = [pt.Task("number", loss=loss), pt.Task("side", loss="cross_entropy", classes=2, metrics=metrics)]
    encoder = encoder or pt.encoder.MLP([8])
    model = pt.MultiTaskModel(inputs=5, tasks=tasks, encoder=encoder, sharing=sharing, head=head, seed=0)
    trainer = pt.Trainer(model, optimizer or pt.optim.Adam(lr=0.01), **how)
    history = trainer.fit(rows, epochs=5, batch_size=64, progress=False)
    loss = history["loss"]
    assert loss[-1] < loss[0], (loss, how)
    return history


plain = fit()["loss"][-1]
for other in (
    fit(loss=pt.loss.LogCosh()),
    fit(regularizers=[pt.regularizer.Quartic()]),
    fit(optimizer=pt.optim.SignSGD()),
    fit(schedule=pt.schedule.Inverse()),
    fit(weighting=pt.weighting.Shares()),
    fit(weighting="equal_norms"),
    fit(weighting=pt.weighting.EqualNorms(at="representation", normalize="l2")),
    fit(encoder=pt.encoder.Projection(width=4)),
    fit(head=pt.head.Saturated()),
    fit(sharing=pt.sharing.Doubled()),
):
    assert math.isfinite(other["loss"][-1]) and other["loss"][-1] != plain
wrong, right = (fit(metrics=[name])[f"side/{name}"][-1] for name in ("error_rate", "accuracy"))
assert 0 < wrong < 0.5 and math.isclose(wrong, 1 - right)
try:
    pt.encoder.Projection(width=0)
except ValueError as error:
    assert str(error) == "Projection: argument `width` should be at least 1; got 0", error
print("trained")
"""


def add(copy: Path, file: Path) -> tuple[Path, Path]:
    """Puts a component into its folder and one line into the folder's list; the two files that this touches."""
    *folder, name = file.name.removesuffix(".rs").split(".")
    where = copy / "src" / Path(*folder)
    shutil.copyfile(file, where / f"{name}.rs")
    struct = re.search(r"pub struct (\w+) = ", file.read_text())
    line = f"    {name}::{struct[1]},\n" if struct else f"    {name},\n"
    family = where / "mod.rs"
    # Before the end of the list that declares the folder's components.
    declares = r"(?ms)^((?:crate::family|crate::members|metrics)! ?[({]\n.*?)(^[)}])"
    text, count = re.subn(declares, rf"\1{line}\2", family.read_text())
    assert count == 1, family
    family.write_text(text)
    return where / f"{name}.rs", family


@pytest.mark.skipif(shutil.which("cargo") is None, reason="it builds the extension")
def test_one_of_each_family_is_a_file_and_a_line(tmp_path: Path) -> None:
    families = {file.name.split(".")[0] for file in ADDED}
    assert families == {
        "encoder", "head", "loss", "meter", "optim", "regularizer", "schedule", "sharing", "weighting",
    }  # fmt: skip
    copy = tmp_path / "polytask"
    home = torches.manifests()[torches.minor(_core.torch_version)].parent.relative_to(ROOT)
    (copy / home).mkdir(parents=True)
    for name in (home / "Cargo.toml", home / "Cargo.lock", "build.rs", "README.md"):
        shutil.copyfile(ROOT / name, copy / name)
    for folder in ("src", "benches"):
        shutil.copytree(ROOT / folder, copy / folder)
    shutil.copytree(ROOT / "python", copy / "python", ignore=shutil.ignore_patterns("_core*.so", "__pycache__"))
    for file in ADDED:
        add(copy, file)

    # Dependencies as they are built already: those of torch take minutes.
    for part in ("deps", "build", ".fingerprint"):
        built = ROOT / home / "target" / "release" / part
        shutil.copytree(built, copy / "target" / "release" / part, ignore=shutil.ignore_patterns("*polytask*"))
    # The components are the same however well they are optimised, and this takes a third of the time.
    quick = [f"profile.release.package.polytask.{key}" for key in ("opt-level=0", "codegen-units=16")]
    command = ["cargo", "build", "--release", "--lib", "--features", "python", *(f"--config={key}" for key in quick)]
    settings = {"PYO3_BUILD_EXTENSION_MODULE": "1", "CARGO_TARGET_DIR": str(copy / "target"), "CARGO_INCREMENTAL": "0"}
    environment = {**os.environ, "PYO3_PYTHON": sys.executable, "LIBTORCH_USE_PYTORCH": "1", **settings}
    built = subprocess.run(command, cwd=copy / home, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-5000:]
    library = "libpolytask.dylib" if sys.platform == "darwin" else "libpolytask.so"
    shutil.copyfile(copy / "target" / "release" / library, copy / "python" / "polytask" / "_core.abi3.so")

    environment["PYTHONPATH"] = str(copy / "python")
    ran = subprocess.run([sys.executable, "-c", TRAINS], env=environment, capture_output=True, text=True)
    assert ran.stdout == "trained\n", ran.stderr[-5000:]
