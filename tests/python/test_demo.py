"""The demo and the benchmarks run on a slice of Census-Income; timings are not judged here."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from polytask.datasets import census_income
from polytask.datasets.census import features

ROOT = Path(__file__).resolve().parents[2]


def run(*command: object) -> str:
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_data_are_the_official_split():
    train, test = census_income()
    assert (len(train), len(test)) == (199_523, 99_762)
    assert abs(train["income"].mean() - 0.0621) < 1e-4
    assert abs(train["never_married"].mean() - 0.4335) < 1e-4
    numeric, categorical = features(train)
    assert len(numeric) + len(categorical) == train.shape[1] - 2 == 39
    assert not {"marital_status", "weight", "income", "never_married"} & {*numeric, *categorical}


def test_the_demo_prints_and_draws(tmp_path):
    out = run("-m", "polytask.demo", "--rows", 6000, "--epochs", 2, "--out", tmp_path)
    table = {
        line[:27].strip(): line[27:].split() for line in out.splitlines() if line.startswith(("both", "one", "boo"))
    }
    assert table["boosted trees"] == ["0.9550", "0.9949"]
    for way in ("both tasks, one network", "one network a task"):
        assert all(0.6 < float(score) < 1 for score in table[way])
    assert {file.name for file in tmp_path.iterdir()} == {"history.png", "roc.png", "model.safetensors"}


def test_the_census_benchmark_runs():
    out = run("benches/census.py", "--rows", 4000, "--seeds", 1, "--epochs", 1)
    assert "| both tasks, one network: mean of 1 seeds (min-max) |" in out


def test_the_speed_benchmark_prints_a_row():
    out = run("benches/speed.py", "--quick", "--only", "128 -> 256 -> 8")
    row = next(line for line in out.splitlines() if line.startswith("| 128"))
    cells = [cell.strip() for cell in row.split("|")[3:6]]
    ours, floor, eager = (float(cell.split()[0]) for cell in cells)
    assert np.isfinite([ours, floor, eager]).all()
    assert min(ours, floor, eager) > 0


def test_the_benchmark_of_modules_prints_a_row():
    out = run("benches/module.py", "--quick")
    row = next(line for line in out.splitlines() if line.startswith("| one layer of 20"))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert all(float(cells[k]) > 0 for k in (0, 1, 2, 5))
    assert float(cells[-1]) < 1e-5


def test_the_benchmark_of_positions_prints_a_row():
    out = run("benches/positions.py", "--quick")
    row = next(line for line in out.splitlines() if line.startswith("| 16 sentences"))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert all(float(cells[k]) > 0 for k in (0, 1, 2, 4))
    assert float(cells[-1]) < 1e-5


def test_the_benchmark_of_a_card_tries_its_ways_on_the_processor():
    out = run("benches/card.py", "--device", "cpu", "--quick")
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in out.splitlines() if line.startswith("| ")}
    module, network = rows["MLP 64 -> 512 -> 512, 1,024 rows"], rows["64 -> 512 -> 512, 256 rows"]
    assert all(float(cell.replace(",", "")) > 0 for cell in (module[0], module[1], network[0], network[1]))
    assert float(module[-3]) < 1e-5
    assert float(network[-1]) < 1e-5
    assert "TorchJD" in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_benchmark_of_a_card_says_that_there_is_none():
    assert run("benches/card.py") == "There is no CUDA device here: nothing is measured.\n"
