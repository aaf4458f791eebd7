"""The rooms of the package: a file uses rooms below its own, never one above or beside it, and no file in a circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import polytask as pt
import pytest

PACKAGE = Path(pt.__file__).parent

#: Rooms from the ground up: folders and files of the package, `polytask` being its own `__init__`.
FLOORS = [
    ("_core",),
    ("_torch", "arguments", "process"),
    ("values", "metrics", "plots"),
    ("components", "results"),
    ("embedding", "encoder", "head", "loss", "optim", "regularizer", "schedule", "sharing", "weighting"),
    ("data", "torch"),
    ("model",),
    ("training",),
    ("callbacks",),
    ("studies",),
    ("polytask", "datasets", "sklearn"),
    ("cli",),
    ("demo", "_docs", "_stubs", "__main__"),
]


def files(package: Path) -> dict[str, Path]:
    """The files of a package by module name without the package's own, stubs of compiled modules included."""
    found = {}
    for path in sorted([*package.rglob("*.pyi"), *package.rglob("*.py")]):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts) or package.name] = path
    return found


def imports(package: Path) -> dict[str, set[str]]:
    """Which files each file imports, anywhere in it: at its top, in functions, for types alone."""
    known = files(package)
    return {name: set(_imported(name, path, known, package.name)) - {name} for name, path in known.items()}


def _imported(name: str, path: Path, known: dict[str, Path], root: str) -> Iterator[str]:
    here = [] if name == root else name.split(".")
    folder = here if path.stem == "__init__" else here[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == root:
                    yield _file(alias.name.split(".")[1:], known, root)
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            if node.level == 0 and module[0] != root:
                continue
            base = module[1:] if node.level == 0 else [*folder[: len(folder) + 1 - node.level], *module]
            for alias in node.names:
                yield _file([*base, alias.name], known, root)


def _file(parts: list[str], known: dict[str, Path], root: str) -> str:
    """The file that a dotted name leads to: the name's own, or the nearest one above it, which then holds the name."""
    while parts and ".".join(parts) not in known:
        parts = parts[:-1]
    return ".".join(parts) or root


def upward(arrows: dict[str, set[str]], floors: list[tuple[str, ...]]) -> set[tuple[str, str]]:
    """The arrows into a room on the same floor or above."""
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    each = ((one, other) for one, others in arrows.items() for other in others)
    return {(one, other) for one, other in each if room(one) != room(other) and floor[room(one)] <= floor[room(other)]}


def room(name: str) -> str:
    """The room of a file."""
    return name.partition(".")[0]


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """The groups of files that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = arrows[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reach = {name: reached(name) for name in arrows}
    groups = {frozenset(other for other in reach[name] if name in reach[other]) for name in arrows}
    return sorted((set(group) for group in groups if group), key=sorted)


def test_every_file_has_a_room_and_every_room_says_what_lives_there():
    found = files(PACKAGE)
    rooms = [each for floor in FLOORS for each in floor]
    assert {room(name) for name in found} == set(rooms)
    assert len(set(rooms)) == len(rooms)
    for each in rooms:
        text = ast.get_docstring(ast.parse(found[each].read_text(encoding="utf-8")))
        assert text, each
        assert text.splitlines()[0].endswith("."), each


def test_arrows_go_down():
    assert upward(imports(PACKAGE), FLOORS) == set()


def test_no_files_import_each_other_in_a_circle():
    assert circles(imports(PACKAGE)) == []


SMALL = {
    "__init__.py": "from .top.a import A",
    "top/__init__.py": "",
    "top/a.py": "import os\nfrom numpy import array\nfrom . import b\n",
    "top/b.py": "from ..low import words as w\nfrom typing import TYPE_CHECKING\n",
    "low/__init__.py": "from .words import say",
    "low/words.py": "",
    "beside.py": "import small.low.words\n",
}


CASES = [
    ("top/a.py", "from ..low import say", set(), []),
    (
        "low/words.py",
        "def f():\n    from ..top.a import A",
        {("low.words", "top.a")},
        [{"low.words", "top.a", "top.b"}],
    ),
    ("low/words.py", "if 0:\n    from ..top import b", {("low.words", "top.b")}, [{"low.words", "top.b"}]),
    ("low/words.py", "import small.top.b as t", {("low.words", "top.b")}, [{"low.words", "top.b"}]),
    ("low/words.py", "from small import beside", {("low.words", "beside")}, [{"low.words", "beside"}]),
    ("low/words.py", "from . import say", set(), [{"low", "low.words"}]),
    ("top/b.py", "from .a import A", set(), [{"top.a", "top.b"}]),
    ("top/b.py", "from .. import beside", {("top.b", "beside")}, []),
    ("top/b.py", "import small", {("top.b", "small")}, [{"small", "top.a", "top.b"}]),
]


@pytest.mark.parametrize(("file", "line", "up", "circle"), CASES)
def test_arrows_are_found_wherever_they_stand(tmp_path, file, line, up, circle):
    package = tmp_path / "small"
    for name, text in SMALL.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n{line if name == file else ''}\n")
    arrows = imports(package)
    assert upward(arrows, [("low",), ("top", "beside"), ("small",)]) == up
    assert circles(arrows) == circle
