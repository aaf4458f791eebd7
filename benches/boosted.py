"""Boosted trees of four libraries, one a task, of random settings the best on validation rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from real_tables import Problem

WAYS = ("histogram boosting", "lightgbm", "catboost", "xgboost")
#: Of each library but scikit-learn's, which takes what OpenMP has.
THREADS = 2


def settings(way: str, trial: int) -> dict[str, Any]:
    """Random settings of boosted trees; the first are the library's own."""
    if trial == 0:
        return {}
    rng = np.random.default_rng([trial, len(way)])

    def log(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    if way == "histogram boosting":
        return {"learning_rate": log(0.01, 0.3), "max_leaf_nodes": int(log(8, 128)),
                "min_samples_leaf": int(log(3, 80)), "l2_regularization": log(1e-3, 10),
                "max_features": float(rng.uniform(0.4, 1))}  # fmt: skip
    if way == "lightgbm":
        return {"learning_rate": log(0.01, 0.3), "num_leaves": int(log(8, 128)), "min_child_samples": int(log(3, 80)),
                "reg_lambda": log(1e-3, 10), "colsample_bytree": float(rng.uniform(0.4, 1)),
                "subsample": float(rng.uniform(0.6, 1)), "subsample_freq": 1}  # fmt: skip
    if way == "xgboost":
        return {"learning_rate": log(0.01, 0.3), "max_depth": int(rng.integers(3, 11)), "min_child_weight": log(1, 40),
                "reg_lambda": log(1e-2, 10), "colsample_bytree": float(rng.uniform(0.4, 1)),
                "subsample": float(rng.uniform(0.6, 1))}  # fmt: skip
    return {"learning_rate": log(0.02, 0.3), "depth": int(rng.integers(3, 9)), "l2_leaf_reg": log(1, 20),
            "random_strength": log(0.1, 10), "bagging_temperature": float(rng.uniform(0, 1))}  # fmt: skip


def framed(problem: Problem, way: str) -> list[Any]:
    """Features as a library of trees takes them: numbers, and categories."""
    import pandas

    found = [part[problem.features].copy() for part in problem.parts]
    for name in problem.features:
        if found[0][name].dtype.kind in "iufb":
            continue
        if way == "catboost":
            for part in found:
                part[name] = part[name].fillna("missing").astype(str)
            continue
        often = found[0][name].value_counts().index[:250]
        kinds = pandas.CategoricalDtype(sorted(often))
        for part in found:
            part[name] = part[name].where(part[name].isin(often)).astype(kinds)
    return found


def fitted(way: str, frames: list[Any], problem: Problem, target: str, said: dict[str, Any], seed: int) -> Any:
    """Trees that end by early stopping on the validation rows, and their loss there."""
    classes = problem.classes[target]
    ys = [problem.y(part, target) for part in range(2)]
    known = [y >= 0 if classes else ~np.isnan(y) for y in ys]
    (train, wanted), (held_out, judged) = [(frames[part][known[part]], ys[part][known[part]]) for part in range(2)]
    categories = [name for name in problem.features if frames[0][name].dtype.kind not in "iufb"]
    if way == "histogram boosting":
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        made = kind(max_iter=2000, early_stopping=True, n_iter_no_change=20, random_state=seed, **said)
        made.fit(train, wanted, X_val=held_out, y_val=judged)
    elif way == "lightgbm":
        import lightgbm

        lgb = lightgbm.LGBMClassifier if classes else lightgbm.LGBMRegressor
        made = lgb(n_estimators=2000, random_state=seed, verbose=-1, n_jobs=THREADS, **said)
        made.fit(train, wanted, eval_X=held_out, eval_y=judged, callbacks=[lightgbm.early_stopping(50, verbose=False)])
    elif way == "xgboost":
        import xgboost

        xgb = xgboost.XGBClassifier if classes else xgboost.XGBRegressor
        made = xgb(n_estimators=2000, early_stopping_rounds=50, enable_categorical=True, random_state=seed,
                   n_jobs=THREADS, **said)  # fmt: skip
        made.fit(train, wanted, eval_set=[(held_out, judged)], verbose=False)
    else:
        import catboost

        cat = catboost.CatBoostClassifier if classes else catboost.CatBoostRegressor
        made = cat(iterations=2000, early_stopping_rounds=50, random_seed=seed, verbose=False, thread_count=THREADS,
                   cat_features=categories, allow_writing_files=False, **said)  # fmt: skip
        made.fit(train, wanted, eval_set=(held_out, judged))
    return made, _loss(made, held_out, judged, classes)


def _loss(made: Any, rows: Any, y: np.ndarray, classes: list[str] | None) -> float:
    if classes is None:
        return float(np.mean((made.predict(rows) - y) ** 2))
    p = made.predict_proba(rows)[np.arange(len(y)), y]
    return float(-np.log(np.maximum(p, 1e-12)).mean())


def trees(way: str, problem: Problem, seed: int, chosen: dict[str, int]) -> dict[str, np.ndarray]:
    """One model a target with the settings that were best on the validation rows."""
    frames = framed(problem, way)
    found = {}
    for target in problem.classes:
        made, _ = fitted(way, frames, problem, target, settings(way, chosen[target]), seed)
        found[target] = made.predict_proba(frames[2]) if problem.classes[target] else made.predict(frames[2])
    return found


def tune(way: str, problem: Problem, trials: int) -> dict[str, int]:
    """The best of the trials for each target."""
    frames = framed(problem, way)
    return {
        target: int(
            np.argmin([fitted(way, frames, problem, target, settings(way, trial), 0)[1] for trial in range(trials)])
        )
        for target in problem.classes
    }
