"""Arguments by the names that other libraries give them: an error says what ours are called."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from ..arguments.messages import listed, meant

P = ParamSpec("P")
R = TypeVar("R")

#: What other libraries call an argument, and what it may be called here: the first of these that there is.
_OURS = {
    "accumulate_grad_batches": ["accumulate"],
    "callback": ["callbacks"],
    "class_weight": ["class_weights"],
    "clip_grad_norm": ["clip_norm"],
    "criterion": ["loss"],
    "dropout_rate": ["dropout"],
    "early_stopping": ["callbacks"],
    "early_stopping_rounds": ["patience", "n_iter_no_change"],
    "embedding_dim": ["width", "embedding"],
    "embedding_size": ["width", "embedding"],
    "eval_set": ["validation"],
    "confidence_level": ["level"],
    "feature": ["column"],
    "gradient_accumulation_steps": ["accumulate"],
    "gradient_clip_val": ["clip_norm"],
    "grid_resolution": ["grid"],
    "hidden": ["hidden_layer_sizes"],
    "hidden_dim": ["hidden_size", "hidden", "hidden_layer_sizes"],
    "hidden_dims": ["hidden_size", "hidden", "hidden_layer_sizes"],
    "hidden_layers": ["hidden_size", "hidden", "hidden_layer_sizes"],
    "hidden_size": ["hidden_layer_sizes"],
    "hidden_sizes": ["hidden_size", "hidden", "hidden_layer_sizes"],
    "hidden_units": ["hidden_size", "hidden", "hidden_layer_sizes"],
    "in_features": ["input_size", "numeric"],
    "input_dim": ["input_size", "numeric"],
    "layers": ["hidden"],
    "learning_rate": ["lr"],
    "learning_rate_init": ["lr"],
    "loss_fn": ["loss"],
    "loss_weight": ["weight"],
    "loss_weights": ["weight"],
    "lowercase": ["lower"],
    "max_epochs": ["epochs"],
    "max_features": ["max_size"],
    "max_grad_norm": ["clip_norm"],
    "max_iter": ["epochs"],
    "max_len": ["max_length"],
    "metric": ["metrics"],
    "min_delta": ["tol"],
    "min_df": ["min_count"],
    "min_freq": ["min_count"],
    "min_frequency": ["min_count"],
    "n_bins": ["bins"],
    "n_classes": ["classes"],
    "n_epochs": ["epochs"],
    "n_experts": ["experts"],
    "n_jobs": ["threads"],
    "n_repeats": ["repeats"],
    "nb_epoch": ["epochs"],
    "normalizer": ["normalize"],
    "num_classes": ["classes"],
    "num_epochs": ["epochs"],
    "num_experts": ["experts"],
    "out_features": ["outputs", "output_sizes"],
    "output_dim": ["outputs", "output_sizes"],
    "output_dims": ["output_sizes"],
    "patience": ["n_iter_no_change"],
    "pos_weights": ["pos_weight"],
    "progress": ["verbose"],
    "random_seed": ["seed", "random_state"],
    "random_state": ["seed"],
    "sample_weight": ["weights"],
    "sample_weights": ["weights"],
    "scheduler": ["schedule"],
    "scoring": ["metric", "metrics"],
    "seed": ["random_state"],
    "solver": ["optimizer"],
    "task_weight": ["weight"],
    "task_weights": ["weight"],
    "test_size": ["fraction"],
    "tokenizer": ["level"],
    "units": ["hidden_size", "hidden", "hidden_layer_sizes"],
    "val_data": ["validation"],
    "valid": ["validation"],
    "validation": ["validation_fraction"],
    "validation_data": ["validation"],
    "validation_split": ["validation", "validation_fraction"],
    "verbose": ["progress"],
    "vocab_size": ["max_size"],
    "weight": ["class_weights"],
}
_FIT = "pt.Trainer(...).fit(..., {})"
_TASK = 'pt.Task("income", {})'
_TRAINER = "pt.Trainer(model, {})"
_EPOCHS = _FIT.format("epochs=10") + ", which a callback's trainer.stop() ends earlier"
#: Where something is said that belongs to something else here.
_ELSEWHERE = {
    "batch_size": _FIT.format("batch_size=256"),
    "callbacks": _TRAINER.format("callbacks=[...]"),
    "class_weights": _TASK.format('classes=2, loss=pt.loss.CrossEntropy(class_weights="balanced")'),
    "clip_norm": _TRAINER.format("clip_norm=1.0"),
    "epochs": _FIT.format("epochs=10"),
    "group_by_length": _FIT.format("group_by_length=True"),
    "loss": _TASK.format('loss="binary_cross_entropy"'),
    "lr": _TRAINER.format("lr=1e-3"),
    "max_steps": _EPOCHS,
    "metrics": _TASK.format('metrics=["auroc"]'),
    "optimizer": _TRAINER.format("optimizer=pt.optim.AdamW()"),
    "patience": _TRAINER.format("callbacks=[pt.EarlyStopping(patience=3)]"),
    "pos_weight": _TASK.format('loss=pt.loss.BinaryCrossEntropy(pos_weight="balanced")'),
    "progress": _FIT.format("progress=False"),
    "regularizers": _TRAINER.format('regularizers=["l2"]'),
    "schedule": _TRAINER.format('schedule="cosine"'),
    "seed": "pt.MultiTaskModel(..., seed=0) for the initial weights and " + _TRAINER.format("seed=0") + " for the rest",
    "sharing": 'pt.MultiTaskModel(..., sharing="mmoe")',
    "steps": _EPOCHS,
    "steps_per_epoch": "the data: what a loader gives from its beginning to its end is an epoch",
    "validation": _FIT.format("validation=0.2"),
    "weight_decay": _TRAINER.format("optimizer=pt.optim.AdamW(weight_decay=0.01)"),
    "weighting": _TRAINER.format('weighting="upgrad"'),
    "weights": _FIT.format("weights=...") + " for rows and " + _TASK.format("weight=0.5") + " for tasks",
}


def unknown(called: str, name: str, known: Iterable[str]) -> TypeError:
    """The error for an argument that something has not: what it is called or where it belongs, and what there is."""
    have = list(known)
    ours = next((each for each in _OURS.get(name, ()) if each in have), None)
    place = next((_ELSEWHERE[each] for each in [name, *_OURS.get(name, ())] if each in _ELSEWHERE), None)
    if ours is not None:
        advice = f"here it is called `{ours}`; "
    elif place is not None:
        advice = f"it is said by {place}; "
    else:
        advice = meant(name, have)
    return TypeError(f"{called}: unknown argument `{name}`; {advice}it has {listed(have)}")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Refuses unknown arguments with an error of `unknown`, in place of Python's "unexpected keyword argument"."""
    known = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    names = frozenset(known)
    called = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not kwargs.keys() <= names:
            own = type(args[0]).__name__ if function.__name__ == "__init__" else called
            raise unknown(own, next(name for name in kwargs if name not in names), known)
        return function(*args, **kwargs)

    return call
