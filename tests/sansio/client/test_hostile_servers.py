"""The rows of ``tests/security/hostile_servers.py`` against a client in memory.

Each costs the client its own socket: an error with a name, and bounded memory, however
the bytes arrive.
"""

import tracemalloc
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tako.config import ServerConfig
from tako.core.role import Role
from tako.core.seams import NotOpened, Tunnel
from tako.errors import (
    HandshakeInvalid,
    HandshakeRejected,
    Http2Unavailable,
    TakoError,
)
from tako.http.answer import HandshakeResponse
from tako.ws.client_handshake import check_response
from tako.ws.conversation import Conversation
from tako.ws.handshake import accept_key
from tako.ws.options import Deflate, WsOptions
from tests.sansio.http1.test_client import Server as H1Server
from tests.sansio.http2.test_client import Opener, Server as H2Server
from tests.security.hostile_servers import (
    ACCEPT,
    DEFLATE,
    GREETING,
    MAX_SIZE,
    ROWS,
    STILL_HERE,
    SWITCH,
    Row,
    Wire,
    head,
    named,
    ws,
)
from tests.support.h2wire import data


if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

    from tako.ws.message import AnyMessage

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
READ = 1 << 14  # bytes
PEAK = 1 << 20  # bytes that a client may hold at any time, with MAX_SIZE for a message
LEFT = 1 << 17  # bytes once its socket has failed
OUTPUT = 1 << 17  # bytes that it may answer
CONFIG = ServerConfig(send_timeout=None, min_rate=0, ws_ping_interval=None)
OPTIONS = WsOptions(
    protocols=("chat",),
    max_frame_size=MAX_SIZE,
    max_message_size=MAX_SIZE,
    compression=Deflate(server_window_bits=15, client_window_bits=15),
)


class Client(Opener):
    """What makes a WebSocket of an answer, and keeps what comes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conversation: Conversation | None = None
        self.error: TakoError | None = None
        self.messages: list[AnyMessage] = []

    def answered(self, response: HandshakeResponse, tunnel: Tunnel | None) -> None:
        where = {"step": "handshake", "origin": "ws://a.test"}
        if tunnel is None:
            text = f"the server answers the handshake with {response.status}"
            self.error = HandshakeRejected(text, **where)
            return
        try:
            agreed = check_response(response, OPTIONS, KEY)
        except ValueError as error:
            self.error = HandshakeInvalid(str(error), **where)
            tunnel.reset()
            return
        options = OPTIONS.agreed(*agreed)
        self.conversation = Conversation(tunnel, options, Role.CLIENT)
        tunnel.receive_into(self.conversation, self.conversation.inbox)

    def not_opened(self, why: NotOpened, text: str) -> None:
        kind = Http2Unavailable if why is NotOpened.UNSUPPORTED else HandshakeInvalid
        self.error = kind(text, step="handshake", origin="ws://a.test")

    def read(self) -> None:
        """Read what is there as a session would."""
        conversation = self.conversation
        if conversation is None:
            return
        while conversation.inbox.messages or conversation.resume():
            if conversation.inbox.messages:
                self.messages = [*self.messages, conversation.take()][-2:]
        self.error = conversation.error or conversation.end


class _Switching(H1Server):
    """A server of HTTP/1.1 whose client is a ``Client``."""

    def __init__(self, client: Client) -> None:
        self.client = client
        super().__init__(config=CONFIG)

    def answered(self, response: HandshakeResponse, tunnel: Tunnel | None) -> None:
        self.client.answered(response, tunnel)

    def not_opened(self, why: NotOpened, text: str) -> None:
        self.client.not_opened(why, text)


class _Asked(H2Server):
    """A server of HTTP/2 that is asked once it has said what it has."""

    def __init__(self, client: Client) -> None:
        self.client: Client | None = client
        super().__init__(config=CONFIG, greet=False)

    def changed(self) -> None:
        client, engine = self.client, self.engine
        if client is None:
            return
        if engine.end is not None:
            client.not_opened(*engine.end)
        elif engine.room:
            self.open(client)
        elif engine.supported is False:
            client.not_opened(NotOpened.UNSUPPORTED, "it has no WebSockets")
        else:
            return
        self.client = None


def start(wire: Wire, client: Client, where: str) -> H1Server | H2Server:
    """Return a server that waits for the client's request, or has it."""
    if wire == "h1":
        return _Switching(client)
    server = _Asked(client)
    if where != "greeting":
        server.send(GREETING)
    return server


def switched(row: Row, wire: Wire) -> bytes:
    """Return the answer that opens a WebSocket."""
    if wire == "h2":
        return head((":status", "200"), *extensions(row))
    lines = [f"{name}: {value}\r\n".encode() for name, value in extensions(row)]
    return b"".join([SWITCH, *lines, b"\r\n"])


def extensions(row: Row) -> list[tuple[str, str]]:
    return [("sec-websocket-extensions", DEFLATE)] if row.deflate else []


def on_wire(row: Row, wire: Wire, octets: bytes) -> bytes:
    """Return frames of RFC 6455 as ``wire`` carries them."""
    if wire == "h1" or row.wire != "ws":
        return octets
    return b"".join(
        data(1, octets[at : at + READ]) for at in range(0, len(octets), READ)
    )


def pieces(octets: bytes, cut: str) -> Iterator[bytes]:
    """Cut what is sent into reads."""
    size = {"bytes": 1, "reads": READ}[cut]
    for at in range(0, len(octets), size):
        yield octets[at : at + size]


def play(row: Row, wire: Wire, cut: str = "reads") -> Client:
    """Let a client have the row; return it."""
    client = Client()
    server = start(wire, client, row.where)
    octets = b""
    if row.where == "open":
        octets = switched(row, wire)
    octets += on_wire(row, wire, row.sent)
    if row.error is None:
        still = ws(0x81, STILL_HERE.encode())
        octets += still if wire == "h1" else data(1, still)
    octets = octets.replace(ACCEPT, accept_key(KEY))
    for piece in pieces(octets, cut):
        server.send(piece)
        client.read()
        assert len(server.connection.sent) < OUTPUT
        server.connection.writable = False  # as the server reads nothing
        server.connection.runtime.run_ready()
    if row.fin:
        server.engine.receive_eof()
    client.read()
    return client


def check(row: Row, client: Client) -> None:
    """Assert that the row costs what it may."""
    if row.error is None:
        assert client.error is None, repr(client.error)
        assert client.messages[-1] == STILL_HERE
        return
    assert isinstance(client.error, row.error), repr(client.error)
    assert row.text in str(client.error)
    assert type(client.error).__name__ != "TakoError"


def played(rows: list[Row]) -> "list[ParameterSet]":
    """Return each row with each wire that can carry it."""
    return [
        pytest.param(row, wire, id=f"{wire}-{named(row)}")
        for row in rows
        for wire in row.wires
    ]


@pytest.mark.parametrize(("row", "wire"), played(ROWS))
def test_a_row_costs_a_socket_an_error_and_no_memory(row: Row, wire: Wire) -> None:
    check(row, play(row, wire))  # once, for what Python itself keeps
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        client = play(row, wire)
        left, peak = (each - before for each in tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    check(row, client)
    # the driver's own: the wire's bytes, joined and marked
    assert peak < PEAK + 4 * len(row.sent)
    assert left < LEFT


SHORT = [row for row in ROWS if len(row.sent) < 2000]


@pytest.mark.parametrize(("row", "wire"), played(SHORT))
def test_a_row_means_the_same_byte_by_byte(row: Row, wire: Wire) -> None:
    check(row, play(row, wire, "bytes"))
