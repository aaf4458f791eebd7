"""Metrics go to MLflow and to an offline run of Weights & Biases, by one callback."""

import os
import tempfile

import mlflow
import numpy as np
import polytask as pt
import wandb


class Loggers(pt.Callback):
    def on_epoch_end(self, trainer, epoch, metrics):
        mlflow.log_metrics({name.replace("/", "."): value for name, value in metrics.items()}, step=epoch)
        wandb.log(metrics, step=epoch)


x = np.random.default_rng(0).normal(size=(100, 5))
with tempfile.TemporaryDirectory() as folder:
    os.environ["WANDB_MODE"] = "offline"
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    wandb.init(project="polytask", dir=folder)
    model = pt.MultiTaskModel(5, tasks=[pt.Task("a"), pt.Task("b")])
    with mlflow.start_run() as run:
        mlflow.log_params({"lr": 1e-3, "weighting": "equal"})
        pt.Trainer(model, lr=1e-3, callbacks=[Loggers()]).fit((x, x[:, 0], x[:, 1]), epochs=3, batch_size=20)
    wandb.finish()
    assert "loss" in mlflow.get_run(run.info.run_id).data.metrics
