"""`make compare`: what it trains with two versions, and that it sees a bit that differs."""

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "files"))
import compare


def test_a_version_ends_with_the_bits_of_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(compare.make, "cases", lambda: {name: CASES[name] for name in ("sharing-ple", "run-famo")})
    for name in ("old", "new"):
        compare.train(tmp_path / f"{name}.npz")
    old, new = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("old", "new"))
    assert {name.partition("/")[0] for name in old} == {
        f"{case}:{part}" for case in ("sharing-ple", "run-famo") for part in ("state", "predicted", "history")
    }
    assert compare.differ(old, new) == ([], [])
    changed = {**new, "run-famo:state/heads.kind.bias": np.nextafter(new["run-famo:state/heads.kind.bias"], 9)}
    del changed["sharing-ple:history/loss"]
    assert compare.differ(old, changed) == (["run-famo:state/heads.kind.bias", "sharing-ple:history/loss"], [])
    assert compare.differ({**old, "run-famo:error": np.array("x")}, changed) == (
        ["sharing-ple:history/loss"],
        ["run-famo"],
    )


CASES = compare.make.cases()
