"""A victim in memory: the server's own connection and handlers, without a socket.

What is sent is read at once, in reads of up to 64 KiB, and what becomes due is done
before ``send`` returns. Time is the ``FakeRuntime``'s: a client that waits moves it.
"""

import logging
from functools import partial
from typing import Self

from tako import ServerConfig
from tako.http.conn_info import IpPeer
from tako.server.engines import ENGINES
from tako.server.pipeline import run_exchange
from tako.tcp.connection import TcpConnection
from tako.testing.peer import Wire
from tests.support import lane
from tests.support.attack import Attacker, RawH2
from tests.support.server import Gate
from tests.support.victim import Ledger, LogWatch, attacked_router
from tests.support.wire import FakeRuntime, FakeTransport


class _Transport(FakeTransport):
    """One that tells its connection when it is lost."""

    def __init__(self, runtime: FakeRuntime) -> None:
        super().__init__()
        self.runtime = runtime
        self.connection: TcpConnection

    def close(self) -> None:
        super().close()
        self.runtime.call_soon(self._lost)

    def abort(self) -> None:
        super().abort()
        self.runtime.call_soon(self._lost)

    def _lost(self) -> None:
        self.connection.connection_lost(None)


class MemoryLink:
    """``attack.Link`` to a connection in memory."""

    def __init__(self, victim: "MemoryVictim", wire: Wire) -> None:
        self._runtime = victim.runtime
        self._transport = transport = _Transport(victim.runtime)
        with lane.switched(on=victim.lane):
            self._connection = transport.connection = TcpConnection(
                victim.runtime,
                victim.config,
                victim.handler,
                engines=ENGINES,
                protocol="h2" if wire == "h2c" else "http/1.1",
                tls=None,
                peer=IpPeer("127.0.0.1", 50000),
                local=IpPeer("127.0.0.1", 443),
                on_lost=victim.connections.remove,
            )
            victim.connections.add(self._connection)
            self._connection.connection_made(transport)
        self._runtime.run_ready()

    def send(self, data: bytes, /) -> int:
        transport = self._transport
        if transport.closed or transport.aborted:
            raise BrokenPipeError
        if not transport.reading:
            raise BlockingIOError
        self._connection.data_received(data)
        self._runtime.run_ready()
        return len(data)

    def recv(self, size: int, /) -> bytes:
        transport = self._transport
        if data := bytes(transport.written[:size]):
            del transport.written[:size]
            return data
        if transport.aborted and not transport.eof:
            raise ConnectionResetError
        if transport.eof or transport.closed:
            return b""
        raise BlockingIOError

    def close(self) -> None:
        self._connection.eof_received()
        self._runtime.run_ready()
        self._connection.connection_lost(None)
        self._runtime.run_ready()

    def time(self) -> float:
        return self._runtime.time()

    def wait(self, timeout: float, *, reading: bool, writing: bool) -> bool:
        """Move the clock to what is due next: that alone can change anything."""
        due = [timer.when for timer in self._runtime.timers if timer.callback]
        step = min(due, default=float("inf")) - self.time()
        self._runtime.advance(min(max(step, 0), timeout))
        return step <= timeout


class MemoryGate(Gate):
    """A ``Gate`` for handlers on a ``FakeRuntime``."""

    def __init__(self, runtime: FakeRuntime) -> None:
        super().__init__()
        self._runtime = runtime
        self._signal = runtime.signal()
        self._opened = False

    async def wait(self) -> None:
        if not self._opened:
            await self._signal.wait()

    def open(self) -> None:
        self._opened = True
        self._signal.set()
        self._runtime.run_ready()


class MemoryVictim:
    """A server in memory with its ledger; its own canary, since it has no loop."""

    def __init__(
        self, config: ServerConfig | None = None, *, lane: bool = True
    ) -> None:
        self.config = config or ServerConfig()
        self.lane = lane
        self.ledger = Ledger()
        self.runtime = FakeRuntime()
        self.connections: set[TcpConnection] = set()
        self.handler = partial(run_exchange, attacked_router(self.ledger).dispatch)
        self.log = LogWatch()

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self.log)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self.log)
        self.runtime.close()

    @property
    def canary(self) -> Self:
        return self

    def echo(self) -> float:
        """Do what is due: everything sent is then read, and answered."""
        self.runtime.run_ready()
        return 0.0

    def attacker(
        self, wire: Wire, *, receive_buffer: int | None = None
    ) -> Attacker | RawH2:
        """Connect over ``wire`` and send nothing yet."""
        del receive_buffer
        link = MemoryLink(self, wire)
        return RawH2(link) if wire == "h2c" else Attacker(link)

    def gate(self) -> MemoryGate:
        """Return what a handler can wait for."""
        return MemoryGate(self.runtime)

    def settle(self) -> None:
        """Assert that nothing is left, and nothing was logged (I1, I3 to I5)."""
        self.runtime.run_ready()
        assert not self.connections
        assert all(entry.ended for entry in self.ledger.entries)
        assert all(task.done for task in self.runtime.tasks)
        assert not self.log.found, self.log.found[0]
        self.runtime.tasks.clear()
        self.runtime.timers = [due for due in self.runtime.timers if due.callback]
