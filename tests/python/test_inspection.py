"""A look inside models: gates, the use of experts, mixes, the relation."""

import numpy as np
import polytask as pt
import pytest

TASKS = ("a", "b", "c")


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


def model(sharing, hidden=(8, 8)):
    tasks = [pt.Task(name, loss="binary_cross_entropy") for name in TASKS]
    return pt.MultiTaskModel(6, tasks=tasks, encoder=pt.encoder.MLP(list(hidden)), sharing=sharing)


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_gates_are_those_of_the_parameters(x):
    m = model(pt.sharing.MMoE(experts=4))
    seen = m.inspect(x, batch_size=16)
    gates = seen.gates["gates"]
    state = m.state_dict()
    for task, values in zip(TASKS, gates.values, strict=True):
        weight, bias = state[f"gates.{task}.weight"], state[f"gates.{task}.bias"]
        np.testing.assert_allclose(values, softmax(x @ weight.T + bias), atol=1e-6)
    assert gates.owners == list(TASKS)
    assert gates.experts[0] == [f"experts.{k}" for k in range(4)]
    np.testing.assert_allclose(gates.use.sum(axis=1), 1, atol=1e-5)
    assert seen.mixes == {}


def test_experts_that_nobody_uses_are_named(x):
    m = model(pt.sharing.MMoE(experts=4))
    assert m.inspect(x).dead == []
    parameters = m.parameters()
    for task in TASKS:
        parameters[f"gates.{task}.bias"][2] = -50
    assert m.inspect(x).dead == ["experts.2"]
    assert "experts that no task uses: `experts.2`" in repr(m.inspect(x))
    parameters["gates.b.bias"][2] = 0
    assert m.inspect(x).dead == []


def test_an_expert_of_one_task_may_be_dead(x):
    m = model(pt.sharing.CGC(shared_experts=1, task_experts=2))
    m.parameters()["gates.b.bias"][1] = -50
    seen = m.inspect(x)
    assert seen.dead == ["b: task_experts.1"]
    assert seen.gates["gates"].experts[1] == ["b: task_experts.0", "b: task_experts.1", "shared_experts.0"]


def test_levels_have_gates_of_their_own(x):
    seen = model("ple").inspect(x)
    assert list(seen.gates) == ["levels.0.gates", "levels.0.shared_gate", "levels.1.gates"]
    assert seen.gates["levels.0.shared_gate"].owners == ["shared"]
    assert seen.gates["levels.0.shared_gate"].values.shape == (1, 50, 2 * 3 + 2)


def test_stitches_are_the_parameters(x):
    m = model(pt.sharing.CrossStitch(start=0.8))
    seen = m.inspect(x)
    assert list(seen.mixes) == ["stitches.0", "stitches.1"]
    first = seen.mixes["stitches.0"]
    np.testing.assert_allclose(first.values, 0.1 + 0.7 * np.eye(3), atol=1e-6)
    assert first.to == first.sources == list(TASKS)
    assert model("sluice").inspect(x).mixes["stitches.0"].values.shape == (6, 6)


def test_branching_says_what_is_chosen(x):
    m = model(pt.sharing.LTB(branches=2))
    m.parameters()["branching.b.weight"][:] = [0, 3]
    choice = m.inspect(x).mixes["branching"]
    np.testing.assert_allclose(choice.values[1], softmax(np.array([0.0, 3.0])), atol=1e-6)
    assert choice.choice
    assert choice.chosen["b"] == "blocks.1"


@pytest.mark.parametrize("sharing", ["mmoe", "cgc", "ple", "cross_stitch", "sluice", "ltb", "dselect_k", "aitm"])
def test_everything_can_be_drawn(x, sharing):
    import matplotlib

    matplotlib.use("Agg")
    seen = model(sharing).inspect(x)
    names = [*seen.gates, *seen.mixes]
    assert len(seen.plot()) == len(names)
    (axis,) = seen.plot(names[0])
    assert axis.get_title() == names[0]
    matplotlib.pyplot.close("all")
    assert repr(seen)


def test_hard_sharing_has_nothing_to_see(x):
    seen = model("hard").inspect(x)
    assert repr(seen) == "nothing to see: this sharing scheme has neither gates nor mixes"
    with pytest.raises(ValueError, match="neither gates nor mixes to draw"):
        seen.plot()


def test_the_relation_is_there_once_it_was_learned(x):
    m = model("soft")
    assert m.inspect(x).relation is None
    labels = {task: (x[:, k] > 0).astype(int) for k, task in enumerate(TASKS)}
    trainer = pt.Trainer(m, regularizers=[pt.regularizer.TaskRelation(0.1)])
    trainer.fit((x, labels), epochs=1, progress=False)
    np.testing.assert_array_equal(m.inspect(x).relation.matrix, m.relation().matrix)


def test_wrong_names_and_features_are_refused(x):
    m = model("mmoe")
    with pytest.raises(ValueError, match=r"there is no 'gate'; there are `gates`"):
        m.inspect(x).plot("gate")
    with pytest.raises(ValueError, match=r"shape \[50, 6\]"):
        m.inspect(x[:, :5])


def test_gates_of_a_task_by_its_name(x):
    seen = model(pt.sharing.MMoE(experts=3)).inspect(x)
    place = seen.gates["gates"]
    for j, task in enumerate(TASKS):
        np.testing.assert_array_equal(seen.gates[task], place.values[j])
        np.testing.assert_array_equal(place.of(task), place.values[j])
    assert list(seen.gates) == ["gates"]
    with pytest.raises(KeyError, match=r"no gates 'd'; .*there are `gates`, `a`, `b`, `c`"):
        seen.gates["d"]
    with pytest.raises(KeyError, match=r"gates: no owner 'gates'; there are `a`, `b`, `c`"):
        place.of("gates")


def test_gates_of_a_task_in_several_places_say_where(x):
    seen = model(pt.sharing.PLE(levels=2)).inspect(x)
    with pytest.raises(KeyError, match=r"'b' has gates in `levels.0.gates`, `levels.1.gates`: gates.*\.1\.gates.*\.of"):
        seen.gates["b"]
    np.testing.assert_array_equal(seen.gates["levels.1.gates"].of("b"), seen.gates["levels.1.gates"].values[1])
    np.testing.assert_array_equal(seen.gates["shared"], seen.gates["levels.0.shared_gate"].values[0])
    with pytest.raises(KeyError, match="no gates 'a'; there are none"):
        model("hard").inspect(x).gates["a"]


def test_a_place_goes_before_a_task_of_its_name(x):
    tasks = [pt.Task("gates"), pt.Task("b")]
    mixed = pt.MultiTaskModel(6, tasks=tasks, encoder=pt.encoder.MLP([8]), sharing=pt.sharing.MMoE(experts=2))
    seen = mixed.inspect(x)
    assert seen.gates["gates"].values.shape == (2, 50, 2)
    assert seen.gates["b"].shape == (50, 2)
