"""A limit for each test, whatever it waits for: a pytest plugin.

When the time of a test's setup, call or teardown is up, the test fails where its main
thread is, with the stacks of all threads and tasks and the last words of the processes
that it started, which are ended. A test that is known to be long says so with
``@pytest.mark.limit(seconds)``.

SIGALRM interrupts the main thread in Python and in whatever waits; it comes again for
what ignores it. A main thread that is not even then back in Python is stuck in C:
``faulthandler`` ends the whole run, from a thread that needs no interpreter.
"""

import asyncio
import contextlib
import faulthandler
import gc
import importlib
import io
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Generator
from types import FrameType
from typing import NoReturn

import pytest

from tests.support.patience import PATIENCE


LIMIT = 300.0 * PATIENCE
"""Seconds for a test's setup, its call and its teardown each."""

SLOW = 3600.0 * PATIENCE
"""The same for tests that are marked as slow."""

AGAIN = 30.0
"""Seconds until a test that ignored it is interrupted again."""

STUCK = 120.0
"""Seconds behind the limit until the run is ended."""


class OverTimeError(Exception):
    """The test did not end."""


class _Interruption(KeyboardInterrupt):
    """Leaves every event loop, which would report another exception and go on."""


class Backstop:
    """Watches one phase of a test at a time; pytest calls it by its hooks' names."""

    def __init__(self) -> None:
        # before pytest captures what is written there
        self._stderr = os.fdopen(os.dup(2), "w")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        with self._limited(item, "setup"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        with self._limited(item, "call"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        with self._limited(item, "teardown"):
            return (yield)

    def pytest_enter_pdb(self) -> None:
        """Set no limit to a debugger's session."""
        self._release()

    def pytest_unconfigure(self) -> None:
        self._stderr.close()

    @contextlib.contextmanager
    def _limited(self, item: pytest.Item, phase: str) -> Generator[None]:
        limit = SLOW if item.get_closest_marker("slow") else LIMIT
        if marker := item.get_closest_marker("limit"):
            limit = float(marker.args[0]) * PATIENCE
        began = time.time()

        reports = list[str]()

        def interrupt(number: int, frame: FrameType | None) -> NoReturn:
            __tracebackhide__ = True
            reports.append(_report(began))
            raise _Interruption

        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, limit, AGAIN)
        faulthandler.dump_traceback_later(limit + STUCK, file=self._stderr, exit=True)
        cause: BaseException | None = None
        try:
            yield
        except BaseException as error:
            if not reports:
                raise
            cause = error
        finally:
            self._release()
            signal.signal(signal.SIGALRM, before)
        if reports:
            msg = f"{phase} took longer than {limit:g} s\n{reports[0]}"
            raise OverTimeError(msg) from cause

    @staticmethod
    def _release() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()


def pytest_configure(config: pytest.Config) -> None:
    """Watch this run."""
    config.addinivalue_line("markers", "limit(seconds): how long the test may take")
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")
    with contextlib.suppress(ImportError):  # psutil; not when it is interrupted
        importlib.import_module("tests.support.children")
    config.pluginmanager.register(Backstop(), "backstop")


def _report(began: float) -> str:
    """Return what all are doing; end the processes started since ``began``."""
    with tempfile.TemporaryFile("w+") as stacks:
        faulthandler.dump_traceback(stacks)
        stacks.seek(0)
        return "\n".join((stacks.read(), _tasks(), _children(began)))


def _tasks() -> str:
    """Return the stacks of the tasks that have not ended, of all event loops."""
    trio = sys.modules.get("trio")
    out = io.StringIO()
    for found in gc.get_objects():  # by type(): a proxy says what it likes
        if issubclass(type(found), asyncio.Task) and not found.done():
            found.print_stack(file=out)
        elif trio is not None and issubclass(type(found), trio.lowlevel.Task):
            print(f"Stack for {found!r} (most recent call last):", file=out)
            frames = traceback.StackSummary.extract(found.iter_await_frames())
            print(*frames.format(), sep="", file=out)
    return out.getvalue()


def _children(began: float) -> str:
    try:
        import psutil

        from tests.support.children import last_words
    except ImportError:
        return "without psutil the processes that it started are unknown"
    found = psutil.Process().children()
    return last_words(each.pid for each in found if each.create_time() >= began - 1)
