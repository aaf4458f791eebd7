"""The estimator of mixed tasks, and all that those of one kind share."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import ClassifierTags, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ..arguments.keywords import checked
from ..components.component import Component
from ..components.own_module import Given
from ..data.inputs import Inputs
from ..data.task import Task
from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel
from ..results.history import History
from . import labels, parameters, tables, targets
from .features import ROWS, Scaling
from .fitting import Rows, check_quality, check_watches, ensemble, made, read_weights, train
from .targets import Target


def _has_classes(estimator: Any) -> bool:
    """Whether there are probabilities: before `fit` where classes may come, then where a task has some."""
    found = vars(estimator).get("_targets")
    if found is None:
        return bool(estimator._kind != "values")
    return any(target.classes is not None for target in found)


class MultiTaskEstimator(BaseEstimator):  # type: ignore[misc]
    """Classes and numbers in one network, as an estimator of scikit-learn.

    `fit(X, y)` takes targets as an array `[rows, tasks]`, or as a frame of pandas or polars or a dict with a column a
    task, whose names are those of the tasks; `[rows]` is one task. Without `tasks` a column is classified if it holds
    strings, categories, true and false, or whole numbers from 0 on of which at most 20 differ, and is a regression
    otherwise. A column of floats is classified only if they are all of 0, 1, ... up to a largest one, as labels become
    where some are missing. Rows of a fold may look otherwise than all of them: name `tasks` to be sure.

    Missing labels are NaN, None, a frame's NA, a masked cell or, for classes, -1; a row needs no label at all. Where -1
    occurs beside 1 alone, in each column of classes that has it, it is a class as in scikit-learn.

    Features may be a frame as it is: strings, categories, true and false become codes with embeddings, dates days, by
    `pt.Inputs.from_frame`, and a category that `fit` has not seen is one of its own; the same of an array of objects or
    strings. A missing number becomes the mean, and another feature says where it was missing in `fit`. Names and number
    of features are checked as scikit-learn does. Frames and arrays of numbers alone stay numbers.

    Sparse `X` stays sparse: rows become dense batch by batch, in single precision, in training and prediction.

    Arguments:
        hidden_layer_sizes: widths of the layers that all tasks share, where there is no `encoder`.
        activation: their activation, as in `pt.encoder.MLP`.
        dropout: their dropout.
        encoder: one of `pt.encoder`, its name, an `nn.Module` or a function that makes one, in place of these layers.
        sharing, head: as for `pt.MultiTaskModel`.
        tasks: a list of `pt.Task` of one column each, called as the columns of a frame, in the order of those of an
            array; by default they are inferred from `y`, and numbers train in a standardised scale.
        weighting, regularizers, optimizer, schedule, clip_norm: as for `pt.Trainer`.
        lr: the learning rate, or those by group; by default the optimizer's own.
        epochs: how often the rows are gone through, at most.
        batch_size: rows a batch; "auto" takes a fortieth of the rows, as a power of 2 from 16 to 256.
        early_stopping: whether training ends when the loss of rows that are held out has not become better by more than
            `tol` for `n_iter_no_change` epochs, and the parameters of the best epoch are kept.
        validation_fraction: of the rows that are held out for that, by the shares of classes; None for 0.1, and with
            `quality="best"`, whose networks are chosen by them too, for 250 rows or a quarter where that is more.
        n_iter_no_change: epochs without improvement that are tolerated.
        tol: how much better counts as better.
        standardize: whether features are scaled: less their mean, by their deviation; sparse ones by their largest size
            alone, and numbers of a frame that has others, of quality "best", by their quantiles, as in `pt.search`.
        warm_start: whether `fit` goes on with the parameters it left, on the same tasks and classes, features in the
            scale that the first call found; the optimizer starts anew.
        verbose: whether a progress bar is shown.
        random_state: of initial weights, order of rows, dropout, and rows held out.
        threads: as for `pt.Trainer`, by default 1: the same bits whatever the machine does, and folds side by side that
            leave each other alone. More of them pay in wide networks.
        device: as for `pt.Trainer`.
        quality: how much trouble is taken. "fast": one network, as the other parameters say. "good": `pt.encoder.TabM`,
            which ends by early stopping. "best": an ensemble out of `trials` networks with settings of their own, by
            `pt.search(ensemble="greedy")`, chosen by the rows that are held out; it takes dense `X`. What they choose
            themselves (layers, and of "best" the optimizer too) is left out.
        trials: networks of quality "best".

    An argument of a component is a parameter of its own: `set_params(encoder__hidden=[64])`, or
    `{"optimizer__weight_decay": [0, 0.01]}` in a search, where `optimizer` is one of `pt.optim` or its name.

    Attributes:
        model_: the `pt.MultiTaskModel`, or the `pt.Ensemble` of quality "best". It sees features less `center_`, by
            `scale_`, and then where they are missing; of a table what `inputs_` makes of it, and frames as they are.
            It sees classes by their places in `classes_` where tasks were inferred.
        history_: the `pt.History`, a row an epoch; of quality "best" those of `pt.GreedyEnsemble.rounds`.
        classes_: the labels of the classes, an array; a list of them, one a task, where `y` had columns, with None for
            numbers. There is none where all tasks are numbers.
        inputs_: the `pt.Inputs` of a table whose columns are not all numbers, which says what each is taken for; None
            of other features.
        center_, scale_: what is taken off each feature and what it is divided by; None where nothing is.
        n_iter_: how many epochs there were.
        n_features_in_, feature_names_in_: of `X`.
    """

    #: The kind of all tasks, "classes" or "values", where an estimator is for one of them.
    _kind: ClassVar[str | None] = None

    model_: MultiTaskModel | Ensemble
    history_: History
    classes_: Any
    inputs_: Inputs | None
    center_: np.ndarray | None
    scale_: np.ndarray | None
    _targets: list[Target]
    _flat: bool
    _frame: str | None
    _scaling: Scaling | tables.Learned

    @checked
    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (128, 64),
        *,
        activation: str | None = "relu",
        dropout: float = 0.1,
        encoder: Component | Given | str | None = None,
        sharing: Component | str = "hard",
        head: Component | Given | str = "linear",
        tasks: Sequence[Task] | None = None,
        weighting: Component | str = "equal",
        regularizers: Sequence[Component | str] = (),
        optimizer: Component | str = "adamw",
        lr: Any = None,
        schedule: Component | str | None = "cosine",
        clip_norm: float | None = None,
        epochs: int = 60,
        batch_size: int | str = "auto",
        early_stopping: bool = False,
        validation_fraction: float | None = None,
        n_iter_no_change: int = 10,
        tol: float = 0.0,
        standardize: bool = True,
        warm_start: bool = False,
        verbose: bool = False,
        random_state: Any = None,
        threads: int | str = 1,
        device: Any = None,
        quality: str = "fast",
        trials: int = 64,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.dropout = dropout
        self.encoder = encoder
        self.sharing = sharing
        self.head = head
        self.tasks = tasks
        self.weighting = weighting
        self.regularizers = regularizers
        self.optimizer = optimizer
        self.lr = lr
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.epochs = epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.standardize = standardize
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state
        self.threads = threads
        self.device = device
        self.quality = quality
        self.trials = trials

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name; with `deep` those of components too, by `<parameter>__<argument>`."""
        found: dict[str, Any] = super().get_params(deep=deep)
        return {**found, **parameters.nested(found)} if deep else found

    def set_params(self, **params: Any) -> "MultiTaskEstimator":
        """Sets parameters, and arguments of components by `<parameter>__<argument>`, which makes the component anew.

        Raises:
            ValueError, TypeError: an unknown parameter, or a value that a component's argument has no place for.
        """
        super().set_params(**parameters.joined(params, self.get_params(deep=False)))
        return self

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,  # noqa: N803
        y_val: Any = None,
    ) -> "MultiTaskEstimator":
        """Trains on features `[rows, features]`, dense or sparse, and targets.

        Arguments:
            X: the features, an array, a frame or another table with columns by name, or a sparse matrix.
            y: the targets, `[rows]` or `[rows, tasks]`, a frame or a dict of columns.
            sample_weight: `[rows]`, how much a row counts for all its tasks.
            X_val, y_val: other rows, by which training stops early or an ensemble is chosen; none of `X` are held out
                then, whatever `validation_fraction` says.

        Raises:
            ValueError, TypeError: what is wrong, what was expected and what came.
        """
        check_quality(self)
        again = self.warm_start and hasattr(self, "model_")
        x, plain = (self._x(X), True) if again else tables.features(self, X)
        read = labels.read(y)
        check_consistent_length(x, read)
        weights = None if sample_weight is None else read_weights(sample_weight, x)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        if again:
            model = self.model_
            if not isinstance(model, MultiTaskModel):
                raise ValueError('`warm_start` goes on with one network, and `fit` left an ensemble of quality="best"')
            found, scaling = self._targets, self._scaling
            form = self._flat, self._frame
        elif plain:
            scaling = Scaling.learn(x, weights, self.standardize)
            model, found = made(self, self._kind, x.shape[1] + scaling.more, read, seed)
            form = read.flat, read.frame
        else:
            model, found = made(self, self._kind, tables.learned(self, x), read, seed)
            scaling = tables.Learned(model.inputs, x)
            x = scaling.code(x)
            form = read.flat, read.frame
        columns = targets.chosen(read, [target.task for target in found], form[1] is not None)
        pairs = zip(found, columns, strict=True)
        rows = Rows(x, {target.task.name: target.read(column) for target, column in pairs}, weights)
        given = None
        if X_val is not None or y_val is not None:
            check_watches(self, X_val, y_val)
            given = self._validation(X_val, y_val, found, scaling, form[1] is not None)
        fitted: MultiTaskModel | Ensemble = model
        if self.quality == "best":
            fitted, self.history_ = ensemble(self, model, rows, given, scaling, seed)
        else:
            self.history_ = train(self, model, rows, given, scaling, seed)
        self.n_iter_ = len(self.history_)
        self.model_ = fitted
        self._scaling = scaling
        self.inputs_ = scaling.inputs
        self.center_ = scaling.center
        self.scale_ = scaling.scale
        self._targets = found
        self._flat, self._frame = form
        if hasattr(self, "classes_"):
            del self.classes_
        if _has_classes(self):
            self.classes_ = self._form([target.classes for target in found])
        return self

    def _validation(
        self, x: Any, y: Any, found: Sequence[Target], scaling: Scaling | tables.Learned, named: bool
    ) -> Rows:
        """Rows beside those to learn from, as these were read.

        Raises:
            ValueError, TypeError: features or labels that do not fit those of `fit`.
        """
        try:
            parts = self._known(x, scaling)
            read = labels.read(y)
            check_consistent_length(parts, read)
            columns = targets.chosen(read, [target.task for target in found], named)
            pairs = zip(found, columns, strict=True)
            return Rows(parts, {target.task.name: target.read(column) for target, column in pairs}, None)
        except (TypeError, ValueError) as error:
            said = str(error).replace("`X`", "`X_val`").replace("`y`", "`y_val`")
            beside = "" if "_val`" in said else "of `X_val` and `y_val`: "
            raise type(error)(f"{beside}{said}") from None

    def _form(self, each: list[Any]) -> Any:
        """What there is of each task, by itself where `y` was one array of rows."""
        return each[0] if self._flat else each

    def _x(self, X: Any) -> Any:  # noqa: N803
        """Features as `fit` had them."""
        return self._known(X, self._scaling)

    def _known(self, x: Any, scaling: Scaling | tables.Learned) -> Any:
        """Features as those that a scaling was learned from."""
        return tables.known(self, x, scaling) if isinstance(scaling, tables.Learned) else tables.numbers(self, x)

    def _predicted(self, X: Any) -> list[tuple[Target, np.ndarray]]:  # noqa: N803
        """Each task with what the core predicts."""
        check_is_fitted(self)
        x = self._x(X)
        each = self.model_.predict(self._scaling.parts(x), batch_size=ROWS).values()
        return [(target, p[: x.shape[0]]) for target, p in zip(self._targets, each, strict=True)]

    def _predict(self, X: Any) -> list[np.ndarray]:  # noqa: N803
        return [target.labels(p) for target, p in self._predicted(X)]

    def predict(self, X: Any) -> Any:  # noqa: N803
        """The likeliest classes, as labels, and numbers: an array `[rows]` or `[rows, tasks]`, of objects where labels
        are not all numbers; a frame of the same library, with the columns of the tasks, where `y` was one, and a dict
        of arrays where it was a dict.
        """
        each = self._predict(X)
        if self._frame is None:
            return each[0] if self._flat else side_by_side(each)
        titles = [target.task.columns[0] for target in self._targets]
        if self._frame == "dict":
            return dict(zip(titles, each, strict=True))
        library = import_module(self._frame)
        if self._frame == "polars":
            return library.DataFrame([library.Series(str(t), y.tolist()) for t, y in zip(titles, each, strict=True)])
        index = X.index if "pandas" in sys.modules and hasattr(X, "iloc") else None
        return library.DataFrame(dict(zip(titles, each, strict=True)), index=index, columns=titles)

    @available_if(_has_classes)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """Probabilities `[rows, classes]` in the order of `classes_`: one array where `y` was `[rows]`, else a list of
        one a task, with None for numbers.
        """
        each = self._predicted(X)
        return self._form([None if target.classes is None else target.probabilities(p) for target, p in each])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """The mean over tasks of their accuracy, for classes, or their R2, for numbers, on rows with a label; a task
        without any in `y` is left out.

        Raises:
            ValueError: no task has a label.
        """
        predicted = self._predicted(X)
        read = labels.read(y)
        check_consistent_length(predicted[0][1], read)
        weights = None if sample_weight is None else read_weights(sample_weight, predicted[0][1])
        columns = targets.chosen(read, [target.task for target in self._targets], self._frame is not None)
        pairs = zip(predicted, columns, strict=True)
        each = [target.score(column, p, weights) for (target, p), column in pairs]
        known = [score for score in each if score is not None]
        if not known:
            raise ValueError("`y` should have a label for at least one task; all are missing")
        return float(np.mean(known))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        if self._kind is None:
            # What has `predict_proba` is asked for these; whether it is a classifier `estimator_type` says.
            tags.classifier_tags = ClassifierTags()
        return tags


def side_by_side(each: Sequence[np.ndarray]) -> np.ndarray:
    """Columns as one array: of numbers if all are, of strings if all are, and else of objects."""
    kinds = {"b" if y.dtype.kind == "b" else "n" if y.dtype.kind in "iuf" else y.dtype.kind for y in each}
    same = len(kinds) == 1
    return np.column_stack(each if same else [y.astype(object) for y in each])
