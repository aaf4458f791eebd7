"""What rows that a model, or several together, were not trained on say of them, and what of that they keep."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..arguments.keywords import checked
from ..arguments.numbers import whole
from ..data.task import Task
from ..process import interrupts
from ..results.calibration import Calibration
from ..results.thresholds import Thresholds
from . import calibrating, deciding, labelled
from .intervals import PredictionIntervals
from .labelled import Labelled
from .thresholds import Own

_log = logging.getLogger("polytask")


class HeldOut:
    """Temperatures, thresholds and intervals of what predicts: a model, or the mean of an ensemble."""

    tasks: Sequence[Task]
    kinds: Sequence[str]
    #: Modules of torch that have the parameters.
    _shared: Any = None
    _temperatures: dict[str, float]
    _thresholds: dict[str, float | list[float]]
    _labelled: Callable[..., dict[str, Labelled]]
    _learns_logarithms: Callable[[str], bool]
    predict: Callable[..., Any]

    @checked
    def calibrate(
        self,
        data: Any,
        *,
        tasks: Sequence[str] | str | None = None,
        weights: Any = None,
        bins: int = 15,
        batch_size: int = 4096,
    ) -> Calibration:
        """Makes probabilities those that labels bear out: fits a temperature a task, by which `predict` divides its
        logits from then on, with the highest likelihood on these rows (Guo, Pleiss, Sun and Weinberger, On Calibration
        of Modern Neural Networks, ICML 2017). Gives the temperatures, the negative log-likelihoods and the expected
        calibration errors without them and with them; `plot()` draws reliability diagrams.

        One number a task, also of several labels, so that the order of probabilities of a label and the likeliest class
        stay. Missing labels are left out. The likelihood is that of labels as they come, whatever weights of classes
        the loss has; these move all probabilities to one side, which no temperature moves back, and are warned of.
        Where the likelihood has no maximum, as of rows that are all predicted right, the temperature stays 1, which the
        result says.

        Files, pickles and copies keep temperatures, and what `to_torch` makes has them, while `predict(raw=True)` has
        none. They belong to the parameters that they were fitted to: `fit`, `step`, `load_state_dict` and `start_from`
        forget them, which is logged, and so do models of `add_task`. What is written into `parameters()` or learned in
        a loop of torch nobody sees: calibrate again. Thresholds that were kept are forgotten, being those of other
        probabilities. `model.temperatures = {}` takes all back.

        An ensemble divides logits of its mean prediction, the logarithms of probabilities, of binary labels those of
        their odds (Rahaman and Thiery, Uncertainty Quantification and Deep Ensembles, NeurIPS 2021, who find this
        better than calibrating members one by one, whose mean is then not as sure as it could be). Members keep their
        own, and how far they are apart stays as it is; `save` keeps temperatures, and a slice of it has none.

        Arguments:
            data: rows that the model was not trained on, in any form that `pt.Trainer.fit` takes.
            tasks: names of classification tasks, not of pairs; by default all that have labels there.
            weights: row weights, as for `fit`.
            bins: of the calibration error.
            batch_size: rows that are predicted at a time.

        Raises:
            TypeError, ValueError: data that do not fit the model, or no labels of classes.
        """
        parts = whole(bins, "`bins`")
        suited = list(labelled.classifying(self.tasks, self.kinds))
        names = labelled.chosen(tasks, suited, "classification tasks")
        with interrupts.held():
            there = self._labelled(data, weights, batch_size, raw=True)
            found = calibrating.fitted(self._logits(), names, there, parts, tasks is not None)
        self.temperatures = calibrating.kept(self._temperatures, found, self.tasks)
        return found

    @property
    def temperatures(self) -> dict[str, float]:
        """What `calibrate` found, by task; those that are set here count from then on, and all others are 1."""
        return dict(self._temperatures)

    @temperatures.setter
    def temperatures(self, temperatures: Mapping[str, float]) -> None:
        read = calibrating.read(temperatures, self.tasks, self.kinds)
        if read != self._temperatures:
            if self._shared is not None:
                _log.warning("what `to_torch(share=True)` gave before goes on predicting with the temperatures that it "
                             "was made with; make it anew")  # fmt: skip
            if self._thresholds:
                _log.warning("thresholds that were kept are forgotten, being those of other probabilities")
            self._temperatures, self._thresholds = read, {}

    @checked
    def thresholds(
        self,
        data: Any,
        metric: str | Own = "f1",
        *,
        tasks: Sequence[str] | str | None = None,
        weights: Any = None,
        keep: bool = False,
        batch_size: int = 4096,
    ) -> Thresholds:
        """The probabilities from which a decision should be 1 (or the second class) for the highest metric on these
        rows, one a task of two sides, or one a label: `model.classes(predicted, threshold=model.thresholds(data))`.

        Of thresholds that are equally good it is the one nearest to 0.5; they lie in the middle between probabilities.
        Labels that are all on one side say nothing of a threshold, which is then 0.5, with a metric of NaN. Missing
        labels are left out.

        Arguments:
            data: rows that the model was not trained on, in any form that `pt.Trainer.fit` takes.
            metric: "f1", "accuracy", "balanced_accuracy" (the mean of the shares of ones and of zeros that are decided
                right), "youden" (their sum less 1; Youden, Index for Rating Diagnostic Tests, Cancer, 1950), or a
                callable `(decisions, labels) -> number` on tensors `[rows]` of 0 and 1, of which a higher number is
                better; it is tried with at most 258 thresholds and sees no weights.
            tasks: their names; by default all of two sides that have labels there.
            weights: row weights, as for `fit`.
            keep: whether the model is to decide by them where `classes` is told no threshold. They are saved and copied
                with it, and forgotten when it learns, as temperatures are.
            batch_size: rows that are predicted at a time.

        Raises:
            TypeError, ValueError: an unknown metric, data that do not fit the model, or no labels of two sides.
        """
        found = deciding.thresholds(self, data, metric, tasks, weights, batch_size)
        if keep:
            self._thresholds |= dict(found)
        return found

    @property
    def kept_thresholds(self) -> dict[str, float | list[float]]:
        """What `thresholds(keep=True)` found, by task; `classes` takes 0.5 of all others."""
        return dict(self._thresholds)

    @checked
    def intervals(
        self, data: Any, *, tasks: Sequence[str] | str | None = None, weights: Any = None, batch_size: int = 4096
    ) -> PredictionIntervals:
        """Intervals around predicted numbers that hold as often as is said:
        `model.intervals(validation).predict(x, 0.9)` gives `{task: [rows, 2]}`. Whatever the network learned, an
        interval of level `c` holds the number of a further row with a probability of at least `c`, on average over rows
        and data, if that row and these are exchangeable and the network has seen none of them; nothing is said of a
        kind of rows by itself.

        Split conformal prediction (Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, Distribution-Free Predictive
        Inference for Regression, JASA 2018): the half width is the `ceil((n + 1) c)`-th smallest of the `n` residuals
        `|y - f(x)|`. For `GaussianNLL` residuals are divided by the predicted deviation, and the width is multiplied by
        it. For `Quantile` with at least two quantiles the interval between the outermost is widened (or narrowed) on
        both sides by that quantile of `max(low - y, y - high)` (conformalized quantile regression, Romano, Patterson
        and Candes, NeurIPS 2019); quantiles that cross are put in order first. Outputs have intervals of their own.
        Temperatures and thresholds have no part in it. Where a task learns logarithms (`scale="log1p"`, of an ensemble
        models that count half or more), residuals and quantiles are those of `log(1 + y)`, and an interval grows with
        what is predicted.

        Arguments:
            data: rows that neither trained the model nor stopped its training, in any form that `pt.Trainer.fit` takes.
            tasks: names of regressions of rows; by default all that have labels there.
            weights: row weights, as for `fit`: rows of weight 0 are left out, and others are equal, since
                exchangeable rows are.
            batch_size: rows that are predicted at a time.

        Raises:
            TypeError, ValueError: data that do not fit the model, or no labels of a regression.
        """
        return deciding.intervals(self, data, tasks, weights, batch_size)

    def _retrained(self) -> None:
        """Forgets what belongs to the parameters that were, before they change."""
        if self._temperatures or self._thresholds:
            gone = [name for name, there in (("temperatures", self._temperatures), ("thresholds", self._thresholds))
                    if there]  # fmt: skip
            _log.warning("the model learns: its %s are forgotten, being those of other parameters", " and ".join(gone))
            self._temperatures, self._thresholds = {}, {}

    def _logits(self) -> dict[str, str]:
        """What each task's raw outputs are, as `temperature` tells them apart."""
        return {
            task.name: "ordinal" if kind == "classes" and getattr(task.loss, "name", None) == "ordinal" else kind
            for task, kind in zip(self.tasks, self.kinds, strict=True)
        }
