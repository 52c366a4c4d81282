"""``AsyncioFlushes``: one call of asyncio for all output that is due; to be compiled.

A call of its own for each connection costs as much as a short request's way through its
engine. They run in a context of nobody's: the first who asks for one may be a handler.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context


class AsyncioFlushes:
    """Calls what it is given once the callbacks that are due have run."""

    __slots__ = ("_context", "_due", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        """Make one for ``loop``; ``context`` is that of all calls."""
        self._loop = loop
        self._context = context
        self._due: list[Callable[[], object]] = []

    def soon(self, flush: Callable[[], object]) -> None:
        """Call ``flush``, which must not raise, in the loop's next turn."""
        if not self._due:
            self._loop.call_soon(self._run, context=self._context)
        self._due.append(flush)

    def _run(self) -> None:
        due, self._due = self._due, []
        begun = 0
        try:
            for flush in due:
                begun += 1
                flush()
        finally:  # KeyboardInterrupt: the loop may be run again, to end what is open
            for flush in due[begun:]:
                self.soon(flush)
