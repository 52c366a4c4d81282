"""SIGINT and SIGTERM: the first wakes every waiter, the next ends the process.

Theory of operation. *free* -> *taken*: there is a waiter, on one loop; what an earlier
loop left behind does not count -> *come*: the first signal came; all waiters are woken
on their loop -> *taken* when there is a waiter again, *free* when ``run`` ends. Without
a signal the handlers are given back with the last waiter.

The next signal never becomes an exception in whatever runs: that can be swallowed, by a
``finally``, a finalizer or the loop itself. It ends the process with the signal's own
default action, so that a shell sees 128 and its number. The kernel does that for the
signal that came; the other of the two still comes here, since Python drops, with a
mere warning, what was pending when its handler became the default one.

A process that another one ends by force (``first_only``) ignores the next signals: more
than one may come from those who end it.

Invariants: the handlers are ours while ``_waiting`` has an entry and after *come*;
between the look at ``_come`` and the note of it nothing is called, so of two handlers'
runs, however close, one sees the other. A signal that comes again before its handler
runs is one with the first to Python, as it is to the kernel while the first is pending.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator
from typing import Any, NoReturn, TypeAlias


NUMBERS = (signal.SIGINT, signal.SIGTERM)

Post: TypeAlias = Callable[[Callable[[], None]], object]
"""Lets a loop call a function soon; may be called at any point of the main thread.

Raises ``RuntimeError`` if that loop is over.
"""

_waiting: list[Callable[[], None]] = []
_before: dict[int, Any] = {}  # the handlers that were there; empty: they are not ours
_come = False
_first_only = False
_loop: object = None  # on which they wait
_post: Post | None = None


@contextlib.contextmanager
def waiting(
    loop: object, wake: Callable[[], None], post: Post
) -> Generator[None, None, None]:
    """Call ``wake`` on ``loop`` at the first signal that comes while the block runs.

    Raises:
        ValueError: this is not the main thread.
    """
    global _loop, _post
    if loop is not _loop:
        _waiting.clear()
        _give_back()
        _loop, _post = loop, post
    try:
        _waiting.append(wake)
        if len(_waiting) == 1:
            _take()
        yield
    finally:
        if wake in _waiting:
            _waiting.remove(wake)
            if not (_waiting or _come):
                _give_back()


@contextlib.contextmanager
def given_back() -> Generator[None, None, None]:
    """Leave the handlers after the block as they were before it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {each: signal.getsignal(each) for each in NUMBERS}
    try:
        yield
    finally:
        if _before:
            _before.update(before)
            _give_back()


def first_only() -> None:
    """Ignore signals after the first, from now on: a supervisor kills this process."""
    global _first_only  # noqa: PLW0603 - as all here, of the process
    _first_only = True


def come() -> bool:
    """Tell whether the first signal has come, so that the next one ends the process."""
    return _come


def _take() -> None:
    global _come  # noqa: PLW0603 - a process has one handler for a signal
    _come = False
    for number in NUMBERS:
        previous = signal.signal(number, _handle)
        _before.setdefault(number, previous)


def _give_back() -> None:
    global _come, _loop, _post
    for number, handler in _before.items():
        # None: what was there came from no Python code, and cannot be put back
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    _before.clear()
    _come, _loop, _post = False, None, None


def _handle(number: int, _: object) -> None:
    """Take a signal, between any two bytecodes of the main thread."""
    global _come  # noqa: PLW0603
    if _come:
        if _first_only:
            return
        _end_by(number)
    _come = True
    if not _first_only:
        signal.signal(number, signal.SIG_DFL)
    if _post is not None:
        try:
            _post(_received)
        except RuntimeError:  # that loop is over, and its waiters with it
            _give_back()
            signal.raise_signal(number)


def _received() -> None:
    woken = _waiting.copy()
    _waiting.clear()
    for wake in woken:
        wake()


def _end_by(number: int) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    os._exit(128 + number)  # the signal is blocked
