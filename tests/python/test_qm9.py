"""The benchmark of QM9: what it reads of molecules, that it runs, and how it counts ranks."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches"))
import qm9
import qm9_molecules
from qm9_molecules import ELEMENTS, FREE, TARGETS

#: Water as in QM9, its angle 103.7 degrees: oxygen, and two hydrogens 0.9621 from it.
WATER = [[-0.0343604951, 0.9775395708, 0.0076015923], [0.0647664923, 0.0205721989, 0.0015346341],
         [0.8717903737, 1.3007924048, 0.0006931336]]  # fmt: skip


def molecule(elements, places):
    numbers, padded = np.full((1, 29), 5), np.zeros((1, 29, 3))
    numbers[0, : len(elements)] = [ELEMENTS.index(each) for each in elements]
    padded[0, : len(elements)] = places
    return numbers, padded


def package(folder, rows=60):
    """Strings of atoms in the package's files, with properties that follow from how many there are."""
    rng = np.random.default_rng(0)
    columns = [column for column, _ in TARGETS.values()]
    (folder / "data").mkdir(parents=True)
    for part in (1, 2, 3):
        with (folder / "data" / f"qm9_part{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["SMILES", "Elements", "XYZ_Ang", *columns])
            for _ in range(rows // 3):
                elements = rng.choice(list(ELEMENTS), rng.integers(3, 10))
                places = np.c_[1.2 * np.arange(len(elements)), rng.normal(0, 0.2, (len(elements), 2))]
                xyz = "[" + ",".join(f"[{x:.3f},0.,{z:.3f}]" for x, _, z in places) + "]"
                values = len(elements) + rng.normal(size=len(columns))
                writer.writerow(["C=O", str([*map(str, elements)]), xyz, *values])


def test_features_of_water_by_hand():
    found = qm9_molecules.features(*molecule("OHH", WATER))[0]
    assert found[:5].tolist() == [2, 0, 0, 1, 0]
    bond, across = 0.9621068 / 0.52917721, 1.5133579 / 0.52917721
    matrix = [[0.5 * 8**2.4, 8 / bond, 8 / bond], [8 / bond, 0.5, 1 / across], [8 / bond, 1 / across, 0.5]]
    values = sorted(np.linalg.eigvalsh(matrix), key=abs, reverse=True)
    assert found[5:8] == pytest.approx(values, rel=1e-5)
    assert not found[8:34].any()
    pairs = found[34 : 34 + 15 * 19].reshape(15, 19)
    assert pairs.sum(1).tolist() == [1, 0, 0, 2, *[0] * 11], "one distance between hydrogens, two to oxygen"
    assert pairs[0, 5:7] == pytest.approx([(1.55 - 1.5133579) / 0.1, (1.5133579 - 1.45) / 0.1], abs=1e-5)
    assert pairs[3, :2] == pytest.approx([2 * (1.05 - 0.9621068) / 0.1, 2 * (0.9621068 - 0.95) / 0.1], abs=1e-3)
    degrees, triples, angles = np.split(found[34 + 15 * 19 :], [20, 65])
    assert degrees.reshape(5, 4).tolist() == [[2, 0, 0, 0], [0] * 4, [0] * 4, [0, 1, 0, 0], [0] * 4]
    assert triples.reshape(15, 3).tolist() == [[0, 0, 1], *[[0] * 3] * 14], "oxygen between two hydrogens"
    cosine = 1 - 2 * (1.5133579 / 2 / 0.9621068) ** 2
    assert angles[:3] == pytest.approx([0, 0, cosine], abs=1e-5)


def test_features_know_no_order_and_no_direction():
    elements, rng = "COHHNH", np.random.default_rng(1)
    places = rng.normal(size=(6, 3)) * 1.5
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(6)
    moved = molecule([elements[place] for place in order], places[order] @ turn + 3.0)
    assert qm9_molecules.features(*moved) == pytest.approx(
        qm9_molecules.features(*molecule(elements, places)), abs=1e-6
    )


def test_energies_are_without_those_of_free_atoms(tmp_path):
    package(tmp_path, 3)
    with (tmp_path / "data" / "qm9_part2.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    *_, smiles, targets = qm9_molecules.read(tmp_path)
    elements = re.findall("[A-Z]", row["Elements"])
    free = sum(FREE["G"][ELEMENTS.index(each)] for each in elements)
    wanted = 27211.4 * (float(row["GibbsFreeEnergy_298K_au"]) - free)
    assert targets[1, list(TARGETS).index("G")] == pytest.approx(wanted)
    assert targets[1, list(TARGETS).index("mu")] == float(row["Dipole_debye"])
    assert qm9_molecules.strings(smiles)[1].tolist() == [1, *[0] * 9]


def test_ranks():
    values = np.array([[1.0, 2.0, 2.0, 4.0], [3.0, 1.0, 2.0, 0.5]])
    assert qm9.ranks(values) == pytest.approx(scipy.stats.rankdata(values, axis=1).mean(0))
    assert qm9.spearman(*values) == pytest.approx(scipy.stats.spearmanr(*values).statistic)


def test_the_benchmark_runs(tmp_path):
    package(tmp_path / "package", 150)
    asked = [tmp_path / "package", tmp_path / "results", "--seeds", "2", "--epochs", "1"]
    done = subprocess.run([sys.executable, qm9.__file__, *asked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[1:12]] == [f"| {name}, {qm9.UNITS[name]}" for name in TARGETS]
    assert all(re.fullmatch(r"\d+(\.\d+)? ± \d+(\.\d+)?( \|)?", cell) for row in rows[1:12] for cell in row[1:])
    assert [row[0] for row in rows[-2:]] == ["| as published", "| as run again"]


def test_tables_of_others_give_their_delta_m():
    for known, theirs in qm9.TABLES.items():
        single = np.array(theirs["single-task"][0])
        for errors, delta in theirs.values():
            # Errors of the published table have two digits, and some of them one.
            assert 100 * np.mean(np.array(errors) / single - 1) == pytest.approx(
                delta, abs=4 if known == "as published" else 0.6
            )
