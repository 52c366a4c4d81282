"""Side by side: ASGI apps on tako, hypercorn and uvicorn; tako's routers on all three.

``TABLE`` is the comparison: what each server makes of the same app. Where they differ
the row says why tako does what it does.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tako.testing.peer import Wire
from tako.testing.peer.io import EndOfStreamError, PeerError
from tests.support.hosts import Host, host_command
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port
from tests.support.server import Credentials


WIRES: dict[str, tuple[Wire, ...]] = {
    "tako": ("h1s", "h2"),
    "hypercorn": ("h1s", "h2"),
    "uvicorn": ("h1",),  # it speaks HTTP/1.1 only, and no ALPN
}
SILENCE = 5.0  # seconds without an answer that count as none
CELLS = [(host, wire) for host, wires in WIRES.items() for wire in wires]


@pytest.fixture(scope="module", params=CELLS, ids="-".join)
def cell(request: pytest.FixtureRequest) -> tuple[str, Wire]:
    """A server and a wire that it speaks."""
    name, wire = request.param
    if name != "tako":
        pytest.importorskip(name)
    return name, wire


@contextlib.contextmanager
def running(name: str, app: str, credentials: Credentials) -> Iterator[Host]:
    port = free_port()
    command = host_command(name, f"tests.support.hosts:{app}", port, credentials)
    with Host(command, ("127.0.0.1", port), credentials) as host:
        yield host


@pytest.fixture(scope="module")
def table_host(cell: tuple[str, Wire], credentials: Credentials) -> Iterator[Host]:
    with running(cell[0], "table_app", credentials) as host:
        yield host


@pytest.fixture(scope="module")
def router_host(cell: tuple[str, Wire], credentials: Credentials) -> Iterator[Host]:
    with running(cell[0], "hosted_app", credentials) as host:
        yield host


class Client:
    """Plays one row against one server."""

    def __init__(self, name: str, host: Host, wire: Wire) -> None:
        self._name = name
        self._host = host
        self._wire = wire

    def handshake(self, path: str) -> Any:
        """Return the answer's status and body."""
        with self._host.connect(self._wire) as connection:
            answer = connection.handshake(path, subprotocols=["a", "b"])
            return answer.status, answer.body.decode()

    def closing(self, path: str) -> Any:
        """Return the server's close code and reason, or that there was no Close."""
        with self._host.connect(self._wire) as connection:
            ws = connection.websocket(path)
            try:
                return ws.expect_close()
            except EndOfStreamError:
                return "no Close frame"

    def accept(self) -> Any:
        """Return what an acceptance says, and the answer to our Close."""
        with self._host.connect(self._wire) as connection:
            ws = connection.websocket("/accept", subprotocols=["a", "b"])
            ws.echo("text")
            ws.echo(b"bytes")
            ws.echo("")
            ws.close(4000, "bye")
            ws.expect_close()
            return ws.subprotocol, ws.response.header("x-accepted")

    def vanish(self) -> int:
        """Open a WebSocket and leave without a Close; return the status."""
        with self._host.connect(self._wire) as connection:
            status = connection.websocket("/gone").response.status
            connection.abort()
        return status

    def stranger(self) -> Any:
        """Return what happens if the app chooses what was not offered."""
        try:
            with self._host.connect(self._wire) as connection:
                offer = ["a", "b"]
                limit = SILENCE if self._name == "hypercorn" else TIMEOUT
                answer = connection.handshake(
                    "/stranger", subprotocols=offer, timeout=limit
                )
                return answer.status
        except (PeerError, TimeoutError):
            return "connection lost"

    def seen(self, key: str) -> Any:
        """Return what the app has noted under ``key``, once it has."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            with self._host.connect(self._wire) as connection:
                text = connection.request("GET", f"/seen?{key}").body.decode()
            if text != "None":
                return text
            time.sleep(0.02)  # the app's note has no other way to here
        return "nothing"


# row: how to find out, what tako does, what others do instead (and why tako does not)
Row = tuple[Callable[[Client], Any], Any, dict[str, Any], str]
TABLE: dict[str, Row] = {
    "accept with subprotocol and headers": (Client.accept, ("b", "yes"), {}, ""),
    "the disconnect event of a client's Close": (
        lambda client: (client.accept(), client.seen("disconnect"))[1],
        "(4000, 'bye')",
        {"hypercorn": "(1006, None)"},
        "hypercorn loses the client's code: ASGI asks for it",
    ),
    "the disconnect event without a Close": (
        lambda client: (client.vanish(), client.seen("gone"))[1],
        "1006",
        {"uvicorn": "1005"},
        "RFC 6455 section 7.1.5: 1005 would be a Close frame without a code",
    ),
    "send after the client left": (
        lambda client: (client.vanish(), client.seen("send-after-gone"))[1],
        "True",
        {"hypercorn": "'silence'"},
        "ASGI 2.4: send raises an OSError",
    ),
    "send after the app's own close": (
        lambda client: (client.closing("/close"), client.seen("send-after-close"))[1],
        "True",
        {"hypercorn": "False", "uvicorn": "False"},
        "the others raise, too, but no OSError",
    ),
    "close before accept": (
        lambda client: client.handshake("/refuse"),
        (403, ""),
        {},
        "",
    ),
    "the event after a refusal": (
        lambda client: (client.handshake("/refuse"), client.seen("after-refusal"))[1],
        "'websocket.disconnect'",
        {},
        "",
    ),
    "a denial response": (
        lambda client: client.handshake("/deny"),
        (401, "denied"),
        {},
        "",
    ),
    "close code and reason": (
        lambda client: client.closing("/close"),
        (4001, "enough"),
        {},
        "",
    ),
    "an app that fails before its decision": (
        lambda client: client.handshake("/early")[0],
        500,
        {},
        "",
    ),
    "an app that returns without a decision": (
        lambda client: client.handshake("/nothing")[0],
        500,
        {},
        "",
    ),
    "an app that fails in the conversation": (
        lambda client: client.closing("/late"),
        (1011, ""),
        {"uvicorn": "no Close frame"},
        "RFC 6455 section 7.4.1: 1011 is for that",
    ),
    "an app that returns without a close": (
        lambda client: client.closing("/return"),
        (1000, ""),
        {"hypercorn": (1011, ""), "uvicorn": "no Close frame"},
        "returning is how tako's sessions end, in order",
    ),
    "a subprotocol that was not offered": (
        Client.stranger,
        500,
        {"hypercorn": "connection lost", "uvicorn": 101},
        "RFC 6455 section 4.1: the client would have to fail the connection",
    ),
}


@pytest.mark.parametrize("row", TABLE)
def test_the_table_of_websocket_behaviour(
    cell: tuple[str, Wire], table_host: Host, row: str
) -> None:
    name, wire = cell
    find_out, tako, others, why = TABLE[row]
    assert bool(others) is bool(why), "a difference needs a reason"
    assert find_out(Client(name, table_host, wire)) == others.get(name, tako)


class TestRouterElsewhere:
    """``from_router``: the same handlers and sessions."""

    def test_requests_and_responses(
        self, cell: tuple[str, Wire], router_host: Host
    ) -> None:
        wire = cell[1]
        scheme = "http" if wire == "h1" else "https"
        with router_host.connect(wire) as connection:
            assert connection.request("GET", "/").body == b"Hello, World!"
            assert connection.request("GET", "/users/7").body == b'{"id":"7"}'
            assert connection.request("GET", "/nowhere").status == 404
            assert connection.request("DELETE", "/").header("allow") == "GET, HEAD"
            assert connection.request("GET", "/slow").status == 408
            who = json.loads(connection.request("GET", "/who?q=%20x").body)
            assert who == {
                "peer": "127.0.0.1",
                "query": " x",
                "scheme": scheme,
                "host": "localhost",
            }
        with router_host.connect(wire) as connection:
            head = connection.request("HEAD", "/")
            assert (head.status, head.body) == (200, b"")
        with router_host.connect(wire) as connection:
            body = connection.request("POST", "/body", body=[b"x" * 9999] * 9).body
            version = "2" if wire == "h2" else "1.1"
            assert body == f"89991 bytes over {version}".encode()

    def test_streams(self, cell: tuple[str, Wire], router_host: Host) -> None:
        with router_host.connect(cell[1]) as connection:
            response = connection.request("GET", "/stream")
            assert response.body == b"0,1,2,3,4,"
            assert response.header("x-kind") == "stream"
            events = connection.request("GET", "/events")
            assert events.body == b"data: one\n\ndata: two\n\n"
            assert events.header("content-type") == "text/event-stream"

    @pytest.mark.parametrize(
        "message",
        ["hello", "", b"", b"\x00\xff", "Größe", b"x" * 65_536, "y" * 200_000],
    )
    def test_messages_are_echoed(
        self, cell: tuple[str, Wire], router_host: Host, message: str | bytes
    ) -> None:
        with router_host.connect(cell[1]) as connection:
            ws = connection.websocket("/echo")
            for _ in range(3):
                ws.echo(message)
            ws.close(1000)
            assert ws.expect_close() == (1000, "")

    @pytest.mark.parametrize("path", ["/reference", "/read"])
    def test_the_documented_sessions(
        self, cell: tuple[str, Wire], router_host: Host, path: str
    ) -> None:
        with router_host.connect(cell[1]) as connection:
            ws = connection.websocket(path)
            ws.expect("Welcome to Tako WS!")
            ws.send("hello")
            ws.expect("Echo: hello")
            ws.echo(b"\x00\x01")
            ws.close(1000)
            assert ws.expect_close()[0] == 1000

    def test_subprotocols_timeouts_and_contexts(
        self, cell: tuple[str, Wire], router_host: Host
    ) -> None:
        wire = cell[1]
        with router_host.connect(wire) as connection:
            ws = connection.websocket("/two", subprotocols=["a", "b"])
            assert ws.subprotocol == "b"
            ws.send("hi")
            version = "2" if wire == "h2" else "1.1"
            ws.expect(f"b 'hi' {version}", "timeout")
            assert ws.expect_close() == (1000, "")

    def test_origins_are_checked(
        self, cell: tuple[str, Wire], router_host: Host
    ) -> None:
        wire = cell[1]
        with router_host.connect(wire) as connection:
            refused = connection.handshake("/own")
            assert (refused.status, refused.body) == (403, b"origin not allowed")
        with router_host.connect(wire) as connection:
            connection.websocket("/own", headers=[("Origin", "https://a.test")]).echo(
                "welcome"
            )

    @pytest.mark.parametrize(
        ("path", "code", "reason"),
        [
            ("/failing", 1011, ""),
            ("/lasting", 1001, "max lifetime exceeded"),
            ("/small", 1009, ""),
        ],
    )
    def test_how_sessions_end(
        self,
        cell: tuple[str, Wire],
        router_host: Host,
        path: str,
        code: int,
        reason: str,
    ) -> None:
        with router_host.connect(cell[1]) as connection:
            ws = connection.websocket(path)
            if path == "/small":
                ws.echo("a" * 100)
                ws.send("a" * 101)
            assert ws.expect_close() == (code, reason)

    def test_sessions_are_told_how_it_ended(
        self, cell: tuple[str, Wire], router_host: Host
    ) -> None:
        name, wire = cell
        with router_host.connect(wire) as connection:
            ws = connection.websocket("/told")
            ws.close(4000, "bye")
            ws.expect_close()
        told: list[Any] = []
        end = time.monotonic() + TIMEOUT
        while not told and time.monotonic() < end:
            with router_host.connect(wire) as connection:
                told = json.loads(connection.request("GET", "/closed").body)
        # hypercorn has no code to tell, see the table
        assert told == [[1006, ""] if name == "hypercorn" else [4000, "bye"]]
