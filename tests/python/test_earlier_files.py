"""Model files and checkpoints that earlier versions wrote open and predict what they predicted then."""

import sys
from pathlib import Path

import numpy as np
import polytask as pt
import pytest

FILES = Path(__file__).parents[1] / "files"
sys.path.append(str(FILES))
import make  # noqa: E402

CASES = make.cases()
VERSIONS = sorted(folder.name for folder in FILES.iterdir() if (folder / "predictions.npz").exists())


def compare(folder, key, model):
    """Predictions within 1e-6 of their norm: bits depend on processor and threads."""
    with np.load(folder / "predictions.npz") as stored:
        want = {name.removeprefix(f"{key}/"): stored[name] for name in stored.files if name.startswith(f"{key}/")}
    got = model.predict(CASES[key.rpartition(".")[0]][2])
    assert want.keys() == got.keys()
    for task, predicted in want.items():
        assert np.linalg.norm(got[task] - predicted) <= 1e-6 * np.linalg.norm(predicted), task


def test_every_case_has_its_files():
    folder = FILES / "0.1.0"
    for kind in ("model", "checkpoint"):
        assert {path.name.split(".")[0] for path in folder.glob(f"*.{kind}.safetensors")} == CASES.keys()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CASES)
def test_a_model_file_predicts_what_it_did(version, name):
    folder = FILES / version
    compare(folder, f"{name}.model", pt.MultiTaskModel.load(folder / f"{name}.model.safetensors"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_goes_on(version, name):
    folder, (build, settings, _) = FILES / version, CASES[name]
    trainer = make.trainer(build(), settings)
    trainer.restore(folder / f"{name}.checkpoint.safetensors")
    assert (trainer.steps, trainer.epochs, trainer.batches) == (5, 1, 5)
    compare(folder, f"{name}.checkpoint", trainer.model)
