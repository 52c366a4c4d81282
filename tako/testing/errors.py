"""``ErrorLog``: what the server in one thread reports as an error.

tako answers what a handler raises and logs it with its traceback; the loggers of
``tako`` and of the event loop are the one place where all of that comes together:
handlers, sessions, bodies, background tasks of an ASGI app, tasks of the loop. Records
of other threads are of other servers, or of the test itself.
"""

import logging
import threading
import traceback
from typing import TypeVar, cast

from tako.testing.patience import Deadline


ErrorT = TypeVar("ErrorT", bound=BaseException)

_LOGGERS = ("tako", "asyncio", "trio")
_REPORTING = ("tako.asgi", "tako.router", "tako.server", "tako.ws")


class ReportedError(Exception):
    """An error that the server reported in words, without an exception."""


class ErrorLog(logging.Handler):
    """Collects the errors that are logged in one thread, once each."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._thread: int | None = None
        self._known: list[BaseException] = []
        self._unexpected: list[tuple[BaseException, str]] = []  # with their texts
        self._news = threading.Condition()

    def open(self) -> None:
        """Collect from now on what the calling thread logs."""
        self._thread = threading.get_ident()
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self)

    def close(self) -> None:
        """Collect nothing more."""
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception of ``record``."""
        if record.thread != self._thread:
            return
        message = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        text = message
        if error is None:
            error = ReportedError(message)
        else:
            text += "\n" + in_full(error)
        with self._news:
            if any(error is known for known in self._known):
                return
            self._known.append(error)
            self._unexpected.append((error, text))
            self._news.notify_all()

    @property
    def blind(self) -> bool:
        """Whether logging is off for one of those that report errors of handlers.

        ``logging.disable`` does that, and ``logging.config``, which disables loggers
        that it is not told of unless ``disable_existing_loggers`` is false.
        """
        return not all(
            logging.getLogger(name).isEnabledFor(logging.ERROR) for name in _REPORTING
        )

    @property
    def unexpected(self) -> list[tuple[BaseException, str]]:
        """What was reported and not taken, in order, each with its text in full."""
        with self._news:
            return list(self._unexpected)

    def take(
        self, kind: type[ErrorT], match: str | None, timeout: float | None
    ) -> ErrorT:
        """Wait for an error of ``kind`` with ``match`` in its text, and expect it.

        Raises:
            AssertionError: none was reported in time.
        """
        deadline = Deadline(timeout)
        with self._news:
            while True:
                for index, (error, _) in enumerate(self._unexpected):
                    found = _found(error, kind)
                    if found is not None and (match is None or match in str(found)):
                        del self._unexpected[index]
                        return found
                if not self._news.wait(max(0, deadline.remaining)):
                    break
            came = [repr(error) for error, _ in self._unexpected]
        reported = ", ".join(came) or "nothing"
        wanted = kind.__name__ if match is None else f"{kind.__name__} with {match!r}"
        msg = (
            f"the server reported no {wanted} within {deadline.timeout:g} s; "
            f"it reported {reported}"
        )
        raise AssertionError(msg)


def in_full(error: BaseException) -> str:
    """Return ``error`` with its traceback."""
    return "".join(traceback.format_exception(error)).rstrip()


def _found(error: BaseException, kind: type[ErrorT]) -> ErrorT | None:
    """Return ``error``, or the one error that is in its group, if it is a ``kind``."""
    while not isinstance(error, kind):
        if not isinstance(error, BaseExceptionGroup):
            return None
        group = cast("BaseExceptionGroup[BaseException]", error)
        if len(group.exceptions) != 1:
            return None
        error = group.exceptions[0]
    return error
