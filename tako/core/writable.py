"""``Writable``: the one way to wait until an exchange or a tunnel takes more output."""

from typing import Protocol

from tako.core.counters import Waits
from tako.core.loop import Runtime, Signal


class Output(Protocol):
    """What is written to: an exchange, or a tunnel."""

    @property
    def writable(self) -> bool:
        """More output is welcome."""
        ...

    @property
    def over(self) -> bool:
        """Nothing can be sent any more."""
        ...


class Writable:
    """Lets writers wait; what makes room calls ``wake``."""

    __slots__ = ("_output", "_runtime", "_waits", "signal")

    def __init__(self, output: Output, runtime: Runtime, waits: Waits) -> None:
        self._output = output
        self._runtime = runtime
        self._waits = waits
        self.signal: Signal = runtime.signal()
        """Set when there may be room; for a wait with a condition of its own."""

    def wake(self) -> None:
        """Wake the writers: ``writable`` may have become true, or ``over`` has."""
        self.signal.set()

    async def wait(self) -> None:
        """Wait until the output is ``writable``, or ``over``.

        Cancel safety: safe.
        """
        output = self._output
        if not (output.writable or output.over):
            await self._wait(output)
        elif (checkpoint := self._runtime.checkpoint) is not None:
            await checkpoint()

    async def _wait(self, output: Output) -> None:
        began = self._runtime.time()
        try:
            while not (output.writable or output.over):
                await self.signal.wait()
        finally:
            self._waits.count += 1
            self._waits.seconds += self._runtime.time() - began
