"""A tako server in a thread of its own, checked when it stops.

``RunningServer.stop`` drains the server and then asserts what every test takes for
granted: it returned by itself and in time, left no task, no connection, no socket and
no unexpected ERROR record behind.
"""

import asyncio
import contextlib
import faulthandler
import logging
import queue
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import tako
from tako import runtime as runtimes
from tako.server.bind import ListenerLike
from tako.server.serve import Serving
from tako.server.service import Dispatcher, Service
from tako.testing import leaks
from tako.testing.peer import ALPN, PeerConnection, Wire, connect
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.h2 import STREAM_WINDOW, H2Connection
from tests.support.patience import NEVER, TIMEOUT


RuntimeName: TypeAlias = Literal["asyncio", "uvloop", "trio"]

UNHURRIED = tako.ServerConfig(
    drain_timeout=NEVER,
    min_rate=0,
    send_timeout=NEVER,
    tls_shutdown_timeout=NEVER,
    ws_close_timeout=NEVER,
)
"""For what has to end by itself: no limit of the server ends it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A server certificate on disk and the context of a client that trusts it."""

    cert: Path
    key: Path
    client: ssl.SSLContext


def _runtime_event() -> tuple[Callable[[], Awaitable[object]], Callable[[], None]]:
    """Return the wait method of a new event and a thread-safe function that sets it."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio

        event = trio.Event()
        token = trio.lowlevel.current_trio_token()
        return event.wait, lambda: token.run_sync_soon(event.set)
    loop_event = asyncio.Event()
    return loop_event.wait, lambda: _ignore_handle(
        loop.call_soon_threadsafe(loop_event.set)
    )


def _ignore_handle(_: object) -> None:
    """Drop the handle that ``call_soon_threadsafe`` returns."""


class Gate:
    """Async functions wait here until any thread opens it, on asyncio and on trio."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False
        self._wakers: list[Callable[[], None]] = []

    async def wait(self) -> None:
        """Return once the gate is open."""
        wait, wake = _runtime_event()
        with self._lock:
            if self._open:
                return
            self._wakers.append(wake)
        await wait()

    def open(self) -> None:
        """Open the gate for good; on a runtime that is gone no function waits."""
        with self._lock:
            self._open = True
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            with contextlib.suppress(RuntimeError):
                wake()


async def cancelled_by(gate: Gate, function: Callable[[], Awaitable[None]]) -> None:
    """Run ``function`` and cancel it if ``gate`` opens first."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        await _cancelled_by_on_trio(gate, function)
        return
    main = asyncio.ensure_future(function())
    waiter = asyncio.ensure_future(gate.wait())
    await asyncio.wait({main, waiter}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    main.cancel()
    await asyncio.wait({main, waiter})
    if not main.cancelled():
        main.result()


async def _cancelled_by_on_trio(
    gate: Gate, function: Callable[[], Awaitable[None]]
) -> None:
    import trio

    async def cancel_later() -> None:
        await gate.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_later)
        await function()
        nursery.cancel_scope.cancel()


class Reports:
    """What handlers tell the test, in order; thread-safe."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, item: object) -> None:
        """Called by a handler."""
        self._queue.put(item)

    def get(self, timeout: float = TIMEOUT) -> Any:
        """Return the next report.

        Raises:
            TimeoutError: there is none in time.
        """
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            msg = f"no handler reported within {timeout} s"
            raise TimeoutError(msg) from None

    @property
    def empty(self) -> bool:
        return self._queue.empty()


class ErrorLog(logging.Handler):
    """Collects the ERROR records of the server and of its event loop."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records = Reports()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] in {"tako", "asyncio", "trio"}:
            self.records.put(record)


_services: ContextVar[list[Service]] = ContextVar("services")


def watched(run: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return ``Service.run``, noting for the server of this thread what is run."""

    async def noted(service: Service, *args: Any) -> None:
        _services.get([]).append(service)
        await run(service, *args)

    return noted


def open_sockets() -> set[str]:
    """Return the sockets that this process has open, by inode."""
    return {*leaks.open_sockets()}


def narrow(listener: tako.Listener, send_buffer: int | None) -> None:
    """Let the kernel take few bytes of output for what ``listener`` accepts."""
    if send_buffer is not None:
        for sock in listener.sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)


def serving(
    wire: Wire,
    listener: ListenerLike,
    router: Dispatcher,
    tls: tuple[str | Path, str | Path],
    **options: Any,
) -> Serving:
    """Return what serves ``wire``, with the certificate ``tls`` if it needs one."""
    if wire in ALPN:
        return tako.serve_tls(listener, router, *tls, **options)
    protocol: Literal["h2", "http/1.1"] = "h2" if wire == "h2c" else "http/1.1"
    return tako.serve(listener, router, protocol=protocol, **options)


class RunningServer:
    """A server for ``router`` on a free port of 127.0.0.1."""

    def __init__(
        self,
        router: tako.Router,
        *,
        wire: Wire,
        runtime: RuntimeName,
        credentials: Credentials,
        config: tako.ServerConfig | None = None,
        send_buffer: int | None = None,
    ) -> None:
        """Make a server; ``send_buffer``: bytes that the kernel takes for a peer."""
        self.router = router
        self.wire = wire
        self.runtime = runtime
        self.address = ("127.0.0.1", 0)
        self.error_log = ErrorLog()
        self._credentials = credentials
        self._config = config or tako.ServerConfig()
        if self._config.drain_timeout == tako.ServerConfig().drain_timeout:
            # a drain is to end by itself
            self._config = replace(self._config, drain_timeout=NEVER)
        self._send_buffer = send_buffer
        self._shutdown = Gate()
        self._handing_over = False
        self._cancel = Gate()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._left_behind: list[str] = []
        self.services: list[Service] = []
        self._sockets_before = open_sockets()
        self.thread = threading.Thread(target=self._run, daemon=True)

    # -- life ------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread and wait until the server listens."""
        logging.getLogger().addHandler(self.error_log)
        self.thread.start()
        assert self._ready.wait(TIMEOUT), "the server did not start"
        if self._failure is not None:
            raise self._failure

    def shut_down(self) -> None:
        """Ask for a graceful shutdown and return at once."""
        self._shutdown.open()

    def hand_over(self) -> None:
        """Ask for a shutdown as before a successor, and return at once."""
        self._handing_over = True
        self._shutdown.open()

    def wait_refusing(self) -> None:
        """Wait until the drain has begun: new connections are refused."""
        deadline = time.monotonic() + TIMEOUT
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                socket.create_connection(self.address, timeout=TIMEOUT).close()
            msg = "the server still accepts connections"
            raise AssertionError(msg)

    def cancel(self) -> None:
        """Cancel ``serve`` and return at once."""
        self._cancel.open()

    def join(self, timeout: float = TIMEOUT) -> float:
        """Wait until ``serve`` has returned; return the seconds that took."""
        started = time.monotonic()
        self.thread.join(timeout)
        if self.thread.is_alive():
            faulthandler.dump_traceback(file=sys.stderr)
            msg = f"the server did not stop within {timeout} s"
            raise AssertionError(msg)
        if self._failure is not None:
            raise self._failure
        return time.monotonic() - started

    def stop(self) -> None:
        """Drain, join, and check that nothing was left behind."""
        if not self.thread.ident:
            return
        try:
            self.shut_down()
            self.join()
        finally:
            logging.getLogger().removeHandler(self.error_log)
        assert not self._left_behind, f"tasks left behind: {self._left_behind}"
        assert not self.connections, f"connections left behind: {self.connections}"
        self._check_errors()
        leaked = open_sockets() - self._sockets_before
        assert not leaked, f"sockets left open: {leaked}"

    def wait_error(self, timeout: float = TIMEOUT) -> logging.LogRecord:
        """Wait for an ERROR record; it then counts as expected."""
        record = self.error_log.records.get(timeout)
        assert isinstance(record, logging.LogRecord)
        return record

    @property
    def connections(self) -> list[object]:
        """What the services of this server hold."""
        return [each for service in self.services for each in service._connections]

    # -- clients ---------------------------------------------------------------

    def connect(
        self,
        wire: Wire | None = None,
        *,
        receive_buffer: int | None = None,
        stream_window: int = STREAM_WINDOW,
    ) -> PeerConnection:
        """Connect a client over this server's wire, or over another that it speaks."""
        return connect(
            self.address,
            wire or self.wire,
            self._credentials.client,
            receive_buffer=receive_buffer,
            stream_window=stream_window,
        )

    def connect_h1(self) -> H1Connection:
        """``connect`` for a test that is about HTTP/1.1."""
        connection = self.connect()
        assert isinstance(connection, H1Connection)
        return connection

    def connect_h2(self, *, stream_window: int = STREAM_WINDOW) -> H2Connection:
        """``connect`` for a test that is about HTTP/2."""
        connection = self.connect(stream_window=stream_window)
        assert isinstance(connection, H2Connection)
        return connection

    # -- the server's thread ---------------------------------------------------

    def _run(self) -> None:
        _services.set(self.services)
        trio = self.runtime == "trio"
        loop: Literal["asyncio", "uvloop"] = (
            "uvloop" if self.runtime == "uvloop" else "asyncio"
        )
        try:
            if trio:
                tako.run(self._main, runtime="trio")
            else:
                tako.run(self._main, runtime="asyncio", loop=loop)
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        here = runtimes.current()
        before = here.tasks().keys()
        await cancelled_by(self._cancel, self._serve)
        self._left_behind = [repr(task) for task in here.tasks().keys() - before]

    async def _serve(self) -> None:
        listener = await tako.bind("127.0.0.1:0")
        narrow(listener, self._send_buffer)
        host, _, port = str(listener.local_addr).rpartition(":")
        self.address = (host, int(port))
        self._ready.set()
        await serving(
            self.wire,
            listener,
            self.router,
            (self._credentials.cert, self._credentials.key),
            shutdown=self._until_shutdown,
            config=self._config,
        )

    async def _until_shutdown(self) -> None:
        await self._shutdown.wait()
        if self._handing_over:
            self.services[-1].hand_over()

    def _check_errors(self) -> None:
        if self.error_log.records.empty:
            return
        record = self.error_log.records.get()
        text = logging.Formatter().format(record)
        msg = f"the server logged an error that the test did not expect:\n{text}"
        raise AssertionError(msg)
