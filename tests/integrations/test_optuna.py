"""Optuna prunes trials, which is no failure of them."""

import copy

import optuna
import polytask as pt


def test_trials_are_pruned_and_no_failures(data, model):
    class AfterTwo(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number > 0 and len(trial.intermediate_values) == 2

    def objective(trial):
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        callback = pt.callbacks.OptunaPruning(trial, "income/auroc")
        trainer = pt.Trainer(copy.deepcopy(model), lr=lr, callbacks=[callback])
        trainer.fit(data.whole, validation=0.25, epochs=4, progress=False)
        return trainer.evaluate(data.whole)["income/auroc"]

    study = optuna.create_study(direction="maximize", pruner=AfterTwo())
    study.optimize(objective, n_trials=3)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "PRUNED"]
    assert [list(trial.intermediate_values) for trial in study.trials] == [[1, 2, 3, 4], [1, 2], [1, 2]]
