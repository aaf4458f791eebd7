"""Paths of files and folders that callers say."""

from os import PathLike, fspath
from typing import Any


def file_path(value: Any, argument: str = "`path`") -> str:
    """The path of a file as a string.

    Raises:
        TypeError: it is no path.
    """
    return _path(value, argument, "a file")


def folder_path(value: Any, argument: str = "`path`") -> str:
    """The path of a folder as a string.

    Raises:
        TypeError: it is no path.
    """
    return _path(value, argument, "a folder")


def _path(value: Any, argument: str, of: str) -> str:
    if not isinstance(value, str | PathLike) or isinstance(path := fspath(value), bytes) or not path:
        raise TypeError(f"{argument} should be the path of {of}; got {value!r}")
    return path
