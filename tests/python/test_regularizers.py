"""Regularizers in use: what they ask for, what the history says of them, and the relation they learn."""

import matplotlib.pyplot as pyplot
import numpy as np
import polytask as pt
import pytest
from conftest import make_model, same_bits, without_seconds
from polytask import registry

FIT = {"epochs": 6, "batch_size": 32, "progress": False}
RELATIONAL = ["GroupLasso", "TraceNorm", "TensorTraceNorm", "MeanRegularized", "Pairwise", "GraphLaplacian",
              "TaskRelation", "Clustered"]  # fmt: skip
TASKS = ("north", "south", "east.1", "east.2")


def groups(rows=400, features=12, seed=0):
    """Two groups of two tasks: linear functions that are near each other within a group, unrelated between groups."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    common = rng.normal(size=(2, features))
    w = np.repeat(common, 2, axis=0) + 0.1 * rng.normal(size=(4, features))
    return x, dict(zip(TASKS, (x @ w.T + 0.1 * rng.normal(size=(rows, 4))).T.astype(np.float32), strict=True))


def linear_model(seed=0):
    """Heads straight on the features: an encoder without layers."""
    encoder = pt.encoder.MLP([24], activation=None)
    return pt.MultiTaskModel(12, tasks=[pt.Task(name) for name in TASKS], encoder=encoder, seed=seed)


def trained(*regularizers, model=None, **more):
    trainer = pt.Trainer(linear_model() if model is None else model, lr=0.01, regularizers=regularizers)
    trainer.fit(groups(), **{**FIT, **more})
    return trainer


def test_the_history_has_a_column_for_each_regularizer():
    trainer = trained("l2", pt.regularizer.L1(1e-3), pt.regularizer.L2(0.1, on="heads"), "trace_norm", validation=0.25)
    history = trainer.history
    columns = [name for name in history.columns if "regularizer" in name]
    assert columns == [f"regularizer/{name}" for name in ("l2", "l1", "l2_2", "trace_norm")]
    losses = sum(np.array(history[f"{task}/loss"]) for task in TASKS)
    parts = sum(np.array(history[name]) for name in columns)
    np.testing.assert_allclose(history["loss"], losses + parts, rtol=1e-12)
    assert "regularizer" in [axis.get_title() for axis in history.plot()]


def test_its_value_is_that_of_the_parameters_before_the_step():
    model = linear_model()
    heads = np.concatenate([model.state_dict()[f"heads.{task}.weight"] for task in TASKS]).astype(float)
    history = pt.Trainer(model, regularizers=[pt.regularizer.L2(0.5, on="heads"), "mean_regularized"]).fit(
        groups(), epochs=1, batch_size=400, progress=False
    )
    assert history["regularizer/l2"] == pytest.approx([0.5 * (heads**2).sum()], rel=1e-5)
    assert history["regularizer/mean_regularized"] == pytest.approx([1e-3 * heads.var(0).sum() * 4], rel=1e-5)


def test_callbacks_may_watch_a_regularizer():
    growing = trained("l2")
    seen = growing.history["regularizer/l2"]
    assert seen[0] < seen[1], "the test needs parameters that grow at first"
    for mode, stops in (("min", 2), ("max", next((e + 2 for e in range(5) if seen[e + 1] <= seen[e]), 6))):
        stop = pt.EarlyStopping("regularizer/l2", mode=mode, patience=1)
        history = trained("l2", callbacks=[stop]).history
        assert (history["regularizer/l2"], stop.best_epoch) == (seen[:stops], stops - 1)
    with pytest.raises(ValueError, match=r"no column 'regularizer/l1'; did you mean `regularizer/l2`\? it will have"):
        trained("l2", callbacks=[pt.EarlyStopping("regularizer/l1")])


@pytest.mark.parametrize("regularizer", RELATIONAL)
def test_an_evaluation_counts_it_and_teaches_it_nothing(regularizer):
    penalty = getattr(pt.regularizer, regularizer)()
    plain, watched = trained(penalty), trained(penalty, validation=groups(seed=1))
    assert same_bits(plain.model.state_dict(), watched.model.state_dict())
    results, row = watched.evaluate(groups(seed=1)), watched.history[-1]
    parts = sum(results[task]["loss"] for task in TASKS)
    assert results.loss == row["validation/loss"] > parts + 1e-6
    # A step with these parameters counts them with the same value.
    again = pt.Trainer(watched.model, "sgd", lr=1e-12, regularizers=[penalty])
    row = again.fit(groups(seed=1), validation=groups(seed=1), epochs=1, batch_size=400, progress=False)[-1]
    assert row["validation/loss"] == pytest.approx(row["loss"], rel=1e-6)


def heads(*regularizers):
    """The tasks' weights `[tasks, 24]` after training."""
    state = trained(*regularizers, epochs=30).model.state_dict()
    return np.concatenate([state[f"heads.{task}.weight"] for task in TASKS])


@pytest.fixture(scope="module")
def plain():
    return heads()


@pytest.mark.parametrize("regularizer", [pt.regularizer.Pairwise(1.0), pt.regularizer.MeanRegularized(3.0)])
def test_tasks_stay_near_each_other(plain, regularizer):
    assert np.linalg.norm(heads(regularizer).std(0)) < 0.3 * np.linalg.norm(plain.std(0))


@pytest.mark.parametrize("regularizer", [pt.regularizer.TraceNorm(0.3), pt.regularizer.TensorTraceNorm(0.1)])
def test_tasks_lie_in_few_directions(plain, regularizer):
    def third(matrix):
        values = np.linalg.svd(matrix, compute_uv=False)
        return values[2] / values[0]

    assert third(heads(regularizer)) < 0.3 * third(plain)


def test_features_are_used_by_all_tasks_or_by_none(plain):
    def smallest(matrix):
        lengths = np.sort(np.linalg.norm(matrix, axis=0))
        return lengths[8] / lengths[-1]

    assert smallest(heads(pt.regularizer.GroupLasso(0.3))) < 0.3 * smallest(plain)


def test_only_related_tasks_stay_near_each_other(plain):
    def distance(matrix, one, other):
        return np.linalg.norm(matrix[one] - matrix[other])

    related = np.zeros((4, 4))
    related[0, 2] = related[2, 0] = 1
    weights = heads(pt.regularizer.GraphLaplacian(3.0, related))
    assert distance(weights, 0, 2) < 0.3 * distance(plain, 0, 2)
    assert distance(weights, 1, 3) > 0.5 * distance(plain, 1, 3)


@pytest.mark.parametrize("regularizer", [pt.regularizer.TaskRelation(0.01), pt.regularizer.Clustered(0.1)])
def test_tasks_of_one_group_are_found_to_be_related(regularizer):
    model = trained(regularizer, epochs=40).model
    correlation = model.relation().correlation
    within = [correlation[0, 1], correlation[2, 3]]
    between = correlation[:2, 2:]
    assert min(within) > between.max() + 0.3, correlation


def test_the_relation_is_read_shown_drawn_and_saved(tmp_path):
    model = trained(pt.regularizer.TaskRelation(refresh=2)).model
    relation = model.relation()
    assert relation.tasks == TASKS
    assert relation.matrix.shape == (4, 4)
    assert relation.matrix.dtype == np.float64
    assert relation.matrix.trace() == pytest.approx(1)
    np.testing.assert_array_equal(relation.matrix, relation.matrix.T)
    np.testing.assert_array_equal(relation.correlation.diagonal(), 1)
    deviation = np.sqrt(relation.matrix.diagonal())
    np.testing.assert_allclose(relation.correlation * np.outer(deviation, deviation), relation.matrix, atol=1e-12)
    assert repr(relation).splitlines()[0].split() == ["task", *TASKS]
    assert relation.to_frame().loc["north", "east.1"] == relation.correlation[0, 2]
    (axis,) = relation.plot()
    assert [label.get_text() for label in axis.get_xticklabels()] == list(TASKS)
    pyplot.close("all")
    model.save(tmp_path / "model.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.relation().matrix, relation.matrix)
    assert loaded.relation().tasks == TASKS


def test_without_a_relation_it_is_said_how_to_get_one():
    with pytest.raises(ValueError, match=r"regularizers=\[pt.regularizer.TaskRelation\(\)\]"):
        trained("pairwise").model.relation()


class Interrupt(pt.Callback):
    """Breaks off after so many batches."""

    def __init__(self, after):
        self.every_steps = after

    def on_steps(self, trainer):
        raise SystemExit


@pytest.mark.parametrize("after", [1, 7, 20, 31])
def test_a_relation_resumes_with_the_same_bits(tmp_path, after):
    def made(*callbacks):
        regularizers = [pt.regularizer.TaskRelation(0.05, refresh=3), "clustered"]
        return pt.Trainer(linear_model(), lr=0.01, regularizers=regularizers, callbacks=callbacks)

    want = made()
    history = want.fit(groups(), **FIT)
    broken = made(pt.Checkpoint(tmp_path, every_steps=1))
    with pytest.raises(SystemExit):
        broken.fit(groups(), callbacks=[Interrupt(after)], **FIT)
    resumed = made(pt.Checkpoint(tmp_path, every_steps=1))
    got = resumed.fit(groups(), resume=tmp_path, **FIT)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    assert without_seconds(got) == without_seconds(history)
    np.testing.assert_array_equal(resumed.model.relation().matrix, want.model.relation().matrix)


@pytest.mark.parametrize("name", RELATIONAL)
def test_tasks_without_anything_in_common_cannot_be_compared(name):
    regularizer = getattr(pt.regularizer, name)()
    with pytest.raises(ValueError, match=f"{name} compares the tasks' own parameters; .* heads of equal width"):
        pt.Trainer(make_model(), regularizers=[regularizer])
    with pytest.raises(ValueError, match=f"{name} compares tasks; this model has 1"):
        pt.Trainer(pt.MultiTaskModel(3, tasks=[pt.Task("a")]), regularizers=[regularizer])


def test_relational_ones_are_all_that_are_listed():
    others = {"L1", "L2", "ElasticNet", "Orthogonality"}
    assert {info["class"] for info in registry.REGISTRY if info["family"] == "regularizer"} == {*RELATIONAL, *others}


def test_names_that_match_nothing_are_answered_with_those_there_are():
    def refused(regularizer, match):
        with pytest.raises(ValueError, match=match):
            pt.Trainer(linear_model(), regularizers=[regularizer])

    refused(pt.regularizer.L2(on="heds"), 'L2: argument `on`: no weight is called "heds"; .* `encoder`, `heads`')
    refused(pt.regularizer.TraceNorm(on="encoder"), r"TraceNorm: argument `on`: .*; there are `heads\.\*\.weight`")
    refused("orthogonality", "no weight of all tasks reads the same input as a weight of single tasks")
    refused(pt.regularizer.Orthogonality(shared="x"), 'Orthogonality: argument `shared`: no weight is called "x"')
    refused(pt.regularizer.GraphLaplacian(relation=np.ones((3, 3))), "`relation` should have a row for each of 4 tasks")
    refused(pt.regularizer.Clustered(clusters=5), "`clusters` should be at most 4")
    with pytest.raises(ValueError, match="`relation` should be symmetric"):
        pt.regularizer.GraphLaplacian(relation=[[0, 1], [2, 0]])
    with pytest.raises(ValueError, match="`within` should be at least `between`"):
        pt.regularizer.Clustered(between=3.0)


def test_two_heads_are_made_orthogonal():
    apart = pt.regularizer.Orthogonality(1.0, shared="heads.north", private="heads.south")
    state = trained(apart, epochs=30).model.state_dict()
    north, south = (state[f"heads.{task}.weight"][0] for task in TASKS[:2])
    assert abs(north @ south) < 0.05 * np.linalg.norm(north) * np.linalg.norm(south)


def first_value(model, regularizer):
    """Its part of the objective before the first step."""
    trainer = pt.Trainer(model, regularizers=[regularizer])
    (value,) = trainer.fit(groups(), epochs=1, batch_size=400, progress=False)[f"regularizer/{regularizer.name}"]
    return value


def test_shared_and_own_experts_are_compared_where_they_read_the_same():
    tasks = [pt.Task(name) for name in TASKS]
    model = pt.MultiTaskModel(12, tasks=tasks, encoder=pt.encoder.MLP([8, 6]), sharing="cgc")
    state = model.state_dict()

    def first(prefix):
        names = [name for name in state if name.startswith(prefix) and name.endswith(".0.weight")]
        return [state[name].astype(float) for name in names if state[name].shape == (8, 12)]

    shared, own = first("shared_experts"), first("task_experts")
    assert (len(shared), len(own)) == (2, 8)
    want = sum(((a @ b.T) ** 2).sum() for a in shared for b in own)
    got = first_value(model, pt.regularizer.Orthogonality(0.5, private="task_experts"))
    assert got == pytest.approx(0.5 * want, rel=1e-5)


def test_networks_of_soft_sharing_are_compared_layer_by_layer():
    def soft():
        encoder = pt.encoder.MLP([8, 6])
        return pt.MultiTaskModel(12, tasks=[pt.Task(name) for name in TASKS], encoder=encoder, sharing="soft")

    state = soft().state_dict()

    def squares(prefix):
        weights = [w.astype(float) for name, w in state.items() if name.startswith(prefix) and name.endswith("weight")]
        return sum((w**2).sum() for w in weights)

    for on, prefix in ((None, ""), ("encoders", "encoders"), ("heads", "heads")):
        # At Omega = I / tasks.
        got = first_value(soft(), pt.regularizer.TaskRelation(0.5, on=on))
        assert got == pytest.approx(0.5 * 4 * squares(prefix), rel=1e-5)
    with pytest.raises(ValueError, match=r"there are `encoders\.\*\.0\.weight`, `encoders\.\*\.1\.weight`, `heads"):
        pt.Trainer(soft(), regularizers=[pt.regularizer.Pairwise(on="encoder")])
