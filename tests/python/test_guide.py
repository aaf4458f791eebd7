"""The guide's examples run as printed, page by page, and give what stands behind `# ->`."""

import ast
import re
from pathlib import Path

import numpy as np
import polytask as pt
import pytest
import sklearn.metrics  # noqa: F401  which changes the environment when it is first imported

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted([DOCS / "index.md", *(DOCS / "guide").glob("*.md")])


def run(code: str, names: dict[str, object]) -> None:
    """Runs the code; a line `expression  # -> value` also compares what the expression gives."""
    for statement in ast.parse(code).body:
        text = code.splitlines()[statement.end_lineno - 1]
        expected = text[statement.end_col_offset :].partition("# -> ")[2]
        if expected:
            assert isinstance(statement, ast.Expr), f"what `{text}` gives"
            given = eval(compile(ast.Expression(statement.value), text, "eval"), names)
            assert repr(given.item() if isinstance(given, np.generic) else given) == expected, text
        else:
            exec(compile(ast.Module([statement], []), text, "exec"), names)


@pytest.mark.usefixtures("own_seed")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_page_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    names: dict[str, object] = {}
    for example in examples:
        run(example, names)


def test_a_wrong_value_is_seen():
    with pytest.raises(AssertionError, match="1 \\+ 1"):
        run("x = 1\n1 + 1  # -> 3", {})


def test_classes_for_other_libraries_are_those_that_are_held_to_a_plain_loop():
    """Blocks of `py` are not run here, for want of these libraries."""
    examples = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "tests/integrations").glob("*.py"))
    shown = re.findall(r"```py\n(class .*?)```", (DOCS / "guide/pytorch.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(shown) == 2
    assert all(block in examples for block in shown)


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    contents = set(re.findall(r"^((?:guide|reference)/\w+)$", index, re.MULTILINE))
    there = [*DOCS.glob("guide/*.md"), *DOCS.glob("reference/*.md")]
    assert contents == {path.relative_to(DOCS).with_suffix("").as_posix() for path in there}


def test_the_reference_has_every_public_name():
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    named = set(re.findall(r"^\.\. auto(?:class|function|module):: ([\w.]+)$", text, re.MULTILINE))
    public = {name for name in pt.__all__ if not name.startswith("__")} - {"data"}
    families = {name for name in public if isinstance(getattr(pt, name), type(pt))}
    rooms = {"Mix", "Spans", "Split", "split", *pt.torch.__all__, *pt.sklearn.__all__}
    assert {f"polytask.{name}" for name in families} | (public - families) | rooms == named
