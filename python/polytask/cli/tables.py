"""Tables in files, and which kind of task a column is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments.messages import listed, none_of
from ..data import strings
from ..data.task import Task
from ..results.table import pandas

_DATE = re.compile(r"\d{4}-[01]\d-[0-3]\d([ T][0-2]\d:[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
#: Whole numbers of at most so many different values are classes.
MOST_CLASSES = 20
#: Labels of any other kind of at most so many.
_MOST_LABELS = 1000
_READERS = {
    ".csv": "read_csv",
    ".gz": "read_csv",
    ".tsv": "read_table",
    ".parquet": "read_parquet",
    ".pq": "read_parquet",
    ".feather": "read_feather",
    ".arrow": "read_feather",
}


def read(path: Path) -> Any:
    """A file as a pandas frame.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: no table, or one without rows or with a column twice.
        ImportError: pandas is not installed, or what it needs for the format.
    """
    known = _READERS.get(path.suffix.lower())
    if known is None:
        raise ValueError(f"{path}: a table is known by the end of its name, {listed(_READERS)}; got {path.suffix!r}")
    module = pandas("the command polytask")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        frame = getattr(module, known)(path)
    except (ImportError, OSError):
        raise
    except Exception as error:
        first = str(error).strip().splitlines()
        raise ValueError(f"{path} is no table of this kind: {first[0] if first else type(error).__name__}") from None
    frame.columns = [str(name) for name in frame.columns]
    twice = [name for name in frame.columns if list(frame.columns).count(name) > 1]
    if twice:
        raise ValueError(f"{path}: column `{twice[0]}` is there twice")
    if not len(frame):
        raise ValueError(f"{path} has no rows")
    return frame


def dates(frame: Any, names: list[str]) -> list[str]:
    """Those of some columns that are strings and all dates as ISO 8601 writes them, which leaves open nothing."""
    found = []
    for name in names:
        cells = frame[name].dropna()
        alike = len(cells) and all(isinstance(cell, str) and _DATE.fullmatch(cell) for cell in cells.unique())
        if alike and not _read(cells).isna().any():
            found.append(name)
    return found


def _read(cells: Any) -> Any:
    """Strings as dates, in UTC where they have a zone; missing where they are none."""
    found = pandas("the command polytask").to_datetime(cells, format="ISO8601", utc=True, errors="coerce")
    return found.dt.tz_localize(None)


def dated(frame: Any, names: list[str]) -> Any:
    """The frame with these columns as dates.

    Raises:
        ValueError: a cell that is none.
    """
    each = {name: _read(frame[name]) for name in names}
    for name, found in each.items():
        wrong = frame[name][found.isna() & frame[name].notna()]
        if len(wrong):
            raise ValueError(f"column `{name}` should hold dates such as 2024-05-31 or 2024-05-31T12:30:00, or "
                             f"nothing; got {wrong.iloc[0]!r} at row "
                             f"{frame.index.get_loc(wrong.index[0])}")  # fmt: skip
    return frame.assign(**each)


def check(names: list[str], frame: Any, argument: str) -> None:
    """Refuses names that are no columns."""
    have = list(frame.columns)
    unknown = next((name for name in names if name not in have), None)
    if unknown is not None:
        raise ValueError(f"{argument}: unknown column {none_of(unknown, have, 'the table has')}")


def task(frame: Any, name: str, classes: bool, numbers: bool) -> tuple[Task, str]:
    """A column as a task, and in words what it was taken for.

    Raises:
        ValueError: a column without labels, or with one alone.
    """
    column = frame[name].dropna()
    missing = len(frame) - len(column)
    if not len(column):
        raise ValueError(f"task `{name}`: none of {len(frame)} rows has a label")
    distinct = sorted(column.unique().tolist(), key=lambda value: (str(type(value)), value))
    if len(distinct) == 1:
        raise ValueError(f"task `{name}`: all labels are {distinct[0]!r}, and there is nothing to predict")
    kind = column.dtype.kind
    are_numbers = kind in "iuf" and not classes
    whole = are_numbers and bool(np.equal(np.mod(np.asarray(column, np.float64), 1), 0).all())
    few = len(distinct) == 2 or (whole and len(distinct) <= MOST_CLASSES)
    beside = f", {missing} missing" if missing else ""
    if are_numbers and (numbers or not few):
        low, high = (float(end) for end in (column.min(), column.max()))
        return Task(name, scale="standardize", metrics=["r2", "mae"]), f"numbers from {low:.6g} to {high:.6g}{beside}"
    if numbers:
        raise ValueError(f"task `{name}`: --numbers, but it holds {distinct[0]!r}")
    if not classes and (looks := strings.form(distinct)):
        raise ValueError(f"task `{name}` has {len(distinct)} different strings that look like {looks}, such as "
                         f"{distinct[0]!r}: make {looks} of them, or say --classes {name}")  # fmt: skip
    if len(distinct) > _MOST_LABELS:
        raise ValueError(f"task `{name}` has {len(distinct)} different labels, more than {_MOST_LABELS}: is it a text, "
                         "or a number of each row?")  # fmt: skip
    shares = column.value_counts(normalize=True)
    common = f"{shares.index.tolist()[0]!r} in {100 * shares.iloc[0]:.1f} %"
    metrics = ["auroc", "accuracy"] if len(distinct) == 2 else ["accuracy"]
    return Task(name, classes=distinct, metrics=metrics), f"{len(distinct)} classes, {common}{beside}"
