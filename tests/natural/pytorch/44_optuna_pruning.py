"""Optuna searches width and lr, and prunes bad trials from a callback."""

import numpy as np
import optuna
import polytask as pt

rng = np.random.default_rng(0)
x = rng.normal(size=(200, 5))
train, valid = (x[:150], x[:150, 0], x[:150, 1]), (x[150:], x[150:, 0], x[150:, 1])


def objective(trial):
    class Prune(pt.Callback):
        def on_epoch_end(self, trainer, epoch, metrics):
            trial.report(metrics["validation/loss"], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned()

    width = trial.suggest_int("width", 4, 32)
    model = pt.MultiTaskModel(5, tasks=[pt.Task("a"), pt.Task("b")], encoder=pt.encoder.MLP([width]), seed=0)
    trainer = pt.Trainer(model, lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True), callbacks=[Prune()])
    trainer.fit(train, validation=valid, epochs=5, batch_size=30)
    return trainer.evaluate(valid)["loss"]


study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=optuna.pruners.MedianPruner(2))
study.optimize(objective, n_trials=8)
assert np.isfinite(study.best_value)
assert all(trial.state.is_finished() and trial.state.name != "FAIL" for trial in study.trials)
