"""The files of a folder of checkpoints: which is the last complete one, and which may go."""

import io
import json
import logging
import os
import re
from os import PathLike, fspath
from typing import Any

import numpy as np

_log = logging.getLogger("polytask")
_NAME = re.compile(r"checkpoint-(\d{12})\.safetensors")
_OURS = re.compile(r"checkpoint-(\d{12})\.(safetensors|npz)(\.\d+\.partial)?")


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
    names = sorted((each for each in os.listdir(path) if _NAME.fullmatch(each)), reverse=True)
    return [os.path.join(path, each) for each in names]


def notes(path: str) -> dict[str, Any]:
    """The face's part of a checkpoint, read from the file's header alone.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no checkpoint, or not a complete one.
    """
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
    numbers = {int(match[1]) for each in os.listdir(folder) if (match := _NAME.fullmatch(each))}
    stay = sorted(number for number in numbers if number <= batches)[-keep:]
    if numbers and max(numbers) > batches:
        _log.warning("%s: removed checkpoints of an earlier run", folder)
    for each in os.listdir(folder):
        match = _OURS.fullmatch(each)
        if match and (int(match[1]) not in stay or match[3]):
            os.remove(os.path.join(folder, each))


def write_arrays(path: str, arrays: dict[str, dict[str, np.ndarray]]) -> None:
    """Writes the callbacks' arrays beside a checkpoint, before it."""
    flat = {f"{owner}/{key}": array for owner, each in arrays.items() for key, array in each.items()}
    beside = _beside(path)
    if not flat:
        if os.path.exists(beside):
            os.remove(beside)
        return
    buffer = io.BytesIO()
    np.savez(buffer, **flat)  # type: ignore[arg-type]
    partial = f"{beside}.{os.getpid()}.partial"
    with open(partial, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, beside)


def read_arrays(path: str) -> dict[str, dict[str, np.ndarray]]:
    """What `write_arrays` wrote: owner -> name -> array."""
    if not os.path.exists(_beside(path)):
        return {}
    arrays: dict[str, dict[str, np.ndarray]] = {}
    with np.load(_beside(path), allow_pickle=False) as file:
        for key in file.files:
            owner, _, rest = key.partition("/")
            arrays.setdefault(owner, {})[rest] = file[key]
    return arrays


def _beside(path: str) -> str:
    return path.removesuffix(".safetensors") + ".npz"
