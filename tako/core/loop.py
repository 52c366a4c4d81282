"""The event loop, as everything above it sees it: asyncio, uvloop or trio.

``tako.runtime`` implements these; nothing else knows which loop it runs on. The loop
calls functions one at a time, and none of them blocks.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias


AsyncFunction: TypeAlias = Callable[..., Awaitable[object]]


class Receiver(Protocol):
    """What a transport calls: the verbs of ``asyncio.Protocol``."""

    def connection_made(self, transport: Any) -> None:
        """Take the transport; called first, and once."""
        ...

    def data_received(self, data: bytes) -> None:
        """Take bytes that the peer sent."""
        ...

    def eof_received(self) -> bool:
        """Take the peer's FIN; tell whether the other direction stays open."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed; called last, and once."""
        ...

    def pause_writing(self) -> None:
        """Write no more for now: the transport's buffer is above its limit."""
        ...

    def resume_writing(self) -> None:
        """Write again: the transport's buffer has room."""
        ...


class Transport(Protocol):
    """The verbs of ``asyncio.Transport`` that tako uses."""

    def write(self, data: bytes | memoryview) -> None:
        """Send ``data``, buffering what the socket does not take."""
        ...

    def write_eof(self) -> None:
        """Send FIN once the buffer is empty."""
        ...

    def get_write_buffer_size(self) -> int:
        """Return how many bytes of output the socket has not taken yet."""
        ...

    def set_write_buffer_limits(self, high: int | None = None, /) -> None:
        """Call ``pause_writing`` above ``high`` bytes; ``None``: the default."""
        ...

    def pause_reading(self) -> None:
        """Stop calling ``data_received``."""
        ...

    def resume_reading(self) -> None:
        """Call ``data_received`` again."""
        ...

    def close(self) -> None:
        """Write the buffer, then close; ``connection_lost`` follows."""
        ...

    def abort(self) -> None:
        """Close at once; ``connection_lost`` follows."""
        ...


class Signal(Protocol):
    """Wakes the tasks that wait for a condition. An edge: nothing is remembered.

    Use it as ``while not condition: await signal.wait()``; between the test and the
    wait nothing else can run.
    """

    def set(self) -> None:
        """Wake every task that waits now."""
        ...

    def wait(self, timeout: float | None = None) -> Awaitable[bool]:
        """Wait for the next ``set``; ``False`` if ``timeout`` seconds pass first.

        Cancel safety: safe; a cancelled wait has no effect on others.
        """
        ...


class Timer(Protocol):
    """A pending call, made by ``Runtime.call_at``."""

    def cancel(self) -> None:
        """Do not make the call."""
        ...


class Task(Protocol):
    """A running async function, started by ``Runtime.spawn``."""

    def cancel(self) -> object:
        """Cancel it by its runtime's rules; a no-op once it has ended."""
        ...


class Clock(Protocol):
    """Seconds that never go back; where zero is does not matter."""

    def __call__(self) -> float:
        """Return the time, in seconds."""
        ...


class Timing(Protocol):
    """A clock and its timers: a runtime, or an event loop of asyncio."""

    @property
    def time(self) -> Clock:
        """The clock."""
        ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        """Call ``callback`` at ``when``, a time in seconds as ``time`` has it."""
        ...


class Runtime(Protocol):
    """The event loop, as the core sees it."""

    cancelled: type[BaseException]
    """What a cancelled task is unwound with."""

    checkpoint: Callable[[], Awaitable[None]] | None
    """Awaited by async functions that did not have to wait; ``None`` on asyncio."""

    def time(self) -> float:
        """Return the clock that ``call_at`` uses, in seconds."""
        ...

    def spawn(self, function: AsyncFunction, *args: object) -> Task:
        """Run ``function(*args)`` in the server's task group."""
        ...

    def begin(self, function: AsyncFunction, *args: object) -> Task:
        """Run ``function(*args)`` as ``spawn`` does, its first step at once if it can.

        Where the loop can do that, the task may have ended on return. It sees the
        context variables of the server and not those of who begins it, which may be the
        handler of another request.
        """
        ...

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call ``callback`` once the callbacks that are due have run."""
        ...

    def flush_soon(self, flush: Callable[[], object], /) -> None:
        """Call ``flush``, which does not raise, as ``call_soon`` does.

        All that is flushed in a turn is one call of the loop where that is cheaper,
        and none of it sees the context variables of who asked for it.
        """
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` at ``when``, a time in seconds as ``time`` has it."""
        ...

    def write_all(self, transport: Transport, pieces: list[bytes]) -> None:
        """Send ``pieces`` in order; they are joined only where the loop needs that."""
        ...

    def descriptor(self, transport: Transport) -> int:
        """Return the descriptor of the socket of ``transport``, to send to.

        That is allowed until ``connection_lost``, by what the loop calls (a loop that
        is closed may have closed the socket), while nothing waits in the transport.
        -1: it is not, or the transport itself sends at once.
        """
        ...

    def send_file(self, transport: Transport, file: int, offset: int, size: int) -> int:
        """Send up to ``size`` bytes of a file; return how many.

        What the socket takes at once is not copied. Where it takes nothing, a few bytes
        go to the transport: who has set its limit to 0 is told when all is taken. 0:
        the file ends here or cannot be read, or the kernel does not do that with it.

        Args:
            transport: the connection's.
            file: the descriptor of a regular file; its position does not count.
            offset: where to begin, in bytes.
            size: the most bytes.
        """
        ...

    def unacknowledged(self, transport: Transport) -> int:
        """Return how many bytes ``transport`` gave to the kernel and the peer lacks.

        0 where the kernel does not tell.
        """
        ...

    def unanswered(self, transport: Transport) -> float:
        """Return for how many seconds the peer's kernel has answered nothing.

        0 where no output is on its way, or a peer that has no room says so, or the
        kernel does not tell.
        """
        ...

    def round_trip(self, transport: Transport) -> float | None:
        """Return the seconds of a round trip to the peer, as the kernel estimates them.

        ``None`` where it does not tell.
        """
        ...

    def hung_up(self, transport: Transport) -> bool:
        """Tell whether the peer takes no more output: it has reset, or is gone.

        A FIN alone does not count. ``False`` where the kernel does not tell.
        """
        ...

    def peer_ended(self, transport: Transport) -> bool:
        """Tell whether the peer's FIN is here, perhaps behind data that is not read.

        ``False`` where the kernel does not tell.
        """
        ...

    def signal(self) -> Signal:
        """Return a new signal."""
        ...

    def cancelling(self) -> bool:
        """Tell whether the running task was asked to end, and still is to.

        What it is unwound with may also come from something else that it waited for.
        """
        ...

    async def sleep(self, delay: float, /) -> None:
        """Sleep for ``delay`` seconds. Cancel safety: safe."""
        ...
