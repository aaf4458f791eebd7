"""Directions of degenerate gradients are as short as promised; `make bounds` tries many more."""

import bounds
import numpy as np
import polytask as pt
import pytest


@pytest.mark.parametrize(("tasks", "width"), [(2, 1), (5, 6), (20, 30)])
def test_the_model_has_the_rows_for_gradients(tasks, width):
    rows = bounds.jacobian(np.random.default_rng(1), tasks, width)
    weights = np.arange(1.0, tasks + 1)
    trained = bounds.Trained(pt.weighting.Static(weights.tolist()), tasks, width)
    for _ in range(2):
        got = trained.direction(rows)
        np.testing.assert_allclose(got, weights @ rows, atol=1e-6 * float(weights @ np.abs(rows).max(axis=1)))


def test_a_direction_that_is_too_long_or_meets_no_condition_is_seen(capsys, monkeypatch):
    method = bounds.Method(pt.weighting.PCGrad(), bounds.mean, bounds.projected)
    monkeypatch.setattr(bounds, "methods", lambda: {"PCGrad": method})
    assert bounds.main(40, 1) > 10
    said = capsys.readouterr().out
    assert "long, at most" in said
    assert "a residual of" in said


def test_no_bound_and_no_condition_is_broken(capsys):
    assert bounds.main(300, 1) == 0, capsys.readouterr().out
    table = {line[:22].strip(): line[22:].split() for line in capsys.readouterr().out.splitlines()}
    assert table.keys() >= {"UPGrad", "DualProj", "PCGrad", "MGDA", "NashMTL", "FairGrad", "AlignedMTL, min"}
    for name, (draws, length, *_, broken) in table.items():
        assert (draws, broken) == ("300", "0")
        # What is never near its bound is not tested by it.
        assert length == "none" or 0.3 < float(length) <= 1.0 + 1e-9, name
