"""A file with a line an epoch."""

import csv
import os
from os import PathLike
from typing import Any

from ..arguments.keywords import checked
from ..arguments.paths import file_path
from ..training.callback import Callback
from ..training.run import Run


class CSV(Callback):
    """Writes the row of each epoch as a line of a CSV file, whose first line has the names of the history's columns.

    The file has one line for each epoch of the run: a run that is resumed, and one that goes on by another `fit`, add
    theirs; lines of the same epoch and later ones, of a run that broke off or was started again, go. A column that
    comes later is empty in earlier lines; a number that is not known is `nan`.

    Arguments:
        path: the file.

    Raises:
        ValueError: before the first step, when there is a file at `path` that is no such log.
        OSError: what the operating system says.
    """

    of_one_run = True

    @checked
    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = file_path(path)
        self._columns: list[str] | None = None

    def on_fit_start(self, trainer: Run) -> None:
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        self._columns = None
        self._read()
        with open(self.path, "a"):
            pass  # for its errors, before the first step

    def on_epoch_end(self, trainer: Run, row: dict[str, Any]) -> None:
        if self._columns is None or not set(row).issubset(self._columns):
            self._begin(row)
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns or []).writerow(row)

    def _begin(self, row: dict[str, Any]) -> None:
        """Writes the lines of earlier epochs again, under the names of all columns."""
        columns, lines = self._read()
        self._columns = list(dict.fromkeys([*columns, *row]))
        partial = f"{self.path}.partial"
        with open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(line for line in lines if int(line["epoch"]) < row["epoch"])
        os.replace(partial, self.path)

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """The columns and the complete lines of the file; none where there is nothing yet."""
        if not os.path.exists(self.path) or os.path.getsize(self.path) == 0:
            return [], []
        with open(self.path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            if "epoch" not in columns:
                raise ValueError(f"{self.path}: this file is no log of a run, since it has no column `epoch`; "
                                 "use another path")  # fmt: skip
            # note: the last line may have been cut off.
            return columns, [line for line in reader if None not in line.values() and line["epoch"].isdigit()]

    def __repr__(self) -> str:
        return f"CSV({self.path!r})"
