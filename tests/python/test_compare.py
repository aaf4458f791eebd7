"""`make compare`: what it trains with two versions, and that it sees a bit that differs."""

import sys
from pathlib import Path

import numpy as np
import polytask as pt
import pytest

sys.path.append(str(Path(__file__).parents[1] / "compare"))
import bits
import ways

WANTED = ("equal over ple, small", "upgrad over hard, accumulated", "case run-famo", "file 0.1.0/sharing-ple.model")
BIAS = "state/heads.kind.bias"


def trained(path: Path, names: tuple[str, ...] = WANTED) -> dict[str, bits.Numbers]:
    """Ends of some ways, from a file."""
    bits.train(path, [way for way in ways.ways() if way[0].startswith(names)])
    with np.load(path) as file:
        return bits.by_way(dict(file))


def test_a_version_ends_with_the_bits_of_itself(tmp_path, capsys):
    old, new = trained(tmp_path / "old.npz"), trained(tmp_path / "new.npz")
    assert len(old) == len(WANTED)
    assert all(bits.verdict(old[name], new[name]) == bits.Verdict(True, "identical") for name in new)
    assert bits.report(old, new)
    said = capsys.readouterr().out
    assert "2 whose bits are promised: 2 identical" in said
    assert "1 of which nothing is promised: 1 identical" in said


def test_what_a_training_ends_with(tmp_path):
    parts = {name: {key.partition("/")[0] for key in each} for name, each in trained(tmp_path / "ends.npz").items()}
    assert parts["case run-famo"] == {"promise", "state", "history", "predicted"}
    assert parts["equal over ple, small"] == {"promise", "state", "history"}
    assert parts["file 0.1.0/sharing-ple.model.safetensors"] == {"promise", "predicted"}


@pytest.mark.parametrize(
    ("promise", "apart", "kept", "word"),
    [
        ("same", 0.0, True, "identical"),
        ("same", 1e-8, False, "within 1e-06"),
        ("close", 1e-8, True, "within 1e-06"),
        ("close", 1e-5, False, "different"),
        ("close", np.nan, False, "different"),
        ("said", 1e-5, True, "different"),
    ],
)
def test_a_promise_is_kept_or_broken(promise, apart, kept, word):
    old = {"state/w": np.array([3.0, 4.0]), "history/loss": np.array([1.0]), "promise": np.array(promise)}
    new = {**old, "state/w": old["state/w"] + [5 * apart, 0]}
    found = bits.verdict(old, new)
    assert (found.kept, found.word) == (kept, word)
    assert bits.report({"way": old}, {"way": new}) == kept


def test_one_bit_of_anything_is_seen():
    old = {
        BIAS: np.ones(3, np.float32),
        "predicted/kind": np.zeros(2),
        "history/loss": np.array([1.0]),
        "promise": np.array("same"),
    }
    for name in (BIAS, "predicted/kind", "history/loss"):
        new = {**old, name: np.nextafter(old[name], np.array(9, old[name].dtype))}
        assert not bits.verdict(old, new).kept
        assert f"{name} first" in bits.verdict(old, new).detail
        assert not bits.verdict(old, {key: array for key, array in old.items() if key != name}).kept
    assert not bits.verdict(old, {**old, BIAS: old[BIAS].astype(np.float64)}).kept
    # Columns may be added to a history, parameters may not be added to a model.
    assert bits.verdict(old, {**old, "history/threads": np.array([1])}).kept
    assert not bits.verdict(old, {**old, "state/more": np.array([1])}).kept


def test_what_only_one_version_trains():
    fine, refused = {BIAS: np.ones(3)}, {"error": np.array("ValueError: no")}
    for promise in ("same", "close"):
        told = {"promise": np.array(promise)}
        # The older one may lack an ability, the newer one may not have lost it.
        assert bits.verdict({**refused, **told}, {**fine, **told}).kept
        assert not bits.verdict({**fine, **told}, {**refused, **told}).kept
        assert bits.verdict({**refused, **told}, {**refused, **told}).kept == (promise == "close")
    told = {"promise": np.array("same")}
    assert not bits.report({"way": {**fine, **told}, "lost": {**fine, **told}}, {"way": {**fine, **told}})


def test_every_component_is_trained():
    promised = {name: promise for name, _, promise in ways.ways()}
    for scheme in pt.sharing.__all__:
        name = getattr(pt.sharing, scheme).name
        for weighting in ("equal", "upgrad"):
            assert promised[f"{weighting} over {name}, small"] == promised[f"{weighting} over {name}, rows"] == "same"
            assert promised[f"{weighting} over {name}, accumulated"] == "close"
        assert promised[f"upgrad(per=layer) over {name}"] == "close"
    for weighting in set(pt.weighting.__all__) - {"Equal", "UPGrad"}:
        assert promised[f"{weighting} over hard"] == "close"
    for regularizer in pt.regularizer.__all__:
        assert promised[f"upgrad with {regularizer} over soft"] == "close"
    for name in ways.make.cases():
        assert f"case {name}" in promised
