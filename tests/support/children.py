"""Child processes that have a limit, and what one that hangs was doing.

A Python process with ``PYTHONFAULTHANDLER`` in its environment prints the stacks of its
threads when it is aborted. ``tests/support/backstop.py`` sets it for the whole run.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import psutil

from tests.support.patience import TIMEOUT


_ABORTING = 5.0
"""Seconds that an aborted process has for its last words."""

_KEPT = 20_000
"""Characters of them that are shown."""


def last_words(pids: Iterable[int]) -> str:
    """End processes and all that they started; return what they were doing.

    No exit status is taken: what started the processes can still wait for them.
    """
    family: list[psutil.Process] = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            found = [process, *process.children(recursive=True)]
            family += [each for each in found if each not in family]
    lines, outputs = list[str](), dict[str, int]()
    try:
        for each in family:
            with contextlib.suppress(psutil.Error, OSError):
                lines.append(f"process {each.pid}, {' '.join(each.cmdline())}")
                _open_stderr(each.pid, outputs)
        for each in family:
            with contextlib.suppress(psutil.Error):
                each.send_signal(signal.SIGABRT)
        end = time.monotonic() + _ABORTING
        while any(map(_runs, family)) and time.monotonic() < end:
            time.sleep(0.02)
        for each in filter(_runs, family):
            with contextlib.suppress(psutil.Error):
                each.kill()
        lines += map(_tail, outputs.values())
    finally:
        for descriptor in outputs.values():
            os.close(descriptor)
    return "\n".join(lines)


def _open_stderr(pid: int, outputs: dict[str, int]) -> None:
    """Open what ``pid`` writes its errors to, if that is a file or a pipe of a test."""
    path = f"/proc/{pid}/fd/2"
    name = os.readlink(path)
    if name in outputs or name == os.readlink("/proc/self/fd/2"):
        return
    if name.startswith(("pipe:", "/")) and not name.startswith("/dev/"):
        outputs[name] = os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _tail(descriptor: int) -> str:
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(descriptor, 65_536):
            data += piece
    return data.decode(errors="replace")[-_KEPT:]


class Child(subprocess.Popen[str]):
    """A process that is ended after ``limit`` seconds: no test waits for longer.

    As a context manager it is ended with the block. What it was doing is told if that
    was its limit, or if the block failed while it ran.
    """

    def __init__(
        self, command: Sequence[str], *, limit: float = TIMEOUT, **options: Any
    ) -> None:
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed at the exit
        self._last_words: str | None = None
        self._timer: threading.Timer | None = None
        options = {"stdout": subprocess.PIPE, "stderr": self._stderr, **options}
        super().__init__(command, text=True, **options)
        self.allow(limit)

    def allow(self, seconds: float) -> None:
        """End it so many seconds from now, and not when it was to be before."""
        if self._timer is not None:
            self._timer.cancel()
        self._limit = seconds
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._timer is not None
        self._timer.cancel()
        self._timer.join(TIMEOUT)
        with self._stderr:
            if value is not None and self.poll() is None:
                value.add_note(last_words([self.pid]))
            self.kill()
            self.wait(TIMEOUT)
            for stream in (self.stdin, self.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        if self._last_words is not None:
            msg = f"it ran for longer than {self._limit} s:\n{self._last_words}"
            raise AssertionError(msg) from value

    def __enter__(self) -> Self:
        return self

    @property
    def error_text(self) -> str:
        """What it has written to stderr."""
        self._stderr.seek(0)
        return self._stderr.read()

    def wait_line(self, text: str) -> str:
        """Read its output up to the line that contains ``text``; return that line."""
        assert self.stdout is not None
        said = list[str]()
        for line in self.stdout:
            said.append(line)
            if text in line:
                return line
        msg = f"it ended without saying {text!r}: {said}\n{self.error_text}"
        raise AssertionError(msg)

    def _end(self) -> None:
        self._last_words = last_words([self.pid])


def run_child(
    command: Sequence[str], *, limit: float = TIMEOUT, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as ``subprocess.run`` does, with what ``Child`` adds.

    ``input`` is what it reads.
    """
    given = options.pop("input", None)
    if given is not None:
        options["stdin"] = subprocess.PIPE
    with Child(command, limit=limit, **options) as process:
        output, _ = process.communicate(given)
        code, errors = process.returncode, process.error_text
    return subprocess.CompletedProcess(command, code, output, errors)
