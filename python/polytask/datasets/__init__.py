"""Real data that installed packages carry, as data frames."""

from polytask.datasets.census import census_income

__all__ = ["census_income"]
