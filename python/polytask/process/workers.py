"""Calls side by side, each in a thread with one thread of computing for itself."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

import torch

from .. import _core
from . import interrupts

Result = TypeVar("Result")
Call = Callable[[], Result]
#: Seconds between two looks at Ctrl-C.
_PAUSE = 0.05


def count(calls: int, threads: int = 1) -> int:
    """How many of so many calls go on at a time: as many as torch has threads, if each takes so many."""
    return max(1, min(calls, torch.get_num_threads() // threads))


def side_by_side(calls: Sequence[Call[Result]], workers: int | None = None) -> Iterator[tuple[int, Result]]:
    """The results of calls as they come, each with its place among the calls.

    The core computes without the GIL and with one thread a call, so that a call gives the same bits whatever goes on
    beside it. Ctrl-C ends them all at their next look, and is raised here; so is the first exception of a call, once
    those beside it have ended. Who stops to ask for results ends them too.

    Arguments:
        calls: of code that Polytask runs in threads of its own: the caller's own code should not be among it.
        workers: how many go on at a time; as many as torch has threads, if none is given.
    """
    if not calls:
        return
    crew = _Crew(calls, count(len(calls)) if workers is None else workers)
    try:
        yield from crew.results()
    finally:
        crew.end()


class _Crew(Generic[Result]):
    """Threads that take one call after the other."""

    def __init__(self, calls: Sequence[Call[Result]], workers: int) -> None:
        self._calls = calls
        self._ending = threading.Event()
        self._next = iter(range(len(calls)))
        self._lock = threading.Lock()
        # note: a SimpleQueue's `get` may wait forever once a handler of a signal has run in it past its timeout.
        self._done: queue.Queue[tuple[int, Future[Result]]] = queue.Queue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        _core.keep_threads(1)
        with interrupts.until(self._ending):
            while not self._ending.is_set():
                with self._lock:
                    place = next(self._next, None)
                if place is None:
                    return
                found: Future[Result] = Future()
                try:
                    found.set_result(self._calls[place]())
                except BaseException as error:
                    found.set_exception(error)
                self._done.put((place, found))
                # note: after that, so that what ended the others is told first.
                if found.exception() is not None:
                    self._ending.set()

    def results(self) -> Iterator[tuple[int, Result]]:
        for _ in self._calls:
            place, found = self._wait()
            yield place, found.result()

    def _wait(self) -> tuple[int, "Future[Result]"]:
        while True:
            interrupts.look()
            try:
                return self._done.get(timeout=_PAUSE)
            except queue.Empty:
                continue

    def end(self) -> None:
        """Waits until nothing goes on, which is soon."""
        with interrupts.ending(self._ending):
            for thread in self._threads:
                thread.join()
