"""Learning to rank the positions of a row (`pt.loss.Ranking`): losses by torch, metrics by scikit-learn and by hand."""

import numpy as np
import polytask as pt
import pytest
import torch
from sklearn.metrics import ndcg_score

LENGTHS = (4, 0, 1, 6, 3, 5)
METRICS = ["ndcg", "mrr", "ndcg@2", "ndcg@5"]


def model(**more):
    inputs = pt.Inputs(numeric=2, positions={"items": pt.Inputs(numeric=3)})
    tasks = [pt.Task("relevance", per="items", loss=pt.loss.Ranking(), metrics=METRICS)]
    tasks += [pt.Task("mood", classes=2)]
    encoder = pt.encoder.MLP([8], activation="tanh")
    return pt.MultiTaskModel(inputs, tasks=tasks, encoder=encoder, **{"seed": 0, **more})


def rows(lengths=LENGTHS, missing=0.25):
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n, 3)).astype(np.float32) for n in lengths]
    y = [rng.integers(0, 4, n).astype(float) for n in lengths]
    y = [np.where(rng.random(len(each)) < missing, np.nan, each) for each in y]
    y[-1][:] = np.where(np.isnan(y[-1]), np.nan, 0)
    of_rows = rng.normal(size=(len(lengths), 2)).astype(np.float32)
    return {"numeric": of_rows, "items": x}, {"relevance": y, "mood": rng.integers(0, 2, len(lengths))}


def by_torch(state, x, y, weights):
    """The loss, list by list."""
    total, count = 0.0, 0.0
    for row, items, known, weight in zip(x["numeric"], x["items"], y, weights, strict=True):
        there = ~np.isnan(known)
        if not known[there].sum() > 0:
            continue
        both = torch.tensor(np.hstack([items, np.tile(row, (len(items), 1))])[there], dtype=torch.float64)
        h = torch.tanh(both @ state["encoder.0.weight"].T + state["encoder.0.bias"])
        scores = (h @ state["heads.relevance.weight"].T + state["heads.relevance.bias"])[:, 0]
        share = torch.tensor(known[there] / known[there].sum())
        total = total - weight * (share * scores.log_softmax(0)).sum()
        count += weight
    return total / count


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_follows_the_gradient_of_lists(weighted):
    made = model()
    x, y = rows()
    weights = np.array([0.5, 1, 2, 0, 3, 1]) if weighted else np.ones(6)
    state = {name: torch.tensor(p, dtype=torch.float64) for name, p in made.state_dict().items()}
    state = {name: p.requires_grad_() for name, p in state.items() if "mood" not in name}
    loss = by_torch(state, x, y["relevance"], weights)
    wanted = torch.autograd.grad(loss, list(state.values()))
    trainer = pt.Trainer(made, pt.optim.SGD(lr=1.0))
    before = made.state_dict()
    given = x, {"relevance": y["relevance"]}, *([weights] if weighted else [])
    assert trainer.evaluate(given)["relevance"]["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert trainer.step(given)["relevance/loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    after = made.state_dict()
    for name, gradient in zip(state, wanted, strict=True):
        np.testing.assert_allclose(before[name] - after[name], gradient, atol=1e-5, err_msg=name)


def test_batches_and_accumulation_count_lists():
    x, y = rows((4, 0, 1, 6, 3, 5, 2, 7))
    y["relevance"][0][:] = np.nan
    trainer = pt.Trainer(model())
    losses = [trainer.evaluate((x, y), batch_size=size)["relevance"] for size in (1, 3, 8)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)
    ends = []
    for size, accumulate in ((8, 1), (2, 4)):
        trainer = pt.Trainer(model(), pt.optim.SGD(lr=0.5), accumulate=accumulate)
        trainer.fit((x, y), epochs=1, batch_size=size, shuffle=False, progress=False)
        ends.append(trainer.model.state_dict())
    for name, one in ends[0].items():
        np.testing.assert_allclose(one, ends[1][name], atol=1e-5, err_msg=name)


def by_hand(scores, known):
    """NDCG and MRR, list by list."""
    gains, first_two, first_five, reciprocals = [], [], [], []
    for p, y in zip(scores, known, strict=True):
        p, y = p[~np.isnan(y)], y[~np.isnan(y)]
        if not y.sum() > 0:
            continue
        for found, k in ((gains, None), (first_two, 2), (first_five, 5)):
            found.append(1.0 if len(y) == 1 else ndcg_score([y], [p], k=k))
        # Behind those of an equal score that are not relevant.
        order = np.lexsort((y > 0, -p))
        reciprocals.append(1 / (1 + np.flatnonzero(y[order] > 0)[0]))
    return {
        name: np.mean(found) for name, found in zip(METRICS, (gains, reciprocals, first_two, first_five), strict=True)
    }


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_of_whole_rows(ties):
    rng = np.random.default_rng(1)
    x, y = rows(rng.integers(0, 9, 60))
    made = model()
    if ties:
        # Each item has one of two scores.
        state = made.state_dict()
        made.load_state_dict({name: np.zeros_like(p) if "encoder.0" in name else p for name, p in state.items()})
        state = made.state_dict()
        weight = np.zeros_like(state["encoder.0.weight"])
        weight[0, 0] = 1e6
        made.load_state_dict({**state, "encoder.0.weight": weight})
    scores = made.predict(x)["relevance"]
    assert not ties or len(np.unique(np.concatenate(scores))) == 2
    found = pt.Trainer(made).evaluate((x, y), batch_size=7)["relevance"]
    wanted = by_hand(scores, y["relevance"])
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-6)
    # Rows of weight 0 do not count.
    weights = (np.arange(60) % 3).astype(float)
    found = pt.Trainer(made).evaluate((x, y, weights))["relevance"]
    kept = weights > 0
    wanted = by_hand(
        [p for p, keep in zip(scores, kept, strict=True) if keep],
        [k for k, keep in zip(y["relevance"], kept, strict=True) if keep],
    )
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-6)


def test_it_learns_an_order_within_rows():
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 9, 300)
    x = [rng.normal(size=(n, 3)).astype(np.float32) for n in lengths]
    # Which row an item is of moves its relevance up or down, which says nothing about the order.
    y = [np.clip(np.round(2 + each[:, 0] + rng.normal()), 0, None) for each in x]
    data = {"numeric": rng.normal(size=(300, 2)), "items": x}, {"relevance": y, "mood": rng.integers(0, 2, 300)}
    made = model()
    trainer = pt.Trainer(made, lr=0.03)
    before = trainer.evaluate(data)["relevance"]["ndcg"]
    history = trainer.fit(data, validation=0.2, epochs=15, batch_size=32, progress=False)
    assert history["validation/relevance/ndcg"][-1] > max(0.9, before)
    assert "relevance/ndcg" not in history.columns
    assert [each.shape for each in made.predict(data[0])["relevance"][:3]] == [(n,) for n in lengths[:3]]


def test_several_outputs_have_lists_of_their_own():
    x, y = rows()
    both = [np.stack([each, each[::-1]], 1) for each in y["relevance"]]
    inputs = pt.Inputs(numeric=2, positions={"items": pt.Inputs(numeric=3)})
    task = pt.Task("relevance", per="items", loss="ranking", outputs=2, metrics=METRICS)
    made = pt.MultiTaskModel(inputs, tasks=[task], seed=0)
    scores = made.predict(x)["relevance"]
    lists = [[each[:, k] for k in (0, 1) for each in of] for of in (scores, both)]
    found = pt.Trainer(made).evaluate((x, {"relevance": both}))["relevance"]
    wanted = by_hand(*lists)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-6)


def test_saved_resumed_and_as_a_module_of_torch(tmp_path):
    made = model()
    x, y = rows()
    pt.Trainer(made).fit((x, y), epochs=2, batch_size=2, progress=False)
    made.save(tmp_path / "m.safetensors")
    again = pt.MultiTaskModel.load(tmp_path / "m.safetensors")
    wanted = made.predict(x)["relevance"]
    for a, b in zip(wanted, again.predict(x)["relevance"], strict=True):
        np.testing.assert_array_equal(a, b)
    module = made.to_torch()
    found = module(**made.tensors(x))
    np.testing.assert_allclose(found["relevance"].detach(), np.concatenate(wanted), atol=1e-5)


def test_what_is_no_ranking_is_refused():
    inputs = pt.Inputs(positions={"items": pt.Inputs(numeric=3)})
    with pytest.raises(ValueError, match="task `a`: this loss judges labels of a row's positions together: say of"):
        pt.MultiTaskModel(4, tasks=[pt.Task("a", loss=pt.loss.Ranking())])
    with pytest.raises(
        ValueError, match="task `a`: metrics of a ranking should be `ndcg`, `mrr`, `ndcg@10`; got 'mae'"
    ):
        pt.MultiTaskModel(inputs, tasks=[pt.Task("a", per="items", loss="ranking", metrics=["mae"])])
    with pytest.raises(ValueError, match="task `a`: unknown metric 'ndcg@0'"):
        pt.Task("a", per="items", loss="ranking", metrics=["ndcg@0"])
    with pytest.raises(ValueError, match=r"task `a`: metric `ndcg` is for tasks with `loss=pt.loss.Ranking\(\)`"):
        pt.MultiTaskModel(inputs, tasks=[pt.Task("a", per="items", metrics=["ndcg"])])
    made = model()
    x, y = rows()
    y["relevance"][0][1] = -2
    with pytest.raises(ValueError, match="should be finite and at least 0"):
        pt.Trainer(made).fit((x, y), epochs=1, progress=False)


def test_grades_are_numbers():
    x, y = rows(missing=0)
    grades = [np.array(["good", "bad"])[(each > 1).astype(int)].tolist() for each in y["relevance"]]
    with pytest.raises(
        TypeError, match=r"'(good|bad)' at row 0, .*; grades of a ranking are numbers from 0 on: 0, 1, 2"
    ):
        pt.Trainer(model()).fit((x, {**y, "relevance": grades}), epochs=1, progress=False)
    for classes in (5, ["good", "bad"]):
        with pytest.raises(ValueError, match=r"task `a`: grades of a ranking are numbers .*; got classes=") as told:
            pt.Task("a", per="items", loss="ranking", classes=classes)
        assert "outputs" not in str(told.value)
