"""QM9 as numbers of fixed width: eleven properties, and features of its molecules by NumPy alone.

Molecules are those of the package `qm9pack` (Ramakrishnan et al., Quantum chemistry structures and properties of 134
kilo molecules, Scientific Data, 2014, without the 3,054 that failed their consistency check), which is read and not
imported. Features follow from SMILES and positions; the package's charges, frequencies and rotational constants are
results of the same quantum chemistry as the targets, or nearly so, and are left out. Columns:

- counts of the five elements;
- the eigenvalues of the Coulomb matrix (Rupp et al., Physical Review Letters, 2012), largest first by absolute value;
- for each pair of elements a histogram of distances, each of which is shared between the two nearest knots, as a bag of
  bonds (Hansen et al., Journal of Physical Chemistry Letters, 2015) of fixed width;
- atoms by element and number of neighbours, pairs of neighbours by elements and by the element between them, and the
  mean cosine at each element, where neighbours are atoms closer than 1.3 times the sum of their covalent radii;
- extent: charges times squared distances from their centre, in all and along the three main axes; the distances
  between the centres of the elements; and the length of the dipole of charges that go with electronegativity from
  each atom to its neighbours;
- counts of SMILES: double and triple bonds, branches, ring closures, aromatic atoms by element, formal charges, centres
  of chirality.
"""

import csv
import re
from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement
from pathlib import Path

import numpy as np

ELEMENTS = "HCNOF"
ATOMS = 29
CHARGE = np.array([1, 6, 7, 8, 9, 0], np.float64)
RADIUS = np.array([0.31, 0.76, 0.71, 0.66, 0.57, 0.0])  # of covalent bonds, angstrom (Cordero et al., 2008)
NEGATIVITY = np.array([2.20, 2.55, 3.04, 3.44, 3.98, 0.0])  # Pauling's
BOHR = 0.52917721  # angstrom
HARTREE = 27.2114  # eV
#: Of distances in angstrom: close where bonds are, wide beyond.
KNOTS = np.array(
    [0.95, 1.05, 1.15, 1.25, 1.35, 1.45, 1.55, 1.75, 2.0, 2.2, 2.4, 2.6, 2.8, 3.1, 3.5, 4.0, 4.75, 6.0, 8.0]
)
#: Energies of free atoms in Hartree, as published with the data.
FREE = {
    "U0": [-0.500273, -37.846772, -54.583861, -75.064579, -99.718730],
    "U": [-0.498857, -37.845355, -54.582445, -75.063163, -99.717314],
    "H": [-0.497912, -37.844411, -54.581501, -75.062219, -99.716370],
    "G": [-0.510927, -37.861317, -54.598897, -75.079532, -99.733544],
}
#: The targets: where they stand, and by what they are multiplied; energies in meV.
TARGETS = {
    "mu": ("Dipole_debye", 1.0),
    "alpha": ("Polarizability_bohr3", 1.0),
    "homo": ("HOMO_au", 1e3 * HARTREE),
    "lumo": ("LUMO_au", 1e3 * HARTREE),
    "r2": ("R2_bohr2", 1.0),
    "zpve": ("ZPVE_au", 1e3 * HARTREE),
    "U0": ("InternalEnergy_0K_au", 1e3 * HARTREE),
    "U": ("InternalEnergy_298K_au", 1e3 * HARTREE),
    "H": ("Enthalphy_298K_au", 1e3 * HARTREE),
    "G": ("GibbsFreeEnergy_298K_au", 1e3 * HARTREE),
    "Cv": ("Heatcapacity_Cv_cal_mol_K", 1.0),
}
SMILES = ["=", "#", r"\(", r"\d", "c", "n", "o", r"\+", "-", "@+"]


def molecules(package: Path, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features `[molecules, columns]` float32 and targets `[molecules, 11]` float64, kept in `cache`.

    Raises:
        FileNotFoundError: the package is not there.
    """
    files = [cache / "features.npy", cache / "targets.npy"]
    if not all(file.exists() for file in files):
        cache.mkdir(parents=True, exist_ok=True)
        numbers, places, smiles, targets = read(package)
        parts = np.array_split(np.arange(len(numbers)), max(1, len(numbers) // 4096))
        found = [features(numbers[part], places[part]) for part in parts]
        columns = np.concatenate([np.concatenate(found), strings(smiles)], 1).astype(np.float32)
        for file, array in zip(files, (columns, targets), strict=True):
            np.save(file.with_suffix(".new.npy"), array)
            file.with_suffix(".new.npy").replace(file)
    return np.load(files[0]), np.load(files[1])


def read(package: Path) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Elements `[molecules, 29]` by their place in `ELEMENTS`, 5 where there is no atom, positions `[molecules, 29, 3]`
    in angstrom, SMILES and targets.
    """
    rows = list(_rows(package))
    elements = ["".join(re.findall("[A-Z]", row["Elements"])) for row in rows]
    sizes = np.array([len(each) for each in elements])
    there = np.arange(ATOMS) < sizes[:, None]
    numbers = np.full(there.shape, len(ELEMENTS))
    numbers[there] = [ELEMENTS.index(each) for each in "".join(elements)]
    places = np.zeros((*there.shape, 3))
    flat = ",".join(row["XYZ_Ang"] for row in rows).replace("[", "").replace("]", "")
    places[there] = np.array(flat.split(","), np.float64).reshape(-1, 3)
    targets = np.array([[float(row[column]) * factor for column, factor in TARGETS.values()] for row in rows])
    counts = counted(numbers)
    for name, energies in FREE.items():
        place = list(TARGETS).index(name)
        targets[:, place] -= counts @ np.array(energies) * TARGETS[name][1]
    return numbers, places, [row["SMILES"] for row in rows], targets


def _rows(package: Path) -> Iterator[dict[str, str]]:
    for part in (1, 2, 3):
        with (package / "data" / f"qm9_part{part}.csv").open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


def counted(numbers: np.ndarray) -> np.ndarray:
    """Atoms of each element, `[molecules, 5]`."""
    return np.stack([(numbers == place).sum(1) for place in range(len(ELEMENTS))], 1).astype(np.float64)


def strings(smiles: list[str]) -> np.ndarray:
    """Counts of what stands in SMILES, `[molecules, 10]`."""
    return np.array([[len(re.findall(pattern, each)) for pattern in SMILES] for each in smiles], np.float64)


def features(numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Columns that follow from elements `[molecules, 29]` and positions `[molecules, 29, 3]`."""
    there = numbers < len(ELEMENTS)
    both = there[:, :, None] & there[:, None, :] & ~np.eye(ATOMS, dtype=bool)
    apart = np.sqrt(((places[:, :, None] - places[:, None]) ** 2).sum(-1))
    reach = RADIUS[numbers][:, :, None] + RADIUS[numbers][:, None, :]
    bonded = both & (apart < 1.3 * reach)
    return np.concatenate(
        [
            counted(numbers),
            _coulomb(numbers, apart, both),
            _distances(numbers, apart, both),
            _neighbours(numbers, places, apart, bonded),
            _extent(numbers, places, bonded),
        ],
        1,
    )


def _coulomb(numbers: np.ndarray, apart: np.ndarray, both: np.ndarray) -> np.ndarray:
    charge = CHARGE[numbers]
    matrix = np.where(both, charge[:, :, None] * charge[:, None, :] / np.where(both, apart / BOHR, 1.0), 0.0)
    matrix[:, np.arange(ATOMS), np.arange(ATOMS)] = 0.5 * charge**2.4
    values = np.linalg.eigvalsh(matrix)
    return np.take_along_axis(values, np.argsort(-np.abs(values), 1), 1)


def _distances(numbers: np.ndarray, apart: np.ndarray, both: np.ndarray) -> np.ndarray:
    pairs = np.zeros((6, 6), int)
    for place, (one, other) in enumerate(combinations_with_replacement(range(5), 2)):
        pairs[one, other] = pairs[other, one] = place
    molecule, i, j = np.nonzero(np.triu(both))
    kind = pairs[numbers[molecule, i], numbers[molecule, j]]
    distance = np.clip(apart[molecule, i, j], KNOTS[0], KNOTS[-1])
    left = np.clip(np.searchsorted(KNOTS, distance, "right") - 1, 0, len(KNOTS) - 2)
    part = (distance - KNOTS[left]) / (KNOTS[left + 1] - KNOTS[left])
    cell = (molecule * 15 + kind) * len(KNOTS) + left
    size = len(numbers) * 15 * len(KNOTS)
    found = np.bincount(cell, 1 - part, size) + np.bincount(cell + 1, part, size)
    return found.reshape(len(numbers), -1)


def _neighbours(numbers: np.ndarray, places: np.ndarray, apart: np.ndarray, bonded: np.ndarray) -> np.ndarray:
    hot = (numbers[:, :, None] == np.arange(5)).astype(np.float64)
    degree = np.minimum(bonded.sum(2), 4)
    by_degree = np.einsum("mae,mad->med", hot, (degree[:, :, None] == np.arange(1, 5)).astype(np.float64))
    around = bonded.astype(np.float64) @ hot
    triples = []
    for one, other in combinations_with_replacement(range(5), 2):
        product = around[:, :, one] * (around[:, :, other] - (one == other)) / (2 if one == other else 1)
        triples.append(np.einsum("ma,mae->me", product, hot[:, :, 1:4]))
    units = (places[:, None] - places[:, :, None]) / np.where(bonded, apart, 1.0)[..., None] * bonded[..., None]
    cosines = (units.sum(2) ** 2).sum(-1) - bonded.sum(2)
    pairs = np.maximum(np.einsum("ma,mae->me", bonded.sum(2) * (bonded.sum(2) - 1.0), hot[:, :, 1:4]), 1.0)
    angles = np.einsum("ma,mae->me", cosines, hot[:, :, 1:4]) / pairs
    return np.concatenate([by_degree.reshape(len(numbers), -1), *triples, angles], 1)


def _extent(numbers: np.ndarray, places: np.ndarray, bonded: np.ndarray) -> np.ndarray:
    charge = CHARGE[numbers]
    centre = (charge[..., None] * places).sum(1) / charge.sum(1)[:, None]
    moved = (places - centre[:, None]) * (numbers < 5)[..., None]
    axes = np.linalg.eigvalsh(np.einsum("ma,max,may->mxy", charge, moved, moved))
    counts = counted(numbers)
    hot = (numbers[:, :, None] == np.arange(5)).astype(np.float64)
    centres = np.einsum("mae,max->mex", hot, moved) / np.maximum(counts, 1)[..., None]
    between = [
        np.sqrt(((centres[:, one] - centres[:, other]) ** 2).sum(1)) * (counts[:, one] > 0) * (counts[:, other] > 0)
        for one, other in combinations(range(4), 2)
    ]
    given = np.where(bonded, NEGATIVITY[numbers][:, None, :] - NEGATIVITY[numbers][:, :, None], 0.0).sum(2)
    dipole = np.sqrt((np.einsum("ma,max->mx", given, moved) ** 2).sum(1))
    return np.concatenate([axes.sum(1, keepdims=True), axes, np.stack([*between, dipole], 1)], 1)
