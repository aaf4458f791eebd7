"""The command's arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..studies import tabular
from . import predict, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status: 1 for what is wrong with the data, 130 for Ctrl-C."""
    asked = _parser().parse_args(arguments)
    try:
        asked.run(asked)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"polytask: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="polytask", description="Several things to predict from one table.")
    parser.add_argument("--version", action="version", version=f"polytask {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    one = commands.add_parser(
        "report",
        help="which tasks to train together, and how good that is on rows held out",
        description="Finds out which tasks to train together, trains that, judges it on test rows beside boosted trees "
        "and leaves report.html, the model and reproduce.py in a folder. Of one task it trains and judges networks.",
    )
    one.add_argument("data", type=Path, help="a table: .csv, .parquet, .feather or .arrow")
    one.add_argument("--tasks", nargs="+", required=True, metavar="COLUMN", help="the columns to predict")
    one.add_argument("--classes", nargs="+", default=[], metavar="COLUMN", help="tasks whose values are classes")
    one.add_argument("--numbers", nargs="+", default=[], metavar="COLUMN", help="tasks whose values are numbers")
    one.add_argument("--categorical", nargs="+", default=[], metavar="COLUMN", help="features that are categories")
    one.add_argument("--exclude", nargs="+", default=[], metavar="COLUMN", help="columns to leave out")
    one.add_argument("--weights", metavar="COLUMN", help="the weight of each row")
    one.add_argument("--budget", default="10m", help='time, as "90s", "10m" or "1h" (default 10m)')
    one.add_argument("--out", type=Path, default=Path("polytask-report"), help="a folder (default polytask-report)")
    held = one.add_mutually_exclusive_group()
    held.add_argument("--groups", metavar="COLUMN", help="rows of one value stay on one side of each split")
    held.add_argument("--time", metavar="COLUMN", help="the latest rows are the test rows")
    held.add_argument("--stratify", metavar="TASK", help="a task whose labels have equal shares in all parts")
    one.add_argument("--test", type=float, default=0.2, metavar="SHARE", help="the part for the test (default 0.2)")
    one.add_argument("--batch-size", type=int, help="rows a step (by default 32 to 1024, by the number of rows)")
    one.add_argument(
        "--quality",
        choices=tabular.QUALITIES,
        default="fast",
        help="plain networks, TabM, or in the end an ensemble of many networks (default fast)",
    )
    one.add_argument("--seed", type=int, default=0, help="of splits and networks (default 0)")
    one.add_argument("--quiet", action="store_true", help="no bars")
    one.set_defaults(run=report.run)
    other = commands.add_parser("predict", help="predictions beside the rows of a new table")
    other.add_argument("model", type=Path, help="a model file, or a folder of several, as a report left it")
    other.add_argument("data", type=Path, help="a table with the columns that the model learned from")
    other.add_argument("--out", type=Path, help="where to write; by default beside the table, as NAME-predicted.csv")
    other.set_defaults(run=predict.run)
    return parser
