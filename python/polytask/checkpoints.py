"""The files of a folder of checkpoints: which is the last complete one, and which may go."""

import io
import itertools
import json
import logging
import os
import re
import stat
import struct
import tokenize
import zipfile
import zlib
from os import PathLike, fspath
from typing import Any

import numpy as np

_log = logging.getLogger("polytask")
_NAME = re.compile(r"checkpoint-(\d{12})\.safetensors")
_OURS = re.compile(r"checkpoint-(\d{12})\.(safetensors|npz)((\.\d+)+\.partial)?")
_count = itertools.count()
#: What NumPy and its readers of archives raise at files that are cut off or changed.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, TypeError, AttributeError, SyntaxError,
    NotImplementedError, RuntimeError, OverflowError, MemoryError, struct.error, tokenize.TokenError,
)  # fmt: skip


def folder(path: Any) -> str:
    """The folder's path as a string."""
    if not isinstance(path, str | PathLike) or isinstance(fspath(path), bytes) or not fspath(path):
        raise TypeError(f"`path` should be the path of a folder; got {path!r}")
    return fspath(path)


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


def _files(folder: str, pattern: re.Pattern[str]) -> dict[str, re.Match[str]]:
    """The folder's files whose names match; what else bears such a name is not ours."""
    with os.scandir(folder) as entries:
        return {each.name: match for each in entries if (match := pattern.fullmatch(each.name)) and each.is_file()}


def notes(path: str) -> dict[str, Any]:
    """The face's part of a checkpoint, read from the file's header alone.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no checkpoint, or not a complete one.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        # A pipe would wait for its other end, a device may never come to an end.
        raise OSError(f"{path}: is not a regular file")
    try:
        with open(path, "rb") as file:
            header = file.read(int.from_bytes(file.read(8), "little"))
        found: dict[str, Any] = json.loads(json.loads(header)["__metadata__"]["extra"])
        return found
    except (ValueError, KeyError, TypeError, OverflowError, MemoryError):
        raise ValueError(f"{path}: not a complete checkpoint") from None


def clean(folder: str, batches: int, keep: int) -> None:
    """Removes all but the last `keep` checkpoints up to this one.

    Files with a higher number are of a run that was started again from its beginning: they would be taken for the last.
    """
    numbers = {int(match[1]) for match in _files(folder, _NAME).values()}
    stay = sorted(number for number in numbers if number <= batches)[-keep:]
    if numbers and max(numbers) > batches:
        _log.warning("%s: removed checkpoints of an earlier run", folder)
    for each, match in _files(folder, _OURS).items():
        if int(match[1]) not in stay or match[3]:
            os.remove(os.path.join(folder, each))


def write_arrays(path: str, arrays: dict[str, dict[str, np.ndarray]]) -> None:
    """Writes the callbacks' arrays beside a checkpoint, before it."""
    flat = {f"{owner}/{key}": array for owner, each in arrays.items() for key, array in each.items()}
    beside = _beside(path)
    if not flat:
        if os.path.isfile(beside):
            os.remove(beside)
        return
    buffer = io.BytesIO()
    np.savez(buffer, **flat)  # type: ignore[arg-type]
    partial = f"{beside}.{os.getpid()}.{next(_count)}.partial"
    with open(partial, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, beside)


def read_arrays(path: str) -> dict[str, dict[str, np.ndarray]]:
    """What `write_arrays` wrote: owner -> name -> array.

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
