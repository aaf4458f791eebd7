"""Real data that installed packages carry, as data frames, and tasks made by a formula, as arrays."""

from polytask.datasets.census import census_income
from polytask.datasets.synthetic import correlated_tasks, grouped_tasks

__all__ = ["census_income", "correlated_tasks", "grouped_tasks"]
