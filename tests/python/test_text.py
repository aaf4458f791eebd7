"""Text as an input: tokens, codes, labels of tokens, files."""

import builtins
import copy
import logging
import pickle
import unicodedata

import numpy as np
import pandas
import polars
import polytask as pt
import pyarrow
import pytest
from conftest import same_bits
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "far", "away"]
NOUNS = ("cat", "mat", "dog")
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(1, 8))) for _ in range(80)]
TAGS = [["noun" if word in NOUNS else "other" for word in text.split()] for text in TEXTS]
MOOD = np.array([int("cat" in text) for text in TEXTS])
TARGETS = {"tag": TAGS, "mood": MOOD}
FIT = {"epochs": 3, "batch_size": 16, "progress": False}


def make_model(text=None, per="token", inputs=None):
    tasks = [pt.Task("tag", classes=["noun", "other"], per=per), pt.Task("mood", classes=2)]
    inputs = inputs or pt.Inputs(text=text or pt.Text().fit(TEXTS))
    return pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.Window([16]), seed=1)


def fitted(data=(TEXTS, TARGETS), **more):
    model = make_model(**more)
    return model, pt.Trainer(model, lr=0.02).fit(data, **FIT)


def codes(text, rows):
    return text.read(rows, "x").values[:, 0].tolist()


# Tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop_me (now)!", ["Don", "'", "t", "stop", "_", "me", "(", "now", ")", "!"]),
        ("a1 2b\t3.5\n", ["a1", "2b", "3", ".", "5"]),
        ("שָׁלוֹם, עוֹלָם", ["שָׁלוֹם", ",", "עוֹלָם"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("می‌خواهم", ["می‌خواهم"]),
        (unicodedata.normalize("NFD", "café crème"), ["café", "crème"]),
        ("日本 2024年", ["日本", "2024年"]),
        ("ok 👍🏽", ["ok", "👍", "🏽"]),
        ("", []),
        (" \u2003\u00a0 ", []),
    ],
)
def test_words_whatever_the_script(text, words):
    assert pt.Text(min_count=1).fit(["x"]).tokens([text]) == [words]


@settings(max_examples=60, deadline=None)
@drawn(st.text(st.characters(codec="utf-8"), max_size=40))
def test_words_have_every_sign_that_is_no_space_in_order(row):
    (words,) = pt.Text(min_count=1, normalize=None).fit(["x"]).tokens([row])
    assert "".join(words) == "".join(row.split())
    (characters,) = pt.Text("characters", min_count=1, normalize=None).fit(["x"]).tokens([row])
    assert characters == list(row)


def test_strings_are_split_and_lists_of_tokens_are_taken_as_they_are():
    text = pt.Text(min_count=1).fit(["New York is big"])
    assert text.tokens([["New York", "is"], "New York is"]) == [["New York", "is"], ["New", "York", "is"]]
    assert codes(text, [["New York", "is"]])[0] == 0
    assert codes(text, [["New", "York", "is"]]) == codes(text, ["New York is"])


def test_one_form_of_unicode():
    nfd = unicodedata.normalize("NFD", "café")
    assert codes(pt.Text(min_count=1).fit(["café"]), [nfd, [nfd]]) == [1, 1]
    assert codes(pt.Text(min_count=1, normalize=None).fit(["café"]), [nfd]) == [0]
    assert pt.Text("characters").fit(["aa"]).tokens([nfd]) == [["c", "a", "f", "é"]]
    assert pt.Text("characters", normalize=None).fit(["aa"]).tokens([nfd]) == [["c", "a", "f", "e", "\u0301"]]


# Codes


def test_codes_by_how_often_tokens_come_then_by_code_point():
    text = pt.Text().fit(["b a b", "c a", ["c", "d"]])
    assert text.vocabulary == ["", "a", "b", "c"]
    assert text.size == 4
    assert codes(text, ["c b a d e"]) == [3, 2, 1, 0, 0]
    assert pt.Text(min_count=1, max_size=2).fit(["b a b", "c a c c"]).vocabulary == ["", "c", "a"]
    assert pt.Text(min_count=3).fit(["A a", "a"]).vocabulary == [""]
    assert pt.Text(min_count=3, lower=True).fit(["A a", "a"]).vocabulary == ["", "a"]
    assert codes(pt.Text(min_count=1, lower=True).fit(["a"]), ["A"]) == [1]


@settings(max_examples=40, deadline=None)
@drawn(st.lists(st.lists(st.sampled_from(["a", "B", "é", "ש", "1"]), max_size=6), max_size=8), st.integers(1, 3))
def test_codes_give_the_tokens_back_and_no_order_of_rows_changes_them(rows, least):
    if not any(rows):
        return
    text = pt.Text(min_count=least).fit(rows)
    flat = [token for row in rows for token in row]
    for token, code in zip(flat, codes(text, rows), strict=True):
        assert text.vocabulary[code] == (token if flat.count(token) >= least else "")
    assert pt.Text(min_count=least).fit(rows[::-1]).vocabulary == text.vocabulary


def test_a_text_all_of_whose_tokens_are_unknown_is_logged(caplog):
    with caplog.at_level(logging.WARNING, "polytask"):
        pt.Text().fit(["all differ"])
    assert "no token comes 2 times" in caplog.text


def test_affixes_and_shapes_beside_words():
    text = pt.Text(min_count=1, affixes=True).fit(["Walking talking 3-4"])
    values = text.read(["walked WALKED Stalking x", "7-8 שלום"], "x").values
    first, upper, talking, *_ = values
    assert values.shape == (8, 8)
    assert (values[:, 0] != 0).tolist() == [False] * 4 + [False, True, False, False]  # "-" alone
    assert first[1] != 0  # begins with w
    assert first[1:7].tolist() == upper[1:7].tolist()
    assert talking[4] == text.read(["Walking"], "x").values[0, 4] != 0  # ends on g
    shapes = values[:, 7].tolist()
    assert shapes[0] == shapes[3] != 0
    assert shapes[2] == text.read(["Walking"], "x").values[0, 7]
    assert shapes[1] == shapes[7] == 0
    assert text.features()[1:] == [len(set(part)) + 1 for part in zip(*PARTS, strict=True)]


PARTS = [
    ("w", "wa", "wal", "g", "ng", "ing", "Xx"),
    ("t", "ta", "tal", "g", "ng", "ing", "x"),
    ("3", "3", "3", "3", "3", "3", "d"),
    ("-", "-", "-", "-", "-", "-", "-"),
    ("4", "4", "4", "4", "4", "4", "d"),
]


def test_characters_of_words_from_both_ends():
    text = pt.Text(min_count=1, characters=4).fit(["abcdef"])
    assert text.features()[1] == pt.Bag(7, 4)
    assert text.read(["abcdef ab zf"], "x").values[:, 1:].tolist() == [[1, 2, 5, 6], [1, 2, -1, -1], [0, 6, -1, -1]]
    assert pt.Text(characters=True).characters == 16


@pytest.mark.parametrize("more", [{"affixes": True}, {"characters": 3}, {"affixes": True, "characters": True}])
def test_words_that_were_not_seen_are_told_by_their_parts(more):
    """The tag of a word is its ending, and the words of validation are others."""
    rng = np.random.default_rng(3)

    def rows(count):
        stems = ["".join(rng.choice(list("bcdfg"), 5)) for _ in range(5 * count)]
        each = [f"{stem}{rng.choice(['a', 'o'])}" for stem in stems]
        words = [each[at : at + 5] for at in range(0, len(each), 5)]
        return words, [["noun" if word[-1] == "a" else "other" for word in row] for row in words]

    texts, tags = rows(60)
    model = make_model(pt.Text(**more).fit(texts))
    pt.Trainer(model, lr=0.02).fit((texts, {"tag": tags, "mood": None}), epochs=15, batch_size=16, progress=False)
    other, wanted = rows(20)
    assert pt.Trainer(model).evaluate((other, {"tag": wanted}))["tag/accuracy"] > 0.9


# Models


def test_text_as_people_have_it_gives_the_same_numbers():
    model, history = fitted(({"text": TEXTS}, TARGETS))
    assert history["tag/accuracy"][-1] > 0.95
    whole = {"text": TEXTS, **TARGETS}
    forms = {
        "list": (TEXTS, TARGETS),
        "tokens": ([text.split() for text in TEXTS], TARGETS),
        "array": (np.array(TEXTS), TARGETS),
        "dict": whole,
        "pandas": pandas.DataFrame(whole),
        "polars": polars.DataFrame(whole),
        "records": pandas.DataFrame(whole).to_dict("records"),
        "series": (pandas.Series(TEXTS), TARGETS),
        "arrow": ({"text": pyarrow.array(TEXTS)}, TARGETS),
        "tokens of polars": (polars.Series([text.split() for text in TEXTS]), TARGETS),
    }
    for name, data in forms.items():
        assert fitted(data)[1]["loss"] == history["loss"], name
    want = model.predict({"text": TEXTS[:3]})
    for x in (TEXTS[:3], tuple(TEXTS[:3]), pandas.DataFrame(whole)[:3], polars.Series(TEXTS[:3]), np.array(TEXTS[:3])):
        found = model.predict(x)
        np.testing.assert_allclose(found["mood"], want["mood"], rtol=1e-5)
        assert [row.shape for row in found["tag"]] == [(len(text.split()), 2) for text in TEXTS[:3]]
    for row in (TEXTS[0], {"text": TEXTS[0]}, pandas.DataFrame(whole).iloc[0]):
        np.testing.assert_allclose(model.predict(row)["mood"], want["mood"][:1], rtol=1e-5)
    assert model.classes(want)["tag"][0].tolist() == TAGS[0]


@pytest.mark.usefixtures("own_seed")
def test_batches_of_a_loader():
    pairs = list(zip(TEXTS, MOOD.tolist(), strict=True))
    tasks = [pt.Task("mood", classes=2)]
    model = pt.MultiTaskModel(pt.Inputs(text=pt.Text().fit(TEXTS)), tasks=tasks, encoder="window")
    pt.Trainer(model, lr=0.02).fit(DataLoader(pairs, batch_size=16), epochs=8, progress=False)
    accuracy = (model.predict(DataLoader(pairs, batch_size=16))["mood"].argmax(1) == MOOD).mean()
    assert accuracy == (model.predict(TEXTS)["mood"].argmax(1) == MOOD).mean() > 0.9


@pytest.mark.parametrize("per", ["token", "tokens", "text", "word", "words"])
def test_what_the_tokens_are_called(per):
    assert [task.per for task in make_model(per=per).tasks] == ["text", None]


def test_other_names_of_texts_and_tasks_that_come_later():
    inputs = pt.Inputs(text={"question": pt.Text().fit(TEXTS)})
    model = make_model(inputs=inputs)
    assert model.predict({"question": TEXTS[:2]})["mood"].shape == (2, 2)
    wider = model.add_task(pt.Task("length", per="token"))
    assert wider.tasks[-1].per == "question"
    tasks = [pt.Task("a", per="tokens")]
    with pytest.raises(ValueError, match="`per` should be one of the positions"):
        pt.MultiTaskModel(inputs, tasks=[pt.Task("a", per="characters")], encoder="window")
    beside = {"tokens": pt.Inputs(numeric=1)}
    assert pt.MultiTaskModel(pt.Inputs(positions=beside), tasks=tasks, encoder="window").tasks[0].per == "tokens"


def test_columns_of_a_frame_beside_its_text():
    frame = pandas.DataFrame({"text": TEXTS, "price": RNG.normal(size=80), "city": ["A", "B"] * 40, "tag": TAGS})
    frame["mood"] = ((frame["price"] > 0) & (MOOD == 1)).astype(int)
    inputs = pt.Inputs.from_frame(frame, text="text", exclude=["tag"])
    assert "text: `text` (10 words)" in repr(inputs)
    model = make_model(inputs=inputs)
    assert model.inputs.columns.names == ["price", "city", "text"]
    assert repr(model.inputs.columns).splitlines()[-1] == "text    text       10 words"
    assert pickle.loads(pickle.dumps(model)).inputs.columns == model.inputs.columns
    with pytest.raises(TypeError, match=r"a frame or a dict with the columns `price`, `city`, `text`, as .*; got list"):
        model.predict(TEXTS)
    history = pt.Trainer(model, lr=0.02).fit(frame, epochs=15, batch_size=16, progress=False)
    assert history["mood/accuracy"][-1] > 0.85
    want = model.predict(frame)["mood"]
    for same in (frame.to_dict("list"), frame.to_dict("records"), polars.DataFrame(frame.to_dict("list"))):
        np.testing.assert_array_equal(model.predict(same)["mood"], want)
    np.testing.assert_allclose(model.predict(frame.iloc[3])["mood"], want[3:4], rtol=1e-5)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(frame)["mood"], want)
    assert set(pt.importance(model, frame, repeats=2)["mood"]) == {"price", "city", "text"}
    for columns in (["price"], ["city"], []):
        some = frame[["text", "mood", *columns]]
        model = pt.MultiTaskModel(pt.Inputs.from_frame(some, text="text"), tasks=[pt.Task("mood", classes=2)])
        assert pt.Trainer(model).fit(some, epochs=1, progress=False)["loss"][0] > 0
    alone = pt.Inputs.from_frame(frame, text={"text": pt.Text("characters")}, exclude=["tag", "mood", "price", "city"])
    assert [(each.name, each.kind, each.known) for each in alone.columns] == [("text", "text", "16 characters")]
    assert alone.kinds == ["text"]


def test_rows_without_text_have_no_positions_and_a_prediction():
    model, _ = fitted()
    for empty in ("", None, float("nan"), [], pandas.NA, "  "):
        predicted = model.predict([TEXTS[0], empty])
        assert [len(row) for row in predicted["tag"]] == [len(TAGS[0]), 0]
        assert np.isfinite(predicted["mood"]).all()
        assert np.isfinite(model.predict([empty])["mood"]).all()
    texts, tags = [*TEXTS, None, ""], [*TAGS, None, []]
    history = fitted((texts, {"tag": tags, "mood": [*MOOD, -1, 0]}))[1]
    assert np.isfinite(history["loss"]).all()


def test_what_is_no_text_says_where():
    model = make_model()
    cases = [
        ([1, 2], TypeError, r"`x` should hold strings or lists of tokens; got 1 at row 0"),
        (["a", 3.5], TypeError, r"got 3.5 at row 1"),
        (["a", ["b", None]], TypeError, r"got None at row 1, position 1"),
        (["a", b"\xff"], TypeError, r"got bytes, b'\\xff', at row 1: decode them"),
        (["a", "\udc80b"], ValueError, r"the surrogate '\\udc80' alone at row 1"),
        ({"text": np.zeros((2, 2, 2))}, TypeError, r'`x\["text"\]` should be texts of rows; got an array of shape'),
    ]
    for x, error, says in cases:
        with pytest.raises(error, match=says):
            model.predict(x)
    with pytest.raises(TypeError, match=r"column `text`.*got 7 at row 1"):
        pt.Inputs.from_frame(pandas.DataFrame({"text": ["a", 7]}), text="text")


def test_labels_of_other_lengths_are_refused_before_the_first_step():
    model = make_model()
    before = model.state_dict()
    tags = [*TAGS]
    tags[7] = [*tags[7], "noun"]
    with pytest.raises(ValueError, match="label for each token") as told:
        pt.Trainer(model).fit((TEXTS, {**TARGETS, "tag": tags}), **FIT)
    count = len(TAGS[7])
    first = TEXTS[7].split()[0]
    assert f"task `tag` should have a label for each token; got {count + 1} at row 7" in str(told.value)
    assert f"whose text has {count} words: '{first}'" in str(told.value)
    assert same_bits(model.state_dict(), before)
    tags[7] = [*TAGS[7][:-1], "verb"]
    with pytest.raises(ValueError, match=rf"one of `'noun'`, `'other'`; got 'verb' at row 7, position {count - 1}"):
        pt.Trainer(model).fit((TEXTS, {**TARGETS, "tag": tags}), **FIT)


def test_long_texts_are_cut_with_their_labels_where_that_is_asked_for(caplog):
    text = pt.Text(max_length=3).fit(TEXTS)
    with caplog.at_level(logging.WARNING, "polytask"):
        model, history = fitted(text=text)
    assert f"{sum(len(row) > 3 for row in TAGS)} rows of more than 3 tokens" in caplog.text
    same = fitted(([text.split()[:3] for text in TEXTS], {**TARGETS, "tag": [row[:3] for row in TAGS]}))[1]
    assert history["loss"] == same["loss"]
    assert max(len(row) for row in model.predict(TEXTS)["tag"]) == 3
    assert text.tokens(["a b c d"]) == [["a", "b", "c"]]
    with pytest.raises(ValueError, match="label for each token"):
        model.reader.read((TEXTS, {"tag": [row[:1] for row in TAGS], "mood": MOOD}))
    assert make_model().predict(["cat " * 100_000])["tag"][0].shape == (100_000, 2)


def test_codes_are_learned_before_a_model_is_made():
    with pytest.raises(ValueError, match=r"`text` needs codes.*fit\(texts\)"):
        pt.Inputs(text=pt.Text())
    with pytest.raises(ValueError, match="needs codes"):
        pt.Text().tokens(["a"])
    with pytest.raises(ValueError, match="`texts` should have at least one token"):
        pt.Text().fit(["", None])
    assert repr(pt.Text()) == "Text(words yet to be learned)"


def test_what_a_model_has_a_later_fit_does_not_change():
    text = pt.Text().fit(TEXTS)
    model = make_model(text)
    before = model.predict(TEXTS)["mood"]
    text.fit(["other words", "other words"])
    np.testing.assert_array_equal(model.predict(TEXTS)["mood"], before)
    assert model.inputs.text["text"].size == 11


def test_batches_and_several_data_sets_of_texts():
    """What stands alone in a tuple, or is a tuple of tokens, is text here and no batch."""
    model, _ = fitted()
    want = model.predict(TEXTS)["mood"]
    np.testing.assert_allclose(model.predict([tuple(text.split()) for text in TEXTS])["mood"], want, rtol=1e-4)

    def batches():
        for at in range(0, len(TEXTS), 16):
            yield {"text": TEXTS[at : at + 16], "tag": TAGS[at : at + 16], "mood": MOOD[at : at + 16]}

    np.testing.assert_allclose(model.predict(batches)["mood"], want, rtol=1e-4)
    as_torch = model.to_torch()(**model.tensors(TEXTS))["mood"].detach()
    np.testing.assert_allclose(as_torch, want, rtol=1e-3, atol=1e-6)
    trainer = pt.Trainer(model)
    assert trainer.fit(batches, epochs=1, progress=False)["loss"][-1] < 1
    both = {"tag": (TEXTS, TAGS), "mood": ({"text": TEXTS[:30]}, MOOD[:30])}
    assert trainer.fit(both, epochs=1, progress=False, train_metrics=False)["loss"][-1] < 1
    assert "validation/tag/accuracy" in trainer.fit((TEXTS, TARGETS), validation=0.2, **FIT).columns


def test_classes_of_tokens_are_listed():
    model = pt.MultiTaskModel(pt.Inputs(text=pt.Text().fit(TEXTS)), tasks=[pt.Task("tag", per="token")])
    with pytest.raises(TypeError, match=r"got .*'(noun|other)' at row 0, position 0; labels of classes are listed"):
        pt.Trainer(model).fit((TEXTS, TAGS), **FIT)


def refused_tags(tags, **task):
    model = make_model()
    tasks = [pt.Task("tag", **{"classes": ["noun", "other"]} | task), model.tasks[1]]
    model = pt.MultiTaskModel(model.inputs, tasks=tasks, encoder="window", seed=1)
    with pytest.raises(ValueError, match="the targets of task `tag`") as told:
        pt.Trainer(model).fit((TEXTS, {**TARGETS, "tag": tags}), **FIT)
    return str(told.value).removeprefix("the targets of task `tag` ")


@pytest.mark.parametrize(
    "column",
    [list, pandas.Series, polars.Series, pyarrow.array, lambda rows: np.array([*rows, None], object)[:-1]],
)
def test_labels_of_tokens_need_per(column):
    lengths = [len(row) for row in TAGS]
    at = next(at for at, length in enumerate(lengths) if length != lengths[0])
    got = f"got a list of {lengths[0]} at row 0, one of {lengths[at]} at row {at}"
    assert refused_tags(column(TAGS)) == f'should be one label a row; {got}; labels of positions need per="token"'


def test_labels_of_tokens_need_per_where_rows_are_of_one_length():
    needs = 'labels of positions need per="token"'
    assert refused_tags([[0, 1]] * 80, classes=2) == f"should be one label a row; got a list of 2 at row 0; {needs}"
    array = f"should be one label a row; got an array of shape [80, 3]; {needs}"
    assert refused_tags(np.zeros((80, 3), int), classes=2) == array
    several = {"classes": None, "loss": "binary_cross_entropy", "outputs": 2}
    assert refused_tags([[[0, 1]], [[0, 1], [1, 1]]] * 40, **several).startswith("should be 2 labels a row; got a list")


def test_one_label_a_row_in_lists_is_as_it_was():
    tags = [[label] for label in MOOD.tolist()]
    model = pt.MultiTaskModel(make_model().inputs, tasks=[pt.Task("tag", classes=2)], seed=1)
    assert pt.Trainer(model).fit((TEXTS, {"tag": tags}), **FIT)["loss"][-1] < 1


def test_triples_of_a_task_without_spans_are_told_what_they_need():
    triples = [[], [(0, 1, "noun")]] * 40
    needs = 'spans need spans="BIO", relations per="pair"'
    got = "got the triple (0, 1, 'noun') at row 1"
    assert refused_tags(triples, per="token") == f"should be a label a position; {got}; {needs}"
    needs = 'spans need spans="BIO" and per="token", relations per="pair"'
    assert refused_tags(triples) == f"should be one label a row; {got}; {needs}"
    assert refused_tags([[]] * 80, per="token").endswith("; a row without labels is None")


# Vectors


def vectors():
    rng = np.random.default_rng(5)
    return ["cat", "dog", "the", "nowhere"], rng.normal(size=(4, 6)).astype(np.float32)


def test_embeddings_start_from_vectors_in_every_form(tmp_path):
    names, matrix = vectors()
    path = tmp_path / "glove.txt"
    lines = [f"{name} {' '.join(map(str, row))}" for name, row in zip(names, matrix.tolist(), strict=True)]
    path.write_text("\n".join([*lines, "cat 9 9 9 9 9 9", f". . {' '.join('0' * 6)}", ""]), encoding="utf-8")
    headed = tmp_path / "headed.vec"
    headed.write_text("\n".join(["4 6", *lines]), encoding="utf-8")
    for given in ((names, matrix), dict(zip(names, matrix.tolist(), strict=True)), path, str(headed)):
        text = pt.Text(vectors=given).fit([*TEXTS, "Cat Cat"])
        assert repr(text) == "Text(11 words, 4 of them started from vectors, width=6)"
        model = make_model(text)
        table = model.state_dict()["embedding.text.0.weight"]
        plain = make_model(pt.Text(width=6).fit([*TEXTS, "Cat Cat"])).state_dict()["embedding.text.0.weight"]
        for word, vector in zip(names[:3], matrix, strict=False):
            np.testing.assert_array_equal(table[text.vocabulary.index(word)], vector)
        np.testing.assert_array_equal(table[text.vocabulary.index("Cat")], matrix[0])
        np.testing.assert_array_equal(table[0], plain[0])
        assert "4 of them started from vectors" in repr(model.summary())


@pytest.mark.parametrize("lower", [False, True])
def test_words_that_have_vectors_are_known_if_fit_has_seen_them(lower):
    names, matrix = vectors()
    plain = pt.Text(vectors=(names, matrix), lower=lower).fit(TEXTS)
    assert "nowhere" not in plain.vocabulary
    text = pt.Text(vectors=(names, matrix), lower=lower).fit([*TEXTS, ["nowhere", "Dog", "unheard"]])
    assert set(text.vocabulary) - set(plain.vocabulary) == ({"nowhere"} if lower else {"nowhere", "Dog"})
    assert codes(text, ["nowhere unheard"])[1] == 0
    table = make_model(text).state_dict()["embedding.text.0.weight"]
    for word, vector in (("nowhere", matrix[3]), ("Dog", matrix[1]), ("cat", matrix[0])):
        np.testing.assert_array_equal(table[codes(text, [word])[0]], vector)
    few = pt.Text(vectors=(names, matrix), max_size=3).fit([*TEXTS, ["nowhere"]])
    assert len(few.vocabulary) == 4


def test_frozen_embeddings_stay():
    text = pt.Text(vectors=vectors(), freeze=True).fit(TEXTS)
    model, _ = fitted(text=text)
    assert model.frozen == ["embedding.text.0.weight"]
    fresh = make_model(text).state_dict()["embedding.text.0.weight"]
    np.testing.assert_array_equal(model.state_dict()["embedding.text.0.weight"], fresh)
    moved, _ = fitted(text=pt.Text(vectors=vectors()).fit(TEXTS))
    assert not np.array_equal(moved.state_dict()["embedding.text.0.weight"], fresh)


def test_vectors_that_are_none():
    names, matrix = vectors()
    cases = [
        (names, TypeError, "words and a matrix"),
        ((names[:2], matrix), ValueError, r"a matrix \[2, width\]; got \[4, 6\]"),
        ({"cat": [1, 2], "dog": [1]}, ValueError, "one width; got 1 and 2"),
        ({"cat": [1, np.inf]}, ValueError, "finite numbers; got others for 'cat'"),
        ({"zzz": [1.0]}, ValueError, "got none of them"),
    ]
    for given, error, says in cases:
        with pytest.raises(error, match=says):
            pt.Text(vectors=given).fit(TEXTS)
    with pytest.raises(ValueError, match="`width` should be that of `vectors`, 6; got 3"):
        pt.Text(vectors=(names, matrix), width=3).fit(TEXTS)
    with pytest.raises(ValueError, match="`freeze` is for embeddings that start from `vectors`"):
        pt.Text(freeze=True)


def test_a_line_that_is_no_vector_is_named(tmp_path):
    path = tmp_path / "broken.txt"
    path.write_text("the 1 2\ncat 1 x\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2 should be a word and 2 numbers; got '1 x'"):
        pt.Text(vectors=path).fit(TEXTS)


# Files, arguments


@pytest.mark.parametrize(
    "more",
    [{}, {"level": "characters"}, {"affixes": True, "characters": 3, "lower": True, "max_length": 4, "width": 5}],
)
def test_files_pickles_and_copies_read_the_same(more, tmp_path):
    text = pt.Text(**more).fit([*TEXTS, "שלום שלום"])
    model = make_model(text)
    model.save(tmp_path / "m.safetensors")
    rows = [*TEXTS[:4], "Unseen שלום words", ""]
    want = model.predict(rows)
    read = [pickle.loads(pickle.dumps(pt.Inputs(text=text))), copy.deepcopy(pt.Inputs(text=text))]
    same = [make_model(inputs=inputs) for inputs in read]
    for again in (pt.MultiTaskModel.load(tmp_path / "m.safetensors"), copy.deepcopy(model), *same):
        found = again.predict(rows)
        np.testing.assert_array_equal(found["mood"], want["mood"])
        assert [row.tolist() for row in found["tag"]] == [row.tolist() for row in want["tag"]]
        assert repr(again.inputs) == repr(model.inputs)
        assert again.inputs.text["text"].vocabulary == text.vocabulary
    assert f"has {text.size - 1} {text.level}" in repr(model.summary())


def test_members_of_an_ensemble_read_by_their_own_codes():
    texts = pt.Text().fit(TEXTS), pt.Text(min_count=1).fit([*WORDS[:9], "zzz", *WORDS[:9]])
    moods = [pt.Task("mood", classes=2)]
    one, other = (pt.MultiTaskModel(pt.Inputs(text=text), tasks=moods, encoder="window") for text in texts)
    assert one.inputs.text["text"].size == other.inputs.text["text"].size
    assert one.inputs.describe() == other.inputs.describe()
    both = pt.Ensemble([one, other]).predict(TEXTS[:3])["mood"]
    each = [model.predict(TEXTS[:3])["mood"] for model in (one, other)]
    np.testing.assert_allclose(both, np.mean(each, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text["vocabularies"].pop("prefix2"),
        lambda text: text["vocabularies"]["tokens"].append("more"),
        lambda text: text["vocabularies"].update(shape=7),
        lambda text: text.update(characters=2**32),
        lambda text: text.update(tokenizer="{}"),
    ],
)
def test_notes_that_do_not_fit_are_refused(change):
    """As they stand in a file that is damaged."""
    inputs = pt.Inputs(text=pt.Text(affixes=True, characters=3).fit(TEXTS))
    learned = copy.deepcopy(inputs.learned())
    assert pt.Inputs.restore(make_model(inputs=inputs)._core.description["inputs"], learned).learned() == learned
    change(learned["text"]["text"])
    with pytest.raises((ValueError, TypeError, KeyError)):
        pt.Inputs.restore(make_model(inputs=inputs)._core.description["inputs"], learned)


def test_what_was_loaded_serves_another_model(tmp_path):
    text = pt.Text(affixes=True, characters=3).fit(TEXTS)
    make_model(text).save(tmp_path / "m.safetensors")
    again = pt.MultiTaskModel.load(tmp_path / "m.safetensors").inputs.text["text"]
    assert again.features() == text.features()
    assert again.read(TEXTS, "x").values.tolist() == text.read(TEXTS, "x").values.tolist()
    assert same_bits(make_model(again).state_dict(), make_model(text).state_dict())


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: pt.Text("wordz"), ValueError, "unknown level 'wordz'; did you mean `words`"),
        (lambda: pt.Text(3), TypeError, "`level` should be one of .*, or a tokenizer; got 3"),
        (
            lambda: pt.Text(str.split),
            TypeError,
            "or a tokenizer; got <method 'split' .*; or give lists of tokens as texts",
        ),
        (lambda: pt.Text(min_count=0), ValueError, "`min_count` should be a whole number of at least 1; got 0"),
        (lambda: pt.Text(max_length=0), ValueError, "`max_length`"),
        (lambda: pt.Text(normalize="nfc"), ValueError, "`normalize` should be one of .* or None; got 'nfc'"),
        (lambda: pt.Text("characters", affixes=True), ValueError, "`affixes` are those of words"),
        (lambda: pt.Text(vocab_size=9), TypeError, "`vocab_size`; here it is called `max_size`"),
        (lambda: pt.Text(min_df=9), TypeError, "`min_df`; here it is called `min_count`"),
        (lambda: pt.Inputs(text="text"), TypeError, "`text` should be a pt.Text, or a dict"),
        (
            lambda: pt.Inputs(text={"a": pt.Text().fit(TEXTS), "b": pt.Text().fit(TEXTS)}),
            ValueError,
            "positions of one kind, and so one text; got `a`, `b`",
        ),
        (
            lambda: pt.Inputs(text=pt.Text().fit(TEXTS), positions={"frames": pt.Inputs(numeric=2)}),
            ValueError,
            "and so one text; got `frames`, `text`",
        ),
    ],
)
def test_wrong_arguments(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_subwords_without_their_library(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "tokenizers":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"need the library tokenizers: pip install 'polytask\[text\]'"):
        pt.Text("subwords")


def test_two_data_sets_and_a_task_of_tokens_train_as_they_are():
    sentences = [["a", "b"], ["b"], ["a", "a", "b"]] * 5
    inputs = pt.Inputs(text=pt.Text(min_count=1).fit(sentences))
    tasks = [pt.Task("tag", classes=["x", "y"], per="token"), pt.Task("mood", classes=2)]
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder="window")
    tags = [["x" if word == "a" else "y" for word in words] for words in sentences]
    sets = {"tag": (sentences, tags), "mood": (sentences, np.arange(15) % 2)}
    history = pt.Trainer(model).fit(sets, validation=sets, epochs=1, batch_size=4, progress=False)
    assert "validation/tag/accuracy" in history.columns
    assert "tag/accuracy" not in history.columns


def test_a_list_names_the_column_of_texts():
    frame = pandas.DataFrame({"review": ["good", "bad"] * 4, "price": range(8)})
    assert pt.Inputs.from_frame(frame, text=["review"]).text.keys() == {"review"}


def test_metrics_of_spans_are_for_tasks_of_spans():
    text = pt.Text(min_count=1).fit([["a"]])
    task = pt.Task("entity", classes=["O", "B-PER", "I-PER"], per="token", loss="crf", metrics=["span_f1"])
    with pytest.raises(ValueError, match='task `entity`: metric `span_f1` is for tasks of spans: say `spans="BIO"`'):
        pt.MultiTaskModel(pt.Inputs(text=text), tasks=[task], encoder="window")
