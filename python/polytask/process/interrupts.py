"""Ctrl-C while a run works: a flag that is looked at where nothing is half done, not an exception in the middle."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from .. import _core

Handler = Callable[[int, FrameType | None], object]

#: Seconds within which a second Ctrl-C raises at once.
_AGAIN = 1.0


class _Waiting:
    """The handler of SIGINT while a run works: keeps the signal for the next look."""

    def __init__(self, before: Handler) -> None:
        self.before = before
        self.since: float | None = None
        self.thread = threading.get_ident()
        self.broke_off = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        first = self.since
        self.since = now
        if first is None or now - first > _AGAIN:
            _core.interrupted(True)
            return
        self.broke_off = True
        self.deliver(frame)

    def deliver(self, frame: FrameType | None = None) -> None:
        """Does what a Ctrl-C would have done without this handler."""
        self.since = None
        _core.interrupted(False)
        self.before(signal.SIGINT, frame)


_handler: _Waiting | None = None


class _Here(threading.local):
    """What a thread looks at beside the handler: whether what it works for is to end."""

    ending: threading.Event | None = None


_here = _Here()


@contextmanager
def until(ending: threading.Event) -> Iterator[None]:
    """Makes each `look` of this thread raise `KeyboardInterrupt` once what it works for is to end."""
    before, _here.ending = _here.ending, ending
    try:
        yield
    finally:
        _here.ending = before


@contextmanager
def ending(event: threading.Event) -> Iterator[None]:
    """Has the core look, in threads that work `until` this event, for as long as they take to end."""
    event.set()
    _core.interrupted(True)
    try:
        yield
    finally:
        _core.interrupted(_handler is not None and _handler.since is not None)


@contextmanager
def held() -> Iterator[None]:
    """Makes Ctrl-C wait for the next `look`, or for the end; a second one within a second raises at once.

    Only where Ctrl-C runs a Python handler, which is what is called then, and only in the main thread, the one that
    runs handlers. The handler is put back at the end; after a Ctrl-C that did not wait, torch's grad mode is too, since
    the code that was to put it back may have been broken off.
    """
    global _handler
    before = signal.getsignal(signal.SIGINT)
    main = threading.get_ident() == threading.main_thread().ident
    if _handler is not None or not main or not callable(before):
        yield
        return
    grad = torch.is_grad_enabled()
    ours = _Waiting(before)
    try:
        _handler = ours
        signal.signal(signal.SIGINT, ours)
        yield
    finally:
        if ours.broke_off:
            torch.set_grad_enabled(grad)
        _handler = None
        if signal.getsignal(signal.SIGINT) is ours:
            signal.signal(signal.SIGINT, before)
        if ours.since is not None:
            ours.deliver()


def waits() -> bool:
    """Whether a Ctrl-C waits, in this thread."""
    return _handler is not None and _handler.since is not None and _handler.thread == threading.get_ident()


def forget() -> None:
    """Takes a Ctrl-C that waits as seen."""
    if _handler is not None and waits():
        _handler.since = None
        _core.interrupted(False)


def look() -> None:
    """Lets a Ctrl-C that waits raise `KeyboardInterrupt`, or do what else the program's own handler does."""
    if _here.ending is not None and _here.ending.is_set():
        raise KeyboardInterrupt
    if _handler is not None and waits():
        _handler.deliver()
