"""`make counts`: what it takes for a packed line, a field, a name of several files and an arrow upward."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "compare"))
import counts

RUST = """\
//! Not code.

fn f(a: &[f64], b: &[f64]) -> f64 {
    let (x, mut y): (f64, f64) = (a[0], b[0]); // packed
    let (p, q) = a.split_at(1); // what a function gives is not
    let product = |(a, b): (&f64, &f64)| a * b; // named
    x + a.iter().map(|a| a + 1.0).zip(b).map(product).sum::<f64>()
}

#[cfg(test)]
mod tests {
    fn g() {
        let (a, b) = (1, 2);
    }
}
"""
PYTHON = '''\
"""Not code."""

# Nor this.
def f(xs, ys):
    """Nor this."""
    a, b = xs[0], ys[0]
    c, d = xs
    double = lambda x: 2 * x

    def once(x):
        return x + a

    def twice(x):
        return x + b

    return twice(once(c)), [twice(double(x)) for x, _ in zip(xs, ys)], d
'''


def test_packed_lines_of_both_languages():
    one = {"tuple-lets": 1, "zips": 1, "named closures": 1}
    assert counts.packed_rust(RUST) == one
    assert counts.packed_python(PYTHON) == {**one, "named closures": 2}


def test_code_is_what_neither_comments_nor_tests():
    assert len(counts.rust(RUST).splitlines()) == 6
    assert len(counts.python(PYTHON).splitlines()) == 9


def test_files_for_tests_alone_are_no_code(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mod.rs").write_text("mod b;\n#[cfg(test)]\npub(super) mod cases;\n#[cfg(unix)]\nmod c;\n")
    for name in ("b", "c", "cases"):
        (tmp_path / "a" / f"{name}.rs").write_text("fn f() {}\n")
    assert sorted(counts.read(tmp_path, ".rs")) == ["a/b.rs", "a/c.rs", "a/mod.rs"]


def test_fields_go_into_groups():
    sources = {
        "a.rs": "pub struct Run {\n    steps: u64,\n    pub(super) inner: Vec<Inner>,\n    other: Elsewhere,\n}\n",
        "b.rs": "struct Inner {\n    a: f64,\n    b: f64,\n}\nstruct Unused {\n    c: f64,\n}\nstruct Unit;\n",
    }
    assert counts.fields(sources, "Run") == {"Run": 3, "Inner": 2}


def test_names_that_several_files_define():
    sources = {"a.rs": "struct A;\nenum B {}\n", "b.rs": "pub(crate) trait A {}\n", "c.rs": "impl A for B {}\n"}
    assert counts.types_of_several_files(sources) == {"A": 2}


@pytest.mark.parametrize(("room", "up"), [("error", 0), ("inspection", 0), ("trainer", 1)])
def test_an_older_file_has_the_room_of_its_name(tmp_path, room, up):
    source = tmp_path / "src"
    source.mkdir()
    for name in ("lib", "error", "inspection", "trainer"):
        (source / f"{name}.rs").write_text("//! Here.\n")
    (source / "summary.rs").write_text(f"//! There.\nuse crate::{room}::X;\n")
    assert counts.upward_rust(tmp_path, tmp_path) == [f"summary -> {room} (crate::{room}::X)"] * up
