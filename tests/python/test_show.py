"""Pictures of rows of text with what is predicted for them."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import polytask as pt
import pytest
from polytask.plots import marked
from polytask.plots.marked import Marked
from polytask.results.shown import Shown

ROW = Marked(
    ["Ada", "<saw>", "old", "Rome"],
    {"tag": ["N", "V", "A", "N"]},
    {"entity": [(0, 1, "person"), (2, 4, "place")]},
    {"arc": [(1, 0, "subject"), (1, 1, "root"), (3, 2, "of"), (1, 3, "object")]},
    {"mood": "good (0.90)"},
)
KINDS = ["person", "place"]


def svg(row: Marked) -> ElementTree.Element:
    return ElementTree.fromstring(marked.picture(row, KINDS))


def centres(found: ElementTree.Element) -> dict[str, float]:
    return {text.text or "": float(text.attrib["x"]) for text in found.iter("text")}


def test_a_picture_has_tokens_tags_spans_and_arcs() -> None:
    found = svg(ROW)
    texts = [text.text for text in found.iter("text")]
    assert [text for text in texts if text in ROW.tokens] == ROW.tokens
    assert texts.count("N") == 2
    assert {"person", "place", "subject", "object", "of", "root"} <= set(texts)
    at = centres(found)
    assert at["Ada"] < at["<saw>"] < at["old"] < at["Rome"]
    person, place = (rect for rect in found.iter("rect"))
    edges = [(float(r.attrib["x"]), float(r.attrib["x"]) + float(r.attrib["width"])) for r in (person, place)]
    assert edges[0][0] < at["Ada"] < edges[0][1] < edges[1][0] < at["old"] < at["Rome"] < edges[1][1]
    assert person.attrib["fill"] != place.attrib["fill"]
    # Two paths an arc: the line and its head.
    assert len(list(found.iter("path"))) == 8
    assert "Ada" in found.attrib["aria-label"]
    width, height = map(float, found.attrib["viewBox"].split()[2:])
    assert all(0 <= x <= width for x in at.values())
    assert all(0 <= float(text.attrib["y"]) <= height for text in found.iter("text"))


def test_arcs_stand_above_those_within_them() -> None:
    heights = marked._levels([(0, 3, ""), (2, 1, ""), (3, 1, ""), (4, 4, "")])
    assert heights == {(4, 4): 1, (1, 2): 1, (1, 3): 2, (0, 3): 3}


def test_what_is_read_from_the_right_begins_there() -> None:
    row = Marked(["עשרות", "אנשים", "מגיעים"], {}, {"entity": [(0, 2, "person")]}, {}, {})
    assert row.from_right
    assert not ROW.from_right
    at = centres(svg(row))
    assert at["עשרות"] > at["אנשים"] > at["מגיעים"]
    assert 'dir="rtl"' in Shown([row])._repr_html_()


def test_labels_wider_than_their_words_have_room() -> None:
    widths = marked._widths(
        Marked(["a", "b"], {"tag": ["N", "something long"]}, {"e": [(0, 1, "organisation")]}, {}, {})
    )
    assert widths[0] > 80
    assert widths[1] > 80


def test_a_page_needs_nothing_else(tmp_path) -> None:
    shown = Shown([ROW, Marked([], {}, {}, {}, {"mood": "bad (0.55)"})])
    assert len(shown) == 2
    shown.save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link|src=", text)
    assert "&lt;saw&gt;" in text
    assert "<saw>" not in text
    assert repr(shown).splitlines()[:3] == [
        "Ada <saw> old Rome",
        "tag: N V A N",
        "entity: person: Ada; place: old Rome",
    ]
    assert "arc: <saw> -subject-> Ada; root: <saw>;" in repr(shown)


def test_a_model_shows_what_it_predicts() -> None:
    texts = ["Ada saw Rome", "Alan met Grace", ""]
    tasks = [
        pt.Task("tag", classes=["N", "V"], per="token"),
        pt.Task("entity", spans="BIO", classes=["person"], per="token"),
        pt.Task("arc", per="pair", tree=True, classes=["of", "root"]),
        pt.Task("mood", classes=["good", "bad"]),
        pt.Task("length"),
    ]
    inputs = pt.Inputs(text=pt.Text(max_length=3, min_count=1).fit(texts))
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder="window", seed=0)
    predicted = model.predict(texts)
    shown = model.show(texts, predicted)
    assert repr(shown) == repr(model.show(texts))
    row = shown._rows[0]
    assert row.tokens == ["Ada", "saw", "Rome"]
    decided = model.classes(predicted)
    assert list(row.tags["tag"]) == decided["tag"][0].tolist()
    assert row.spans["entity"] == decided["entity"][0]
    assert {(b, a, kind) for a, b, kind in row.arcs["arc"]} == set(decided["arc"][0])
    assert row.whole["mood"].startswith(f"{decided['mood'][0]} (")
    assert float(row.whole["length"]) == pytest.approx(float(predicted["length"][0]), rel=1e-2)
    assert set(model.show(texts, tasks="tag")._rows[0].tags) == {"tag"}
    assert not model.show(texts, tasks="tag")._rows[0].spans
    assert model.show(["Ada saw Rome and more"])._rows[0].tokens == ["Ada", "saw", "Rome"]
    with pytest.raises(ValueError, match="unknown task 'tags'"):
        model.show(texts, tasks=["tags"])
    with pytest.raises(ValueError, match="should be of the 1 rows"):
        model.show(texts[:1], predicted)
    with pytest.raises(ValueError, match="have no positions"):
        pt.MultiTaskModel(2, tasks=[pt.Task("y")]).show(np.zeros((1, 2)))


def test_positions_that_are_no_text_are_numbered() -> None:
    inputs = pt.Inputs(positions={"atom": pt.Inputs(numeric=2)})
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("charge", per="atom")], encoder="window", seed=0)
    x = {"atom": [np.ones((2, 2))]}
    row = model.show(x)._rows[0]
    assert row.tokens == ["0", "1"]
    assert [float(tag) for tag in row.tags["charge"]] == pytest.approx(model.predict(x)["charge"][0].tolist(), rel=1e-2)
