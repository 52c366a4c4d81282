"""Other people's servers, and tako's command, as subprocesses for tests.

``python -m tests.support.hosts`` is not a program: the servers import the apps below by
their dotted names.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tako
from tako import Request, Response, Router, Sse, TakoWs, WebSocket
from tako.asgi import from_router
from tako.testing.peer import PeerConnection, Wire, connect
from tako.testing.peer.io import Address, Socket
from tests.support.apps import echo_session, read_session, reference_session
from tests.support.children import last_words
from tests.support.patience import TIMEOUT
from tests.support.server import Credentials


ROOT = Path(__file__).parents[2]


class Host:
    """A server process; a context manager that waits until it listens."""

    def __init__(
        self,
        command: list[str],
        address: Address,
        credentials: Credentials,
        *,
        folder: Path = ROOT,
        env: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.address = address
        self._pass_fds = pass_fds
        self._command = command
        self._credentials = credentials
        self._folder = folder
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the exit
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._env,
            stdout=self._log,
            stderr=self._log,
            pass_fds=self._pass_fds,
            start_new_session=True,  # hypercorn has children that outlive it
        )
        end = time.monotonic() + TIMEOUT
        try:
            while not self.listens():
                assert self.process.poll() is None, self.output()
                assert time.monotonic() < end, self.output()
                time.sleep(0.05)  # there is nothing to wait on in another's process
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self.process
        if process is not None and process.poll() is None:
            if value is not None:
                value.add_note(last_words([process.pid]))
            os.killpg(process.pid, signal.SIGKILL)
        if process is not None:
            process.wait(TIMEOUT)
        self._log.close()

    def listens(self) -> bool:
        """Tell whether something accepts connections."""
        try:
            Socket(self.address).close()
        except OSError:
            return False
        return True

    def output(self) -> str:
        """Return what the process has printed."""
        number = self._log.fileno()
        # ``seek`` would move where the process, which shares the file, writes next
        return os.pread(number, os.fstat(number).st_size, 0).decode()

    def wait_output(self, text: str, times: int = 1) -> str:
        """Wait until the process has printed ``text``."""
        end = time.monotonic() + TIMEOUT
        while (printed := self.output()).count(text) < times:
            assert time.monotonic() < end, printed
            time.sleep(0.02)
        return printed

    def connect(self, wire: Wire) -> PeerConnection:
        """Connect a client."""
        return connect(self.address, wire, self._credentials.client)

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self.process is not None
        return self.process.pid


def host_command(name: str, app: str, port: int, credentials: Credentials) -> list[str]:
    """Return the command that serves ``app`` on ``port``: over TLS, uvicorn without.

    uvicorn answers no ALPN, which the test client insists on.
    """
    cert, key = str(credentials.cert), str(credentials.key)
    python = sys.executable
    if name == "tako":
        files = ["--cert", cert, "--key", key, "--bind", f"127.0.0.1:{port}"]
        return [python, "-m", "tako.cli", "serve", app, *files]
    if name == "hypercorn":
        files = ["--certfile", cert, "--keyfile", key, "--bind", f"127.0.0.1:{port}"]
        return [python, "-m", "hypercorn", *files, app]
    if name == "h2corn":
        files = ["--certfile", cert, "--keyfile", key, "--bind", f"127.0.0.1:{port}"]
        return [python, "-m", "h2corn", "--no-access-log", *files, app]
    if name == "granian":
        files = ["--ssl-certificate", cert, "--ssl-keyfile", key, "--port", str(port)]
        options = ["--interface", "asgi", "--workers", "1", "--log-level", "error"]
        return [python, "-m", "granian", *options, *files, app]
    options = ["--port", str(port), "--log-level", "warning"]
    return [python, "-m", "uvicorn", *options, app]


# -- A router for every server -----------------------------------------------------


def example_router() -> Router:  # noqa: C901 - a list of handlers
    """Handlers and sessions as the documentation has them, on one router."""
    router = Router()

    async def body(request: Request) -> str:
        return f"{len(await request.body())} bytes over {request.http_version}"

    async def stream() -> Any:
        async def chunks() -> Any:
            for number in range(5):
                yield f"{number},".encode()

        return Response(200, {"x-kind": "stream"}, chunks())

    async def events() -> Sse:
        async def source() -> Any:
            yield "one"
            yield "two"

        return Sse(source())

    async def who(request: Request) -> dict[str, Any]:
        info = request.conn_info
        assert info is not None
        return {
            "peer": str(info.peer).partition(":")[0],
            "query": request.query_params.get("q"),
            "scheme": request.scheme,
            "host": (request.host or "").partition(":")[0],
        }

    async def slow(request: Request) -> str:
        await tako.sleep(30)
        return "too late"

    def ws(session: Any, **options: Any) -> Any:
        async def handler(request: Request) -> TakoWs:
            return TakoWs(request, session, **options)

        return handler

    async def two_directions(ws: WebSocket) -> None:
        async with ws:
            first = await ws.read(timeout=10)
            await ws.send(f"{ws.subprotocol} {first!r} {ws.http_version}")
            try:
                await ws.read(timeout=0.05)
            except TimeoutError:
                await ws.send("timeout")

    async def failing(ws: WebSocket) -> None:
        msg = "in the session"
        raise ValueError(msg)

    async def told(ws: WebSocket) -> None:
        async for message in ws:
            assert isinstance(message, (str, bytes, tako.Message.Close))
        CLOSED.append((ws.close_code, ws.close_reason))

    async def closed() -> list[Any]:
        return CLOSED

    async def lasting(ws: WebSocket) -> None:
        await tako.sleep(30)

    router.get("/", lambda: "Hello, World!")
    router.post("/body", body)
    router.get("/stream", stream)
    router.get("/events", events)
    router.get("/who", who)
    router.get("/users/{id}", lambda id: {"id": id})  # noqa: A006
    router.get("/slow", slow).timeout(0.1)
    router.get("/echo", ws(echo_session))
    router.get("/reference", ws(reference_session))
    router.get("/read", ws(read_session))
    router.get("/two", ws(two_directions, protocols=["b", "a"]))
    router.get("/failing", ws(failing))
    router.get("/small", ws(echo_session, max_message_size=100))
    router.get("/own", ws(echo_session, allowed_origins=["https://a.test"]))
    router.get("/told", ws(told))
    router.get("/closed", closed)
    router.get("/lasting", ws(lasting, max_lifetime=0.1))
    return router


CLOSED: list[Any] = []
hosted_app = from_router(example_router())
own_router = example_router()


# -- An app that shows what servers make of ASGI -------------------------------------

SEEN: dict[str, Any] = {}


async def table_app(scope: Any, receive: Any, send: Any) -> None:
    """Do what the path says; ``/seen`` returns what was noted."""
    if scope["type"] == "lifespan":
        while (event := await receive())["type"] != "lifespan.shutdown":
            await send({"type": event["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        status = {"type": "http.response.start", "status": 200}
        await send(status)
        body = repr(SEEN.pop(scope["query_string"].decode(), None)).encode()
        await send({"type": "http.response.body", "body": body})
    else:
        await receive()
        await TABLE[scope["path"]](scope, receive, send)


async def _accept(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"x-accepted", b"yes")]
    await send({"type": "websocket.accept", "subprotocol": "b", "headers": headers})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    SEEN["disconnect"] = (event.get("code"), event.get("reason"))


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.close", "code": 4003})
    SEEN["after-refusal"] = (await receive())["type"]


async def _deny(scope: Any, receive: Any, send: Any) -> None:
    start = {"type": "websocket.http.response.start", "status": 401, "headers": []}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": b"denied"})


async def _close(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
    try:
        await send({"type": "websocket.send", "text": "late"})
    except Exception as error:
        SEEN["send-after-close"] = isinstance(error, OSError)
    else:
        SEEN["send-after-close"] = "silence"


async def _early(scope: Any, receive: Any, send: Any) -> None:
    msg = "before the handshake"
    raise ValueError(msg)


async def _late(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    msg = "in the conversation"
    raise ValueError(msg)


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    return


async def _return(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})


async def _stranger(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept", "subprotocol": "not-offered"})


async def _gone(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    SEEN["gone"] = (await receive()).get("code")
    try:
        await send({"type": "websocket.send", "text": "late"})
    except Exception as error:
        SEEN["send-after-gone"] = isinstance(error, OSError)
    else:
        SEEN["send-after-gone"] = "silence"


async def _scope(scope: Any, receive: Any, send: Any) -> None:
    SEEN["scope"] = (
        scope["http_version"],
        scope["scheme"],
        scope["asgi"]["spec_version"],
        sorted(scope.get("extensions") or {}),
    )
    await send({"type": "websocket.close"})


TABLE = {
    "/accept": _accept,
    "/refuse": _refuse,
    "/deny": _deny,
    "/close": _close,
    "/early": _early,
    "/late": _late,
    "/nothing": _nothing,
    "/return": _return,
    "/stranger": _stranger,
    "/gone": _gone,
    "/scope": _scope,
}
