"""``serve``: a server in a thread of its own for the length of a block.

Theory of operation. Entering starts the thread, which binds a free port of 127.0.0.1,
serves, and lets the block begin. Leaving closes the clients that the kit made, has the
server drain, waits until its loop has ended, and then looks at what is left: errors
that the server reported, handlers that the drain had to cut off, tasks of its loop,
sockets of the process. If something is, the test fails; if it has failed already, its
exception gets that as a note.

The thread and its loop are the server's alone, so it makes no difference whether the
test runs on asyncio, on trio, in a notebook or on no loop at all.
"""

import contextlib
import ssl
import sys
import threading
import time
import traceback
import warnings
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias

from tako import runtime as runtimes
from tako.asgi.apps.app import AsgiApp
from tako.asgi.protocol import App
from tako.client.connect import connect as connect_to
from tako.config import ServerConfig
from tako.routing.router import Router
from tako.runtime.backend import backend
from tako.server.serve import Server, serve as serve_in_loop
from tako.server.service import ServerStatistics
from tako.testing.clock import ServerClock
from tako.testing.errors import ErrorLog, ErrorT, in_full
from tako.testing.leaks import UNNAMED, ends_of, open_sockets, told
from tako.testing.patience import Deadline, default_timeout
from tako.testing.peer import ALPN, PeerConnection, Wire, connect, url_of
from tako.testing.peer.h2 import STREAM_WINDOW
from tako.testing.peer.io import HeaderList
from tako.testing.peer.websocket import PeerWebSocket
from tako.testing.tcp_proxy import TcpProxy
from tako.testing.websocket import ClientWebSocket


if TYPE_CHECKING:
    import httpx
    import trustme

    from tako.core.loop import Signal


RuntimeName: TypeAlias = Literal["asyncio", "uvloop", "trio"]

_WIRES: dict[Wire, Literal["http/1.1", "h2", "tls"]] = {
    "h1": "http/1.1",
    "h1s": "tls",
    "h2": "tls",
    "h2c": "h2",
}
_GRACE = 1.0  # seconds for a socket or a task that is just being closed
_PAUSE = 0.01  # seconds between two looks

_living: set[str] = set()  # the addresses of all servers that run


def serve(
    app: Router | AsgiApp | App,
    *,
    wire: Wire = "h2",
    runtime: RuntimeName = "asyncio",
    config: ServerConfig | None = None,
    ca: "trustme.CA | None" = None,
    check_sockets: bool = True,
) -> "RunningServer":
    """Serve ``app`` on a real port for the length of a block, sync or async.

    The port is bound, and the lifespan of the app has started, when the block begins.
    Leaving it closes the clients that the server made for the test and drains. Then the
    test fails if the server reported an error that was not expected
    (``expect_error``), if a handler had to be cut off, or if a task or a socket was
    left behind. A test that has failed already gets all that as a note.

    Args:
        app: a ``Router``, or any ASGI 3 app, which ``AsgiApp`` then serves.
        wire: what the clients of the test speak: ``"h1"`` and ``"h1s"`` are HTTP/1.1
            without and with TLS, ``"h2c"`` and ``"h2"`` HTTP/2. A server with TLS
            serves both versions.
        runtime: the event loop of the server: ``"asyncio"``, ``"uvloop"`` or
            ``"trio"``. The test may run on any other, or on none.
        config: timeouts and limits. A drain may take ``drain_timeout``, or
            ``TAKO_TEST_TIMEOUT`` (10 s) if that is less.
        ca: the authority that signs the server's certificate; without one all servers
            of the process share one that is made for the purpose.
        check_sockets: fail for sockets that were opened during the block and are open
            after it, also those of the test itself (Linux). Turn it off where a test
            opens what others go on using, such as a pool of database connections.

    Raises:
        TypeError: ``app`` is no app.
        ValueError: there is no such wire or runtime.

    Raises, when the block is entered:
        RuntimeError: the runtime is not installed.
        Exception: the app's lifespan failed to start.

    Raises, when it is left:
        AssertionError: see above.

    Cancel safety: a block that is cancelled waits until the server has ended.

    Example::

        with tako.testing.serve(router, wire="h2") as server:
            with server.connect("/ws") as ws:
                ws.send("hello")
                ws.expect("hello")
    """
    return RunningServer(
        app,
        wire=wire,
        runtime=runtime,
        config=config,
        ca=ca,
        check_sockets=check_sockets,
    )


@cache
def shared_ca() -> "trustme.CA":
    """Return the authority of all servers that have not been given another."""
    import trustme  # it takes long to import, and plain wires need none

    return trustme.CA()


class Serve(Protocol):
    """What the pytest fixture ``tako_serve`` is: ``serve`` that has begun.

    Wire, runtime and authority are those of the test, unless it names others; the
    server is left when the test ends.
    """

    def __call__(
        self,
        app: Router | AsgiApp | App,
        *,
        wire: Wire | None = None,
        runtime: RuntimeName | None = None,
        config: ServerConfig | None = None,
        ca: "trustme.CA | None" = None,
        check_sockets: bool = True,
    ) -> "RunningServer":
        """Serve ``app``; see ``serve``."""
        ...


class RunningServer:
    """A server for tests, made by ``serve``; serves for the length of its block.

    Attributes:
        wire: what its clients speak.
        runtime: its event loop.
        clock: the time of that loop, which a test can move.
    """

    def __init__(
        self,
        app: Router | AsgiApp | App,
        *,
        wire: Wire,
        runtime: RuntimeName,
        config: ServerConfig | None,
        ca: "trustme.CA | None",
        check_sockets: bool,
    ) -> None:
        """Not for tests: use ``serve``.

        Raises:
            TypeError: ``app`` is no app.
            ValueError: there is no such wire or runtime.
        """
        if wire not in _WIRES:
            msg = f"wire is one of {', '.join(map(repr, _WIRES))}, not {wire!r}"
            raise ValueError(msg)
        if runtime not in {"asyncio", "uvloop", "trio"}:
            msg = f'runtime is "asyncio", "uvloop" or "trio", not {runtime!r}'
            raise ValueError(msg)
        self.wire: Wire = wire
        self.runtime: RuntimeName = runtime
        self.clock: ServerClock = ServerClock()
        self._ca = ca
        self._app = app if isinstance(app, (Router, AsgiApp)) else AsgiApp(app)
        config = config or ServerConfig()
        self._drain_timeout = min(config.drain_timeout, default_timeout())
        # the kit looks at what is left before the server cuts it off
        self._config = replace(config, drain_timeout=2 * self._drain_timeout + 1)
        self._check_sockets = check_sockets
        self._errors = ErrorLog()
        self._clients = contextlib.ExitStack()
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._server: Server | None = None
        self._call: Callable[[Callable[[], object]], object] | None = None
        self._wake: Signal
        self._failure: BaseException | None = None
        self._stopping = False
        self._sockets_before: dict[str, int] = {}
        self._left: list[str] = []

    # -- where it is -----------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host and port."""
        host, _, port = str(self._handle.addresses[0]).rpartition(":")
        return host, int(port)

    @property
    def url(self) -> str:
        """Its URL, without a slash at the end: ``https://127.0.0.1:49152``."""
        return url_of("http", self.wire, self.address)

    @property
    def ws_url(self) -> str:
        """The same for a WebSocket: ``wss://127.0.0.1:49152``."""
        return url_of("ws", self.wire, self.address)

    @property
    def ssl(self) -> ssl.SSLContext | None:
        """A new context of a client that trusts the server; ``None`` without TLS.

        It is new each time, because clients change what they are given.
        """
        if self.wire not in ALPN:
            return None
        context = ssl.create_default_context()
        context.load_verify_locations(cadata=self.ca_pem.decode())
        return context

    @property
    def ca(self) -> "trustme.CA":
        """The authority that signs its certificate."""
        return shared_ca() if self._ca is None else self._ca

    @property
    def ca_pem(self) -> bytes:
        """The certificate of the authority, for clients that want it as PEM."""
        return self.ca.cert_pem.bytes()

    @property
    def statistics(self) -> ServerStatistics:
        """What the server is doing at the moment, in numbers."""
        return self._handle.statistics

    @property
    def _handle(self) -> Server:
        """The server in its thread.

        Raises:
            RuntimeError: the block has not begun.
        """
        if self._server is None:
            msg = "the server runs inside of `with tako.testing.serve(...) as server:`"
            raise RuntimeError(msg)
        return self._server

    # -- clients ---------------------------------------------------------------

    def connect(
        self,
        path: str,
        *,
        subprotocols: Sequence[str] = (),
        headers: HeaderList = (),
        wire: Wire | None = None,
        receive_buffer: int | None = None,
        stream_window: int = STREAM_WINDOW,
        through: TcpProxy | None = None,
    ) -> PeerWebSocket:
        """Open a WebSocket over the wire of the server, on a connection of its own.

        It is blocking: ``async_connect`` is for tests with tasks of their own. The end
        of the server's block closes it.

        Args:
            path: with the query.
            subprotocols: what the client offers.
            headers: more headers.
            wire: ``"h1s"`` or ``"h2"`` on a server with TLS, which speaks both.
            receive_buffer: bytes that the client's kernel holds unread.
            stream_window: HTTP/2: bytes that a stream may hold unread.
            through: what ``proxy`` returned.

        Raises:
            HandshakeRefusedError: the answer was not 101 (HTTP/2: 200); it has the
                response.
            TimeoutError: there was none.

        Example::

            with server.connect("/chat", subprotocols=["v1"]) as ws:
                ws.send("hello")
                ws.expect("hello")
        """
        connection = self.connection(
            wire=wire,
            receive_buffer=receive_buffer,
            stream_window=stream_window,
            through=through,
        )
        try:
            ws = connection.websocket(path, subprotocols=subprotocols, headers=headers)
        except BaseException:
            connection.close()
            raise
        ws.owns_connection = True
        return ws

    @contextlib.asynccontextmanager
    async def async_connect(
        self, path: str, *, through: TcpProxy | None = None, **options: Any
    ) -> AsyncGenerator[ClientWebSocket, None]:
        """Open a WebSocket over the wire of the server for an async block.

        It is ``tako.connect``, on the loop of the test: asyncio or trio, under whatever
        runs it. What it gives is a ``tako.WebSocket``, with ``expect`` and
        ``expect_close``. Faults, and frames as they are on the wire, are for
        ``connect``.

        Args:
            path: with the query.
            through: what ``proxy`` returned.
            options: of ``tako.connect``: ``subprotocols``, ``additional_headers``.

        Raises:
            ConnectError: it cannot be opened; ``HandshakeRejected`` has the response.

        Cancel safety: nothing stays open.

        Example::

            async with server.async_connect("/chat", subprotocols=["v1"]) as ws:
                await ws.send("hello")
                await ws.expect("hello")
        """
        given: dict[str, Any] = {
            "http_versions": ("2",) if self.wire in {"h2", "h2c"} else ("1.1",),
            "open_timeout": default_timeout(),
            "proxy": None,  # none stands between the test and its server
            "ssl": self.ssl,
        }
        url = (self if through is None else through).ws_url
        async with connect_to(f"{url}{path}", **{**given, **options}) as ws:
            yield ClientWebSocket.of(ws)

    def proxy(self) -> TcpProxy:
        """Start a proxy in front of the server, which can drop connections.

        It passes on bytes, so it is one for all wires. The end of the server's block
        ends it.

        Example::

            proxy = server.proxy()
            with server.connect("/ws", through=proxy) as ws:
                ws.echo("hello")
                proxy.drop()  # a TCP RST, to the server and to the client
        """
        proxy = TcpProxy(self.wire, self.address)
        self._clients.callback(proxy.close)
        return proxy

    def connection(
        self,
        *,
        wire: Wire | None = None,
        receive_buffer: int | None = None,
        stream_window: int = STREAM_WINDOW,
        through: TcpProxy | None = None,
    ) -> PeerConnection:
        """Open a connection, for what ``connect`` and ``client`` cannot say.

        That is several WebSockets on one HTTP/2 connection, frames as they are on the
        wire, malformed requests. It is blocking; the end of the server's block closes
        it.

        Args:
            wire: as for ``connect``.
            receive_buffer: as for ``connect``.
            stream_window: as for ``connect``.
            through: as for ``connect``.

        Raises:
            OSError: the server cannot be reached.
        """
        connection = connect(
            self.address if through is None else through.address,
            wire or self.wire,
            self.ssl,
            receive_buffer=receive_buffer,
            stream_window=stream_window,
        )
        self._clients.callback(connection.close)
        return connection

    def client(self, **options: Any) -> "httpx.Client":
        """Return an ``httpx.Client`` that trusts the server and speaks its wire.

        Its ``base_url`` is the server. The end of the server's block closes it.

        Args:
            options: of ``httpx.Client``, ``headers`` for example.
        """
        import httpx

        return self._clients.enter_context(
            httpx.Client(**{**self._httpx_options(), **options})
        )

    def async_client(self, **options: Any) -> "httpx.AsyncClient":
        """Return an ``httpx.AsyncClient``, as ``client``; the test closes it.

        Example::

            async with server.async_client() as client:
                response = await client.get("/")
        """
        import httpx

        return httpx.AsyncClient(**{**self._httpx_options(), **options})

    def _httpx_options(self) -> dict[str, Any]:
        second = self.wire in {"h2", "h2c"}
        return {
            "base_url": self.url,
            "http1": not second,
            "http2": second,
            "timeout": default_timeout(),
            "trust_env": False,  # no proxy stands between the test and its server
            "verify": self.ssl or False,
        }

    # -- errors ----------------------------------------------------------------

    @property
    def errors(self) -> list[BaseException]:
        """The errors so far that were not expected: each would fail the test."""
        return [error for error, _ in self._errors.unexpected]

    def expect_error(
        self,
        kind: type[ErrorT],
        match: str | None = None,
        *,
        timeout: float | None = None,
    ) -> ErrorT:
        """Wait for an error of the server; it does not fail the test then.

        That is an exception that a handler, a session or a task raised, which the
        client saw as a 500, a reset or a Close with 1011.

        Args:
            kind: its class, or a base of it.
            match: is part of its text.
            timeout: seconds; ``None``: ``TAKO_TEST_TIMEOUT``, or 10.

        Raises:
            AssertionError: there was none in time.

        Example::

            assert client.get("/broken").status_code == 500
            server.expect_error(ZeroDivisionError)
        """
        return self._errors.take(kind, match, timeout)

    # -- life ------------------------------------------------------------------

    def stop(self) -> None:
        """Begin to drain, and return at once; leaving the block waits for the end."""
        self._stopping = True
        if self._call is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                self._call(self._wake.set)

    def __enter__(self) -> Self:
        self._start()
        self._begun()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clients.close()
        self.stop()
        self._join()
        self._check(error)

    async def __aenter__(self) -> Self:
        self._start()
        try:
            await runtimes.current().to_thread(self._started.wait)
        except BaseException:  # cancelled
            self.stop()
            self._join()
            raise
        self._begun()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clients.close()
        self.stop()
        try:
            await runtimes.current().to_thread(self._join)
        except Exception:
            raise
        except BaseException:  # cancelled
            self._join()
            raise
        self._check(error)

    def _start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: it was started before, or the runtime is not installed.
        """
        if self._thread is not None:
            msg = "this server was entered already: call serve(...) again"
            raise RuntimeError(msg)
        backend("trio" if self.runtime == "trio" else "asyncio")  # is it installed?
        self._sockets_before = open_sockets()
        name = f"tako.testing {self.wire} {self.runtime}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _begun(self) -> None:
        """Wait until the server serves.

        Raises:
            Exception: what kept it from that.
        """
        self._started.wait()
        if self._failure is not None:
            self._join()
            raise self._failure

    def _join(self) -> None:
        """Wait until the thread has ended.

        Raises:
            AssertionError: it does not.
        """
        thread = self._thread
        if thread is None:
            return
        limit = 2 * self._drain_timeout + default_timeout()
        thread.join(limit)
        if thread.is_alive():
            frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
            where = "".join(traceback.format_stack(frames[thread.ident or 0]))
            msg = f"the server did not end within {limit:g} s:\n{where}"
            raise AssertionError(msg)
        if self._server is not None:
            _living.discard(str(self._server.addresses[0]))
        if self._check_sockets:
            self._wait_for_sockets()

    def _wait_for_sockets(self) -> None:
        """Note which sockets stay open that were not open before."""
        deadline = Deadline(_GRACE)
        while leaked := self._leaked_sockets():
            if deadline.remaining <= 0:
                self._left += [f"a socket: {' -> '.join(ends)}" for ends in leaked]
                return
            time.sleep(_PAUSE)

    def _leaked_sockets(self) -> list[list[str]]:
        """Return both ends of each socket that is left."""
        now = open_sockets()
        ends = (ends_of(now[each]) for each in now.keys() - self._sockets_before)
        # those of other servers of the kit are theirs to judge; a pair without names is
        # what event loops wake themselves by
        return sorted(
            each
            for each in ends
            if not set(each) <= {UNNAMED} and _living.isdisjoint(each)
        )

    def _check(self, raised: BaseException | None) -> None:
        """Fail the test for what went wrong in the server.

        Raises:
            AssertionError: something did; the first error of the server is its cause.
        """
        if self._errors.blind:
            msg = "logging is off, so errors of the server are not seen"
            warnings.warn(msg, RuntimeWarning, stacklevel=3)
        errors = self._errors.unexpected
        if self._failure is not None:
            errors.append((self._failure, in_full(self._failure)))
        said = [f"reported an error: {text}" for _, text in errors]
        said += [f"left behind {each}" for each in self._left]
        if not said:
            return
        text = "\n\n".join(f"the server {each}" for each in said)
        if raised is not None:
            raised.add_note(text)
            return
        raise AssertionError(text) from (errors[0][0] if errors else None)

    # -- the server's thread ---------------------------------------------------

    def _run(self) -> None:
        self._errors.open()
        name = "trio" if self.runtime == "trio" else "asyncio"
        loop = "auto" if self.runtime == "trio" else self.runtime
        # uvloop reads a clock of its own
        ahead = None if self.runtime == "uvloop" else lambda: self.clock.ahead
        try:
            backend(name).run(self._main, (), loop, ahead)
        except BaseException as error:
            self._failure = error
        finally:
            self._errors.close()
            self._started.set()

    async def _main(self) -> None:
        here = runtimes.current()
        before = here.tasks().keys()
        await self._serve()
        deadline = Deadline(_GRACE)
        while left := here.tasks().keys() - before:
            if deadline.remaining <= 0:
                coroutines = here.tasks()
                self._left += [
                    f"a task: {told(coroutines[task]) or repr(task)}"
                    for task in left & coroutines.keys()
                ]
                return
            await here.sleep(_PAUSE)

    async def _serve(self) -> None:
        here = runtimes.current()
        tls = None
        if self.wire in ALPN:
            tls = self.ca.issue_cert("localhost", "127.0.0.1", "::1")
        async with serve_in_loop(
            "127.0.0.1:0",
            self._app,
            tls=tls,
            protocol=_WIRES[self.wire],
            config=self._config,
        ) as server:
            self._server = server
            _living.add(str(server.addresses[0]))
            self._wake = here.signal()
            self._call = here.caller()
            if self.runtime != "uvloop":
                self.clock.drive(self._call)
            self._started.set()
            while not self._stopping:
                await self._wake.wait()
            server.stop()
            await here.sleep(self._drain_timeout)  # the server's end ends this block
            self._left += [
                f"a handler that the drain had to cut off, after "
                f"{self._drain_timeout:g} s: {where}"
                for where in map(told, here.tasks().values())
                if where is not None
            ] or [f"after {self._drain_timeout:g} s of drain: {server.statistics}"]
            await server.close()
