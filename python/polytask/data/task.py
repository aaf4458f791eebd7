"""A task: what is predicted, by which loss, judged by which metrics."""

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .. import metrics as _metrics
from ..arguments.keywords import checked
from ..arguments.messages import listed
from ..arguments.numbers import whole
from ..components import by_label
from ..components.component import Component, plain
from ..components.own_module import Given, is_own, shown_part
from ..components.registry import component, make
from ..values.known import merge
from . import scale as _scale
from .pairs import Pairs
from .spans import Spans

Loss: TypeAlias = Component | str | Callable[..., Any]
Label: TypeAlias = str | int | float | bool


class Task:
    """One thing to predict.

    Arguments:
        name: how it is called in parameters (`heads.income.weight`), history (`income/loss`) and frames.
        classes: number of classes, which count from 0, or the list of class labels as they stand in the targets; a
            label may come in another type there, as the string "3" for the number 3. With `spans` the kinds of spans,
            with `per="pair"` the kinds of relations.
        loss: one of `pt.loss`, its name, or a callable `(outputs, targets) -> losses` on torch tensors that gives
            `[rows]` losses, `[rows, outputs]` or their mean. It sees no missing label: where cells of a row are missing
            it should give one loss a cell, or a mean that can be taken of the labelled cells alone. Default:
            cross-entropy with `classes`, otherwise mean squared error. Weights of classes are a list, or a dict by
            label: `pt.loss.CrossEntropy(class_weights={"rich": 3.0})`.
        outputs: labels a row.
        weight: lambda, the factor of its loss in the objective.
        metrics: names (of classes and binary labels "accuracy", "balanced_accuracy", "log_loss", "auroc",
            "average_precision", "f1", "precision" and "recall", of ordered ones also "ordinal_mae", how many classes a
            decision is off on average, and "quadratic_kappa"; of numbers "mae", "mse", "rmse", "r2",
            "explained_variance", "pearson" and "spearman"; of `pt.loss.Ranking` "ndcg", "ndcg@10" and "mrr") or
            callables `(predictions, targets) -> number` on torch tensors, which `{name: callable}` calls otherwise than
            they call themselves. Default: accuracy for classes, AUROC for binary labels, MAE and R2 for regression.
            Accuracy, AUROC, average precision, MAE, MSE, RMSE and R2 are counted batch by batch, and no outputs are
            kept for them. Objects of torchmetrics (`update`, `compute` and `reset`, of which a copy is used) are given
            at least 4,096 rows at a time. Any other callable is given all rows at once, which costs up to four times
            the memory of the task's outputs of all rows (`4 * rows * classes` bytes) while it is computed. In training
            the outputs of all rows are kept until the epoch ends, if a task has metrics other than those seven.
        columns: the columns of a frame that hold its targets; by default the one called as the task.
        scale: in which scale the targets of a regression train, so that tasks in units of their own weigh alike:
            "standardize" (less the mean, by the deviation), "robust" (less the median, by the interquartile range of
            what would be a normal law), "quantile" (made normal by a curve through at most 257 quantiles) or "log1p"
            (`ln(1 + y)`, then standardised). `fit` learns it from the training rows, once, and it is saved with the
            model. Predictions and metrics are in the units of the targets; the losses (`income/loss`) are those of the
            scaled targets, and so are a loss's own arguments, such as Huber's `delta`. The inverse of a mean is that of
            the curve, not the mean of the inverse. For losses of a location, and for `GaussianNLL` the first two.
        head: what makes its outputs of its features, where that is another than the model's: one of `pt.head`, its
            name, a `torch.nn.Module` from `[rows, features]` to raw outputs `[rows, outputs]`, or a function that makes
            one, of the numbers of features and outputs (`head=nn.Linear`) or of nothing. Raw outputs are one a class
            (of `Ordinal` one less), a logit or value an output, and as many as the loss has parameters for a
            distribution. The model works on a copy, whose parameters and buffers are the model's, below `heads.<task>`;
            all that is said of an encoder module holds for it.
        per: the positions that have a label each, as the model's inputs call them ("tokens"), or "token" for those of
            the one `pt.Text`: a tagger beside tasks of rows. Targets are then rows of labels, `[["B", "O"], ["O"],
            ...]` in any form that features of positions have, and so are predictions. Weights of rows count for each of
            their positions. Metrics are those of rows, over all labelled positions of all rows. Those seven that are
            counted batch by batch are there of training rows too; the others ("f1", callables) are those of
            `evaluate` and of `validation`. With "pair" pairs of these positions have labels: relations of
            the kinds that `classes` lists. Labels are triples `(i, j, kind)` of a row's positions, which count from 0,
            `[[(0, 2, "subject"), ...], [], ...]`, or structs of three such columns, and None for a row without labels;
            all other pairs are in none, and all pairs count in the loss, none is drawn. A kind of None is a pair whose
            label is missing. The head is by default `pt.head.Biaffine()`. What is predicted for a row of `n` positions
            is `[n, n, 1 + kinds]`, that of no relation first; `pt.MultiTaskModel.classes` gives triples. Metrics are
            accuracy, AUROC and average precision over all pairs, and `"relation_f1"`, `"relation_precision"` and
            `"relation_recall"`, of pairs and kinds that are right, over all relations of all rows, and `"attachment"`,
            of pairs alone; the first and the last are the default. These four are there in `evaluate` and in
            `validation`.
        tree: whether relations make a tree, as those of a sentence's words do: each position `i` is attached to one
            `j`, its head, and the root to itself, `(i, i, "root")`. The loss is then `pt.loss.Tree()`, positions that
            no triple is of have no label, and `classes` gives the tree whose arcs have the largest product of
            probabilities (Chu and Liu, Science Sinica 1965; Edmonds, Journal of Research of the National Bureau of
            Standards 1967), with one root. `"attachment"` is then the share of positions with the right head, and
            `"relation_f1"` that of the right head and kind.
        spans: the scheme, "BIO" or "BIOES", by which spans of positions, such as names in a text, are predicted as tags
            of the positions: `pt.Task("entity", spans="BIO", classes=["PER", "LOC"], per="token")`, see
            `pt.data.Spans`. The loss is then by default `pt.loss.CRF()`. Labels are a list of triples a row, `[(start,
            end, kind), ...]`, which is empty where a row has none; or a tag a position, of either scheme; and None for
            a row without labels. Of tags in BIO for "BIOES" one is missing where a missing neighbour decides its
            letter. `pt.MultiTaskModel.classes` gives triples. Metrics are accuracy, AUROC and average precision of the
            tags, and `"span_f1"`, `"span_precision"` and `"span_recall"`, of spans whose ends and kind are all right,
            over all spans of all rows; with accuracy the first is the default. Those of spans are there in
            `evaluate` and in `validation`, and not of training rows. Rows of which a position has no label
            do not count in them.
        at: the stage of the encoder after which the task reads it, instead of its end: `"encoder.0"` after the first
            one, such as the first layer of an MLP. Tasks of lower levels are often better read lower (Søgaard and
            Goldberg, Deep multi-task learning with low level tasks supervised at lower layers, ACL 2016). What lies
            above learns from the other tasks alone. With the schemes "hard", "cross_stitch", "sluice", "nddr" and
            "branched", of which the latter four have a value of the task's own there.
    """

    @checked
    def __init__(
        self,
        name: str,
        *,
        classes: int | Sequence[Label] | None = None,
        loss: Loss | None = None,
        outputs: int | None = None,
        weight: float = 1.0,
        metrics: _metrics.Given | Sequence[_metrics.Given] | None = None,
        columns: Sequence[str | int] | str | int | None = None,
        scale: str | None = None,
        head: Component | Given | str | None = None,
        per: str | None = None,
        spans: str | None = None,
        at: str | None = None,
        tree: bool = False,
    ) -> None:
        self.name = _name(name)
        self.per = _per(per, scale, self.name)
        #: The relations of a task of pairs.
        self.pairs = _pairs(self.per, tree, classes, outputs, spans, self.name)
        #: The tags of a task of spans.
        self.spans = None if spans is None else _spans(spans, classes, outputs, self.per, self.name)
        listed_classes = self.spans.tags if self.spans else self.pairs.classes if self.pairs else classes
        self.classes, self.labels = _classes(listed_classes, self.name)
        self.columns, self.outputs = _columns(columns, outputs, self.name)
        self.loss = self._loss(self._usual_loss if loss is None else loss)
        if self.ranks and classes is not None:
            raise ValueError(f"task `{self.name}`: grades of a ranking are numbers from 0 on (0, 1, 2, ...), and no "
                             f"classes; got classes={classes!r}")  # fmt: skip
        self.weight = _weight(weight, self.name)
        self.at = _at(at, self.name)
        self.head = None if head is None else _head(head, self.name)
        self.metrics = None if metrics is None else _metrics.read(metrics, self.name)
        self.scale = _scale.check(scale, self.loss, self.classes, f"task `{self.name}`: `scale`")
        #: The scale as it was learned.
        self.scaling: _scale.Scale | None = None

    @property
    def _usual_loss(self) -> str:
        if self.spans is not None:
            return "crf"
        if self.pairs is not None and self.pairs.tree:
            return "tree"
        return "cross_entropy" if self.classes else "mean_squared"

    @property
    def custom(self) -> bool:
        """Whether its loss is a Python callable."""
        return not isinstance(self.loss, Component)

    @property
    def ranks(self) -> bool:
        """Whether it ranks the positions of each row."""
        return isinstance(self.loss, Component) and self.loss.name == "ranking"

    @property
    def of_whole_rows(self) -> str | None:
        """What metrics of whole rows it has, of `polytask.metrics.WHOLE`."""
        return "spans" if self.spans else "relations" if self.pairs else "ranks" if self.ranks else None

    def along(self, per: str) -> "Task":
        """The same task with a label at these positions."""
        if per == self.per:
            return self
        new = copy.copy(self)
        new.per = per
        return new

    def describe(self) -> dict[str, Any]:
        """What the core reads."""
        own = {"name": "custom", "width": self.classes or self.outputs}
        loss = self.loss.describe() if isinstance(self.loss, Component) else own
        return {
            **({} if self.per is None else {"per": self.per}),
            **({} if self.at is None else {"at": self.at}),
            **({} if self.pairs is None else {"pairs": True}),
            "name": self.name,
            "loss": loss,
            "classes": self.classes,
            "outputs": self.outputs,
            "weight": self.weight,
        }

    def notes(self) -> dict[str, Any]:
        """What is kept with the model beside that; metrics that are Python callables are left out."""
        names = None if self.metrics is None else [metric.name for metric in self.metrics if metric.named]
        return {
            "labels": self.labels,
            "metrics": names,
            "columns": None if self.columns == [self.name] else self.columns,
            "scale": self.scale,
            **({} if self.spans is None else {"spans": {"scheme": self.spans.scheme, "kinds": self.spans.kinds}}),
            **({} if self.pairs is None else {"pairs": {"tree": self.pairs.tree, "kinds": self.pairs.kinds}}),
        }

    def __getstate__(self) -> dict[str, Any]:
        names = None if self.metrics is None else [metric.given for metric in self.metrics]
        scaling = None if self.scaling is None else self.scaling.describe()
        return {**vars(self), "metrics": names, "scaling": scaling}

    def __setstate__(self, state: dict[str, Any]) -> None:
        names = state["metrics"]
        metrics = None if names is None else _metrics.read(names, state["name"])
        learned = state["scaling"]
        scaling = None if learned is None else _scale.Scale(**learned)
        # A pickle of an earlier version has no head, no spans, no pairs, and reads the encoder at its end.
        earlier = {"head": None, "spans": None, "pairs": None, "at": None}
        vars(self).update({**earlier, **state, "metrics": metrics, "scaling": scaling})

    @classmethod
    def restore(
        cls,
        core: dict[str, Any],
        notes: dict[str, Any],
        loss: Loss | None = None,
        head: Component | Given | None = None,
    ) -> "Task":
        """The task of a stored description."""
        described = core["loss"]
        spans = notes.get("spans") or {}
        pairs = notes.get("pairs") or {}
        made = cls(
            core["name"],
            classes=spans.get("kinds") or pairs.get("kinds") or notes.get("labels") or core["classes"],
            loss=loss or make("loss", described) or _missing_loss(core["name"]),
            outputs=core["outputs"],
            weight=core["weight"],
            metrics=notes.get("metrics"),
            columns=notes.get("columns"),
            scale=notes.get("scale"),
            head=head,
            per="pair" if pairs else core.get("per"),
            spans=spans.get("scheme"),
            at=core.get("at"),
            tree=pairs.get("tree", False),
        )
        if spans and made.classes != core["classes"]:
            raise ValueError(f"task `{made.name}`: {made.spans} has {made.classes} tags; got {core['classes']} classes")
        if pairs and made.classes != core["classes"]:
            raise ValueError(f"task `{made.name}`: {made.pairs} has {made.classes} classes; got {core['classes']}")
        return made.along(core["per"]) if pairs else made

    def _loss(self, loss: Any) -> Component | Callable[..., Any]:
        if callable(loss) and not isinstance(loss, type):
            return loss  # type: ignore[no-any-return]
        try:
            made = component("loss", loss, "loss")
            labels = self.labels or (range(self.classes) if self.classes else self.columns)
            return made.listed(labels) if isinstance(made, by_label.Loss) else made
        except (TypeError, ValueError) as error:
            raise type(error)(f"task `{self.name}`: {error}") from None

    def __repr__(self) -> str:
        ours = self.spans or self.pairs
        classes = ours.kinds if ours else self.labels or self.classes
        shown = {"classes": classes, "loss": self.loss, "outputs": self.outputs}
        default = {"classes": None, "loss": self._loss(self._usual_loss), "outputs": 1}
        parts = [f"{key}={value!r}" for key, value in shown.items() if value != default[key]]
        parts += [f"weight={self.weight:g}"] if self.weight != 1 else []
        parts += [f"metrics={[metric.name for metric in self.metrics]}"] if self.metrics is not None else []
        parts += [f"scale={self.scale!r}"] if self.scale is not None else []
        parts += [f"head={shown_part(self.head)}"] if self.head is not None else []
        per = "pair" if self.pairs else self.per
        parts += [f"per={per!r}"] if self.per is not None else []
        parts += [f"spans={self.spans.scheme!r}"] if self.spans is not None else []
        parts += [f"at={self.at!r}"] if self.at is not None else []
        parts += ["tree=True"] if self.pairs is not None and self.pairs.tree else []
        return f"Task({', '.join([repr(self.name), *parts])})"


def _per(per: Any, scale: Any, name: str) -> str | None:
    if per is not None and not isinstance(per, str):
        raise TypeError(f"task `{name}`: `per` should be the name of positions; got {per!r}")
    if per is not None and scale is not None:
        raise ValueError(f"task `{name}`: `scale` is for targets of rows; those of positions train as they are")
    return per


def _at(at: Any, name: str) -> str | None:
    if at is not None and not isinstance(at, str):
        raise TypeError(f'task `{name}`: `at` should be a stage of the encoder, such as "encoder.0"; got {at!r}')
    return at


def _pairs(per: str | None, tree: Any, classes: Any, outputs: Any, spans: Any, name: str) -> Pairs | None:
    if not isinstance(tree, bool):
        raise TypeError(f"task `{name}`: `tree` should be True or False; got {tree!r}")
    if per not in ("pair", "pairs"):
        if tree:
            raise ValueError(f'task `{name}`: a tree is of pairs of positions; say per="pair"')
        return None
    if spans is not None or outputs not in (None, 1):
        what = f"spans={spans!r}" if spans is not None else f"outputs={outputs!r}"
        raise ValueError(f"task `{name}`: pairs have one label each, relations; got {what}")
    if classes is None or isinstance(classes, int):
        raise TypeError(f'task `{name}`: per="pair" needs kinds, classes=["subject", ...]; got classes={classes!r}')
    try:
        return Pairs(plain(classes, "`classes`"), tree)
    except (TypeError, ValueError) as error:
        raise type(error)(f"task `{name}`: {error}") from None


def _spans(spans: Any, classes: Any, outputs: Any, per: str | None, name: str) -> Spans:
    if per is None:
        raise ValueError(f'task `{name}`: `spans` are of positions; say of which, per="token"')
    if classes is None or isinstance(classes, int):
        raise TypeError(f'task `{name}`: `spans` needs their kinds, classes=["person", ...]; got classes={classes!r}')
    if outputs not in (None, 1):
        raise ValueError(f"task `{name}`: spans have one label a position; got outputs={outputs!r}")
    try:
        return Spans(spans, plain(classes, "`classes`"))
    except (TypeError, ValueError) as error:
        raise type(error)(f"task `{name}`: {error}".replace("`kinds`", "`classes`").replace("`scheme`", "`spans`")
                          ) from None  # fmt: skip


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"`name` of a task should be a string; got {name!r}")
    if not name or "/" in name or name == "validation":
        raise ValueError(f"`name` of a task should be a string without `/`, other than `validation`; got {name!r}")
    return name


def _classes(classes: Any, name: str) -> tuple[int | None, list[Label] | None]:
    if classes is None:
        return None, None
    argument = f"task `{name}`: `classes`"
    value = plain(classes, argument)
    if isinstance(value, list):
        wrong = [label for label in value if not isinstance(label, str | int | float)]
        if wrong:
            raise TypeError(f"{argument} should be strings or numbers; got {wrong[0]!r}")
        if len(value) < 2 or len(merge(Counter(value), argument)) < len(value):
            raise ValueError(f"{argument} should be a list of at least 2 labels that differ; got {value}")
        return len(value), value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} should be a whole number or a list of labels; got {classes!r}")
    if value < 2:
        raise ValueError(
            f"{argument} should be at least 2; got {value} (one binary label: loss='binary_cross_entropy')"
        )
    return value, None


def _columns(columns: Any, outputs: Any, name: str) -> tuple[list[Any], int]:
    if columns is None:
        columns = [name]
        count = 1 if outputs is None else whole(outputs, f"task `{name}`: `outputs`")
        return columns, count
    columns = [columns] if isinstance(columns, str | int) else columns
    named = isinstance(columns, Sequence) and all(isinstance(each, str | int) for each in columns)
    if not named or not columns or any(isinstance(each, bool) for each in columns):
        raise TypeError(f"task `{name}`: `columns` should be names of columns; got {columns!r}")
    if outputs is not None and outputs != len(columns):
        raise ValueError(f"task `{name}`: {outputs} outputs need as many columns; got {listed(columns)}")
    return list(columns), len(columns)


def _weight(weight: Any, name: str) -> float:
    value = plain(weight, f"task `{name}`: `weight`")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"task `{name}`: `weight` should be a number; got {weight!r}")
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"task `{name}`: `weight` should be at least 0; got {weight!r}")
    return float(value)


def _head(head: Any, name: str) -> Component | Given:
    if is_own(head):
        return head
    try:
        return component("head", head, "head")
    except (TypeError, ValueError) as error:
        raise type(error)(f"task `{name}`: {error}") from None


def missing_head(name: str, called: str) -> Given:
    """Stands for a head that a task was made with and loaded without."""

    def missing() -> Any:
        raise ValueError(f"task `{name}` has a Python head, which no file keeps: load the model with "
                         f"heads={{{name!r}: module}}")  # fmt: skip

    missing.__name__ = f"{called}(...)"
    return missing


def _missing_loss(name: str) -> Callable[..., Any]:
    def missing(outputs: Any, targets: Any) -> Any:
        raise ValueError(f"task `{name}` has a Python loss, which no file keeps: load the model with "
                         f"losses={{{name!r}: function}} to train it")  # fmt: skip

    return missing
