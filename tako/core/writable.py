"""``Writable``: the one way to wait until an exchange or a tunnel takes more output."""

from typing import Protocol

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

    __slots__ = ("_output", "_runtime", "signal")

    def __init__(self, output: Output, runtime: Runtime) -> None:
        self._output = output
        self._runtime = runtime
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
        waited = False
        while not (output.writable or output.over):
            waited = True
            await self.signal.wait()
        checkpoint = self._runtime.checkpoint
        if checkpoint is not None and not waited:
            await checkpoint()
