"""Checkpoints: what Python keeps in one, which file of a folder is the last complete one, and which may go."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import logging
import os
import platform
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from .. import _core
from ..process import randomness
from . import packed
from .callback import Callback

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger("polytask")
_NAME = re.compile(r"checkpoint-(\d{12})\.safetensors")
_OURS = re.compile(r"checkpoint-(\d{12})\.(safetensors|npz)")
_PARTIAL = re.compile(r"(checkpoint-\d{12}\.(safetensors|npz)|best.*\.safetensors)(\.\d+)+\.partial")
#: Kinds of dtypes that bytes say all of.
_KINDS = "biufcmMSU"
#: Files that hold a folder for this process.
_holding: set[int] = set()
_Packed = tuple[str, np.ndarray]
_T = TypeVar("_T")
#: What NumPy and its readers of archives raise at files that are cut off or changed.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, TypeError, AttributeError, SyntaxError,
    NotImplementedError, RuntimeError, OverflowError, MemoryError, struct.error, tokenize.TokenError,
)  # fmt: skip


def name(folder: str, batches: int) -> str:
    """The file of a checkpoint after so many batches."""
    return os.path.join(folder, f"checkpoint-{batches:012d}.safetensors")


def found(path: str) -> list[str]:
    """Complete checkpoints, the last one first: those of a folder, or the one file.

    Raises:
        OSError: the folder cannot be read.
    """
    if os.path.isfile(path):
        return [path]
    if not os.path.exists(path):
        return []
    return [os.path.join(path, each) for each in sorted(_files(path, _NAME), reverse=True)]


def hold(folder: str) -> Callable[[], None]:
    """Keeps other runs out of a folder, as long as this process lives or until what this gives is called.

    Raises:
        BlockingIOError: another run is in it; says which process.
    """
    path = os.path.join(folder, ".lock")
    while fcntl is not None:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 1000).decode(errors="replace") or "another process"
            os.close(file)
            raise BlockingIOError(f"{folder}: {holder} keeps the checkpoints of a run here; wait for its end, or use "
                                  "another folder") from None  # fmt: skip
        except OSError:
            # Some file systems know no locks.
            os.close(file)
            break
        if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(file)):
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {platform.node()}".encode())
            _holding.add(file)
            return functools.partial(_release, path, file)
        # Whoever held it has removed it in between.
        os.close(file)
    return lambda: None


def _release(path: str, file: int) -> None:
    # note: in a process that was forked meanwhile there is nothing to release.
    if file in _holding:
        with contextlib.suppress(OSError):
            os.remove(path)
        _holding.remove(file)
        # What was forked past Python has the file open too.
        fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)


def _let_go() -> None:
    """In a process that was forked: a loader's would hold the folder for seconds after the run was killed."""
    for file in _holding:
        os.close(file)
    _holding.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _files(folder: str, pattern: re.Pattern[str]) -> dict[str, re.Match[str]]:
    """The folder's files whose names match; what else bears such a name is not ours."""
    with os.scandir(folder) as entries:
        return {each.name: match for each in entries if (match := pattern.fullmatch(each.name)) and each.is_file()}


class Kept(NamedTuple):
    """What a checkpoint keeps of a callback."""

    name: str
    state: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Own(Protocol):
    """Code of the caller's own in steps, which may have learned something."""

    def state(self) -> Any:
        """What it has learned, as `packed` takes it; None for nothing."""

    def restore(self, state: Any) -> None:
        """Goes on from what `state` gave."""


@dataclass
class Notes:
    """Python's part of a checkpoint."""

    history: list[dict[str, Any]]
    stopping: bool
    done: int
    loop: dict[str, Any] | None
    callbacks: list[Kept]
    learned: dict[str, Any]
    random: dict[str, Any] | None
    own: dict[str, Any]


def write(
    history: list[dict[str, Any]], callbacks: Sequence[Callback], own: Mapping[str, Own], **rest: Any
) -> tuple[str, list[_Packed]]:
    """Notes for the core to keep, and the bytes of arrays of callbacks and of the caller's own code.

    Raises:
        TypeError: arrays that hold Python objects, or another state that no file holds.
    """
    kept = []
    arrays_of = list[_Packed]()
    for i, callback in enumerate(callbacks):
        arrays = {name: np.asarray(array) for name, array in callback.arrays().items()}
        wrong = next((name for name, array in arrays.items() if array.dtype.kind not in _KINDS), None)
        if wrong is not None:
            raise TypeError(f"{callback}: array {wrong!r} should hold numbers; got dtype {arrays[wrong].dtype}")
        named = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
        kept.append({"class": type(callback).__name__, "state": callback.state(), "arrays": named})
        flat = ((name, np.ascontiguousarray(array).reshape(-1)) for name, array in arrays.items())
        arrays_of += ((f"{i}/{name}", array.view(np.uint8)) for name, array in flat)
    states = {}
    for name, part in own.items():
        state, bytes_of = packed.pack(part.state(), f"the state of `{part}`")
        states[name] = [state, len(bytes_of)]
        arrays_of += ((f"own/{name}/{i}", array) for i, array in enumerate(bytes_of))
    return json.dumps({"history": history, "callbacks": kept, "own": states, **rest}), arrays_of


def read(held: _core.Checkpoint, path: str) -> Notes:
    """What `write` gave; arrays stand in a file of their own beside checkpoints of format 0.

    Raises:
        OSError: that file cannot be read.
        ValueError: notes or arrays are damaged.
    """
    with _complete(path):
        found = json.loads(held.extra)
        beside_it = any("arrays" not in each for each in found["callbacks"])
    old = read_arrays(path) if beside_it else {}
    with _complete(path):
        memory = held.arrays()
        kept = []
        for i, each in enumerate(_of(list, found["callbacks"])):
            named = each.get("arrays", {})
            arrays = {name: _unpacked(memory[f"{i}/{name}"], *how) for name, how in named.items()}
            arrays = arrays if "arrays" in each else old.get(str(i), {})
            kept.append(Kept(_of(str, each["class"]), _of(dict, each["state"]), arrays))
        loop = found["loop"]
        learned = _of(dict, found.get("learned") or {})
        if loop is not None:
            _of(dict, loop["same"])
            for key, last in zip(("first", "first_step"), held.place, strict=True):
                if not 0 <= _of(int, loop[key]) <= last:
                    raise ValueError(f"{key} {loop[key]} lies behind {last}")
        for names in _of(dict, learned.get("names") or {}).values():
            for name in _of(list, names):
                _of(str, name)
        history = [_of(dict, row) for row in _of(list, found["history"])]
        stopping = _of(bool, found["stopping"])
        done = _of(int, found["done"])
        if not 0 <= done < 2**63:
            raise ValueError(f"{done} batches")
        random = None if found["random"] is None else _of(dict, found["random"])
        own = {}
        for name, (state, count) in _of(dict, found.get("own") or {}).items():
            own[name] = packed.unpack(state, [memory[f"own/{name}/{i}"] for i in range(_of(int, count))])
        return Notes(history, stopping, done, loop, kept, learned, random, own)


@contextlib.contextmanager
def _complete(path: str) -> Iterator[None]:
    """What notes lack, or have in place of it, as one kind of error."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not a complete checkpoint ({error!r} in its notes)") from None


def _of(kind: type[_T], value: Any) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} should be of type {kind.__name__}")
    return value


def _unpacked(memory: np.ndarray, dtype: str, shape: list[int]) -> np.ndarray:
    kind = np.dtype(_of(str, dtype))
    if kind.kind not in _KINDS:
        raise TypeError(f"arrays should hold numbers; got dtype {dtype}")
    return memory.view(kind).reshape([_of(int, size) for size in shape])


@contextlib.contextmanager
def undone(
    callbacks: Sequence[Callback], own: Mapping[str, Own], loader: torch.Generator | None, path: str
) -> Iterator[None]:
    """Puts callbacks, the caller's own code and random generators back if what is within fails, which then is the
    checkpoint's fault.

    Raises:
        ValueError: what failed.
    """
    before = [(each, copy.deepcopy(each.state()), each.arrays()) for each in callbacks]
    learned = [(part, copy.deepcopy(part.state())) for part in own.values()]
    drawn = randomness.capture(loader)
    try:
        yield
    except BaseException as error:
        for each, state, arrays in before:
            # One that refuses what it kept itself has not changed.
            with contextlib.suppress(Exception):
                each.restore(state, arrays)
        for part, state in learned:
            with contextlib.suppress(Exception):
                part.restore(state)
        randomness.restore(drawn, loader)
        if not isinstance(error, Exception):
            raise
        raise ValueError(f"{path}: nothing goes on from it ({error!r})") from error


def clean(folder: str, batches: int, keep: int) -> None:
    """Removes all but the last `keep` checkpoints up to this one.

    Files with a higher number are of a run that was started again from its beginning: they would be taken for the last.
    """
    numbers = {int(match[1]) for match in _files(folder, _NAME).values()}
    stay = sorted(number for number in numbers if number <= batches)[-keep:]
    if numbers and max(numbers) > batches:
        _log.warning("%s: removed checkpoints of an earlier run", folder)
    gone = [each for each, match in _files(folder, _OURS).items() if int(match[1]) not in stay]
    for each in [*gone, *_files(folder, _PARTIAL)]:
        os.remove(os.path.join(folder, each))


def read_arrays(path: str) -> dict[str, dict[str, np.ndarray]]:
    """Arrays beside a checkpoint of format 0: owner -> name -> array.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    beside = _beside(path)
    if not os.path.isfile(beside):
        return {}
    arrays: dict[str, dict[str, np.ndarray]] = {}
    try:
        # NumPy leaves a file open that is no archive.
        with open(beside, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            for key in file.files:
                owner, _, rest = key.partition("/")
                arrays.setdefault(owner, {})[rest] = file[key]
    except _DAMAGED as error:
        raise ValueError(f"{beside}: not a complete file of arrays ({error})") from None
    return arrays


def _beside(path: str) -> str:
    return path.removesuffix(".safetensors") + ".npz"
