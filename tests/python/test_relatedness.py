"""Measures of how tasks are related, and groups of tasks by them."""

import itertools

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import scipy.stats
import torch
from polytask.results.relatedness import UNITS
from polytask.studies.measures import affinity, representation
from polytask.studies.measures.gradients import compared
from polytask.studies.relatedness import _METHODS
from sklearn.metrics import adjusted_rand_score


def planted(seed=0, groups=2, tasks=2, rows=400):
    """Tasks in groups of related answers, and one that is noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 10)).astype(np.float32)
    targets = {}
    for group in range(groups):
        common = np.tanh(x @ rng.normal(size=10))
        for task in range(tasks):
            targets[f"g{group}_{task}"] = common + 0.2 * np.tanh(x @ rng.normal(size=10)) + 0.3 * rng.normal(size=rows)
    targets["noise"] = rng.normal(size=rows)
    return x, targets


def tasks_of(targets):
    return [pt.Task(name) for name in targets]


def measured(method, data, **more):
    settings = {"epochs": 15, "batch_size": 32, "seeds": 2, "lr": 3e-3, "progress": False, **more}
    model = pt.MultiTaskModel(10, tasks=tasks_of(data[1]), encoder=pt.encoder.MLP([16, 8]))
    return pt.relatedness(model, data, method, **settings)


def test_labels_are_correlated_as_in_scipy():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 500)
    b = np.where(rng.random(500) < 0.7, a, 1 - a)
    kind = np.where(rng.random(500) < 0.5, a, rng.integers(0, 3, 500))
    value = a + rng.normal(size=500)
    value[:100] = np.nan
    missing = b.copy()
    missing[50:90] = -1
    tasks = [
        pt.Task("a", classes=2),
        pt.Task("b", classes=2),
        pt.Task("kind", classes=3),
        pt.Task("value"),
    ]
    x = rng.normal(size=(500, 3))
    found = pt.relatedness(tasks, (x, a, missing, kind, value), "labels", validation=None)
    known = missing >= 0
    assert found.matrix[0, 1] == pytest.approx(np.corrcoef(a[known], b[known])[0, 1])
    assert found.matrix[0, 3] == pytest.approx(np.corrcoef(a[100:], value[100:])[0, 1])
    table = scipy.stats.contingency.crosstab(a, kind).count
    assert found.matrix[0, 2] == pytest.approx(scipy.stats.contingency.association(table, "cramer"))
    k, v = kind[100:], value[100:]
    between = sum((k == c).sum() * (v[k == c].mean() - v.mean()) ** 2 for c in range(3))
    assert found.matrix[2, 3] == pytest.approx(np.sqrt(between / ((v - v.mean()) ** 2).sum()))
    counts = [[500, 460, 500, 400], [460, 460, 460, 400], [500, 460, 500, 400], [400, 400, 400, 400]]
    assert found.parts["rows"].tolist() == counts
    assert np.allclose(found.matrix, found.matrix.T)


def test_labels_say_where_no_row_has_both():
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    y = x[:, 0]
    data = {"a": (x[:30], y[:30]), "b": (x[30:], y[30:])}
    model = pt.MultiTaskModel(4, tasks=[pt.Task("a"), pt.Task("b")])
    found = pt.relatedness(model, data, "labels", validation=None)
    assert np.isnan(found.matrix[0, 1])
    assert "No row has labels of both b and a" in found.about
    assert found.groups() == [["a"], ["b"]]


def test_affinity_is_the_papers_formula():
    x, targets = planted()
    model = pt.MultiTaskModel(10, tasks=tasks_of(targets), encoder=pt.encoder.MLP([16, 8]), seed=3)
    rows = model.reader.read((x[:64], {name: y[:64] for name, y in targets.items()}))
    before = model.state_dict()
    found = affinity.affinity(model._core, rows.core(), 0.05)
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())
    # The same, by plain PyTorch in double precision.
    weights = {name: torch.tensor(value, dtype=torch.float64) for name, value in before.items()}
    shared = [name for name in weights if name.startswith("encoder")]
    inputs = torch.tensor(x[:64], dtype=torch.float64)
    wanted = {name: torch.tensor(y[:64].astype(np.float32)).double() for name, y in targets.items()}

    def losses(given):
        h = inputs
        for layer in ("encoder.0", "encoder.1"):
            h = torch.relu(h @ given[f"{layer}.weight"].T + given[f"{layer}.bias"])
        heads = {name: (h @ given[f"heads.{name}.weight"].T + given[f"heads.{name}.bias"])[:, 0] for name in targets}
        return {name: ((heads[name] - wanted[name]) ** 2).mean() for name in targets}

    for name in shared:
        weights[name].requires_grad_()
    now = losses(weights)
    for i, task in enumerate(targets):
        gradients = torch.autograd.grad(now[task], [weights[name] for name in shared], retain_graph=True)
        stepped = weights | {name: weights[name] - 0.05 * g for name, g in zip(shared, gradients, strict=True)}
        then = losses(stepped)
        for j, other in enumerate(targets):
            assert found[j, i] == pytest.approx((1 - then[other] / now[other]).item(), abs=1e-5)


def test_transfer_is_what_networks_trained_one_by_one_give():
    x, targets = planted(1, rows=400)
    data, held_out = (
        (x[part], {name: y[part] for name, y in targets.items()}) for part in (slice(200), slice(200, 400))
    )
    names = list(data[1])
    found = measured("transfer", data, validation=held_out, epochs=4)
    assert found.directed
    for seed in range(2):
        best = {}
        for members in [(name,) for name in names] + list(itertools.combinations(names, 2)):
            tasks = [pt.Task(name, metrics=[]) for name in members]
            model = pt.MultiTaskModel(10, tasks=tasks, encoder=pt.encoder.MLP([16, 8]), seed=seed)
            trainer = pt.Trainer(model, lr=3e-3, seed=seed, threads=1)
            some = [(x, {name: targets[name] for name in members}) for x, targets in (data, held_out)]
            history = trainer.fit(some[0], validation=some[1], epochs=4, batch_size=32, progress=False)
            for name in members:
                best[name, members] = min(history[f"validation/{name}/loss"])
        alone = found.parts["alone"][seed]
        assert alone.tolist() == [best[name, (name,)] for name in names]
        if seed == 0:
            first = best
    i, j = 0, 1
    pair = (names[i], names[j])
    gains = [1 - each[names[i], pair] / each[names[i], pair[:1]] for each in (first, best)]
    assert found.matrix[i, j] == pytest.approx(np.mean(gains))
    assert found.errors[i, j] == pytest.approx(scipy.stats.sem(gains))
    noise = names.index("noise")
    assert found.gains[noise].tolist() == [0.0] * len(names), "noise is learned by no network"


@pytest.mark.parametrize("method", ["relation", "gradients", "affinity", "representation"])
def test_planted_groups_are_found(method):
    scores = []
    for draw in range(3):
        data = planted(draw, rows=600)
        found = measured(method, data, epochs=40)
        groups = found.groups(k=3)
        place = {name: at for at, group in enumerate(groups) for name in group}
        scores.append(adjusted_rand_score([0, 0, 1, 1, 2], [place[name] for name in data[1]]))
    assert np.mean(scores) > 0.6, scores


def test_noise_is_related_to_nothing():
    for draw in range(3):
        found = measured("relation", planted(draw, rows=600), epochs=40)
        assert ["noise"] in list(found.groups())
        assert found.matrix[-1, -1] < 0.5 < found.matrix[0, 0], "halves agree on what can be learned alone"


def test_cosines_magnitudes_and_conflicts():
    gramian = np.array([[4.0, -2.0, 0.0], [-2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    cosines, magnitudes, conflicts = compared(gramian)
    assert cosines[0, 1] == pytest.approx(-1)
    assert magnitudes[0, 1] == pytest.approx(2 * 2 * 1 / 5)
    assert conflicts[0, 1] == 1
    assert np.isnan(cosines[2]).all(), "a task without gradient is not known"


def test_cka_is_as_by_its_definition():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 6)), rng.normal(size=(50, 4))
    centre = np.eye(50) - 1 / 50
    k, m = centre @ a @ a.T @ centre, centre @ b @ b.T @ centre
    expected = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
    assert representation.linear_cka(a, b) == pytest.approx(expected)
    assert representation.linear_cka(a, 3 * a @ np.linalg.qr(rng.normal(size=(6, 6)))[0] + 1) == pytest.approx(1)
    values = rng.integers(0, 5, 40).astype(float)
    assert representation._ranks(values).tolist() == scipy.stats.rankdata(values).tolist()


def given(matrix, **more):
    return pt.Relatedness("transfer", "about", [f"t{i}" for i in range(len(matrix))], np.array(matrix), **more)


def test_groups_are_those_of_the_largest_gain():
    gains = [[0, 2, -1, 0], [1, 0, -1, -1], [0, -1, 0, 0.5], [0, 0, 0.5, 0]]
    found = given(gains).groups()
    assert found == [["t0", "t1"], ["t2", "t3"]]
    assert found.gain == pytest.approx(4.0)
    assert found.best
    assert found.gains == {"t0": 2.0, "t1": 1.0, "t2": 0.5, "t3": 0.5}
    assert len(given(gains).groups(k=1)) == 1
    assert max(map(len, given(gains).groups(max_size=1))) == 1
    model = pt.MultiTaskModel(3, tasks=[pt.Task(f"t{i}") for i in range(4)], sharing=pt.sharing.Branched(found))
    assert {"encoders.t0+t1.0.weight", "encoders.t2+t3.0.weight"} <= set(model.state_dict())
    assert "t0, t1" in repr(found)
    assert repr(found).splitlines()[-1] == f"gain of a task: {UNITS['transfer']}"
    assert repr(given(gains, floor=0.1).groups()).endswith(f"{UNITS['transfer']}, less `floor`")
    with pytest.raises(ValueError, match="`k` times `max_size` should be at least the number of tasks, 4"):
        given(gains).groups(k=2, max_size=1)


def test_gains_by_every_measure_have_a_unit():
    assert set(UNITS) == set(_METHODS)
    found = pt.Relatedness("labels", "about", ["a", "b"], np.eye(2)).groups()
    assert found.unit == UNITS["labels"]
    assert "labels" in found.unit


def test_many_tasks_have_groups_with_a_bound():
    rng = np.random.default_rng(0)
    for count in (20, 30):
        found = given(rng.normal(size=(count, count))).groups(k=5)
        assert len(found) <= 5
        assert sorted(itertools.chain(*found)) == sorted(f"t{i}" for i in range(count))
        assert found.bound >= found.gain > 0
        assert found.best == (count <= 20)


def test_what_is_unknown_gains_nothing():
    found = given([[np.nan, np.nan, 1], [np.nan, 0, np.nan], [1, np.nan, 0]])
    assert found.groups() == [["t0", "t2"], ["t1"]]


def test_it_is_drawn_and_shown():
    matrix = np.array([[1, 0.8, -0.2], [0.8, 1, np.nan], [-0.2, np.nan, 1]])
    found = pt.Relatedness("gradients", "about", ["a", "b", "c"], matrix, 0.1 * np.abs(matrix))
    above, below = found.plot()
    labels = [text.get_text() for text in below.get_xticklabels()]
    assert labels.index("a") - labels.index("b") in (-1, 1), "what is near stands side by side"
    assert len(above.lines) == 2, "a tree of three has two joints"
    assert "0.800 ± 0.080" in repr(found)
    assert "<table>" in found._repr_html_()
    assert found.to_frame().loc["a", "b"] == 0.8


def test_tasks_of_a_frame_need_no_model():
    x, targets = planted(rows=120)
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(10)]).assign(**targets)
    found = pt.relatedness(tasks_of(targets), frame, "gradients", epochs=1, seeds=1, progress=False)
    assert found.tasks == tuple(targets)
    assert np.isnan(found.errors).all(), "one seed has no error"


def test_a_trainer_lends_its_settings():
    x, targets = planted(rows=120)
    model = pt.MultiTaskModel(10, tasks=tasks_of(targets), sharing="mmoe")
    before = model.state_dict()
    trainer = pt.Trainer(model, optimizer=pt.optim.SGD(lr=0.1), weighting="upgrad", seed=5)
    found = pt.relatedness(trainer, (x, targets), "transfer", epochs=2, seeds=1, progress=False)
    assert not np.isnan(found.matrix[0, 1])
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())
    assert trainer.steps == 0
    with pytest.raises(TypeError, match="`lr` is the trainer's"):
        pt.relatedness(trainer, (x, targets), "transfer", lr=0.1)


def test_what_cannot_be_is_refused():
    x, targets = planted(rows=60)
    tasks = tasks_of(targets)
    with pytest.raises(ValueError, match=r"`method`: unknown 'transfers'.*transfer"):
        pt.relatedness(tasks, (x, targets), "transfers")
    with pytest.raises(ValueError, match="at least two tasks"):
        pt.relatedness(tasks[:1], (x, {"g0_0": targets["g0_0"]}), "transfer")
    with pytest.raises(ValueError, match="`validation` should be data"):
        pt.relatedness(tasks, (x, targets), "transfer", validation=None, progress=False)
    with pytest.raises(ValueError, match="`data` should be in memory"):
        pt.relatedness(pt.MultiTaskModel(10, tasks=tasks), [(x, targets)], "transfer", validation=(x, targets))
    with pytest.raises(TypeError, match=r"give a pt\.MultiTaskModel instead of tasks"):
        pt.relatedness(tasks, (x[:, None], targets), "transfer")
    with pytest.raises(TypeError, match=r"a pt\.MultiTaskModel, a pt\.Trainer or a list of pt\.Task"):
        pt.relatedness("income", (x, targets))


def test_ctrl_c_arrives(press_ctrl_c):
    x, targets = planted(rows=5000)
    press_ctrl_c(0.3)
    with pytest.raises(KeyboardInterrupt):
        pt.relatedness(tasks_of(targets), (x, targets), "transfer", epochs=10_000, progress=False)


@pytest.mark.parametrize(
    ("factor", "shown"),
    [
        (1.0, "0.421 ± 0.012"),
        (1e-3, "0.000421 ± 0.000012"),
        (0.0, "0.000 ± 0.000"),
        (1e-16, "0.000000000 ± 0.000000000"),
        (100.0, "42.100 ± 1.200"),
    ],
)
def test_small_entries_are_shown_in_digits_that_count(factor, shown):
    matrix = factor * np.array([[np.nan, 0.421], [-0.0062, np.nan]])
    errors = factor * np.array([[np.nan, 0.012], [0.011, np.nan]])
    found = pt.Relatedness("affinity", "", ["a", "b"], matrix, errors)
    assert shown in repr(found)
