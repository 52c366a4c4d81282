"""SIGINT and SIGTERM: everybody who waits is told of the first; the next is deadly.

Theory of operation. The handlers of the process are ours while somebody waits, on one
loop; what an earlier loop left behind does not count. A signal gives them back at once,
so that the next one has its default effect even where nobody has come to notice the
first, and wakes all who wait.

Invariant: the handlers are ours exactly while ``_waiting`` has an entry.
"""

import contextlib
import signal
from collections.abc import Callable, Generator
from typing import TypeAlias


NUMBERS = (signal.SIGINT, signal.SIGTERM)

Install: TypeAlias = Callable[[Callable[[], None]], Callable[[], None]]
"""Lets the loop call a function at a signal; returns what gives the handlers back."""

_waiting: list[Callable[[], None]] = []
_give_back: Callable[[], None] | None = None
_loop: object = None  # whose they are


@contextlib.contextmanager
def waiting(
    loop: object, wake: Callable[[], None], install: Install
) -> Generator[None, None, None]:
    """Call ``wake`` on ``loop`` at the first signal that comes while the block runs."""
    global _give_back, _loop  # noqa: PLW0603 - a process has one handler for a signal
    if loop is not _loop:
        _waiting.clear()
        _restore()
        _loop = loop
    if not _waiting:
        _give_back = install(_received)
    _waiting.append(wake)
    try:
        yield
    finally:
        if wake in _waiting:
            _waiting.remove(wake)
            if not _waiting:
                _restore()


def _received() -> None:
    woken = _waiting.copy()
    _waiting.clear()
    _restore()
    for wake in woken:
        wake()


def _restore() -> None:
    global _give_back, _loop
    give_back, _give_back, _loop = _give_back, None, None
    if give_back is not None:
        give_back()
