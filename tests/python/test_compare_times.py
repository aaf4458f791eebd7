"""`make compare-times`: what it measures in which order, and that it sees a build that has become slower."""

import shutil
import sys
from pathlib import Path

import numpy as np
import polytask as pt
import pytest

sys.path.append(str(Path(__file__).parents[1] / "compare"))
import rows
import times

SLOWED = """

def _slowed(fit, clock):
    def slow(*arguments, **settings):
        start = clock()
        fit(*arguments, **settings)
        end = 20 * clock() - 19 * start
        while clock() < end:
            pass
    return slow


Trainer.fit = _slowed(Trainer.fit, __import__("time").perf_counter)
"""


def pairs(ratio: float, old: float, count: int = 15) -> list[times.Pair]:
    """Measurements that scatter by 1 % around a ratio."""
    noise = np.random.default_rng(0).normal(1, 0.01, (count, 2))
    return [(old * a, old * ratio * b) for a, b in noise]


def test_about_thirty_rows_have_names_of_their_own():
    names = [str(row) for row in rows.rows()]
    assert len(set(names)) == len(names)
    assert 30 <= len(names) <= 40
    assert {row.threads for row in rows.rows()} == {1, 2}


@pytest.mark.parametrize("name", ["10 -> 20", "2 tasks, UPGrad; 1", "Gramian, MGDA"])
def test_a_row_takes_as_many_steps_as_it_is_told(name, monkeypatch):
    row = next(row for row in rows.rows() if name in str(row))
    taken = []
    fit, find = pt.Trainer.fit, pt.weighting.MGDA.weights

    def counted(self, *arguments, **settings):
        before = self.steps
        fit(self, *arguments, **settings)
        taken.append(self.steps - before)

    monkeypatch.setattr(pt.Trainer, "fit", counted)
    monkeypatch.setattr(pt.weighting.MGDA, "weights", lambda *given: taken.append(1) or find(*given))
    row.make()(2 * row.epoch)
    assert sum(taken) == 2 * row.epoch


def test_a_row_is_above_when_its_whole_interval_is():
    same, slower = times.verdict(pairs(1.0, 500)), times.verdict(pairs(1.08, 500))
    assert same.low < 1 < same.high < same.bound == 1.03
    assert slower.ratio == pytest.approx(1.08, abs=0.01)
    assert slower.low > slower.bound
    assert times.verdict(pairs(1.03, 500)).low < 1.03
    # Short rows may take more: 6 %, or 0.3 microseconds.
    assert times.verdict(pairs(1.08, 50)).bound == 1.06
    assert times.verdict(pairs(1.0, 2)).bound == pytest.approx(1.15, abs=0.01)


def test_all_rows_together_may_take_one_percent_more(capsys):
    close = {f"row {k}": times.verdict(pairs(1.02, 500)) for k in range(3)}
    assert not times.report(close)
    assert "geometric mean over 3 rows: 1.0" in capsys.readouterr().out
    assert times.report({name: times.verdict(pairs(1.0, 500)) for name in close})
    one = {**{f"row {k}": times.verdict(pairs(0.9, 500)) for k in range(3)}, "slow": times.verdict(pairs(1.1, 500))}
    assert not times.report(one)
    assert "wholly above: slow" in capsys.readouterr().out


def test_builds_take_turns_and_a_row_is_written_down(tmp_path, monkeypatch):
    begun = []

    class Counting:
        def __init__(self, python: Path, threads: int) -> None:
            self.name, self.took = python.name, 2.0 if python.name == "new" else 1.0
            begun.append((self.name, threads))

        def seconds(self, row: rows.Row, steps: int) -> float:
            order.append(self.name)
            return steps * self.took * 1e-3

        def close(self) -> None:
            begun.append((self.name, "closed"))

    order: list[str] = []
    monkeypatch.setattr(times, "Worker", Counting)
    known = {str(row): row for row in (rows.Row("a", 1, 10, list), rows.Row("b", 2, 10, list))}
    wanted = dict.fromkeys(known, 7)
    record = times.Record(tmp_path / "times.jsonl")
    times.fill(record, Path("old"), Path("new"), wanted, known)
    assert {name: len(found) for name, found in record.pairs.items()} == wanted
    assert all(pair == pytest.approx((1e3, 2e3)) for found in record.pairs.values() for pair in found)
    # Five pairs of one pair of processes, two of the next; who begins changes.
    assert [name for name, threads in begun if threads == 1] == ["old", "new"] * 2
    assert [name for name, threads in begun if threads == "closed"] == ["old", "new"] * 4
    first = order[6 : 6 + 4 * 5]
    assert first[::2] == ["old", "new", "new", "old", "old", "new", "new", "old", "old", "new"]
    # A later run goes on with what is written, and does not measure it again.
    order.clear()
    again = times.Record(tmp_path / "times.jsonl")
    assert again.pairs == record.pairs
    times.fill(again, Path("old"), Path("new"), wanted, known)
    assert not order


def test_a_slower_build_is_seen(tmp_path):
    folders = []
    for name in ("old", "new"):
        folders.append(tmp_path / name)
        package = Path(pt.__file__).parent
        shutil.copytree(package, tmp_path / name / "polytask", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "new" / "polytask" / "__init__.py").open("a") as file:
        file.write(SLOWED)
    row = next(row for row in rows.rows() if "8 tasks, UPGrad; 1" in str(row))
    workers = [times.Worker(folder, 1) for folder in folders]
    found = times.verdict(times.measure(row, *workers, range(5)))
    for worker in workers:
        worker.close()
    assert found.low > 2
