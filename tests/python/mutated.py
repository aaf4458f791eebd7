"""Mutated model files and checkpoints, each opened in a process of its own that may neither die nor hang nor grow.

    python tests/python/mutated.py 10000 [seed]

Every file of `tests/files` is changed: bits, bytes and lengths; entries of the header; numbers, names and lists in the
descriptions within it; arrays beside old checkpoints. This process imports everything and then forks, before any
backward; a child opens one file, and uses what it opened.
"""

from __future__ import annotations

import collections
import json
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polytask as pt
from polytask import metrics

FILES = Path(__file__).parents[1] / "files"
sys.path.append(str(FILES))
import make  # noqa: E402

#: Seconds of a processor, seconds in all, bytes beyond what the parent holds.
LIMITS = 10, 60, 1 << 30
#: Texts of a file's metadata that are JSON themselves.
NESTED = ("description", "settings", "state", "extra")
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), 255, 2**16, 10**6,
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 10**9, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30,
    "", "x", "\0", "é" * 100, "1", "relu", "batch", "balanced", "auto",
    [], [[]], [[[]]], {}, [0], [1] * 1000, [2**40] * 3, {"name": "x"}, {"name": 1},
    {"name": "ple", "task_experts": 2**32 - 1}, {"name": "ltb", "branches": 10**9}, {"name": "mmoe", "experts": 10**9},
    {"categories": 4, "length": 4 * 10**9, "combine": "mean"}, {"name": "mlp", "hidden": [1] * 100_000},
]  # fmt: skip


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """The file with one to three changes."""
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        raw = draw.choice([bits, spans, cut, header, header, header, header, tensors])(raw, draw)
    return raw


def bits(raw: bytes, draw: random.Random) -> bytes:
    """Some bits turned, in the first bytes mostly."""
    changed = bytearray(raw)
    for _ in range(draw.randint(1, 8)):
        if changed:
            at = draw.randrange(min(len(changed), draw.choice([8, 200, 4000, len(changed)])))
            changed[at] ^= 1 << draw.randrange(8)
    return bytes(changed)


def spans(raw: bytes, draw: random.Random) -> bytes:
    """A span overwritten, doubled or taken out."""
    begin = draw.randrange(len(raw) + 1)
    end = min(len(raw), begin + draw.choice([1, 4, 8, 100, 4096]))
    new = draw.choice(
        [b"", raw[begin:end] * 2, bytes(end - begin), b"\xff" * (end - begin), draw.randbytes(end - begin)]
    )
    return raw[:begin] + new + raw[end:]


def cut(raw: bytes, draw: random.Random) -> bytes:
    """Cut off, or longer."""
    at = draw.randrange(len(raw) + 1)
    return draw.choice([raw[:at], raw[: min(at, 300)], raw + raw[:at], raw + bytes(draw.choice([1, 4, 10**6]))])


def header(raw: bytes, draw: random.Random) -> bytes:
    """Something else somewhere in the descriptions of a file that is complete otherwise."""
    size = int.from_bytes(raw[:8], "little")
    try:
        described = json.loads(raw[8 : 8 + size])
        texts = described["__metadata__"]
        name = draw.choice([each for each in texts if each in NESTED] or list(texts))
        texts[name] = (
            json.dumps(changed(json.loads(texts[name]), draw)) if name in NESTED else draw.choice(["", "1", "x"])
        )
        text = json.dumps(described).encode()
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return bits(raw, draw)
    return len(text).to_bytes(8, "little") + text + raw[8 + size :]


def tensors(raw: bytes, draw: random.Random) -> bytes:
    """Other places, shapes and names of tensors."""
    size = int.from_bytes(raw[:8], "little")
    try:
        described = changed(json.loads(raw[8 : 8 + size]), draw)
        text = json.dumps(described).encode()
    except (ValueError, RecursionError):
        return spans(raw, draw)
    length = draw.choice([len(text)] * 6 + [0, 2**63, 2**64 - 1, len(text) + 1, 10**8])
    return length.to_bytes(8, "little") + text + raw[8 + size :]


def changed(value: Any, draw: random.Random) -> Any:
    """A description with one thing in it replaced, left out, doubled or taken from elsewhere in it."""
    places = list(_places(value))
    path, donor = draw.choice(places), draw.choice(places)

    def at(whole: Any, path: tuple[Any, ...]) -> Any:
        for key in path:
            whole = whole[key]
        return whole

    def put(whole: Any, path: tuple[Any, ...], act: Callable[[Any, Any], None]) -> Any:
        if not path:
            return draw.choice(VALUES)
        copy = whole.copy()
        if len(path) == 1:
            act(copy, path[0])
        else:
            copy[path[0]] = put(whole[path[0]], path[1:], act)
        return copy

    def replace(into: Any, key: Any) -> None:
        old = into[key]
        near = [old + 1, old - 1, -old, old * 1000] if isinstance(old, int | float) else VALUES
        into[key] = draw.choice(draw.choice([VALUES, VALUES, near]))

    def swap(into: Any, key: Any) -> None:
        into[key] = at(value, donor)

    def leave_out(into: Any, key: Any) -> None:
        del into[key]

    def double(into: Any, key: Any) -> None:
        into[key] = into[key] * draw.choice([2, 100]) if isinstance(into[key], list | str) else [into[key]] * 2

    def add(into: Any, key: Any) -> None:
        if isinstance(into, dict):
            into[draw.choice(["x", "name", "", key])] = draw.choice(VALUES)
        else:
            into.insert(0, draw.choice(VALUES))

    return put(value, path, draw.choice([replace, replace, replace, swap, leave_out, double, add]))


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


def open_model(path: Path, x: Any) -> None:
    """Opens a model file, and uses what is in it."""
    model = pt.MultiTaskModel.load(path)
    repr(model)
    model.summary()
    model.save(path)
    pt.MultiTaskModel.load(path).predict(x)


def open_checkpoint(path: Path, build: Callable[[], Any], settings: dict[str, Any], x: Any, name: str) -> None:
    """Opens a checkpoint, and goes on from it."""
    trainer = make.trainer(build(), settings)
    trainer.callbacks = make.stopping(name)
    trainer.restore(path)
    trainer.save(path)
    repr(trainer.history)
    data = make.data(trainer.model, x)
    trainer.fit(data, epochs=2, batch_size=8, progress=False, train_metrics=False, resume=path)


def in_child(call: Callable[[], None], said: Path) -> tuple[int, int]:
    """How a process ended that makes this call: its status, and by how many bytes it outgrew this one."""
    held = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 3
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (LIMITS[0], LIMITS[0] + 1))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(LIMITS[1])
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            code = ended(call)
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    return status, 1024 * usage.ru_maxrss - held


def ended(call: Callable[[], None]) -> int:
    """0 for a call that went through, 1 for one that was refused in words, 2 for any other exception."""
    try:
        call()
    except (ValueError, TypeError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 2
    return 0


def main(count: int, seed: int = 0, kept: str | None = None) -> int:
    """Opens so many; gives how many ended badly, which are kept in a folder if there is one."""
    cases, failed, outcomes = make.cases(), 0, collections.Counter[str]()
    sources = sorted(path for path in FILES.glob("*/*.safetensors"))
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path, said = Path(folder) / "file.safetensors", Path(folder) / "said"
        for number in range(count):
            source = draw.choice(sources)
            name, _, kind = source.name.removesuffix(".safetensors").rpartition(".")
            build, settings, x = cases[name]
            path.write_bytes(mutated(source.read_bytes(), draw))
            path.with_suffix(".npz").unlink(missing_ok=True)
            if source.with_suffix(".npz").exists():
                arrays = source.with_suffix(".npz").read_bytes()
                if draw.random() < 0.5:
                    path.write_bytes(source.read_bytes())
                    arrays = draw.choice([bits, spans, cut])(arrays, draw)
                path.with_suffix(".npz").write_bytes(arrays)
            original = path.read_bytes()
            if kind == "model":
                status, grown = in_child(lambda x=x: open_model(path, x), said)  # type: ignore[misc]
            else:
                call = lambda b=build, s=settings, x=x, n=name: open_checkpoint(path, b, s, x, n)  # noqa: E731
                status, grown = in_child(call, said)
            code = os.waitstatus_to_exitcode(status)
            what = {0: "opened", 1: "refused"}.get(code, f"{kind} ended with {code}")
            if grown > LIMITS[2]:
                what = f"{kind} took {grown >> 20} MiB"
            outcomes[what] += 1
            if what not in ("opened", "refused"):
                failed += 1
                words = said.read_text().strip().splitlines()
                print(f"{number}: {source.name}: {what}: {words[-1] if words else ''}", flush=True)
                if kept is not None:
                    (Path(kept) / f"{number}.{source.name}").write_bytes(original)
                    (Path(kept) / f"{number}.{source.name}.said").write_text(said.read_text())
    print(f"{count} files: {dict(outcomes)}")
    return failed


if __name__ == "__main__":
    metrics.load()
    given = sys.argv[1:]
    sys.exit(min(1, main(int(given[0]), *map(int, given[1:2]), *given[2:3])))
