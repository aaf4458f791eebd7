"""The README's examples run as printed."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import polytask as pt
import pytest
from sklearn.model_selection import GridSearchCV

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
SHORT, FULL, WEIGHTINGS, SHARING, TRANSFER, SKLEARN = EXAMPLES


def test_the_short_example(capsys):
    names: dict[str, object] = {}
    exec(SHORT, names)
    assert len(names["history"]) == 10
    assert "task3" in capsys.readouterr().out


def test_the_full_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    x = {"numeric": rng.normal(size=(300, 8)), "categorical": rng.integers(0, [9, 16, 7], (300, 3))}
    targets = {"income": rng.integers(0, 2, 300), "education": rng.integers(-1, 17, 300), "age": rng.normal(size=300)}
    names = {"pt": pt, "x": x, "train": (x, targets), "valid": (x, targets)}
    exec(FULL, names)
    assert {name: array.shape for name, array in names["prediction"].items()} == {
        "income": (300,), "education": (300, 17), "age": (300,),
    }  # fmt: skip


def test_the_weightings_example(data, model):
    pytest.importorskip("matplotlib")
    jacobian = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    names = {"pt": pt, "model": model, "train": data.whole, "valid": data.whole, "jacobian": jacobian}
    exec(WEIGHTINGS, names)
    np.testing.assert_allclose(names["direction"], [0.2924, 1.9006, 1.9006], atol=5e-5)
    np.testing.assert_allclose(names["weights"] @ jacobian, [0, 1, 1], atol=1e-12)


def test_the_sharing_example(data):
    pytest.importorskip("matplotlib")
    tasks = [pt.Task("income", loss="binary_cross_entropy"), pt.Task("age")]
    train = (data.x, {"income": data.income, "age": data.age})
    names = {"pt": pt, "inputs": 8, "tasks": tasks, "x": data.x, "train": train}
    exec(SHARING, names)
    assert names["apart"].relation() is not None


def test_the_transfer_example(data, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model.save("model.safetensors")
    names = {"pt": pt, "model": model, "x": data.x, "churn": data.income}
    exec(TRANSFER, names)
    assert "4 single-task networks would need" in capsys.readouterr().out
    np.testing.assert_array_equal(
        names["fresh"].state_dict()["encoder.0.weight"], model.state_dict()["encoder.0.weight"]
    )
    assert [task.name for task in names["smaller"].tasks] == ["income", "topics", "churn"]


def test_the_scikit_learn_example(data):
    pytest.importorskip("matplotlib")
    rich = np.where(data.income == 1, "yes", "no")
    city = np.where(data.x[:, 0] > 0, "A", "B")
    frame = pd.DataFrame({"city": city, "size": data.x[:, 1], "rich": rich, "age": data.age})
    names = {"pt": pt, "frame": frame, "GridSearchCV": GridSearchCV}
    exec(SKLEARN, names)
    predicted = names["search"].predict(frame[["city", "size"]])
    assert predicted.columns.tolist() == ["rich", "age"]
    assert (predicted["rich"] == rich).mean() > 0.8
