"""``Talk``: a WebSocket between stdin and stdout.

Theory of operation. Three tasks. The main one reads the WebSocket and writes to stdout;
one for each WebSocket reads lines and sends them; one waits for Ctrl-C. Each waits for
what it passes on to: a pipe that is not read stops the WebSocket, a server that does
not read stops stdin. Closing begins with a Close frame, behind what was sent, and the
main task goes on until the server's: what still comes is shown.
"""

import base64
import json
import re
from typing import TYPE_CHECKING

from tako.cli.aside import Lines, Output
from tako.cli.console import RunError, say
from tako.client import Connect
from tako.core.log_lines import one_line
from tako.errors import ConnectionClosed, WsError
from tako.runtime import ClientRuntime, current, monotonic
from tako.ws import AnyMessage, Message, WebSocket


if TYPE_CHECKING:
    from tako.core.loop import Task

CLOSE_TIMEOUT = 2.0
"""Seconds that a server has to answer our Close."""

_MAX_LINE = 16 << 20  # bytes
_BINARY_SHOWN = 64  # bytes of a binary message at a terminal
_PING = b"tako"
_WELL = frozenset({1000, 1001, 1005})  # codes of an end that is none of an error
_COMMAND = re.compile(r"/(ping|close)(?:\s+(\d+)(?:\s+(.*))?)?\s*")
_HELP = "each line is a message; /ping, /close [CODE [REASON]]; //x sends /x"


class Talk:
    """One run of ``tako connect``."""

    def __init__(
        self,
        connect: Connect,
        *,
        reconnect: bool,
        wait: float | None,
        typed: bool,
        shown: bool,
    ) -> None:
        """Begin with nothing.

        Args:
            connect: what opens WebSockets.
            reconnect: open another one when the server ends one.
            wait: seconds from the end of stdin to our Close; ``None``: never.
            typed: stdin is a terminal.
            shown: stdout is a terminal.
        """
        self._connect = connect
        self._reconnect = reconnect
        self._wait = wait
        self._typed = typed
        self._shown = shown
        self._ws: WebSocket | None = None
        self._interrupted = False
        self._closing = False  # it is us who end it
        self._stdin_ended = False
        self._failure: str | None = None
        self._asked_at = 0.0
        self._code = 1

    async def run(self) -> int:
        """Talk to the end; return the exit status.

        Raises:
            ConnectError: there is no WebSocket.
            RunError: stdin or stdout cannot be used.
        """
        backend = current()
        self._lines, self._output = Lines(0, _MAX_LINE), Output(1)
        runtime = await backend.borrow()
        try:
            with backend.interrupts() as interrupted:
                self._until_interrupted = interrupted
                async with backend.beside(self._watch) as cancel:
                    self._cancel = cancel
                    await self._talk(runtime)
        finally:
            runtime.give_back()
        if self._interrupted:
            return 130  # 128 and SIGINT, as shells have it
        if self._failure is not None:
            raise RunError(self._failure)
        return self._code

    async def _talk(self, runtime: ClientRuntime) -> None:
        if not self._reconnect:
            async with self._connect as ws:
                await self._session(ws, runtime)
            return
        async for ws in self._connect:
            await self._session(ws, runtime)
            if self._closing:
                await ws.close()
                return

    async def _session(self, ws: WebSocket, runtime: ClientRuntime) -> None:
        """Use one WebSocket until it is closed."""
        say(opened(ws))
        if self._typed:
            say(_HELP)
        self._ws = ws
        sender: Task = runtime.spawn(self._send, ws)
        try:
            async for message in ws:
                await self._take(ws, message)
        except OSError as error:  # of stdout; whoever ends a pipe has seen enough
            if not isinstance(error, BrokenPipeError):
                self._failure = f"stdout: {error.strerror or error}"
            self._closing = True
            await ws.close(1001)
            self._code = 1
            return
        finally:
            self._ws = None
            sender.cancel()
        say(ended(ws, by_us=self._closing))
        self._code = 0 if ws.error is None and ws.close_code in _WELL else 1

    async def _take(self, ws: WebSocket, message: AnyMessage) -> None:
        if isinstance(message, str | bytes):
            await self._output.write(written(message, terminal=self._shown))
        elif isinstance(message, Message.Pong) and message.data == _PING:
            say(f"latency: {(monotonic() - self._asked_at) * 1000:.2f} ms")

    # What is sent ------------------------------------------------------------------

    async def _send(self, ws: WebSocket) -> None:
        """Send lines until they end, then close; never raises."""
        try:
            await self._ping(ws)
            while not self._stdin_ended:
                line = await self._lines.next()
                if line is None:
                    self._stdin_ended = True
                elif not await self._send_line(ws, line.decode()):
                    return
            await self._stay(ws)
        except WsError:
            pass  # the main task says how it ended
        except UnicodeDecodeError:
            self._failure = "stdin is not UTF-8"
            await self._close(ws)
        except (OSError, ValueError) as error:
            self._failure = f"stdin: {error}"
            await self._close(ws)

    async def _send_line(self, ws: WebSocket, line: str) -> bool:
        """Send a line, or do what it says; tell whether to go on."""
        if not self._typed:
            await ws.send(line)
        elif line.startswith("/") and not line.startswith("//"):
            return await self._obey(ws, line)
        elif line:
            await ws.send(line.removeprefix("/"))
        return True

    async def _obey(self, ws: WebSocket, line: str) -> bool:
        command = _COMMAND.fullmatch(line)
        if command is None or (command[1] == "ping" and command[2] is not None):
            say(f"no such command; {_HELP}")
        elif command[1] == "ping":
            await self._ping(ws)
        else:
            try:
                await self._close(ws, int(command[2] or 1000), command[3] or "")
            except ValueError as error:
                say(str(error))
            else:
                return False
        return True

    async def _ping(self, ws: WebSocket) -> None:
        # our own clock: that of uvloop, which ``latency`` has, counts milliseconds
        self._asked_at = monotonic()
        await ws.ping(_PING)

    async def _stay(self, ws: WebSocket) -> None:
        """Close, as long after the end of stdin as was asked for."""
        if self._wait is None:
            return
        await current().sleep(self._wait)
        await self._close(ws)

    async def _close(self, ws: WebSocket, code: int = 1000, reason: str = "") -> None:
        """Send a Close; the main task takes what still comes.

        Raises:
            ValueError: no Close can have this code or reason.
        """
        close = Message.Close(code, reason)
        self._closing = True
        await ws.send(close)

    async def _watch(self) -> None:
        """Close at Ctrl-C, and give up soon after; never raises."""
        await self._until_interrupted()
        self._interrupted = True
        ws = self._ws
        if ws is not None:
            await self._close(ws, 1001)
            await current().sleep(CLOSE_TIMEOUT)
        self._cancel()


def written(message: str | bytes, *, terminal: bool) -> bytes:
    """Return a message as it is written to stdout.

    In a pipe text is as it is, and a binary message ``data:;base64,`` and its bytes in
    base64 (RFC 2397), each with a line break behind it. At a terminal JSON is indented,
    and nothing controls the terminal.
    """
    if not terminal:
        if isinstance(message, str):
            return message.encode() + b"\n"
        return b"data:;base64," + base64.b64encode(message) + b"\n"
    if isinstance(message, bytes):
        more = "..." if len(message) > _BINARY_SHOWN else ""
        text = f"({len(message)} bytes) {message[:_BINARY_SHOWN].hex(' ')}{more}"
    else:
        lines = _indented(message).split("\n")
        text = "\n  ".join(escaped(line) for line in lines)
    return f"< {text}\n".encode("utf-8", "backslashreplace")


def _indented(text: str) -> str:
    """Return JSON over several lines, and anything else as it is."""
    if text.lstrip()[:1] in {"{", "["}:
        try:
            return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            pass
    return text


def escaped(text: str) -> str:
    """Return a line in which nothing controls a terminal; tabs are left."""
    return "\t".join(
        part
        if part.isprintable()
        else "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in part
        )
        for part in text.split("\t")
    )


def opened(ws: WebSocket) -> str:
    """Return what to say of a WebSocket that has opened."""
    request = ws.request
    scheme = "wss" if request.scheme == "https" else "ws"
    wire = {"2": "HTTP/2", "1.1": "HTTP/1.1"}[ws.http_version]
    info = request.conn_info
    tls = "" if info is None or info.tls is None else f", {info.tls.version}"
    chosen = "" if ws.subprotocol is None else f", subprotocol {ws.subprotocol}"
    path = one_line(request.path)
    return f"connected to {scheme}://{request.authority}{path} over {wire}{tls}{chosen}"


def ended(ws: WebSocket, *, by_us: bool) -> str:
    """Return what to say of a WebSocket that has ended."""
    error, code = ws.error, ws.close_code
    if error is not None and not isinstance(error, ConnectionClosed):
        return one_line(f"failed: {error} ({error.close_code})")
    if code == 1006:  # RFC 6455 §7.1.5
        return one_line(f"the connection was lost (1006) {ws.close_reason}".rstrip())
    who = "closed" if by_us else "closed by the server"
    return one_line(f"{who}: {code} {ws.close_reason}".rstrip())
