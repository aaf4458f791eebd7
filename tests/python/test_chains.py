"""Labels of positions as a chain (`pt.loss.CRF`), against all paths of labels one by one."""

import itertools

import numpy as np
import polytask as pt
import pytest
import torch

LABELS = 3


def model(**more):
    inputs = pt.Inputs(positions={"tokens": pt.Inputs(numeric=4)})
    tasks = [pt.Task("tag", classes=LABELS, per="tokens", loss=pt.loss.CRF(), metrics=["accuracy"])]
    tasks += [pt.Task("mood", classes=2)]
    return pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.Window([8], activation="tanh"), **more)


def rows(lengths=(3, 0, 5, 1, 4, 2), missing=0.3):
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n, 4)).astype(np.float32) for n in lengths]
    tags = [np.where(rng.random(n) < missing, -1, rng.integers(0, LABELS, n)) for n in lengths]
    return {"tokens": x}, {"tag": tags, "mood": rng.integers(0, 2, len(lengths))}


def moved(made):
    """The same with scores of moves that say something."""
    rng = np.random.default_rng(1)
    state = made.state_dict()
    state |= {name: rng.normal(size=x.shape).astype(np.float32) for name, x in state.items() if "tag" in name}
    made.load_state_dict(state)
    return made


def scores(state, x):
    """Raw scores of the tagger for one row's positions."""
    x = torch.nn.functional.pad(x, (0, 0, 1, 1))
    x = torch.cat([x[:-2], x[1:-1], x[2:]], 1)
    h = torch.tanh(x @ state["encoder.0.weight"].T + state["encoder.0.bias"])
    return h, h @ state["heads.tag.weight"].T + state["heads.tag.bias"]


def by_all_paths(state, x, known):
    """The probability of known labels, and marginals, of one row."""
    paths = list(itertools.product(range(LABELS), repeat=len(x)))
    moves, start, end = (state[f"heads.tag.chain.{name}"] for name in ("moves", "start", "end"))
    each = []
    for path in paths:
        score = start[path[0]] + end[path[-1]] + sum(x[t, label] for t, label in enumerate(path))
        each.append(score + sum(moves[pair] for pair in itertools.pairwise(path)))
    p = torch.stack(each).softmax(0)
    fits = [all(label in (-1, path[t]) for t, label in enumerate(known)) for path in paths]
    marginals = [[p[[path[t] == k for path in paths]].sum() for k in range(LABELS)] for t in range(len(x))]
    return p[fits].sum(), torch.stack([torch.stack(each) for each in marginals])


def tensors(made):
    return {name: torch.tensor(x, dtype=torch.float64) for name, x in made.state_dict().items()}


def test_predictions_are_marginals_and_losses_are_of_all_paths():
    made = moved(model())
    x, y = rows()
    state = tensors(made)
    total, count = 0.0, 0
    found = made.predict(x)["tag"]
    for row, known, predicted in zip(x["tokens"], y["tag"], found, strict=True):
        if not len(row):
            assert predicted.shape == (0, LABELS)
            continue
        _, raw = scores(state, torch.tensor(row, dtype=torch.float64))
        p, marginals = by_all_paths(state, raw, known)
        np.testing.assert_allclose(predicted, marginals, atol=1e-5)
        total -= float(torch.log(p))
        count += int((known >= 0).sum())
    report = pt.Trainer(made).evaluate((x, y))
    assert report["tag"]["loss"] == pytest.approx(total / count, abs=1e-5)


@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
def test_a_step_follows_the_gradient_of_all_paths(weighting):
    made = moved(model())
    x, y = rows()
    state = {name: p.requires_grad_() for name, p in tensors(made).items()}
    total, count, moods = 0.0, 0, []
    for row, known in zip(x["tokens"], y["tag"], strict=True):
        h, raw = scores(state, torch.tensor(row, dtype=torch.float64))
        pooled = h.mean(0) if len(row) else torch.zeros(8, dtype=torch.float64)
        moods.append(pooled @ state["heads.mood.weight"].T + state["heads.mood.bias"])
        if len(row):
            total = total - torch.log(by_all_paths(state, raw, known)[0])
            count += int((known >= 0).sum())
    losses = [total / count, torch.nn.functional.cross_entropy(torch.stack(moods), torch.tensor(y["mood"]))]
    own = [torch.autograd.grad(loss, list(state.values()), retain_graph=True, allow_unused=True) for loss in losses]
    trainer = pt.Trainer(made, pt.optim.SGD(lr=1.0), weighting=weighting)
    before = made.state_dict()
    trainer.step((x, y))
    after = made.state_dict()
    weights = [1.0, 1.0]
    if weighting == "upgrad":
        shared = torch.stack([torch.cat([g.flatten() for g in each[:2]]) for each in own])
        # The mean of what is left of each where it does not point against the other.
        against = (shared[0] @ shared[1]).clamp(max=0)
        weights = [float(1 - against / row.square().sum()) / 2 for row in shared]
    for k, name in enumerate(state):
        wanted = sum(
            w * each[k] for w, each in zip(weights if k < 2 else (1.0, 1.0), own, strict=True) if each[k] is not None
        )
        np.testing.assert_allclose(before[name] - after[name], wanted.detach(), atol=2e-5, err_msg=name)


def test_a_chain_learns_what_moves_say():
    """Labels that take turns, of which the inputs say the first alone."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 9, 300)
    tags = [(np.arange(n) + rng.integers(0, 2)) % 2 for n in lengths]
    x = [np.concatenate([np.full((1, 1), tag[0] * 2.0 - 1), np.zeros((len(tag) - 1, 1))]) for tag in tags]
    inputs = pt.Inputs(positions={"tokens": pt.Inputs(numeric=1)})
    found = {}
    for loss in ("crf", "cross_entropy"):
        task = pt.Task("tag", classes=2, per="tokens", loss=loss, metrics=["accuracy"])
        made = pt.MultiTaskModel(inputs, tasks=[task], encoder=pt.encoder.Window([8], radius=0))
        trainer = pt.Trainer(made, lr=3e-2)
        history = trainer.fit(({"tokens": x}, {"tag": tags}), epochs=15, batch_size=32, progress=False)
        found[loss] = trainer.evaluate(({"tokens": x}, {"tag": tags}))["tag"]["accuracy"]
        assert history[-1]["tag/accuracy"] <= found[loss] + 0.05, "metrics of training do not see labels"
    assert found["crf"] > 0.99
    assert found["cross_entropy"] < 0.8


def test_batches_room_and_order_change_nothing():
    made = moved(model())
    x, y = rows((7, 0, 2, 5, 1, 9, 3))
    whole = made.predict(x)["tag"]
    cut = made.predict(x, batch_size=2)["tag"]
    order = np.array([6, 2, 4, 0, 1, 5, 3])
    permuted = made.predict({"tokens": [x["tokens"][i] for i in order]})["tag"]
    for i, row in enumerate(whole):
        np.testing.assert_allclose(row, cut[i], atol=1e-5)
        np.testing.assert_allclose(row, permuted[int(np.flatnonzero(order == i)[0])], atol=1e-5)
    trainer = pt.Trainer(made)
    losses = [trainer.evaluate((x, y), batch_size=size)["tag"]["loss"] for size in (1, 3, 7)]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


def test_large_scores_and_long_rows_stay_finite():
    made = model()
    state = made.state_dict()
    state["heads.tag.chain.moves"] = np.array([[80.0, -80, 0], [-80, 80, 0], [0, 0, 0]], np.float32)
    state["heads.tag.weight"] *= 100
    made.load_state_dict(state)
    rng = np.random.default_rng(0)
    x = {"tokens": [rng.normal(size=(3000, 4)).astype(np.float32)]}
    predicted = made.predict(x)["tag"][0]
    assert np.isfinite(predicted).all()
    np.testing.assert_allclose(predicted.sum(1), 1, atol=1e-5)
    y = {"tag": [rng.integers(0, LABELS, 3000)], "mood": np.array([1])}
    found = pt.Trainer(made, pt.optim.SGD(lr=1e-3)).step((x, y))
    assert np.isfinite(found["loss"])
    assert all(np.isfinite(each).all() for each in made.state_dict().values())


def test_saved_resumed_and_as_a_module_of_torch(tmp_path):
    made = moved(model())
    x, y = rows()
    pt.Trainer(made).fit((x, y), epochs=2, batch_size=2, progress=False)
    made.save(tmp_path / "m.safetensors")
    again = pt.MultiTaskModel.load(tmp_path / "m.safetensors")
    wanted = made.predict(x)["tag"]
    for a, b in zip(wanted, again.predict(x)["tag"], strict=True):
        np.testing.assert_array_equal(a, b)
    module = made.to_torch()
    assert set(module.state_dict()) == set(made.state_dict())
    found = module(**made.tensors(x))
    np.testing.assert_allclose(found["tag"].detach(), np.concatenate(wanted), atol=1e-5)
    back = pt.MultiTaskModel.from_torch(module)
    for a, b in zip(wanted, back.predict(x)["tag"], strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_no_number_any_more_is_an_error():
    inputs = pt.Inputs(positions={"tokens": pt.Inputs(numeric=4)})
    task = pt.Task("tag", classes=LABELS, per="tokens", loss="crf")
    made = pt.MultiTaskModel(inputs, tasks=[task], encoder="window")
    x, y = rows(missing=0)
    trainer = pt.Trainer(made, pt.optim.SGD(lr=1e30))
    with pytest.raises(ValueError, match=r"`tag`.* is (NaN|infinite)"):
        trainer.fit((x, {"tag": y["tag"]}), epochs=3, batch_size=3, progress=False)


@pytest.mark.parametrize("gap", [1.0, 300.0, 400.0, 720.0, 900.0])
def test_labels_that_are_far_from_likely_are_judged_all_the_same(gap):
    inputs = pt.Inputs(positions={"tokens": pt.Inputs(numeric=1)})
    made = pt.MultiTaskModel(
        inputs,
        tasks=[pt.Task("tag", classes=2, per="tokens", loss="crf")],
        encoder=pt.encoder.Window([1], radius=0, activation=None),
    )
    state = {"encoder.0.weight": [[1.0]], "encoder.0.bias": [0.0], "heads.tag.weight": [[gap], [0.0]]}
    state |= {"heads.tag.bias": [0.0, 0.0], "heads.tag.chain.moves": [[2.0, -2.0], [-2.0, 2.0]]}
    state |= {"heads.tag.chain.start": [0.0, 0.0], "heads.tag.chain.end": [0.0, 0.0]}
    made.load_state_dict({name: np.array(numbers, np.float32) for name, numbers in state.items()})
    x = {"tokens": [np.ones((4, 1), np.float32), np.full((3, 1), 0.001, np.float32)]}
    tags = [np.array([1, 1, 1, -1]), np.array([0, 1, 1])]
    losses, moves = [], torch.tensor(state["heads.tag.chain.moves"], dtype=torch.float64, requires_grad=True)
    for row, known in zip(x["tokens"], tags, strict=True):
        raw = torch.cat([torch.tensor(row, dtype=torch.float64) * gap, torch.zeros(len(row), 1)], 1)
        paths = list(itertools.product(range(2), repeat=len(row)))
        each = torch.stack(
            [
                sum(raw[t, label] for t, label in enumerate(path))
                + sum(moves[pair] for pair in itertools.pairwise(path))
                for path in paths
            ]
        )
        fits = [all(label in (-1, path[t]) for t, label in enumerate(known)) for path in paths]
        losses.append(each.logsumexp(0) - each[fits].logsumexp(0))
    loss = sum(losses) / 6
    (wanted,) = torch.autograd.grad(loss, moves)
    data = x, {"tag": tags}
    assert pt.Trainer(made).evaluate(data)["tag"]["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    trainer = pt.Trainer(made, pt.optim.SGD(lr=1.0))
    trainer.step(data)
    moved_by = np.array(state["heads.tag.chain.moves"]) - made.state_dict()["heads.tag.chain.moves"]
    np.testing.assert_allclose(moved_by, wanted, atol=1e-5)


@pytest.mark.parametrize("method", ["representation", "relation"])
def test_relatedness_by_outputs_is_for_tasks_of_rows(method):
    with pytest.raises(ValueError, match=f"task `tag`: `{method}` is for tasks of rows; got one of tokens"):
        pt.relatedness(model(), rows((3, 2, 4, 1) * 10), method, epochs=1, seeds=2, progress=False)


def test_rows_have_no_chain():
    with pytest.raises(ValueError, match="task `mood`: this loss judges labels of neighbouring positions together"):
        pt.MultiTaskModel(4, tasks=[pt.Task("mood", classes=2, loss="crf")])
    with pytest.raises(ValueError, match="CRF: the task needs `classes`"):
        pt.MultiTaskModel(4, tasks=[pt.Task("mood", loss=pt.loss.CRF())])


def test_a_summary_has_a_chain_once():
    summary = model().summary()
    chains = [layer for layer in summary.layers if layer["kind"] == "Chain"]
    assert [(layer["path"], layer["parameters"]) for layer in chains] == [
        ("heads.tag.chain", LABELS * LABELS + 2 * LABELS)
    ]
    assert sum(layer["parameters"] for layer in summary.layers) == summary.parameters
