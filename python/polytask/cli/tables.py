"""Tables in files, and which kind of task a column is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..arguments.messages import listed, none_of
from ..data import strings
from ..data.task import Task
from ..results.table import pandas
from ..values import frames, measures

#: Whole numbers of at most so many different values are classes.
MOST_CLASSES = 20
#: Labels of any other kind of at most so many.
_MOST_LABELS = 1000
#: Rows from which on it counts that no two have the same number.
_MANY = 50
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
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not written in UTF-8: write it so, as pandas.read_csv({path.name!r}, "
                         "encoding='cp1252').to_csv does if that is its encoding") from None  # fmt: skip
    except Exception as error:
        first = str(error).strip().splitlines()
        raise ValueError(f"{path} is no table of this kind: {first[0] if first else type(error).__name__}") from None
    frame.columns = [str(name) for name in frame.columns]
    alone = known == "read_csv" and len(frame.columns) == 1
    other = next((mark for mark in ";\t|" if alone and mark in frame.columns[0]), None)
    if other is not None:
        raise ValueError(f"{path} has one column, `{frame.columns[0]}`: if {other!r} separates its columns, write it "
                         f"with commas, as pandas.read_csv({path.name!r}, sep={other!r}).to_csv does")  # fmt: skip
    twice = [name for name in frame.columns if list(frame.columns).count(name) > 1]
    if twice:
        raise ValueError(f"{path}: column `{twice[0]}` is there twice")
    if not len(frame):
        raise ValueError(f"{path} has no rows")
    return frame


def check(names: list[str], frame: Any, argument: str) -> None:
    """Refuses names that are no columns."""
    have = list(frame.columns)
    unknown = next((name for name in names if name not in have), None)
    if unknown is not None:
        raise ValueError(f"{argument}: unknown column {none_of(unknown, have, 'the table has')}")


def half_dates(frame: Any, part: Any, names: list[str]) -> list[str]:
    """Those of some columns that are dates in a part of the rows, and not in all."""
    return [name for name in names if _is_dates(part[name]) and not _is_dates(frame[name])]


def _is_dates(column: Any) -> bool:
    return measures.unit(frames.values(column)) == measures.DATES


def naming_rows(frame: Any, names: list[str]) -> list[str]:
    """Those of some columns that are another whole number in each of many rows, as numbers of customers are."""
    return [
        name
        for name in names
        if len(frame) >= _MANY and frame[name].dtype.kind in "iu" and frame[name].nunique() == len(frame)
    ]


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
    if column.dtype.kind == "f" and all(value.is_integer() and abs(value) < 2**53 for value in distinct):
        # Whole numbers that are floats since some are missing.
        column, distinct = column.astype("int64"), list(map(int, distinct))
    if len(distinct) == 1:
        raise ValueError(f"task `{name}`: all labels are {distinct[0]!r}, and there is nothing to predict")
    kind = column.dtype.kind
    are_numbers = kind in "iuf" and not classes
    few = len(distinct) == 2 or (kind in "iu" and len(distinct) <= MOST_CLASSES)
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
