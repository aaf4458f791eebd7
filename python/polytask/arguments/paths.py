"""Paths of files and folders that callers say."""

from os import PathLike, fspath
from os.path import splitext
from typing import Any


def file_path(value: Any, argument: str = "`path`") -> str:
    """The path of a file as a string.

    Raises:
        TypeError: it is no path.
    """
    return _path(value, argument, "a file")


def page_path(value: Any, argument: str = "`path`") -> str:
    """The path of a page of HTML as a string.

    Raises:
        TypeError: it is no path.
        ValueError: it ends as files of another kind do.
    """
    path = _path(value, argument, "a page")
    if (end := splitext(path)[1].lower()) not in ("", ".html", ".htm"):
        raise ValueError(f"{argument} should be that of a page of HTML, such as report.html; got one of {end!r}")
    return path


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
