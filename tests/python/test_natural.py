"""Scripts as newcomers typed them: those that do not work, and what they are told."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "natural"

#: Of all others it is said below that they work.
FAIL = {
    "pytorch/04_gru_with_lengths.py": "or for a module of your own what it takes, such as",
    "sklearn/10_pandas_in_and_out.py": "isinstance(prediction, pd.DataFrame)",  # as regressors of scikit-learn
    "sklearn/15_mixed_tasks.py": "tasks are given by name",
    "sklearn_after/01_churn_search.py": "AssertionError",  # the index behind steps that give arrays
    "sklearn_after/02_permutation_importance.py": "IndexError",  # a frame from a regressor
}
#: These want a package that the suite does without; `make test-integrations` and `make test-onnx` run them.
NEED = {
    "pytorch/37_onnx.py",
    "pytorch/41_tensorboard_callback.py",
    "pytorch/43_wandb_and_mlflow.py",
    "pytorch/44_optuna_pruning.py",
}


def test_scripts_work_as_they_were_typed(tmp_path):
    written = tmp_path / "results.json"
    command = [sys.executable, str(SCRIPTS / "run.py"), "--here", "--json", str(written)]
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    subprocess.run(command, check=True, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)
    results = json.loads(written.read_text())
    assert len(results) == 48 + 15 + 10 + 10
    for name, result in results.items():
        if name in FAIL:
            assert result.startswith("fails: "), (name, result)
            assert FAIL[name] in result, (name, result)
        elif name in NEED and result.startswith("needs "):
            continue
        else:
            assert result == "works", (name, result)
