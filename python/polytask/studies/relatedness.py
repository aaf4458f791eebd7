"""How tasks are related: one call for every measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..arguments.keywords import checked
from ..arguments.messages import none_of
from ..arguments.numbers import whole
from ..data.task import Task
from ..model.model import MultiTaskModel
from ..process import interrupts, memory
from ..results.relatedness import Relatedness
from ..training.trainer import Trainer
from .measures import affinity, gradients, labels, relation, representation, transfer
from .study import HELD_OUT, Study

_METHODS: dict[str, Callable[[Study, int, int | None, bool], Relatedness]] = {
    "labels": lambda study, seeds, every, progress: labels.measure(study),
    "gradients": gradients.measure,
    "affinity": affinity.measure,
    "transfer": lambda study, seeds, every, progress: transfer.measure(study, seeds, progress),
    "representation": lambda study, seeds, every, progress: representation.measure(study, seeds, progress),
    "relation": lambda study, seeds, every, progress: relation.measure(study, seeds, progress),
}


@checked
@memory.gives_back
def relatedness(
    subject: MultiTaskModel | Trainer | Sequence[Task] | Task,
    data: Any,
    method: str = "transfer",
    *,
    validation: Any = HELD_OUT,
    epochs: int = 20,
    batch_size: int = 256,
    seeds: int = 3,
    every: int | None = None,
    optimizer: Any = None,
    lr: Any = None,
    weights: Any = None,
    progress: bool = True,
) -> Relatedness:
    """How the tasks are related, pair by pair. What is given stays as it is: networks of its parts are trained anew,
    side by side.

    `method` is one of

    - "transfer": what each task gains of being trained with each other one, against alone (Standley et al., ICML 2020).
      `tasks` single networks and `tasks (tasks - 1) / 2` pairs a seed. The measure to trust most, if its standard
      errors are small; noisy with few validation rows.
    - "relation": correlations of what single-task networks that learned from different rows predict (after Zhang and
      Yeung, UAI 2010). Finds tasks with related answers, with signs; not those that only share features.
    - "affinity": what a step for one task does to another's loss, relative to it (TAG, Fifty et al., NeurIPS 2021).
      Not to be trusted for whether to share at all: most pairs are above 0; trust the order of a row's entries.
    - "gradients": mean cosines of the tasks' gradients over a training, with magnitude similarity and the share of
      conflicts (Yu et al., NeurIPS 2020). Not to be trusted in a network that is much larger than it need be, where all
      are near 0.
    - "representation": how alike the features of single-task networks are, by CKA and RSA (Kornblith et al., ICML 2019;
      Dwivedi and Roig, CVPR 2019). Not to be trusted after short trainings, where networks that began alike still are.
    - "labels": correlations of the labels; trains nothing. Not to be trusted for tasks with independent labels, which
      may need the same features.

    Arguments:
        subject: a `pt.MultiTaskModel` whose parts the networks have, or a `pt.Trainer` of one, whose optimizer and
            other settings they have too, but for weighting and regularizers; or a list of `pt.Task`, for which an MLP
            with layers of 128 and 64 is taken over the columns of a frame or the numbers of `(x, ...)`, and whose
            regressions train in a scale of their own.
        data: as for `pt.Trainer.fit`, in memory; with one data set a task (`{task: data}`) their rows are joined.
        method: see above.
        validation: data, a `pt.data.Split`, or the fraction of the rows to hold out; networks are compared on it.
        epochs, batch_size, weights: as for `pt.Trainer.fit`, of each network.
        seeds: how many of each network; standard errors are over them. One has none.
        every: batches between two looks at gradients, for "gradients" and "affinity"; ten looks an epoch, if none is
            given.
        optimizer, lr: as for `pt.Trainer`, where the subject is none.
        progress: whether a bar over the networks is shown.

    Raises:
        TypeError, ValueError: what is wrong, what was expected and what came.
        KeyboardInterrupt: Ctrl-C.
    """
    if method not in _METHODS:
        raise ValueError(f"`method`: unknown {none_of(str(method), _METHODS, 'there are')}")
    count = whole(seeds, "`seeds`")
    steps = None if every is None else whole(every, "`every`")
    with interrupts.held():
        settings = {"optimizer": optimizer, "lr": lr}
        study = Study(
            subject, data, validation, epochs=epochs, batch_size=batch_size, weights=weights, settings=settings
        )
        if len(study.tasks) < 2:
            raise ValueError(f"at least two tasks are needed to be related; got {study.tasks[0]!r} alone")
        return _METHODS[method](study, count, steps, bool(progress))
