"""Spans of positions as what a task predicts: tags, labels in every form, the likeliest path, metrics."""

import itertools
import pickle

import numpy as np
import pandas
import polars
import polytask as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polytask.cli.predict import beside
from polytask.model import span_paths
from polytask.results.results import Results
from seqeval import metrics as of_seqeval
from seqeval import scheme as schemes

KINDS = ["PER", "LOC"]
SCHEMES = ["BIO", "BIOES"]
FIT = {"epochs": 3, "batch_size": 16, "progress": False}

#: A row of 7 positions by hand.
ROW = [(0, 2, "PER"), (2, 3, "PER"), (4, 7, "LOC")]
TAGS = {
    "BIO": ["B-PER", "I-PER", "B-PER", "O", "B-LOC", "I-LOC", "I-LOC"],
    "BIOES": ["B-PER", "E-PER", "S-PER", "O", "B-LOC", "I-LOC", "E-LOC"],
}
BILOU = ["B-PER", "L-PER", "U-PER", "O", "B-LOC", "I-LOC", "L-LOC"]


def sentences(count=120, seed=0):
    """Tokens and spans, which tokens say."""
    rng = np.random.default_rng(seed)
    names = {"PER": ["Ada Lovelace", "Grace"], "LOC": ["New York", "Rome", "Rio de Janeiro"]}
    texts, spans = [], []
    for _ in range(count):
        tokens, row = [], []
        for _ in range(rng.integers(0, 4)):
            tokens += rng.choice(["the", "saw", "met"], rng.integers(0, 3)).tolist()
            kind = str(rng.choice(KINDS))
            name = str(rng.choice(names[kind])).split()
            row.append((len(tokens), len(tokens) + len(name), kind))
            tokens += name
        texts.append([*tokens, "."])
        spans.append(row)
    return texts, spans


TEXTS, SPANS = sentences()


def make_model(scheme="BIO", text=None, metrics=("accuracy", "span_f1", "span_precision", "span_recall"), **more):
    task = pt.Task("entity", spans=scheme, classes=KINDS, per="token", metrics=list(metrics), **more)
    inputs = pt.Inputs(text=text or pt.Text().fit(TEXTS))
    return pt.MultiTaskModel(inputs, tasks=[task], encoder=pt.encoder.Window([16]), seed=0)


def labels(model, x, y):
    """The tags that a model learns from, -1 where they are missing."""
    return model.reader.rows((x, {"entity": y}), "").targets[0]


# Schemes


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tags_of_a_row_by_hand(scheme):
    spans = pt.data.Spans(scheme, KINDS)
    assert spans.to_tags([ROW, []], [7, 2]) == [TAGS[scheme], ["O", "O"]]
    assert spans.from_tags([TAGS[scheme], [], ["O"]]) == [ROW, [], []]
    assert spans.tags[:3] == ["O", "B-PER", "I-PER"]
    assert len(spans.tags) == 1 + 2 * (2 if scheme == "BIO" else 4)
    assert spans == pickle.loads(pickle.dumps(spans))


@pytest.mark.parametrize("name", ["BIOSE", "BILOU", "IOBES", "bioes"])
def test_names_of_one_scheme(name):
    assert pt.data.Spans(name, KINDS) == pt.data.Spans("BIOES", KINDS)


@st.composite
def rows_of_spans(draw):
    rows, lengths = [], []
    for _ in range(draw(st.integers(0, 4))):
        cuts = sorted(draw(st.sets(st.integers(0, 12), max_size=8)))
        kept = [(a, b, draw(st.sampled_from(KINDS))) for a, b in itertools.pairwise(cuts) if draw(st.booleans())]
        rows.append(kept)
        lengths.append(max([b for _, b, _ in kept], default=0) + draw(st.integers(0, 3)))
    return rows, lengths


@settings(max_examples=60, deadline=None)
@given(rows_of_spans(), st.sampled_from(SCHEMES))
def test_spans_come_back_from_their_tags(drawn, scheme):
    rows, lengths = drawn
    spans = pt.data.Spans(scheme, KINDS)
    tags = spans.to_tags(rows, lengths)
    assert [len(row) for row in tags] == lengths
    assert spans.from_tags(tags) == rows


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_may_follow_what_is_what_spans_write(scheme):
    """All tags of all spans of up to 4 positions, against the matrix."""
    spans = pt.data.Spans(scheme, KINDS)
    seen = np.zeros_like(spans.allowed)
    written = set()
    for cuts in itertools.product([0, 1], repeat=3):
        ends = [0, *(k + 1 for k, cut in enumerate(cuts) if cut), 4]
        for kinds in itertools.product([*KINDS, None], repeat=len(ends) - 1):
            row = [(a, b, kind) for a, b, kind in zip(ends, ends[1:], kinds, strict=False) if kind]
            (tags,) = spans.to_tags([row], [4])
            path = tuple(map(spans.tags.index, tags))
            written.add(path)
            seen[path[:-1], path[1:]] = True
    np.testing.assert_array_equal(seen, spans.allowed)
    every = itertools.product(range(len(spans.tags)), repeat=4)
    assert {path for path in every if possible(spans, path)} == written


def possible(spans, path):
    """Whether the matrix lets a path pass."""
    if not len(path):
        return True
    steps = all(spans.allowed[a, b] for a, b in itertools.pairwise(path))
    return bool(spans.starts[path[0]] and spans.ends[path[-1]] and steps)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([(0, 2, "PER"), (1, 3, "LOC")], r"\(0, 2, 'PER'\) and \(1, 3, 'LOC'\) at row 1 overlap"),
        ([(1, 4, "PER")], r"\(1, 4, 'PER'\) at row 1 should be within its row, which has 3 positions"),
        ([(-1, 2, "PER")], r"\(-1, 2, 'PER'\) at row 1 should be within its row"),
        ([(2, 2, "PER")], r"\(2, 2, 'PER'\) at row 1 should end behind its start"),
        ([(0, 1, "ORG")], r"\(0, 1, 'ORG'\) at row 1 should have one of the kinds `PER`, `LOC`"),
        ([(0, 1)], r"triples \(start, end, kind\), two whole numbers and a string; got \(0, 1\) at row 1"),
        ([(0, 1.5, "PER")], r"triples .* got \(0, 1.5, 'PER'\) at row 1"),
    ],
)
def test_triples_that_are_none(row, says):
    with pytest.raises((TypeError, ValueError), match=says):
        pt.data.Spans("BIO", KINDS).to_tags([[], row], [1, 3])
    x = [["Ada"], ["New", "York", "."]]
    with pytest.raises((TypeError, ValueError), match=f"targets of task `entity`.*{says}"):
        pt.Trainer(make_model()).fit((x, {"entity": [[(0, 1, "PER")], row]}), **FIT)


@pytest.mark.parametrize(
    ("scheme", "tags", "says"),
    [
        ("BIO", ["O", "I-PER", "O"], r"in the scheme BIO 'I-PER' may not follow 'O'; got it at row 1, position 1"),
        ("BIO", ["I-PER", "O", "O"], r"'I-PER' may not begin a row; got it at row 1, position 0"),
        ("BIOES", ["O", "O", "B-PER"], r"'B-PER' may not end a row; got it at row 1, position 2"),
        ("BIOES", ["B-PER", "E-LOC", "O"], r"'E-LOC' may not follow 'B-PER'"),
        ("BIOES", ["B-PER", "O", "S-PER"], r"'O' may not follow 'B-PER'; got it at row 1, position 1"),
        ("BIO", ["O", "B-ORG", "O"], r"unknown tag 'B-ORG'|one of .*; got 'B-ORG' at row 1, position 1"),
    ],
)
def test_tags_that_no_spans_have(scheme, tags, says):
    other = ["S-PER"] if scheme == "BIOES" else ["B-PER"]
    with pytest.raises(ValueError, match=says):
        pt.data.Spans(scheme, KINDS).from_tags([other, tags])
    data = ([["Ada"], ["New", "York", "."]], {"entity": [other, tags]})
    with pytest.raises(ValueError, match=says):
        pt.Trainer(make_model(scheme)).fit(data, **FIT)


# The likeliest path


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kinds", [["PER"], KINDS])
def test_the_likeliest_path_is_that_of_all_paths(scheme, kinds):
    spans = pt.data.Spans(scheme, kinds)
    tags = len(spans.tags)
    lengths = [3, 0, 1, 2, 3, 1, 0, 3]
    offsets = np.cumsum([0, *lengths])
    for seed in range(8):
        p = np.random.default_rng(seed).dirichlet(np.full(tags, 0.3), offsets[-1])
        found = span_paths.likeliest(p, offsets, spans)
        for start, stop in itertools.pairwise(offsets):
            paths = [path for path in itertools.product(range(tags), repeat=stop - start) if possible(spans, path)]
            worth = [np.log(np.maximum(p[range(start, stop), path], 1e-300)).sum() for path in paths]
            assert tuple(found[start:stop]) == paths[int(np.argmax(worth))]


def test_impossible_predictions_still_give_spans():
    """Probabilities of 0 and 1 that no spans have."""
    spans = pt.data.Spans("BIOES", KINDS)
    order = [spans.tags.index(tag) for tag in ("I-PER", "I-LOC", "B-PER", "E-LOC", "B-LOC")]
    p = np.eye(len(spans.tags), dtype=np.float32)[order]
    found = span_paths.likeliest(p, np.array([0, 1, 1, 5]), spans)
    spans.check(found, np.array([0, 1, 1, 5]), "x")
    assert len(found) == 5
    assert not len(span_paths.likeliest(p[:0], np.array([0, 0]), spans))


def test_one_path_where_the_likeliest_tags_are_no_spans():
    model = make_model("BIO")
    # I-PER is likelier than B-PER at both positions.
    p = np.array([[0.1, 0.4, 0.5, 0, 0], [0.1, 0.3, 0.6, 0, 0]])
    assert model.classes({"entity": [p, p[:0]]})["entity"].tolist() == [[(0, 2, "PER")], []]
    with pytest.raises(ValueError, match=r"`predicted` of task `entity` should be \[rows, 5\]"):
        model.classes({"entity": [p[:, :4]]})


# Labels


@pytest.mark.parametrize("scheme", SCHEMES)
def test_labels_in_every_form(scheme):
    model = make_model(scheme)
    x = [["a"] * 7, ["Rome", "."]]
    spans = model.tasks[0].spans
    want = [*map(spans.tags.index, TAGS[scheme]), 0, 0]
    triples = [ROW, []]
    arrays = np.empty(2, object)
    arrays[:] = triples
    frame = pandas.DataFrame({"text": x, "entity": triples})
    codes = [want[:7], want[7:]]
    several = [[TAGS["BIO"], ["O", "O"]], [TAGS["BIOES"], ["O", "O"]], [BILOU, ["O", "O"]], codes]
    several += [polars.Series(several[0]), polars.Series(several[1]), pandas.Series(several[0])]
    several += [[[list(span) for span in ROW], []], arrays, (tuple(ROW), ()), frame["entity"]]
    for y in several:
        assert labels(model, x, y).values.tolist() == want, repr(y)
    assert model.reader.rows(frame, "").targets[0].values.tolist() == want


def test_missing_rows_and_tokens():
    x = [["a"] * 7, ["Rome", "."], ["Rome"]]
    for scheme in SCHEMES:
        model = make_model(scheme)
        for y in ([None, [(0, 1, "LOC")], []], [None, ["B-LOC", "O"], ["O"]], [np.nan, [(0, 1, "LOC")], []]):
            found = labels(model, x, y).values.tolist()
            place = model.tasks[0].spans.tags.index({"BIO": "B-LOC", "BIOES": "S-LOC"}[scheme])
            assert found == [-1] * 7 + [place, 0, 0]
        tags = [["B-PER", None, "I-PER", "O", "O", "B-LOC", None], ["O", None], ["B-PER"]]
        found = labels(model, x, tags).values
        named = [None if code < 0 else model.tasks[0].spans.tags[code] for code in found]
        # Behind a token that is missing nobody knows whether a span goes on.
        first = {"BIO": tags[0], "BIOES": [None, None, "E-PER", "O", "O", None, None]}[scheme]
        assert named == [*first, "O", None, {"BIO": "B-PER", "BIOES": "S-PER"}[scheme]]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_longer_texts_are_cut_and_so_are_their_spans(scheme):
    model = make_model(scheme, text=pt.Text(max_length=2).fit(TEXTS))
    spans = model.tasks[0].spans
    x = [["New", "York", "City"], ["in", "New", "York"], ["in", "the", "Rome"], ["Rome"]]
    y = [[(0, 3, "LOC")], [(1, 3, "LOC")], [(2, 3, "LOC")], [(0, 1, "LOC")]]
    want = spans.to_tags([[(0, 2, "LOC")], [(1, 2, "LOC")], [], [(0, 1, "LOC")]], [2, 2, 2, 1])
    for given_labels in (y, spans.to_tags(y, [3, 3, 3, 1]), pt.data.Spans("BIO", KINDS).to_tags(y, [3, 3, 3, 1])):
        codes = labels(model, x, given_labels).values
        assert [spans.tags[code] for code in codes] == [tag for row in want for tag in row]


def test_labels_of_other_rows_and_of_two_forms():
    model = make_model()
    with pytest.raises(ValueError, match="should have 2 rows, as the features have; got 1"):
        labels(model, [["a"], ["b"]], [[(0, 1, "PER")]])
    with pytest.raises(TypeError, match=r"should have triples .*; got 'O' at row 1"):
        labels(model, [["a"], ["b"]], [[(0, 1, "PER")], ["O"]])
    with pytest.raises(TypeError, match=r"should have triples .*; got 'O' at row 0"):
        labels(model, [["a"], ["b"]], [["O"], [(0, 1, "PER")]])
    with pytest.raises(ValueError, match="should have a label for each token; got 1 at row 0"):
        labels(model, [["a", "b"], ["b"]], [["O"], ["O"]])


# Tasks


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"per": None}, "`spans` are of positions; say of which"),
        ({"classes": 3}, r"task `entity`: `spans` needs their kinds, .* got classes=3"),
        ({"classes": None}, r"`spans` needs their kinds"),
        ({"classes": ["A", "A"]}, r"task `entity`: `classes` should differ"),
        ({"classes": [1]}, r"task `entity`: `classes` should be strings; got 1"),
        ({"spans": "BOI"}, r"task `entity`: `spans`: unknown scheme 'BOI'; .*`BIO`"),
        ({"outputs": 2}, "one label a position; got outputs=2"),
        ({"spans": 3}, "`spans` should be one of `BIO`, `BIOES`; got 3"),
    ],
)
def test_tasks_that_are_none(more, says):
    with pytest.raises((TypeError, ValueError), match=says):
        pt.Task("entity", **{"spans": "BIO", "classes": KINDS, "per": "token"} | more)


def test_a_task_says_what_it_is():
    task = pt.Task("entity", spans="BILOU", classes=KINDS, per="token")
    assert repr(task) == "Task('entity', classes=['PER', 'LOC'], per='token', spans='BIOES')"
    assert task.loss == pt.loss.CRF()
    again = pickle.loads(pickle.dumps(task))
    assert (repr(again), again.spans) == (repr(task), task.spans)
    other = pt.Task("entity", spans="BIO", classes=("PER",), per="token", loss="cross_entropy")
    assert "CrossEntropy" in repr(other)
    assert [metric.name for metric in make_model().metrics[0]][:2] == ["accuracy", "span_f1"]


def test_metrics_of_spans_are_those_of_spans():
    with pytest.raises(ValueError, match="metric `span_f1` is for tasks of spans"):
        pt.MultiTaskModel(2, tasks=[pt.Task("a", classes=2, metrics=["span_f1"])])
    with pytest.raises(ValueError, match=r"`metrics` of spans should be .*`span_f1`.*; got 'f1'"):
        make_model(metrics=["f1"])
    with pytest.raises(ValueError, match="unknown metric 'span_f2'; did you mean `span_f1`"):
        make_model(metrics=["span_f2"])


# Training


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_model_learns_spans_and_is_kept(scheme, tmp_path):
    model = make_model(scheme)
    trainer = pt.Trainer(model, lr=0.02, callbacks=[pt.EarlyStopping("entity/span_f1", patience=9)])
    history = trainer.fit((TEXTS, {"entity": SPANS}), validation=0.2, **FIT)
    assert "entity/accuracy" in history[0]
    assert "entity/span_f1" not in history[0]
    assert history["validation/entity/span_f1"][-1] > 0.95
    x, y = sentences(30, seed=1)
    predicted = model.predict(x)
    found = model.classes(predicted)["entity"].tolist()
    assert found == y
    model.save(tmp_path / "m.safetensors")
    for again in (pt.MultiTaskModel.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(model))):
        assert repr(again.tasks) == repr(model.tasks)
        assert again.classes(again.predict(x))["entity"].tolist() == found


def test_spans_stand_beside_a_table():
    model = make_model()
    found = beside(model, pandas.DataFrame({"text": ["Ada in Rome", "."]}))
    assert list(found) == ["entity_predicted"]
    assert [type(row) for row in found["entity_predicted"]] == [list, list]


def seqeval(y, predicted, scheme):
    which = {"BIO": schemes.IOB2, "BIOES": schemes.IOBES}[scheme]
    each = (getattr(of_seqeval, f"{name}_score") for name in ("f1", "precision", "recall"))
    return [score(y, predicted, mode="strict", scheme=which, average="micro") for score in each]


def values(results: Results):
    return [results["entity"][name] for name in ("span_f1", "span_precision", "span_recall")]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_metrics_are_those_of_seqeval_and_by_hand(scheme):
    model = make_model(scheme)
    spans = model.tasks[0].spans
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((TEXTS, {"entity": SPANS}), **FIT | {"epochs": 1, "batch_size": 40})
    x, y = sentences(60, seed=2)
    lengths = [len(row) for row in x]
    predicted = model.classes(model.predict(x))["entity"].tolist()
    pairs = [{(at, *span) for at, row in enumerate(rows) for span in row} for rows in (y, predicted)]
    right = len(pairs[0] & pairs[1])
    by_hand = [2 * right / (len(pairs[0]) + len(pairs[1])), right / len(pairs[1]), right / len(pairs[0])]
    assert 0 < by_hand[0] < 1, "nothing to tell apart"
    for size in (7, 60):
        assert values(trainer.evaluate((x, {"entity": y}), batch_size=size)) == pytest.approx(by_hand)
    batches = [(x[at : at + 13], {"entity": y[at : at + 13]}) for at in range(0, 60, 13)]
    assert values(trainer.evaluate(batches)) == pytest.approx(by_hand)
    assert seqeval(*(spans.to_tags(rows, lengths) for rows in (y, predicted)), scheme) == pytest.approx(by_hand)


def test_rows_without_all_labels_do_not_count():
    model = make_model()
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit((TEXTS, {"entity": SPANS}), **FIT | {"epochs": 1, "batch_size": 40})
    x, y = sentences(20, seed=3)
    tags = model.tasks[0].spans.to_tags(y, map(len, x))
    want = values(trainer.evaluate((x[:17], {"entity": tags[:17]})))
    assert 0 < want[0] < 1
    missing = [*tags[:17], None, [None] * len(x[18]), [None, *tags[19][1:]]]
    assert values(trainer.evaluate((x, {"entity": missing}))) == want
    weights = np.array([1.0] * 17 + [0.0] * 3)
    assert values(trainer.evaluate((x, {"entity": tags}), weights=weights)) == want


def test_nothing_to_find_is_not_a_number():
    model = make_model()
    trainer = pt.Trainer(model, lr=0.05)
    trainer.fit((TEXTS, {"entity": [[] for _ in TEXTS]}), **FIT)
    found = values(trainer.evaluate((TEXTS, {"entity": [[] for _ in TEXTS]})))
    assert np.isnan(found).all()
    f1, precision, recall = values(trainer.evaluate((TEXTS, {"entity": SPANS})))
    assert (f1, recall) == (0, 0)
    assert np.isnan(precision)
