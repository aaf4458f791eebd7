"""Relations between positions: labels, probabilities, trees and metrics."""

import itertools
import pickle
import re

import numpy as np
import pandas
import polars
import polytask as pt
import polytask.model.scoring
import pyarrow
import pytest
import torch
from polytask.data.pairs import Pairs, cycles
from polytask.model import trees

RNG = np.random.default_rng(0)
NOUNS, VERBS = ["cat", "dog", "bird", "fish"], ["sees", "hears", "follows"]


def sentences(count: int, seed: int = 0) -> tuple[list[list[str]], list[list[tuple[int, int, str]]]]:
    """Sentences of a subject, a verb and an object, either with an adjective, and their trees."""
    rng = np.random.default_rng(seed)
    texts, relations = [], []
    for _ in range(count):
        words: list[str] = []
        arcs: list[tuple[int, int, str]] = []
        places = {}
        for part in ("subject", "verb", "object"):
            if part != "verb" and rng.integers(2):
                words.append(str(rng.choice(["old", "red"])))
                arcs.append((len(words) - 1, len(words), "of"))
            places[part] = len(words)
            words.append(str(rng.choice(VERBS if part == "verb" else NOUNS)))
        arcs += [(places[part], places["verb"], part) for part in ("subject", "object")]
        arcs.append((places["verb"], places["verb"], "root"))
        texts.append(words)
        relations.append(sorted(arcs))
    return texts, relations


KINDS = ["of", "subject", "object", "root"]


def model_of(texts: list[list[str]], *tasks: pt.Task, **settings: object) -> pt.MultiTaskModel:
    inputs = pt.Inputs(text=pt.Text().fit(texts))
    return pt.MultiTaskModel(inputs, tasks=list(tasks), **{"encoder": pt.encoder.Window([32], radius=2), **settings})


def test_a_tree_is_learned_and_read_back(tmp_path) -> None:
    texts, relations = sentences(300)
    task = pt.Task("arc", per="pair", tree=True, classes=KINDS)
    model = model_of(texts, task, pt.Task("length", loss="mean_squared"), encoder=pt.encoder.Recurrent([16]), seed=1)
    trainer = pt.Trainer(model, lr=0.01)
    lengths = [float(len(words)) for words in texts]
    data = (texts, {"arc": relations, "length": lengths})
    history = trainer.fit(data, validation=0.2, epochs=8, progress=False)
    assert history["validation/arc/relation_f1"][-1] > 0.98
    assert history["validation/arc/attachment"][-1] >= history["validation/arc/relation_f1"][-1]
    assert "arc/relation_f1" not in history.columns
    others, wanted = sentences(50, seed=5)
    predicted = model.predict(others)
    assert [p.shape for p in predicted["arc"]] == [(len(words), len(words), 5) for words in others]
    for p in predicted["arc"]:
        # Of a pair: in none, or in one of the kinds; of a position: one head.
        np.testing.assert_allclose(p.sum(2), 1, atol=1e-5)
        np.testing.assert_allclose(p[:, :, 1:].sum((1, 2)), 1, atol=1e-5)
    found = model.classes(predicted)["arc"]
    shares = [set(row) == set(known) for row, known in zip(found, wanted, strict=True)]
    assert np.mean(shares) > 0.9
    results = trainer.evaluate((others, {"arc": wanted, "length": [float(len(w)) for w in others]}))
    right = sum(len(set(row) & set(known)) for row, known in zip(found, wanted, strict=True))
    assert results["arc"]["relation_f1"] == pytest.approx(right / sum(map(len, wanted)))
    model.save(tmp_path / "model.safetensors")
    for again in (pt.MultiTaskModel.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model))):
        assert again.classes(again.predict(others))["arc"].tolist() == found.tolist()
        assert again.tasks[0].pairs.tree
        assert repr(again.tasks[0]) == repr(task)


def test_relations_of_any_number_are_found() -> None:
    texts, arcs = sentences(300)
    relations = [[arc for arc in row if arc[2] in ("subject", "object")] for row in arcs]
    model = model_of(texts, pt.Task("relation", per="pair", classes=["subject", "object"]), seed=0)
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((texts, relations), epochs=15, progress=False)
    others, wanted = sentences(50, seed=5)
    wanted = [[arc for arc in row if arc[2] in ("subject", "object")] for row in wanted]
    assert trainer.evaluate((others, wanted))["relation"]["relation_f1"] > 0.95
    found = model.classes(model.predict(others))["relation"]
    assert np.mean([set(row) == set(known) for row, known in zip(found, wanted, strict=True)]) > 0.9


def losses(model: pt.MultiTaskModel, texts: list, relations: list) -> float:
    return pt.Trainer(model).evaluate((texts, relations)).loss


def test_the_loss_is_that_of_arcs_and_kinds() -> None:
    texts, relations = sentences(20)
    for tree in (True, False):
        model = model_of(texts, pt.Task("arc", per="pair", tree=tree, classes=KINDS), seed=2)
        predicted = model.predict(texts)["arc"]
        places = {kind: 1 + k for k, kind in enumerate(KINDS)}
        if tree:
            each = [p[i, j, places[k]] for p, row in zip(predicted, relations, strict=True) for i, j, k in row]
        else:
            each = []
            for p, row in zip(predicted, relations, strict=True):
                labels = np.zeros(p.shape[:2], int)
                for i, j, k in row:
                    labels[i, j] = places[k]
                each += np.take_along_axis(p, labels[:, :, None], 2).ravel().tolist()
        assert losses(model, texts, relations) == pytest.approx(-np.log(each).mean(), rel=1e-5)


def test_missing_labels_take_no_part() -> None:
    texts, relations = sentences(20)
    for tree in (True, False):
        model = model_of(texts, pt.Task("arc", per="pair", tree=tree, classes=KINDS), seed=2)
        whole = losses(model, texts[:10], relations[:10])
        assert losses(model, texts, [*relations[:10], *[None] * 10]) == pytest.approx(whole, rel=1e-6)
        # A kind that is missing: of a tree as if nothing was said.
        first = [(i, j, None if k == "subject" else k) for i, j, k in relations[0]]
        without = losses(model, texts[:1], [first])
        assert without != pytest.approx(losses(model, texts[:1], relations[:1]), rel=1e-4)
        if tree:
            left = [arc for arc in relations[0] if arc[2] != "subject"]
            assert without == pytest.approx(losses(model, texts[:1], [left]), rel=1e-6)
    free = model_of(texts, pt.Task("arc", per="pair", classes=KINDS), seed=2)
    results = pt.Trainer(free).evaluate((texts, [[] for _ in texts]))
    assert np.isfinite(results.loss)
    history = pt.Trainer(free).fit(
        (texts, relations), validation=(texts, [[] for _ in texts]), epochs=1, progress=False
    )
    assert np.isfinite(history["validation/arc/loss"][0])


@pytest.mark.parametrize("tree", [True, False])
def test_metrics_count_what_is_known(tree: bool) -> None:
    texts, relations = sentences(40)
    model = model_of(texts, pt.Task("arc", per="pair", tree=tree, classes=KINDS), seed=2)
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((texts, relations), epochs=4, progress=False)
    # Of a row nothing is known, of others not the kind of one pair, or not what one position is attached to.
    known = [None, *relations[1:]]
    for at in range(1, 40, 3):
        (i, j, _), *rest = known[at]
        known[at] = [(i, j, None), *rest] if at % 2 or not tree else rest
    found = model.classes(model.predict(texts))["arc"]
    ours, theirs = set(), set()
    for at, (row, labels) in enumerate(zip(found, known, strict=True)):
        if labels is None:
            continue
        theirs |= {(at, *arc) for arc in labels if arc[2] is not None}
        first = {i for i, _, kind in labels if kind is not None}
        hidden = {(i, j) for i, j, kind in labels if kind is None}
        ours |= {(at, *arc) for arc in row if (arc[0] in first if tree else arc[:2] not in hidden)}
    both = len(ours) + len(theirs)
    results = trainer.evaluate((texts, known))["arc"]
    assert 0 < results["relation_f1"] < 1
    assert results["relation_f1"] == pytest.approx(2 * len(ours & theirs) / both)
    pairs = {arc[:3] for arc in ours} & {arc[:3] for arc in theirs}
    assert results["attachment"] == pytest.approx(2 * len(pairs) / both)


def test_batches_rows_and_room_change_nothing() -> None:
    texts, relations = sentences(30)
    model = model_of(texts, pt.Task("arc", per="pair", tree=True, classes=KINDS), seed=3)
    whole = model.predict(texts)["arc"]
    order = RNG.permutation(30)
    for p, at in zip(model.predict([texts[k] for k in order], batch_size=7)["arc"], order, strict=True):
        np.testing.assert_allclose(p, whole[at], atol=1e-5)
    assert losses(model, texts, relations) == pytest.approx(
        pt.Trainer(model).evaluate((texts, relations), batch_size=4).loss, rel=1e-5
    )


def test_evaluation_goes_through_few_pairs_at_once(monkeypatch) -> None:
    texts, relations = sentences(40)
    model = model_of(texts, pt.Task("arc", per="pair", tree=True, classes=KINDS), seed=3)
    trainer = pt.Trainer(model)
    whole = trainer.evaluate((texts, relations))
    seen = []
    evaluate = polytask.model.scoring.Scores.add

    def add(self, rows, raw):
        seen.append(len(rows))
        return evaluate(self, rows, raw)

    monkeypatch.setattr(polytask.model.scoring, "PAIRS", 100)
    monkeypatch.setattr(polytask.model.scoring.Scores, "add", add)
    parts = trainer.evaluate((texts, relations))
    assert sum(seen) == 40
    assert len(seen) > 5
    assert parts["arc"] == pytest.approx(whole["arc"], rel=1e-5)
    # More pairs than are gone through at once: rows of 600 positions have 360,000 each.
    long = [["cat"] * 600, ["dog"] * 600, ["cat", "sees", "dog"]]
    each = [model.predict([row])["arc"][0] for row in long]
    for p, wanted in zip(model.predict(long)["arc"], each, strict=True):
        np.testing.assert_allclose(p, wanted, atol=1e-5)


def test_relations_come_in_any_form() -> None:
    texts, relations = sentences(20)
    model = model_of(texts, pt.Task("arc", per="pair", tree=True, classes=KINDS), seed=2)
    wanted = losses(model, texts, relations)
    structs = [[{"i": i, "j": j, "kind": kind} for i, j, kind in row] for row in relations]
    listed = [[[np.int64(i), np.int64(j), kind] for i, j, kind in row] for row in relations]
    objects = np.empty(20, object)
    objects[:] = relations
    for given in [structs, listed, objects, polars.Series(structs), pyarrow.array(structs), pandas.Series(relations)]:
        assert losses(model, texts, given) == wanted
    frame = pandas.DataFrame({"text": texts, "arc": relations})
    assert pt.Trainer(model).evaluate(frame).loss == wanted
    with pytest.raises(ValueError, match="should have 20 rows"):
        losses(model, texts, relations[:19])


def test_weights_of_rows_count_for_each_of_their_pairs() -> None:
    texts, relations = sentences(20)
    model = model_of(texts, pt.Task("arc", per="pair", tree=True, classes=KINDS), seed=2)
    weights = np.r_[np.ones(10), np.zeros(10)]
    results = pt.Trainer(model).evaluate((texts, relations), weights=weights)
    part = pt.Trainer(model).evaluate((texts[:10], relations[:10]))
    assert results.loss == pytest.approx(part.loss, rel=1e-6)
    assert results["arc"]["attachment"] == pytest.approx(part["arc"]["attachment"])


@pytest.mark.parametrize("weighting", ["upgrad", "uncertainty", "famo"])
@pytest.mark.parametrize("sharing", ["hard", "cross_stitch", "mmoe"])
def test_relations_go_with_other_tasks(sharing: str, weighting: str) -> None:
    texts, relations = sentences(40)
    tags = [["verb" if word in VERBS else "other" for word in words] for words in texts]
    tasks = [
        pt.Task("tag", classes=["verb", "other"], per="token"),
        pt.Task("arc", per="pair", tree=True, classes=KINDS),
        pt.Task("size", loss="mean_squared"),
    ]
    model = model_of(texts, *tasks, sharing=sharing, seed=0)
    targets = {"tag": tags, "arc": relations, "size": [float(len(words)) for words in texts]}
    before = pt.Trainer(model).evaluate((texts, targets)).loss
    trainer = pt.Trainer(model, weighting=weighting, lr=0.01)
    trainer.fit((texts, targets), epochs=5, progress=False)
    assert trainer.evaluate((texts, targets)).loss < before


def test_long_texts_are_cut_with_their_relations() -> None:
    texts, relations = sentences(20)
    text = pt.Text(max_length=3).fit(texts)
    task = pt.Task("arc", per="pair", tree=True, classes=KINDS)
    model = pt.MultiTaskModel(pt.Inputs(text=text), tasks=[task], encoder="window", seed=0)
    cut = [words[:3] for words in texts]
    left = [[arc for arc in row if arc[0] < 3 and arc[1] < 3] for row in relations]
    assert losses(model, texts, relations) == pytest.approx(losses(model, cut, left), rel=1e-6)
    assert losses(model, cut, left) == pytest.approx(losses(model, [*cut, [], ""], [*left, [], None]), rel=1e-6)


def every_tree(count: int) -> list[tuple[int, ...]]:
    """The heads of all trees of so many positions, with one root."""
    found = []
    for heads in itertools.product(range(count), repeat=count):
        at = np.array(heads)
        if (at == np.arange(count)).sum() == 1 and not cycles(at).any():
            found.append(heads)
    return found


def test_the_likeliest_tree_is_found() -> None:
    for count in range(1, 6):
        each = every_tree(count)
        assert len(each) == count ** (count - 1)
        for _ in range(60):
            p = RNG.random((count, count)) ** RNG.integers(1, 6)
            p /= p.sum(1, keepdims=True)
            best = max(each, key=lambda heads: np.log([p[i, j] for i, j in enumerate(heads)]).sum())
            assert trees.heads(p).tolist() == list(best)


def test_cycles_are_those_of_heads() -> None:
    for _ in range(300):
        count = int(RNG.integers(1, 9))
        heads = RNG.integers(-1, count, count)

        def returns(start: int, heads: np.ndarray = heads) -> bool:
            at = start
            for _ in range(len(heads)):
                if heads[at] in (-1, at):
                    return False
                at = int(heads[at])
                if at == start:
                    return True
            return False

        assert cycles(heads).tolist() == [returns(k) for k in range(count)]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([(0, 3, "of")], "(0, 3, 'of') at row 0 should be of positions of its row, which has 3"),
        ([(-1, 1, "of")], "(-1, 1, 'of') at row 0 should be of positions of its row, which has 3"),
        (
            [(1, -1, "of")],
            "(1, -1, 'of') at row 0 should be of positions of its row, which has 3; that of a root i is ",
        ),
        ([(0, 1, "off")], "at row 0 should have one of the kinds `of`, `subject`, `object`, `root`"),
        ([(0, 1, "none")], "(0, 1, 'none') at row 0 should have one of the kinds"),
        ([(0, 1, "of"), (0, 1, "root")], "has a pair that the row has already"),
        ([(0, 1, "of"), (0, 2, "root")], "is attached twice"),
        ([(0, 1, "of"), (1, 0, "of")], "is part of a cycle"),
        ([(0, 0, "root"), (1, 1, "root")], "is the second root of its row"),
        ([(0, 1)], "should have triples (i, j, kind)"),
        ([(0, 1.5, "of")], "should have triples (i, j, kind)"),
        ("of", "should have a list of triples in each row"),
    ],
)
def test_what_is_no_tree_is_refused(row: object, told: str) -> None:
    texts = [["a", "b", "c"]]
    model = model_of(texts, pt.Task("arc", per="pair", tree=True, classes=KINDS))
    with pytest.raises((TypeError, ValueError), match=re.escape(told)):
        pt.Trainer(model).fit((texts, [row]), epochs=1)


def test_relations_that_are_no_tree_have_no_root() -> None:
    texts = [["a", "b", "c"]]
    with pytest.raises(ValueError, match=r"\(1, -1, 'of'\) at row 0 should be of positions of its row, which has 3$"):
        pt.Trainer(model_of(texts, pt.Task("arc", per="pair", classes=KINDS))).fit((texts, [[(1, -1, "of")]]), epochs=1)


def test_wrong_tasks_are_refused() -> None:
    for arguments, told in [
        ({"per": "pair"}, 'needs kinds, classes=["subject", ...]'),
        ({"per": "pair", "classes": 3}, 'needs kinds, classes=["subject", ...]'),
        ({"per": "pair", "classes": ["a", "a"]}, "should differ"),
        ({"per": "pair", "classes": ["none"]}, "should differ"),
        ({"per": "token", "classes": ["a", "b"], "tree": True}, 'say per="pair"'),
        ({"per": "pair", "classes": ["a"], "spans": "BIO"}, "pairs have one label each"),
        ({"classes": ["a", "b"], "metrics": ["relation_f1"]}, None),
    ]:
        if told is None:
            with pytest.raises(ValueError, match='say `per="pair"`'):
                model_of([["a"]], pt.Task("x", **arguments))
        else:
            with pytest.raises((TypeError, ValueError), match=re.escape(told)):
                pt.Task("x", **arguments)
    with pytest.raises(ValueError, match="Biaffine"):
        model_of([["a"]], pt.Task("x", per="pair", classes=["a"], head="linear"))
    with pytest.raises(ValueError, match="Biaffine is for tasks of pairs"):
        model_of([["a"]], pt.Task("x", per="token", classes=["a", "b"], head="biaffine"))
    with pytest.raises(ValueError, match='per="pair"'):
        model_of([["a"]], pt.Task("x", per="token", classes=["a", "b"], loss="tree"))
    with pytest.raises(ValueError, match="positions"):
        pt.MultiTaskModel(3, tasks=[pt.Task("x", per="pair", classes=["a"])])
    model = model_of([["a"]], pt.Task("x", per="pair", classes=["a"]))
    with pytest.raises(ValueError, match=re.escape("should be [n, n, 2]")):
        model.classes({"x": [np.zeros((2, 3, 2))]})


def test_positions_without_words_have_relations_too() -> None:
    rows = [RNG.normal(size=(n, 4)) for n in (3, 0, 5, 2)]
    relations = [[(0, 1, "near")], [], [(4, 0, "near")], None]
    inputs = pt.Inputs(positions={"atom": pt.Inputs(numeric=4)})
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("bond", per="pair", classes=["near"])], encoder="window")
    pt.Trainer(model).fit(({"atom": rows}, relations), epochs=2, progress=False)
    assert [p.shape for p in model.predict({"atom": rows})["bond"]] == [(3, 3, 2), (0, 0, 2), (5, 5, 2), (2, 2, 2)]


def test_class_weights_count_pairs_in_none() -> None:
    texts, relations = sentences(30)
    task = pt.Task("arc", per="pair", classes=KINDS, loss=pt.loss.CrossEntropy(class_weights="balanced"))
    model = model_of(texts, task, seed=0)
    trainer = pt.Trainer(model)
    trainer.fit((texts, relations), epochs=1, progress=False)
    counts = np.zeros(5)
    for words, row in zip(texts, relations, strict=True):
        counts[0] += len(words) ** 2 - len(row)
        for _, _, kind in row:
            counts[1 + KINDS.index(kind)] += 1
    weights = model.describe()["tasks"][0]["loss"]["class_weights"] if hasattr(model, "describe") else None
    if weights is None:
        weights = model._core.description["tasks"][0]["loss"]["class_weights"]
    np.testing.assert_allclose(weights, counts.sum() / (5 * counts), rtol=1e-6)


def test_what_held_out_rows_say_of_other_tasks_leaves_relations_out() -> None:
    texts, relations = sentences(40)
    tasks = [pt.Task("arc", per="pair", classes=["of"]), pt.Task("mood", classes=2), pt.Task("size")]
    model = model_of(texts, *tasks, seed=0)
    of_one = [[arc for arc in row if arc[2] == "of"] for row in relations]
    targets = {"arc": of_one, "mood": [k % 2 for k in range(40)], "size": [float(len(words)) for words in texts]}
    data = (texts, targets)
    assert list(model.thresholds(data)) == ["mood"]
    assert list(model.calibrate(data)) == ["mood"]
    assert set(model.intervals(data).predict(texts)) == {"size"}
    for call in (model.calibrate, model.thresholds):
        with pytest.raises(ValueError, match="no task 'arc'"):
            call(data, tasks="arc")
    with pytest.raises(ValueError, match="no task 'arc'"):
        model.temperatures = {"arc": 2.0}


def test_a_cut_of_relations_keeps_rows() -> None:
    pairs = Pairs(["a"])
    rows = pairs.read([[(0, 1, "a"), (2, 0, "a")], None, [(1, 1, "a")]], np.array([3, 2, 2]), "`y`")
    cut = pairs.cut(rows, np.array([2, 2, 1]))
    assert cut.values.tolist() == [[0, 1, 1], [-1, -1, -1]]
    assert cut.offsets.tolist() == [0, 1, 2, 2]


def test_the_module_has_the_same_scores() -> None:
    texts, _ = sentences(8)
    for tree in (True, False):
        model = model_of(texts, pt.Task("arc", per="pair", tree=tree, classes=KINDS), seed=4)
        module = model.to_torch()
        wanted = model.predict(texts)["arc"]
        with torch.no_grad():
            found = module(**model.tensors(texts))["arc"]
        np.testing.assert_allclose(found, np.concatenate([row.reshape(-1, 5) for row in wanted]), atol=1e-5)
