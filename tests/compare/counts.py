"""Counts what makes code hard to read, at an older commit and now: packed lines, fields, arrows upward.

    make counts OLD=<commit>

Code is what is neither a comment, a docstring, an empty line nor a unit test. Which arrows go up is what the tests of
the house say, `tests/house.rs` and `tests/python/test_house.py`; an older file has the room in which one of its name
lives now.
"""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import builds

sys.path.append(str(builds.ROOT / "tests" / "python"))
import test_house

#: Rooms of older files of which none has the name now.
MOVED = {"registry": "component", "callbacks": "training", "island": "model"}
PACKED = ("tuple-lets", "zips", "named closures")


def rust(source: str) -> str:
    """The code of a file of Rust."""
    source = re.split(r"\n#\[cfg\(test\)\]\nmod \w+ \{", source)[0]
    lines = (re.sub(r"(^|\s)//.*", "", line) for line in source.splitlines())
    return "\n".join(line for line in lines if line.strip())


def python(source: str) -> str:
    """The code of a file of Python."""
    left_out = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            left_out.add(token.start[0])
    lines = enumerate(source.splitlines(), start=1)
    return "\n".join(line for number, line in lines if number not in left_out and line.strip())


def packed_rust(source: str) -> Counter[str]:
    """How often several names are set at once from a tuple, sequences zipped, a closure named."""
    patterns = (r"\blet \([^=;]*\)(: [^=;]+)? =\s+\(", r"\bi?zip!?\(", r"\blet (mut )?\w+(: [^=;]+)? =\s+(move )?\|")
    code = rust(source)
    found = {what: len(re.findall(pattern, code)) for what, pattern in zip(PACKED, patterns, strict=True)}
    return Counter(found)


def packed_python(source: str) -> Counter[str]:
    """The same of Python, where a named closure is a named lambda or a function in a function, called in one place."""
    found: Counter[str] = Counter()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign):
            packed = isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
            found["tuple-lets"] += packed
            found["named closures"] += isinstance(node.value, ast.Lambda)
        elif isinstance(node, ast.Call):
            found["zips"] += isinstance(node.func, ast.Name) and node.func.id == "zip"
        elif isinstance(node, ast.FunctionDef):
            names = Counter(each.id for each in ast.walk(node) if isinstance(each, ast.Name))
            found["named closures"] += sum(
                isinstance(each, ast.FunctionDef) and names[each.name] == 1 for each in node.body
            )
    return found


def fields(sources: dict[str, str], name: str) -> dict[str, int]:
    """Of a struct of these files, and of the structs of these files that it is grouped into."""
    structs = {}
    for source in sources.values():
        for found, body in re.findall(r"^(?:pub(?:\(\w+\))? )?struct (\w+)[^;{(]* \{\n(.*?)^\}", source, re.M | re.S):
            structs[found] = re.findall(r"^    (?:pub(?:\(\w+\))? )?\w+: (.*),$", body, re.M)
    counts: dict[str, int] = {}
    waiting = [name]
    while waiting:
        now = waiting.pop()
        counts[now] = len(structs[now])
        words = re.findall(r"\w+", " ".join(structs[now]))
        waiting += [word for word in words if word in structs and word not in counts]
    return counts


def types_of_several_files(sources: dict[str, str]) -> dict[str, int]:
    """Names of types that more than one file defines: in how many."""
    counts = Counter(
        name
        for source in sources.values()
        for name in set(re.findall(r"^\s*(?:pub(?:\([\w:]+\))? )?(?:struct|enum|trait|class) (\w+)", source, re.M))
    )
    return {name: count for name, count in sorted(counts.items()) if count > 1}


def upward_rust(tree: Path, workplace: Path) -> list[str]:
    """Arrows into a room above or beside, as the test of the house prints them: built by itself, on that tree."""
    test = (builds.ROOT / "tests" / "house.rs").read_text(encoding="utf-8")
    homes = rooms(builds.ROOT / "src", tree / "src")
    for room in set(homes.values()):
        those = "".join(f', "{old}"' for old, home in homes.items() if home == room and old != room)
        test = test.replace(f'&["{room}"', f'&["{room}"{those}', 1).replace(f', "{room}"', f', "{room}"{those}', 1)
    source, program = workplace / "house.rs", workplace / "house"
    source.write_text(test, encoding="utf-8")
    edition = re.search(r'edition = "(\d+)"', (builds.ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    assert edition is not None
    place = {**os.environ, "CARGO_MANIFEST_DIR": str(tree), "RUST_BACKTRACE": "0"}
    command = ["rustc", "--edition", edition[1], "--test", str(source), "-o", str(program)]
    subprocess.run(command, env=place, check=True)
    ran = subprocess.run([program, "no_room"], capture_output=True, text=True)
    arrows = re.findall(r'"(\w+)(\S*) -> (\w+)(.*)"', ran.stdout)
    if ran.returncode and not arrows:
        sys.exit(ran.stdout)
    return [f"{a}{b} -> {c}{d}" for a, b, c, d in arrows if homes.get(a, a) != homes.get(c, c)]


def upward_python(tree: Path) -> list[str]:
    """The same of Python."""
    package = tree / "python" / "polytask"
    homes = rooms(test_house.PACKAGE, package)
    arrows: dict[str, set[str]] = defaultdict(set)
    for one, others in test_house.imports(package).items():
        arrows[at_home(one, homes)] |= {at_home(other, homes) for other in others}
    return [f"{one} -> {other}" for one, other in sorted(test_house.upward(arrows, test_house.FLOORS))]


def at_home(name: str, homes: dict[str, str]) -> str:
    """A module's name with the room in front that it has now."""
    first = name.partition(".")[0]
    return name if homes.get(first, first) == first else f"{homes[first]}.{name}"


def rooms(now: Path, older: Path) -> dict[str, str]:
    """For each file or folder at the top of an older package: the room in which one of its name lives now."""
    tops = {path.stem: path.stem for path in now.iterdir()}
    inside = {path.stem: path.relative_to(now).parts[0] for path in now.glob("*/*")}
    known = {**MOVED, **inside, **tops}
    return {path.stem: known[path.stem] for path in older.iterdir() if path.stem in known}


def read(folder: Path, suffix: str) -> dict[str, str]:
    """The files of a folder, but for those of Rust that are compiled for tests alone."""
    files = {path: path.read_text(encoding="utf-8") for path in folder.rglob(f"*{suffix}")}
    tests = set()
    for path, source in files.items():
        beside = path.parent if path.stem in ("mod", "lib") else path.with_suffix("")
        for name in re.findall(r"#\[cfg\(test\)\]\n\s*(?:pub(?:\(\w+\))? )?mod (\w+);", source):
            tests.add(beside / f"{name}{suffix}")
    return {str(path.relative_to(folder)): source for path, source in files.items() if path not in tests}


def table(tree: Path, workplace: Path) -> Iterator[tuple[str, str]]:
    """What is counted of a tree, and its numbers."""
    languages: tuple[tuple[str, Path, str, Callable[[str], str], Callable[[str], Counter[str]]], ...] = (
        ("Rust", tree / "src", ".rs", rust, packed_rust),
        ("Python", tree / "python" / "polytask", ".py", python, packed_python),
    )
    for language, folder, suffix, code, packed in languages:
        written = read(folder, suffix)
        sources = {path: code(source) for path, source in written.items()}
        lines = sum(source.count("\n") + 1 for source in sources.values() if source)
        yield f"{language}: lines of code", str(lines)
        counts = sum((packed(source) for source in written.values()), Counter())
        for what in PACKED:
            yield f"{language}: {what} (in 1,000 lines)", f"{counts[what]} ({1000 * counts[what] / lines:.1f})"
        several = types_of_several_files(sources)
        words = ", ".join(f"{name} {count}" for name, count in several.items())
        yield f"{language}: type names of several files", f"{len(several)}: {words}"
        up = upward_rust(tree, workplace) if language == "Rust" else upward_python(tree)
        yield f"{language}: arrows into a room above or beside", str(len(up))
        if language == "Rust":
            for name in ("Trainer", "Scratch"):
                trainer = {path: source for path, source in sources.items() if path.startswith("trainer")}
                groups = fields(trainer, name)
                own = ", ".join(f"{group} {count}" for group, count in groups.items())
                yield f"{language}: fields of {name}, with its groups'", f"{sum(groups.values())}: {own}"


def main() -> None:
    """Prints the numbers of an older commit and of the files as they are."""
    with tempfile.TemporaryDirectory() as name:
        workplace = Path(name)
        older = workplace / "older"
        builds.lay_out(sys.argv[1], older)
        old = dict(table(older, workplace))
    with tempfile.TemporaryDirectory() as name:
        new = dict(table(builds.ROOT, Path(name)))
    for what, number in new.items():
        print(f"{what}\n    {old[what]}\n    {number}")


if __name__ == "__main__":
    main()
