"""What to train for several tasks: relatedness, groups and a small comparison on validation data, in one call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..arguments.keywords import checked
from ..arguments.messages import listed
from ..arguments.numbers import whole
from ..components.registry import make
from ..data.task import Task
from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel
from ..process import interrupts, memory
from ..results.recommendation import ALONE, Candidate, Recommendation
from ..results.relatedness import Groups, Relatedness
from ..training.early_stopping import EarlyStopping
from ..training.trainer import Trainer
from . import tabular
from . import trees as boosted
from .budget import seconds as budget_seconds
from .candidates import check_labels
from .measures import relation, transfer
from .packed import packed
from .study import HELD_OUT, Network, Study, columns_beside, model_of

_log = logging.getLogger("polytask")

_PATIENCE = 6
#: What a network with experts takes in those of one task, and one of soft sharing for each of its tasks.
_EXPERTS, _SOFT = 10.0, 1.5
#: Rows that an ensemble is judged on at a time.
_EVALUATED = 1024
#: Epochs at most, if there is time for them, and at least.
_EPOCHS = 60, 4
#: The part of the time that relatedness may take, and all that stands before it.
_FOR_RELATEDNESS = 0.45
#: The part of the time that candidates have where an ensemble of the choice is to follow, and that part of the rest
#: which it has before trees.
_FOR_CHOICE, _FOR_ENSEMBLE = 0.5, 0.85
#: Boosted trees a class, at most.
_ROUNDS = 200


@dataclass
class _Plan:
    """How one candidate is trained.

    Attributes:
        what: in words.
        groups: which tasks each of its networks has.
        changes, settings: as for `Study.network`.
        cost: what each of its networks takes, in those of one task.
    """

    what: str
    groups: list[list[str]]
    changes: dict[str, Any]
    settings: dict[str, Any]
    cost: float = 1.0


@checked
@memory.gives_back
def recommend(
    subject: MultiTaskModel | Trainer | Sequence[Task] | Task,
    data: Any,
    *,
    budget: float | str = "5m",
    validation: Any = HELD_OUT,
    seeds: int = 5,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: Any = None,
    lr: Any = None,
    weights: Any = None,
    trees: str | Sequence[str] | None = "auto",
    quality: str = "fast",
    progress: bool = True,
) -> Recommendation:
    """Which of the tasks to train together, and whether to do so at all.

    Candidates are one network each, all tasks in one (`"hard"`), the groups that `pt.relatedness` finds (by "transfer",
    or where there is no time for that by "relation"), all tasks in one with experts (`"mmoe"`), and soft sharing with a
    learned relation. Each network is stopped at its best epoch, and all begin from the same seeds. The candidate with
    the lowest validation losses is recommended, relative to one network each and averaged over tasks; how sure that is
    is said by a paired test over seeds (Student 1908). Losses that were chosen by are a little too good: judge the
    choice on test data, as `pt.compare` does. A single task has nothing to share: it is trained, and set beside trees.

    Arguments:
        subject: as for `pt.relatedness`.
        data, validation, weights, optimizer, lr: as there.
        batch_size: rows a batch; 32 to 1,024 by the number of rows, if none is given.
        budget: seconds, or "90s", "10m", "1h"; what it has no time for is left out, and said. Networks that have begun
            are finished.
        seeds: how many of each candidate; fewer, but at least two, where the budget has no time for them.
        epochs: of each network at most; as many as there is time for, up to 60, if none is given.
        trees: boosted trees that the choice is set beside, a model a task, on the held-out rows, by which the choice is
            made and trees stop: "auto" for scikit-learn's histogram boosting where it is installed, "all" for LightGBM
            and CatBoost too where they are, a list of "scikit-learn", "LightGBM" and "CatBoost", or None. They have at
            most 200 rounds; what there is no time for is left out, and said. The recommendation says of each task
            whether trees are better.
        quality: "fast": plain networks. "good": all networks have `pt.encoder.TabM`, as a model should that is given,
            with AdamW of its settings if nothing else is. "best": half of the budget goes to an ensemble of the choice,
            as `pt.search(ensemble="greedy")` makes it, which tries layers, dropout, and unless you say an optimizer
            AdamW's settings, one for each group of tasks, out of 64 networks each, or fewer where those would train few
            epochs; of tasks and a frame all networks read the frame as there.
        progress: whether bars over the networks are shown.

    Raises:
        TypeError, ValueError: what is wrong, what was expected and what came.
        KeyboardInterrupt: Ctrl-C.
    """
    if quality not in tabular.QUALITIES:
        raise ValueError(f"`quality` should be one of {listed(tabular.QUALITIES)}; got {quality!r}")
    seconds = budget_seconds(budget)
    began = time.monotonic()
    count = whole(seeds, "`seeds`")
    most = None if epochs is None else whole(epochs, "`epochs`")
    rows = None if batch_size is None else whole(batch_size, "`batch_size`")
    names = boosted.libraries(trees)
    with interrupts.held():
        beside = columns_beside(weights, validation)
        if quality == "good":
            if isinstance(subject, MultiTaskModel | Trainer):
                _check_members(subject)
            else:
                subject = model_of(subject, data, beside, make("encoder", tabular.GOOD_ENCODER))
            if optimizer is None and not isinstance(subject, Trainer):
                own = {} if lr is None else {"lr": lr}
                optimizer, lr = make("optim", {**tabular.GOOD_OPTIMIZER, **own}), None
        elif quality == "best" and not isinstance(subject, MultiTaskModel | Trainer):
            subject = tabular.subject(subject, data, beside)
        settings = {"optimizer": optimizer, "lr": lr}
        study = Study(subject, data, validation, epochs=1, batch_size=rows or 1, weights=weights, settings=settings)
        study.batch_size = rows or tabular.batch_size(len(study.train))
        check_labels(study.model, study.held_out(), "validation")
        return _Recommending(study, began, seconds, count, most, bool(progress), names, quality).run()


def _check_members(subject: MultiTaskModel | Trainer) -> None:
    """Raises:
    ValueError: a model of another encoder than that of "good".
    """
    model = subject.model if isinstance(subject, Trainer) else subject
    name = model._plain.description["encoder"]["name"]
    if name != tabular.GOOD_ENCODER["name"] or model._modules.encoder is not None:
        raise ValueError('`quality="good"` is for networks with pt.encoder.TabM, which are made where tasks are given; '
                         f"the model has the encoder {name!r}")  # fmt: skip


class _Recommending:
    """Trains candidates as long as there is time."""

    def __init__(
        self,
        study: Study,
        began: float,
        seconds: float,
        seeds: int,
        epochs: int | None,
        progress: bool,
        trees: Sequence[str],
        quality: str,
    ) -> None:
        self.study = study
        self.trees = trees
        self.quality = quality
        self.epochs = epochs
        self.end = began + seconds
        self.budget = seconds * (_FOR_CHOICE if quality == "best" else 1)
        self.until = began + self.budget
        self.progress = progress
        self.skipped: list[str] = []
        self.refused: list[str] = []
        self.candidates: dict[str, Candidate] = {}
        self.plans: dict[str, _Plan] = {}
        self.networks: dict[str, list[list[Network]]] = {}
        self.seeds = seeds
        #: Seconds of an epoch of a network of one task.
        self.epoch = 0.0
        self._fit_into_budget(epochs)
        #: Seconds that a network took, side by side with others.
        self.pace = 0.0

    def run(self) -> Recommendation:
        names = list(self.study.tasks)
        self._train(ALONE, _Plan("one network each", [[name] for name in names], *_hard()))
        measured, groups = self._together(names) if len(names) > 1 else (None, None)
        rows = len(self.study.train), len(self.study.held_out())
        found = Recommendation(names, self.candidates, measured, groups, rows, self.skipped)
        found.refused = self.refused
        if self.quality == "best":
            self._pack(found)
        else:
            found.model = self.model(found, found.choice)
        found.trees = self._beside(found)
        return found

    def _pack(self, found: Recommendation) -> None:
        """An ensemble of the choice instead of its networks."""
        plan = self.plans[found.choice]
        networks = [self.study.network(group, changes=plan.changes, settings=plan.settings) for group in plan.groups]
        until = time.monotonic() + _FOR_ENSEMBLE * max(0.0, self.end - time.monotonic())
        found.model, count = packed(self.study, networks, until, self.epoch * plan.cost, self.epochs, self.progress)
        self.until = self.end
        found.packed = f"Its model is an ensemble: {len(found.model)} members, chosen out of {count} networks"
        found.packed += " in all, for each group of tasks out of its own." if len(networks) > 1 else "."

    def _together(self, names: list[str]) -> tuple[Relatedness | None, Groups | None]:
        """Trains what has several tasks in one network; gives how they are related."""
        self._train("all in one", _Plan("all tasks in one network that shares its encoder", [names], *_hard()))
        measured, groups = self._groups()
        if groups is not None and 1 < len(groups) < len(names):
            each = "; ".join(" with ".join(group) for group in groups)
            self._train("groups", _Plan(f"a network for each group: {each}", list(groups), *_hard()))
        experts: dict[str, Any] = {"sharing": {"name": "mmoe"}}
        self._train("mmoe", _Plan("all tasks in one network with experts (MMoE)", [names], experts, {}, _EXPERTS))
        relation_of = {"regularizers": [{"name": "task_relation"}]}
        soft = {"sharing": {"name": "soft"}}
        tied = _Plan("a network each, tied by a learned relation", [names], soft, relation_of, _SOFT * len(names))
        self._train("soft", tied)
        return measured, groups

    def _beside(self, found: Recommendation) -> dict[str, dict[str, Any]]:
        """The choice beside boosted trees, as long as there is time."""
        study = self.study
        if not self.trees:
            return {}
        if self._left <= 0:
            found.skipped.append("boosted trees")
            return {}
        held_out = study.held_out()
        scores: Mapping[str, Mapping[str, float]]
        if self.quality == "best":
            each = [held_out.of(study.places(task.name for task in model.tasks)) for model in found.model]
            scores = found.model._evaluated(each, _EVALUATED)
        else:
            networks = self.best(found, found.choice)
            scores = {name: values for each in networks for name, values in study.evaluate(each, held_out).items()}
        parts = study.train, held_out, held_out
        compared = boosted.beside(study.model, parts, scores, self.trees, _ROUNDS, self.until)
        if self._left <= 0 and (late := [name for name in study.tasks if name not in compared]):
            found.skipped.append(f"boosted trees for {listed(late)}")
        return compared

    def _fit_into_budget(self, epochs: int | None) -> None:
        """Chooses epochs and seeds by how long one epoch of one network takes."""
        for _ in ("warms up", "counts"):
            probe = [self.study.network(seed=seed) for seed in range(2)]
            began = time.monotonic()
            for _ in self.study.run(probe):
                pass
            self.epoch = max((time.monotonic() - began) / len(probe), 1e-4)
        each = len(self.study.tasks)
        # One each and groups, all in one, experts, soft sharing.
        per_seed = self.epoch * (2 * each + 1 + _EXPERTS + _SOFT * each)
        part = self.budget * (1 - _FOR_RELATEDNESS)
        most, least = _EPOCHS
        if epochs is None:
            epochs = int(min(most, max(least, part / (per_seed * min(self.seeds, 3)))))
        self.seeds = int(min(self.seeds, max(2, part / (per_seed * epochs))))
        self.study.epochs = epochs
        _log.info("recommend: %s seeds of at most %s epochs", self.seeds, epochs)

    @property
    def _left(self) -> float:
        return self.until - time.monotonic()

    def _train(self, name: str, plan: _Plan) -> None:
        """Trains a candidate from all seeds, if there is time."""
        needed = self.pace * self.seeds * len(plan.groups) * plan.cost
        if self.pace and needed > self._left:
            self.skipped.append(plan.what)
            return
        study = self.study
        began = time.monotonic()
        try:
            networks = [
                study.network(group, seed, changes=plan.changes, settings=plan.settings)
                for seed in range(self.seeds)
                for group in plan.groups
            ]
        except (TypeError, ValueError) as error:
            # Code of the caller's own may not be what each way of sharing takes.
            if name == ALONE:
                raise
            self.refused.append(f"{plan.what} ({error})")
            return
        losses = {task: np.full(self.seeds, np.nan) for task in study.tasks}
        patience = tabular.GOOD_PATIENCE if self.quality == "good" else _PATIENCE
        stopping = partial(_stopping, patience=patience)
        for _, network in study.run(networks, progress=self.progress, callbacks=stopping):
            results = study.evaluate(network, study.held_out())
            for task in network.tasks:
                losses[task][network.seed] = results[task]["loss"]
        took = time.monotonic() - began
        if name == ALONE:
            self.pace = took / len(networks)
        count = len(plan.groups)
        self.networks[name] = [networks[seed * count : (seed + 1) * count] for seed in range(self.seeds)]
        self.candidates[name] = Candidate(name, plan.what, plan.groups, losses, took)
        self.plans[name] = plan

    def _groups(self) -> tuple[Relatedness | None, Groups | None]:
        """Groups by the best measure that there is time for."""
        study = self.study
        count = len(study.tasks)
        measures: list[tuple[int, str, Callable[[int], Relatedness]]] = [
            (count * (count + 1) // 2, "transfer", lambda seeds: transfer.measure(study, seeds, self.progress)),
            (2 * count, "relation", lambda seeds: relation.measure(study, seeds, self.progress)),
        ]
        for networks, name, measure in measures:
            seeds = int(min(self.seeds, self._left * _FOR_RELATEDNESS / max(self.pace * networks, 1e-9)))
            if seeds >= 2:
                found = measure(seeds)
                return found, found.groups()
            self.skipped.append(f'relatedness by "{name}"')
        return None, None

    def model(self, found: Recommendation, name: str) -> MultiTaskModel | Ensemble:
        """A candidate as one predictor."""
        networks = self.best(found, name)
        for network in networks:
            # They trained without.
            network.model.metrics = [self.study.model.metrics[place] for place in self.study.places(network.tasks)]
        return networks[0].model if len(networks) == 1 else joined(self.study, networks)

    def best(self, found: Recommendation, name: str) -> list[Network]:
        """A candidate's networks of the seed with the lowest losses, each relative to its task's mean alone."""
        alone = found.candidates[ALONE].losses
        relative = [found.candidates[name].losses[task] / np.nanmean(np.abs(alone[task])) for task in found.tasks]
        return self.networks[name][int(np.nanargmin(np.mean(relative, axis=0)))]


def joined(study: Study, networks: Sequence[Network]) -> MultiTaskModel | Ensemble:
    """Networks of groups of the tasks as one model, whose encoders part in the first layer; where they have more apart
    than encoders and heads, as tables of categories, which such a model has once, as an ensemble of theirs.
    """
    parts = {name.partition(".")[0] for network in networks for name in network.model.state_dict()}
    if parts - {"encoder", "heads"}:
        return Ensemble([network.model for network in networks])
    groups = [list(network.tasks) for network in networks]
    model = study.model._fresh(study.model.tasks, sharing={"name": "branched", "branches": [groups]})
    state: dict[str, np.ndarray] = {}
    for network, group in zip(networks, groups, strict=True):
        branch = f"encoders.{'+'.join(group)}."
        for name, value in network.model.state_dict().items():
            state[branch + name.removeprefix("encoder.") if name.startswith("encoder.") else name] = value
    model.load_state_dict(state)
    return model


def _hard() -> tuple[dict[str, Any], dict[str, Any]]:
    return {"sharing": {"name": "hard"}}, {}


def _stopping(network: Network, patience: int) -> list[EarlyStopping]:
    return [EarlyStopping("loss", patience=patience)]
