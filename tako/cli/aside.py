"""``Aside``: blocking calls that neither the loop nor the end of the process waits for.

The loops have threads for such calls, but end only when these have: one that reads a
terminal would keep the command until the next line is typed.
"""

import os
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from tako.runtime import current


_CHUNK = 64 * 1024  # bytes of a read


class Aside:
    """One call at a time, in a thread of its own; they are all for one purpose."""

    def __init__(self) -> None:
        """Start the thread; made for the loop that is running."""
        backend = current()
        self._post = backend.caller()
        self._changed = backend.signal()
        self._calls: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self._running = False
        self._outcome: tuple[Any, Exception | None] | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    async def call(self, function: Callable[[], Any]) -> Any:
        """Return what ``function()`` returns, or raise what it raises.

        Cancel safety: the call goes on. The next ``call`` is then for its outcome, and
        makes none of its own.
        """
        if not self._running:
            self._running = True
            self._calls.put(function)
        while self._outcome is None:
            await self._changed.wait()
        (result, error), self._outcome = self._outcome, None
        self._running = False
        if error is not None:
            raise error
        return result

    def _serve(self) -> None:
        while True:
            function = self._calls.get()
            outcome: tuple[Any, Exception | None]
            try:
                outcome = function(), None
            except Exception as error:
                outcome = None, error
            try:
                self._post(partial(self._done, outcome))
            except RuntimeError:  # the loop has ended
                return

    def _done(self, outcome: tuple[Any, Exception | None]) -> None:
        self._outcome = outcome
        self._changed.set()


class Lines:
    """The lines of a file, perhaps a terminal or a pipe, no faster than asked for."""

    def __init__(self, file: int, most: int) -> None:
        """Read from a descriptor; ``most``: bytes of the longest line."""
        self._file = file
        self._most = most
        self._aside = Aside()
        self._received = bytearray()
        self._looked_at = 0  # bytes that have no line break
        self._ended = False

    async def next(self) -> bytes | None:
        """Return the next line without its line break; ``None``: there is none.

        Raises:
            ValueError: it is too long.
            OSError: the file cannot be read.

        Cancel safety: safe; nothing is lost.
        """
        received = self._received
        while (end := received.find(b"\n", self._looked_at)) < 0:
            self._looked_at = len(received)
            if len(received) > self._most:
                msg = f"a line has more than {self._most} bytes"
                raise ValueError(msg)
            if self._ended:
                break
            data = await self._aside.call(lambda: os.read(self._file, _CHUNK))
            self._ended = not data
            received += data
        self._looked_at = 0
        if end < 0:
            rest = bytes(received)
            received.clear()
            return rest or None
        line = bytes(received[:end])
        del received[: end + 1]
        return line


class Output:
    """A file that may be a pipe, written to no faster than it takes."""

    def __init__(self, file: int) -> None:
        """Write to a descriptor."""
        self._file = file
        self._aside = Aside()

    async def write(self, data: bytes) -> None:
        """Write all of ``data``.

        Raises:
            OSError: it cannot be written.

        Cancel safety: the rest is written, and then nothing more.
        """
        await self._aside.call(lambda: self._write(data))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
