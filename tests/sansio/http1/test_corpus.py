"""Every H1 and WH row of the negative corpus, whole and split into single bytes."""

import base64
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tako.config import ServerConfig
from tako.core.seams import Pause, Sink
from tako.errors import RemoteProtocolError
from tako.h1 import H1Exchange
from tests.support.h1_peer import H1Peer


CORPUS = Path(__file__).parents[2] / "security" / "corpus.jsonl"
SPLIT_UP_TO = 2048


@dataclass(frozen=True)
class Row:
    id: str
    name: str
    expect: str
    data: bytes


def _rows(proto: str) -> list[Row]:
    rows = map(json.loads, CORPUS.read_text().splitlines())
    return [
        Row(
            id=row["id"],
            name=row["name"],
            expect=row["expect"],
            data=zlib.decompress(base64.b64decode(row["zlib"])),
        )
        for row in rows
        if row["proto"] == proto
    ]


H1_ROWS = _rows("h1")
WH_ROWS = _rows("ws-hs")
_REFUSED = re.compile(r"R?(4\d\d|50\d)(?:(?: or |/)(4\d\d|50\d))*")


def _deliveries(rows: list[Row]) -> list[object]:
    return [
        pytest.param(row, size, id=f"{row.id}-{'split' if size else 'whole'}")
        for row in rows
        for size in ((None, 1) if len(row.data) <= SPLIT_UP_TO else (None,))
    ]


def check_refusal(row: Row, peer: H1Peer) -> None:
    clause = re.split(r",| before", row.expect)[0]
    statuses = {int(status) for status in re.findall(r"[45]\d\d", clause)}
    (answer,) = peer.answers()
    assert answer.status in statuses
    assert answer.has("connection: close")
    assert answer.has("content-type: text/plain; charset=utf-8")
    assert answer.body
    assert peer.closed
    for exchange in peer.exchanges:  # entered before the fault had arrived
        assert exchange.handler_ended
        assert exchange.over
    assert {type(error) for error in peer.errors} <= {RemoteProtocolError}


def check_0xff(peer: H1Peer) -> None:
    assert [answer.status for answer in peer.answers()] == [200]
    assert peer.exchanges[0].request.headers.get_raw(b"x") == b"a\xffb"


def check_absolute_form(peer: H1Peer) -> None:
    assert [answer.status for answer in peer.answers()] == [200]
    request = peer.exchanges[0].request
    assert (request.path, request.authority) == ("/x", "b")


def check_two_answers(peer: H1Peer) -> None:
    assert [answer.status for answer in peer.answers()] == [200, 200]
    assert [e.request.path for e in peer.exchanges] == ["/", "/smug"]
    assert peer.most_running == 1
    assert not peer.closed


def check_one_answer(peer: H1Peer) -> None:
    (answer,) = peer.answers()
    assert answer.status == 200
    assert answer.has("connection: close")
    assert peer.closed


def check_trailers(peer: H1Peer) -> None:
    assert [answer.body for answer in peer.answers()] == [b"/ abc", b"/smug "]
    first = peer.exchanges[0]
    assert "x-evil" not in first.request.headers
    assert first.body.trailers == [(b"x-evil", b"1")]


def check_many_chunks(peer: H1Peer) -> None:
    (answer,) = peer.answers()
    assert len(answer.body) == len(b"/ ") + 20_000


def check_expect(peer: H1Peer) -> None:
    (answer,) = peer.answers()
    assert answer.status == 417
    assert peer.closed


ACCEPTED: dict[str, Callable[[H1Peer], None]] = {
    "H1-27": check_0xff,
    "H1-35": check_absolute_form,
    "H1-48": check_two_answers,
    "H1-49": check_one_answer,
    "H1-58": check_trailers,
    "H1-60": check_many_chunks,
    "H1-65": check_two_answers,
    "H1-66": check_expect,
}


@pytest.mark.parametrize(("row", "size"), _deliveries(H1_ROWS))
def test_row_gets_its_verdict(row: Row, size: int | None) -> None:
    peer = H1Peer()
    peer.send(row.data, size=size)
    check = ACCEPTED.get(row.id)
    if check is not None:
        check(peer)
    else:
        assert _REFUSED.match(row.expect), "a row without a check"
        check_refusal(row, peer)
        peer.send(b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n")
        assert peer.take() == b""


@pytest.mark.parametrize(
    "row", [row for row in H1_ROWS if len(row.data) <= 256], ids=lambda row: row.id
)
def test_row_gets_the_same_verdict_cut_in_two_anywhere(row: Row) -> None:
    for cut in range(1, len(row.data)):
        peer = H1Peer()
        peer.send(row.data[:cut])
        peer.send(row.data[cut:])
        check = ACCEPTED.get(row.id)
        if check is not None:
            check(peer)
        else:
            check_refusal(row, peer)


@pytest.mark.parametrize("row", [row for row in H1_ROWS if row.id in ACCEPTED])
@pytest.mark.parametrize("size", [2, 3, 7, 64])
def test_accepted_row_is_accepted_in_pieces_of_any_size(row: Row, size: int) -> None:
    peer = H1Peer()
    peer.send(row.data, size=size)
    ACCEPTED[row.id](peer)


class KeepingSink:
    """A tunnel's end that keeps what it gets."""

    inbox = None

    def __init__(self, exchange: H1Exchange, *, hungry: bool) -> None:
        self.exchange = exchange
        self.hungry = hungry
        self.data = bytearray()

    def deliver(self, data: bytes) -> None:
        self.data += data
        if self.hungry:
            self.exchange.consumed(len(data))

    def deliver_eof(self, error: Exception | None = None) -> None:
        pass

    def wake_writer(self) -> None:
        pass

    def shut_down(self) -> None:
        pass


def sink_of(exchange: H1Exchange) -> KeepingSink:
    sink: Sink = exchange.sink
    assert isinstance(sink, KeepingSink)
    return sink


async def websocket(exchange: H1Exchange) -> None:
    """What a WebSocket route does to an exchange, without the WebSocket."""
    request = exchange.request
    if not request.is_websocket:
        fields = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
        exchange.send_headers(426, fields, end=True)
    elif exchange.head.has_body:
        exchange.send_headers(400, [(b"connection", b"close")], end=True)
    elif request.headers.get("x-refuse"):
        exchange.send_headers(403, [], end=True)
    else:
        fields = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
        exchange.open_tunnel(101, fields, KeepingSink(exchange, hungry=True))
        exchange.flush()
        await exchange.connection.runtime.sleep(1e9)


NOT_A_WEBSOCKET = {"WH-08", "WH-09"}
TOO_LONG = {"WH-20", "WH-23"}


@pytest.mark.parametrize(
    ("row", "size"),
    _deliveries([row for row in WH_ROWS if row.id not in TOO_LONG]),
)
def test_upgrade_request_is_recognised(row: Row, size: int | None) -> None:
    peer = H1Peer(websocket)
    peer.send(row.data, size=size)
    (exchange,) = peer.exchanges
    head, _, early = row.data.partition(b"\r\n\r\n")
    (answer,) = peer.answers()
    if row.id in NOT_A_WEBSOCKET:
        assert not exchange.request.is_websocket
        assert answer.status == 426
        assert answer.has("upgrade: websocket")
        assert answer.has("connection: Upgrade")
        assert not peer.closed
    elif row.id == "WH-11":
        assert answer.status == 400
        assert answer.has("connection: close")
        assert peer.closed
    elif row.id == "WH-22":
        # in single bytes, the refusal is complete before the first byte of the frame
        assert answer.status == 403
        assert size or answer.has("connection: close")
    else:
        assert answer.status == 101
        assert answer.has("upgrade: websocket")
        assert answer.has("connection: Upgrade")
        assert b"content-length" not in answer.head
        assert b"transfer-encoding" not in answer.head
        assert sink_of(exchange).data == early
    assert peer.closed == (row.id in {"WH-11", "WH-22"})
    assert head


def test_refused_upgrade_drops_the_frame_that_came_with_it() -> None:
    (row,) = (row for row in WH_ROWS if row.id == "WH-22")
    peer = H1Peer(websocket)
    peer.send(row.data)
    (answer,) = peer.answers()
    assert answer.status == 403
    assert answer.has("connection: close")
    assert len(peer.exchanges) == 1


def test_a_thousand_subprotocols_are_one_field() -> None:
    (row,) = (row for row in WH_ROWS if row.id == "WH-20")
    peer = H1Peer(websocket)
    peer.send(row.data)
    assert [answer.status for answer in peer.answers()] == [101]


def test_early_flood_waits_and_is_delivered_after_101() -> None:
    (row,) = (row for row in WH_ROWS if row.id == "WH-23")
    head, _, frames = row.data.partition(b"\r\n\r\n")
    accept = False

    async def slow(exchange: H1Exchange) -> None:
        while not accept:
            await exchange.connection.runtime.sleep(1)
        await websocket(exchange)

    peer = H1Peer(slow, ServerConfig())
    peer.send(head + b"\r\n\r\n", size=None)
    peer.send(frames, size=16 * 1024)
    assert peer.connection.pauses == Pause.BODY
    assert len(frames) - peer.unsent <= 64 * 1024 + 16 * 1024
    accept = True
    peer.runtime.advance(1)
    peer.go_on()
    assert not peer.connection.pauses
    assert sink_of(peer.exchanges[0]).data == frames


def test_corpus_has_rows() -> None:
    assert len(H1_ROWS) >= 40
    assert len(WH_ROWS) >= 14
