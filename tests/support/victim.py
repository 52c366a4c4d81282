"""What is attacked: a server, what its handlers see, and a canary that must not notice.

``Victim`` runs one server for many tests. Its ledger says which handlers were entered
and how they ended; its canary is a WebSocket on another connection that echoes every 20
ms; ``settle`` waits until tasks, handlers and sockets are back where they were.
"""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import tako
from tako import Deflate, Request, Response, Router, ServerConfig, TakoWs, WebSocket
from tako.testing.peer import PeerConnection, Wire
from tako.tls import TlsCert
from tests.support.attack import Attacker, RawH2, attacker_of
from tests.support.patience import TIMEOUT
from tests.support.server import (
    Credentials,
    Gate,
    RunningServer,
    RuntimeName,
    open_sockets,
)


CANARY_INTERVAL = 0.02
CANARY_LIMIT = 0.05
"""Seconds that an echo may take on a machine of its own (I2)."""

CANARY_SLACK = 0.5
"""The same where client and server share an interpreter; the measured value is printed,
and tests/security/test_floods.py asserts the strict one."""

Clock: TypeAlias = Callable[[], float]
"""The processor's seconds that a server has used so far."""

MESSAGE_LIMIT = 1 << 20


@dataclass(slots=True)
class Entry:
    """One handler or session: what it was called with and what became of it."""

    kind: str
    request: Request
    body: bytes | None = None
    messages: list[str | bytes] = field(default_factory=list)
    error: BaseException | None = None
    close_code: int | None = None
    ended: bool = False


class Ledger:
    """What the handlers report. Written in the server's thread, read in the test's."""

    def __init__(self, *, limit: int | None = None) -> None:
        """Keep every entry, or the last ``limit`` for servers that live long."""
        self._limit = limit
        self.entries: list[Entry] = []
        self.alive = 0
        self.most_alive = 0
        self.reply: bytes | None = None
        """What handlers answer with; ``None``: a short text."""
        self.gate: Gate | None = None
        """What a WebSocket handler waits for before it accepts."""
        self.body_gate: Gate | None = None
        """What other handlers wait for before they read the body."""

    def clear(self) -> None:
        """Forget what was; before each attack."""
        self.entries = []
        self.most_alive = self.alive
        self.reply = self.gate = self.body_gate = None

    def enter(self, kind: str, request: Request) -> Entry:
        entry = Entry(kind, request)
        self.entries.append(entry)
        if self._limit is not None:
            del self.entries[: -self._limit]
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        return entry

    def keep(self, entry: Entry, message: str | bytes) -> None:
        """Note a message; a ledger with a limit keeps none."""
        if self._limit is None:
            entry.messages.append(message)

    def leave(self, entry: Entry) -> None:
        entry.ended = True
        self.alive -= 1

    def of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]


def tasks_alive() -> int:
    """Return how many tasks the runtime that is calling has."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        trio = sys.modules["trio"]
        return int(trio.lowlevel.current_statistics().tasks_living)


class _Handlers:
    """The handlers of a victim."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def websocket(self, request: Request) -> TakoWs | Response:
        """Echo, and write down what came."""
        ledger = self._ledger
        if ledger.gate is not None:
            await ledger.gate.wait()
        if request.headers.get("x-refuse"):
            return Response(403, body="refused")

        async def session(ws: WebSocket) -> None:
            await self._session(ws, ledger.enter("session", request))

        options: dict[str, Any] = {}
        if request.headers.get("origin"):
            options["allowed_origins"] = ["https://good.example"]
        return TakoWs(
            request,
            session,
            max_message_size=MESSAGE_LIMIT,
            max_frame_size=MESSAGE_LIMIT,
            compression=Deflate(),
            **options,
        )

    async def _session(self, ws: WebSocket, entry: Entry) -> None:
        try:
            async for message in ws:
                if isinstance(message, str | bytes):
                    self._ledger.keep(entry, message)
                    await ws.send(message)
        except BaseException as error:
            entry.error = error
            raise
        finally:
            entry.close_code = ws.close_code
            self._ledger.leave(entry)

    async def anything(self, request: Request) -> Response | str:
        """Read the body, write it down, and answer."""
        ledger = self._ledger
        entry = ledger.enter("handler", request)
        try:
            if ledger.body_gate is not None:
                await ledger.body_gate.wait()
            entry.body = b"" if request.is_websocket else await request.body()
        except BaseException as error:
            entry.error = error
            raise
        finally:
            ledger.leave(entry)
        if ledger.reply is not None:
            return Response(body=ledger.reply)
        return f"{request.path} {len(entry.body)}"

    async def probe(self, request: Request) -> str:
        """Tell how many tasks and handlers there are."""
        return f"{tasks_alive()} {self._ledger.alive}"


async def _canary(request: Request) -> TakoWs:
    async def echo(ws: WebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    return TakoWs(request, echo)


async def _hold(_: Request) -> str:
    """Neither read nor answer."""
    await Gate().wait()
    return "never"


async def _page(_: Request) -> Response:
    return Response(body=bytes(60_000))


def attacked_router(ledger: Ledger) -> Router:
    """Return the router of a victim: ``/ws`` echoes, ``/hold`` never answers,
    ``/page`` is 60 KB; everything else answers 200."""
    router, handlers = Router(), _Handlers(ledger)
    router.get("/ws", handlers.websocket)
    router.get("/hold", _hold)
    router.post("/hold", _hold)
    router.get("/page", _page)
    router.get("/probe", handlers.probe)
    router.get("/canary", _canary)
    router.fallback(handlers.anything)
    return router


def process_clock(pid: int) -> Clock:
    """Return the clock of a process: clock_getcpuclockid(3), as Linux numbers it."""
    number = (~pid << 3) | 2
    return lambda: time.clock_gettime(number)


def thread_clock(thread: threading.Thread) -> Clock:
    """Return the clock of a thread that runs."""
    assert thread.ident is not None
    number = time.pthread_getcpuclockid(thread.ident)
    return lambda: time.clock_gettime(number)


class Canary:
    """Echoes every 20 ms in a thread of its own and keeps the worst time.

    ``worst`` is the time on the clock, for figures. What is asserted is ``work``: the
    most that the server computed until an echo came, which is less if the machine is
    busy with something else.
    """

    def __init__(
        self, connection: PeerConnection, clock: Clock, *, websocket: bool = True
    ) -> None:
        """Open the canary; without ``websocket`` it is a request that is repeated."""
        self._connection = connection
        self._clock = clock
        self._socket = connection.websocket("/canary") if websocket else None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.worst = 0.0
        self.worst_ever = 0.0
        self.work = 0.0
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def echo(self) -> float:
        """Echo now; return the seconds that took. Whatever was sent before is read."""
        with self._lock:
            started, worked = time.monotonic(), self._clock()
            if self._socket is not None:
                self._socket.echo(f"canary {started}")
            else:
                assert self._connection.request("GET", "/probe").status == 200
            self.work = max(self.work, self._clock() - worked)
            taken = time.monotonic() - started
            self.worst = max(self.worst, taken)
            self.worst_ever = max(self.worst_ever, taken)
            return taken

    def check(self, limit: float = CANARY_SLACK) -> None:
        """Assert that no echo since the last check took more than ``limit`` of work."""
        self.echo()
        if self.failure is not None:
            raise AssertionError from self.failure
        work, worst = self.work, self.worst
        self.forget()
        assert work < limit, (
            f"the canary was silent for {worst * 1000:.0f} ms,"
            f" {work * 1000:.0f} ms of them the server's work"
        )

    def forget(self) -> None:
        """Begin anew, but for ``worst_ever``."""
        self.worst = self.work = 0.0

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT)

    def _run(self) -> None:
        try:
            while not self._stop.wait(CANARY_INTERVAL):
                self.echo()
        except BaseException as error:
            self.failure = error


def eventually(
    condition: Callable[[], bool], what: str, timeout: float = TIMEOUT
) -> None:
    """Ask until ``condition()`` holds: the kernel does not tell when it is done."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        threading.Event().wait(0.002)


class LogWatch(logging.Handler):
    """Keeps what must not be logged: errors, and warnings of the loop."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name.partition(".")[0] in {"tako", "asyncio", "trio"}
        if ours and (record.levelno >= logging.ERROR or record.exc_info):
            self.found.append(logging.Formatter().format(record))


class CertifiedServer(RunningServer):
    """A ``RunningServer`` over TLS with certificates that are not two files."""

    tls: TlsCert

    async def _serve(self) -> None:
        listener = await tako.bind("127.0.0.1:0")
        self.address = ("127.0.0.1", listener.port)
        self._ready.set()
        await tako.serve_tls(
            listener,
            self.router,
            tls=self.tls,
            shutdown=self._shutdown.wait,
            config=self._config,
        )


class Victim:
    """A running server with its ledger, its canary and its baseline."""

    def __init__(
        self,
        credentials: Credentials,
        runtime: RuntimeName,
        wire: Wire,
        config: ServerConfig | None = None,
        *,
        routes: Callable[[Router, Ledger], None] | None = None,
        tls: TlsCert | None = None,
        send_buffer: int | None = None,
    ) -> None:
        self.wire = wire
        self.ledger = Ledger()
        # the prober may be silent for longer than the server lets a client be
        self.config = config or ServerConfig(keep_alive_timeout=600)
        router = attacked_router(self.ledger)
        if routes is not None:
            routes(router, self.ledger)
        self.server = (RunningServer if tls is None else CertifiedServer)(
            router,
            wire=wire,
            runtime=runtime,
            credentials=credentials,
            config=config,
            send_buffer=send_buffer,
        )
        if isinstance(self.server, CertifiedServer) and tls is not None:
            self.server.tls = tls
        self.log = LogWatch()

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self.log)
        self.server.start()
        self._bird = self.server.connect(self._quiet_wire)
        self._prober = self.server.connect(self._quiet_wire)
        speaks = self.config.h2_enable_connect_protocol or self._quiet_wire != "h2c"
        clock = thread_clock(self.server.thread)
        self.canary = Canary(self._bird, clock, websocket=speaks)
        self.probe()
        self._sockets = open_sockets()
        self._baseline = self.probe()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.canary.stop()
        self._bird.close()
        self._prober.close()
        try:
            self.server.stop()
        finally:
            logging.getLogger().removeHandler(self.log)

    @property
    def encrypted(self) -> bool:
        return self.wire in {"h1s", "h2"}

    @property
    def _quiet_wire(self) -> Wire:
        return "h1s" if self.encrypted else self.wire

    @property
    def address(self) -> tuple[str, int]:
        return self.server.address

    def probe(self) -> str:
        """Return the number of tasks and of handlers alive."""
        response = self._prober.request("GET", "/probe")
        assert response.status == 200
        return response.body.decode()

    def attacker(
        self, wire: Wire, *, receive_buffer: int | None = None
    ) -> Attacker | RawH2:
        """Connect over ``wire`` and send nothing yet."""
        return attacker_of(self.address, wire, receive_buffer=receive_buffer)

    def gate(self) -> Gate:
        """Return what a handler can wait for."""
        return Gate()

    def h2(self) -> RawH2:
        """``attacker`` for HTTP/2."""
        found = self.attacker("h2" if self.encrypted else "h2c")
        assert isinstance(found, RawH2)
        return found

    def settle(self, *, log: bool = True) -> None:
        """Assert the invariants that hold after every attack (I1 to I5)."""
        self._prober_settled()
        eventually(lambda: open_sockets() <= self._sockets, "the sockets are closed")
        assert all(entry.ended for entry in self.ledger.entries)
        self.canary.check()
        if log and self.log.found:
            found, self.log.found = self.log.found, []
            raise AssertionError(found[0])

    def _prober_settled(self) -> None:
        seen = ""

        def same() -> bool:
            nonlocal seen
            seen = self.probe()
            return seen == self._baseline

        try:
            eventually(same, "tasks and handlers are at their baseline")
        except AssertionError as error:
            msg = f"{error}: {self._baseline} -> {seen}"
            raise AssertionError(msg) from None
