"""One call of `fit` from several seeds: networks that train side by side, each as it would alone."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence

from ..arguments.messages import listed
from ..process import interrupts, workers
from .callback import Callback
from .loop import Loop
from .progress import Networks

_log = logging.getLogger("polytask")


def copies(callbacks: Sequence[Callback]) -> list[Callback]:
    """Callbacks for another run beside this one: our own have a copy each, other people's see all runs.

    Raises:
        ValueError: one that can serve one run alone.
    """
    alone = next((each for each in callbacks if each.of_one_run), None)
    if alone is not None:
        raise ValueError(f"`seeds`: {alone!r} serves one run, and there are several; leave it out")
    return [copy.deepcopy(each) if each.beside_others else each for each in callbacks]


def train(loops: Sequence[Loop], calls: Sequence[Callable[[], object]], threads: int | str, progress: bool) -> None:
    """Trains all, side by side where that is possible. Ctrl-C leaves each as after its last step."""
    bar = Networks(progress, len(calls))
    try:
        for _ in side_by_side(loops, calls, threads):
            bar.next()
    except KeyboardInterrupt:
        interrupts.forget()
        _log.warning("interrupted: each network is as after its last step")
    finally:
        bar.close()


def side_by_side(loops: Sequence[Loop], calls: Sequence[Callable[[], object]], threads: int | str) -> Iterator[int]:
    """Calls that train loops, side by side where that is possible, so many threads each or one; gives the place of each
    when it is done.

    Raises:
        KeyboardInterrupt: Ctrl-C, once all have stopped.
    """
    apart = next((found for found in map(reasons, loops) if found), [])
    if not apart:
        count = workers.count(len(calls), 1 if isinstance(threads, str) else threads)
        for place, _ in workers.side_by_side(calls, count):
            # Ctrl-C may end a network before this thread has seen it.
            if not loops[place].interrupted:
                yield place
        _ended(loops)
        return
    if len(calls) > 1:
        _log.info("the networks train one after another: %s", "; ".join(apart))
    for place, call in enumerate(calls):
        call()
        _ended(loops)
        yield place


def _ended(loops: Sequence[Loop]) -> None:
    if any(loop.interrupted for loop in loops):
        interrupts.look()
        raise KeyboardInterrupt


def reasons(loop: Loop) -> list[str]:
    """Why networks like this one train one after another; none if they may train side by side."""
    model = loop.model
    found = []
    if loop.foreign:
        found.append("code of your own, or batches from outside, takes part in the steps")
    if others := [repr(each) for each in loop.callbacks if not each.beside_others]:
        found.append(f"{listed(others)} are called in the thread of the program")
    if any(not metric.named for each in model.metrics for metric in each):
        found.append("metrics are Python callables")
    if model.device.type != "cpu":
        found.append(f"the model is on {model.device}")
    return found
