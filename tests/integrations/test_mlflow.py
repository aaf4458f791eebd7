"""MLflow has each epoch's metrics, and a resumed training goes on with its run."""

import copy

import mlflow
import polytask as pt
import pytest


class Break(pt.Callback):
    def on_epoch_end(self, trainer, row):
        if row["epoch"] == 3:
            raise SystemExit


def test_a_run_that_is_resumed(data, model, tmp_path):
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")

    def fit(*more):
        logger = pt.callbacks.MLflow(run_name="first")
        callbacks = [logger, *more, pt.Checkpoint(tmp_path / "run", every=2)]
        trainer = pt.Trainer(copy.deepcopy(model), callbacks=callbacks)
        return trainer.fit(data.whole, epochs=4, progress=False, resume=tmp_path / "run"), logger

    with pytest.raises(SystemExit):
        fit(Break())
    assert mlflow.active_run() is None
    history, _ = fit()
    runs = mlflow.search_runs(output_format="list")
    assert [run.info.run_name for run in runs] == ["first"]
    logged = mlflow.MlflowClient().get_metric_history(runs[0].info.run_id, "income/auroc")
    assert {each.step: each.value for each in logged} == dict(enumerate(history["income/auroc"], 1))
    assert runs[0].info.status == "FINISHED"
