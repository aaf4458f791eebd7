"""Weightings give what their papers say: against TorchJD 0.18 where it is exact, and against first principles."""

import itertools

import gradients
import numpy as np
import polytask as pt
import pytest
import torch
import torchjd.aggregation as torchjd
from gradients import KINDS, TASKS, distance, jacobian
from torchjd import scalarization
from torchjd.linalg import QuadprogProjector

pytestmark = pytest.mark.usefixtures("own_seed")

TOLERANCE = 1e-5
GOLDEN = np.array([[-4.0, 1, 1], [6, 1, 1]])

#: At TorchJD's `reg_eps=1e-4` the result is up to 92 % wrong; at 1e-8 it is 4 % wrong on 40 nearly opposed rows.
EXACT = QuadprogProjector(norm_eps=0.0, reg_eps=1e-12)
PUBLISHED = {
    "UPGrad": ({}, lambda tasks: torchjd.UPGrad(projector=EXACT)),
    "DualProj": ({}, lambda tasks: torchjd.DualProj(projector=EXACT)),
    "MGDA": ({}, lambda tasks: torchjd.MGDA(epsilon=1e-7, max_iters=10_000)),
    "AlignedMTL": ({}, lambda tasks: torchjd.AlignedMTL()),
    "CAGrad": ({"c": 0.5, "rescale": 0}, lambda tasks: torchjd.CAGrad(c=0.5, norm_eps=1e-12)),
    "ConFIG": ({}, lambda tasks: torchjd.ConFIG()),
    "FairGrad": ({"alpha": 1.0}, lambda tasks: torchjd.FairGrad(alpha=1.0)),
    "IMTLG": ({}, lambda tasks: torchjd.IMTLG()),
    "TrimmedMean": ({"trim": 1}, lambda tasks: torchjd.TrimmedMean(trim_number=1)),
    "PCGrad": ({}, lambda tasks: torchjd.PCGrad()),
    "GradVac": ({}, lambda tasks: torchjd.GradVac(beta=0.5)),
}

#: How exact TorchJD's solver is (cvxpy with its own tolerances).
LOOSER = {"CAGrad": 5e-4}

#: Where TorchJD is not exact, or has no answer; first principles below cover these.
INEXACT = {
    "AlignedMTL": lambda kind, tasks: "nearly" in kind,  # eigenvalues count as zero by the precision of float64
    "MGDA": lambda kind, tasks: tasks > 2,  # 10,000 Frank-Wolfe steps are up to 5 % too long
    "CAGrad": lambda kind, tasks: kind == "nearly_opposed",  # up to 3e-3
    "ConFIG": lambda kind, tasks: kind == "stationary" and tasks == 2,  # normalises what rounding left of zero
    "FairGrad": lambda kind, tasks: kind == "stationary",  # its equation has no solution
    "IMTLG": lambda kind, tasks: kind == "stationary",  # its weights would have to be divided by a sum of zero
    "PCGrad": lambda kind, tasks: tasks > 2,  # the order of the others is random
    "GradVac": lambda kind, tasks: tasks > 2,
    "TrimmedMean": lambda kind, tasks: tasks < 3,
}


def make(name, **arguments):
    return getattr(pt.weighting, name)(**arguments)


def cases(names):
    return [
        pytest.param(name, kind, tasks, id=f"{name}-{kind}-{tasks}")
        for name, kind, tasks in itertools.product(names, KINDS, TASKS)
        if name not in INEXACT or not INEXACT[name](kind, tasks)
    ]


@pytest.mark.parametrize(("name", "kind", "tasks"), cases(PUBLISHED))
def test_agrees_with_torchjd(name, kind, tasks):
    arguments, published = PUBLISHED[name]
    for seed in (0, 1):
        rows = jacobian(kind, tasks, seed)
        expected = published(tasks)(torch.from_numpy(rows)).numpy()
        assert distance(make(name, **arguments).aggregate(rows), expected, rows) < LOOSER.get(name, TOLERANCE)


FIRST_PRINCIPLES = {
    "UPGrad": ({}, gradients.upgrad),
    "DualProj": ({}, gradients.dualproj),
    "MGDA": ({}, gradients.minimum_norm),
    "CAGrad": ({"c": 0.5, "rescale": 0}, gradients.cagrad),
    "AlignedMTL": ({}, gradients.aligned_mtl),
    "IMTLG": ({}, gradients.imtl_g),
    "ConFIG": ({}, gradients.config),
}


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FIRST_PRINCIPLES)
def test_is_the_solution_of_its_problem(name, kind, tasks):
    if name == "IMTLG" and kind == "stationary":
        # The formula would divide by a sum of zero.
        assert np.isfinite(make(name).aggregate(jacobian(kind, tasks))).all()
        return
    arguments, solution = FIRST_PRINCIPLES[name]
    for seed in range(3):
        rows = jacobian(kind, tasks, seed)
        expected = solution(rows)
        assert distance(make(name, **arguments).aggregate(rows), expected, rows) < TOLERANCE
        assert distance(rows.T @ make(name, **arguments).weights(rows @ rows.T), expected, rows) < TOLERANCE


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_mgda_meets_the_conditions_of_the_shortest_convex_combination(kind, tasks):
    rows = jacobian(kind, tasks)
    weights = np.asarray(make("MGDA").weights(rows @ rows.T))
    shortest = rows.T @ weights
    assert weights.min() >= -1e-12
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    # No vertex of the hull lies before the plane through the point: the gap bounds the error of the squared length.
    assert (rows @ shortest - shortest @ shortest).min() > -1e-9 * (rows**2).sum(axis=1).max()


@pytest.mark.parametrize("c", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_cagrad_maximises_the_smallest_progress_in_its_ball(kind, tasks, c):
    rows = jacobian(kind, tasks)
    mean = rows.mean(axis=0)
    radius = c * np.linalg.norm(mean)
    added = np.asarray(make("CAGrad", c=c, rescale=0).weights(rows @ rows.T)) - 1 / tasks
    direction = mean + rows.T @ added
    size = (rows**2).sum(axis=1).max()
    assert np.linalg.norm(direction - mean) <= radius * (1 + 1e-6) + 1e-9 * np.sqrt(size)
    assert added.min() >= -1e-9
    if added.sum() > 1e-9:
        # Any convex combination of rows bounds the smallest progress from above; this one meets it.
        combined = rows.T @ (added / added.sum())
        bound = combined @ mean + radius * np.linalg.norm(combined)
        assert (rows @ direction).min() > bound - 1e-6 * size


def solvable(kind):
    """Kinds whose hull does not hold zero: elsewhere the bargaining problems have no solution."""
    return [kind for kind in KINDS if kind != "stationary"]


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("kind", solvable(KINDS))
def test_fairgrad_solves_its_equation(kind, tasks, alpha):
    rows = jacobian(kind, tasks)
    weights = np.asarray(make("FairGrad", alpha=alpha).weights(rows @ rows.T))
    assert weights.min() > 0
    np.testing.assert_allclose(rows @ (rows.T @ weights), weights ** (-1 / alpha), rtol=1e-6)


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("kind", solvable(KINDS))
def test_nash_mtl_is_the_bargaining_solution(kind, tasks):
    # TorchJD leaves products between 1 and 30 times their mean on 16 and 40 rows.
    rows = jacobian(kind, tasks)
    weights = np.asarray(make("NashMTL", max_norm=0).weights(rows @ rows.T))
    gains = (rows @ (rows.T @ weights)) * weights
    assert weights.min() > 0
    # As in the authors' code the Gramian is divided by its norm first.
    np.testing.assert_allclose(gains, np.linalg.norm(rows @ rows.T), rtol=1e-6)


def test_nash_mtl_is_cut_to_its_largest_norm():
    free = make("NashMTL", max_norm=0).aggregate(GOLDEN)
    cut = make("NashMTL", max_norm=0.1).aggregate(GOLDEN)
    np.testing.assert_allclose(np.linalg.norm(cut), 0.1, rtol=1e-6)
    np.testing.assert_allclose(cut / 0.1, free / np.linalg.norm(free), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("AlignedMTL", {}, [0.2133, 0.9673, 0.9673]),
        ("CAGrad", {"c": 0.5, "rescale": 0}, [0.1835, 1.2041, 1.2041]),
        ("ConFIG", {}, [0.1588, 2.0706, 2.0706]),
        ("DualProj", {}, [5 / 9, 10 / 9, 10 / 9]),
        ("FairGrad", {"alpha": 1.0}, [0.0766, 0.9985, 0.9985]),
        ("GradVac", {}, [0.5848, 3.8012, 3.8012]),
        ("IMTLG", {}, [0.0767, 1, 1]),
        ("MGDA", {}, [0, 1, 1]),
        ("PCGrad", {}, [0.5848, 3.8012, 3.8012]),
        ("UPGrad", {}, [0.2924, 1.9006, 1.9006]),
        ("Equal", {}, [2, 2, 2]),
    ],
)
@pytest.mark.parametrize("array", [np.asarray, torch.from_numpy])
def test_directions_of_the_papers_example(name, arguments, expected, array):
    found = make(name, **arguments).aggregate(array(GOLDEN))
    assert isinstance(found, type(array(GOLDEN)))
    np.testing.assert_allclose(np.asarray(found), expected, atol=6e-5)


def test_nash_mtl_on_the_papers_example():
    # TorchJD has .0542 .7061 .7061, shortened to norm 1; the same direction to its solver's precision.
    found = make("NashMTL").aggregate(GOLDEN)
    np.testing.assert_allclose(found / np.linalg.norm(found), np.array([0.0542, 0.7061, 0.7061]), atol=5e-4)


@pytest.mark.parametrize(("mode", "scale"), [("min", np.min), ("rmse", lambda s: np.sqrt(np.mean(s**2)))])
def test_aligned_mtl_scales(mode, scale):
    for kind in ("random", "low_rank"):
        rows = jacobian(kind, 5)
        found = make("AlignedMTL", scale_mode=mode).aggregate(rows)
        assert distance(found, gradients.aligned_mtl(rows, scale), rows) < TOLERANCE
        published = torchjd.AlignedMTL(scale_mode=mode)(torch.from_numpy(rows)).numpy()
        assert distance(found, published, rows) < TOLERANCE


@pytest.mark.parametrize("name", ["PCGrad", "GradVac"])
@pytest.mark.parametrize("kind", ["random", "conflicting", "low_rank"])
def test_pcgrad_follows_one_of_the_possible_orders(name, kind):
    rows = jacobian(kind, 3)
    possible = [
        gradients.pcgrad(rows, orders)
        for orders in itertools.product([(1, 2), (2, 1)], [(0, 2), (2, 0)], [(0, 1), (1, 0)])
    ]
    torch.manual_seed(0)
    published = {"PCGrad": torchjd.PCGrad(), "GradVac": torchjd.GradVac(beta=0.0)}[name](torch.from_numpy(rows)).numpy()
    assert min(distance(published, each, rows) for each in possible) < TOLERANCE
    for seed in range(10):
        found = make(name).aggregate(rows, seed=seed)
        assert min(distance(found, each, rows) for each in possible) < TOLERANCE


@pytest.mark.parametrize("name", ["PCGrad", "GradVac"])
def test_pairs_that_meet_nobody_else_need_no_order(name):
    rows = np.zeros((40, 80))
    for k in range(20):
        rows[2 * k : 2 * k + 2, 4 * k : 4 * k + 4] = jacobian("conflicting", 2, seed=k)[:, :4]
    expected = gradients.pcgrad(rows, [[k ^ 1] for k in range(40)])
    published = getattr(torchjd, name)()(torch.from_numpy(rows)).numpy()
    assert distance(published, expected, rows) < TOLERANCE
    assert distance(make(name).aggregate(rows), expected, rows) < TOLERANCE


def test_gradvac_remembers_as_published():
    ours, published = make("GradVac", beta=0.5), torchjd.GradVac(beta=0.5)
    for seed in range(8):
        rows = jacobian("conflicting" if seed % 3 else "random", 2, seed)
        expected = published(torch.from_numpy(rows)).numpy()
        assert distance(ours.aggregate(rows), expected, rows) < TOLERANCE


def test_graddrop_keeps_one_sign_as_often_as_it_weighs():
    rng = np.random.default_rng(0)
    column = np.array([3.0, -1.0, 0.5, -0.5, 1.0])
    rows = np.tile(column[:, None], 40_000) * rng.permutation([1.0, -1.0] * 20_000)
    up, down = np.maximum(rows, 0).sum(axis=0), np.minimum(rows, 0).sum(axis=0)
    torch.manual_seed(0)
    for found in (make("GradDrop").aggregate(rows), torchjd.GradDrop()(torch.from_numpy(rows)).numpy()):
        kept_up = np.isclose(found, up)
        assert (kept_up | np.isclose(found, down)).all()
        share = up / (up - down)
        # 40,000 draws: five standard deviations.
        assert abs(kept_up.mean() - share.mean()) < 5 * np.sqrt((share * (1 - share)).mean() / 40_000)
        for sign in (1.0, -1.0):
            some = rows[0] == sign * 3
            assert abs(kept_up[some].mean() - share[some][0]) < 5 * np.sqrt(0.25 / some.sum())


def test_graddrop_leaks_everything_when_told():
    rows = jacobian("conflicting", 5)
    np.testing.assert_allclose(make("GradDrop", leak=1.0).aggregate(rows), rows.sum(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pcd_as_published(kind):
    for tasks in (2, 3, 5):
        ours, published = make("PCD"), torchjd.PCD(eps=0.0)
        for seed in range(4):
            rows = jacobian(kind, tasks, seed)
            expected = published(torch.from_numpy(rows)).numpy()
            assert distance(ours.aggregate(rows), expected, rows) < TOLERANCE


def test_excess_mtl_as_published():
    # TorchJD's weights add up to 1; the authors' and ours to the number of tasks.
    ours, published = make("ExcessMTL", step=0.01), torchjd.ExcessMTL(robust_step_size=0.01, n_warmup_steps=1)
    for seed in range(5):
        rows = jacobian("random", 4, seed)
        expected = 4 * published(torch.from_numpy(rows)).numpy()
        assert distance(ours.aggregate(rows), expected, rows) < TOLERANCE


@pytest.mark.parametrize("selected", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_krum_selects_the_rows_with_the_nearest_neighbours(kind, selected):
    # The paper adds up squared distances; TorchJD adds up distances, and can select other rows.
    for tasks in (4, 5, 8, 16, 40):
        rows = jacobian(kind, tasks)
        expected = gradients.krum(rows, byzantine=1, selected=selected)
        np.testing.assert_allclose(make("Krum", byzantine=1, selected=selected).weights(rows @ rows.T), expected)


def test_cr_mogm_smooths_as_published():
    ours = make("CRMOGM", inner="mgda", alpha=0.9)
    published = torchjd.CRMOGMWeighting(torchjd.MGDAWeighting(epsilon=1e-9, max_iters=10_000), alpha=0.9)
    for seed in range(5):
        rows = jacobian("conflicting", 2, seed)
        expected = published(torch.from_numpy(rows @ rows.T)).numpy()
        np.testing.assert_allclose(ours.weights(rows @ rows.T), expected, rtol=TOLERANCE, atol=1e-9)


# --- weightings from losses: their weights are the gradient of what TorchJD calls a scalarization ---------------------


def gradient(scalar, losses):
    losses = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
    scalar(losses).backward()
    return losses.grad.numpy()


LOSSES = np.array([[0.5, 2.0, 1.25], [0.1, 3.0, 1.0], [4.0, 0.25, 0.5], [1.5, 1.0, 0.75]])
PREFERENCE = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
SCALARIZATIONS = {
    "Equal": ({}, lambda: scalarization.Sum()),
    "Mean": ({}, lambda: scalarization.Mean()),
    "GLS": ({}, lambda: scalarization.GeometricMean()),
    "COSMOS": (
        {"preference": PREFERENCE.tolist(), "similarity": 2.0},
        lambda: scalarization.COSMOS(lambda_=2.0, weights=PREFERENCE),
    ),
    "PBI": (
        {"preference": PREFERENCE.tolist(), "theta": 2.0},
        lambda: scalarization.PBI(theta=2.0, weights=PREFERENCE),
    ),
}


@pytest.mark.parametrize("name", SCALARIZATIONS)
def test_weights_are_the_scalarizations_gradient(name):
    arguments, published = SCALARIZATIONS[name]
    for losses in LOSSES:
        found = make(name, **arguments).weights(losses)
        np.testing.assert_allclose(found, gradient(published(), losses), rtol=TOLERANCE)


def test_dwa_weighs_by_the_last_two_epochs():
    ours, published = make("DWA"), scalarization.DWA()
    for epoch in range(5):
        for losses in LOSSES[: 1 + epoch % 3] / (1 + epoch):
            np.testing.assert_allclose(ours.weights(losses, epoch=epoch), gradient(published, losses), rtol=1e-9)
        published.step()


def test_famo_learns_as_published():
    ours, published = make("FAMO"), scalarization.FAMO(3).double()
    for before, after in zip(LOSSES, np.roll(LOSSES, 1, axis=0), strict=True):
        np.testing.assert_allclose(ours.weights(before), gradient(published, before), rtol=TOLERANCE)
        ours.look_back(before, after)
        published.update(torch.from_numpy(after))


def test_imtl_l_learns_as_published():
    ours, published = make("IMTLL", lr=0.1), scalarization.IMTLL(3).double()
    optimizer = torch.optim.Adam(published.parameters(), lr=0.1)
    for losses in np.tile(LOSSES, (3, 1)):
        optimizer.zero_grad()
        np.testing.assert_allclose(ours.weights(losses), gradient(published, losses), rtol=TOLERANCE)
        optimizer.step()
