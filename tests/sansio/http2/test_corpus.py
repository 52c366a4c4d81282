"""The rows of the negative corpus that concern HTTP/2, against the engine alone.

Each runs with the express lane and without, in one read and, where short, one byte a
read. The handlers answer complete requests and accept every WebSocket. Beside the row's
own verdict, a second stream or the absence of GOAWAY shows what must survive.
"""

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.errors import RemoteProtocolError
from tako.h2 import H2Exchange
from tako.h2.frames import DATA, GOAWAY, HEADERS, PREFACE, RST_STREAM, WINDOW_UPDATE
from tests.support.h2wire import (
    Frame,
    Peer,
    RecordingSink,
    answer,
    parse,
)


_CORPUS = Path(__file__).parents[2] / "security" / "corpus.jsonl"
_BARE = frozenset({"H2-01", "H2-02", "H2-34"})  # sent without preface and SETTINGS


def _rows() -> dict[str, bytes]:
    rows = {}
    for line in _CORPUS.read_text().splitlines():
        row = json.loads(line)
        if row["id"].startswith(("H2-", "XC-")):
            rows[row["id"]] = zlib.decompress(base64.b64decode(row["zlib"]))
    return rows


class Outcome(NamedTuple):
    peer: Peer
    frames: list[Frame]
    sinks: list[RecordingSink]
    most_running: int

    @property
    def goaway(self) -> int | None:
        codes = [f.number for f in self.frames if f.kind == GOAWAY]
        return codes[-1] if codes else None

    def resets(self) -> dict[int, int]:
        return {f.stream_id: f.number for f in self.frames if f.kind == RST_STREAM}

    def statuses(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for f in self.frames:
            if f.kind == HEADERS:
                fields = self.peer.decode(f)
                found.setdefault(f.stream_id, fields[":status"])
        return found


def _run(row: str, data: bytes, *, lane: bool, split: bool) -> Outcome:
    config = ServerConfig(h2_enable_connect_protocol=row != "XC-24")
    peer = Peer(tls=True, lane=lane, greet=row not in _BARE, config=config)
    if row == "H2-02":
        peer.send(PREFACE)
    frames: list[Frame] = []
    sinks: list[RecordingSink] = []
    running: set[H2Exchange] = set()
    most = 0
    pieces = [data[i : i + 1] for i in range(len(data))] if split else [data]
    for piece in pieces:
        new = peer.send(piece)
        most = max(most, len(running) + len(new))
        running.update(new)
        for exchange in list(running):
            if _handle(row, exchange, sinks):
                running.discard(exchange)
        frames += parse(peer.connection.take())
    return Outcome(peer, frames, sinks, most)


def _handle(row: str, exchange: H2Exchange, sinks: list[RecordingSink]) -> bool:
    """Do what a handler would do by now; tell whether it has ended."""
    if exchange.closed:
        exchange.ended()
        return True
    if exchange.tunnel:
        return False
    request = exchange.request
    if request.is_websocket:
        _upgrade(exchange, sinks)
        return exchange.over
    if request.headers.get("sec-websocket-version"):
        exchange.send_headers(400, [], end=True)
        exchange.ended()
        return True
    if not exchange.body.complete:
        return False
    answer(exchange, b"x" * 200_000 if row in {"H2-44", "H2-45"} else b"hello")
    return True


def _upgrade(exchange: H2Exchange, sinks: list[RecordingSink]) -> None:
    version = exchange.request.headers.get("sec-websocket-version")
    if version != "13":
        exchange.send_headers(400, [(b"sec-websocket-version", b"13")], end=True)
        exchange.ended()
    elif exchange.peer_ended:
        exchange.send_headers(400, [], end=True)
        exchange.ended()
    else:
        sinks.append(RecordingSink(exchange))
        exchange.open_tunnel(200, [], sinks[-1])


def _goaway(*codes: int) -> Callable[[Outcome], None]:
    def verdict(out: Outcome) -> None:
        assert out.goaway in codes
        assert out.peer.engine.closing or out.peer.engine.busy

    return verdict


def _rst(stream_id: int, *codes: int) -> Callable[[Outcome], None]:
    def verdict(out: Outcome) -> None:
        assert out.resets().get(stream_id) in codes
        _alive(out)

    return verdict


def _alive(out: Outcome) -> None:
    """The connection still serves."""
    assert out.goaway is None
    assert not out.peer.engine.closing
    peer = out.peer
    out.statuses()  # keeps the decoder in step
    fields = ((":method", "GET"), (":scheme", "https"), (":authority", "a"))
    exchange = peer.request(1_000_001, (*fields, (":path", "/canary")))
    exchange.send_headers(204, [], end=True)
    heads = [f for f in peer.frames() if f.kind == HEADERS]
    assert [peer.decode(f)[":status"] for f in heads] == ["204"]


def _calm_or_alive(out: Outcome) -> None:
    if out.goaway is None:
        _alive(out)
    else:
        assert out.goaway == ErrorCode.ENHANCE_YOUR_CALM


def _calm_and_bounded(out: Outcome) -> None:
    assert out.goaway == ErrorCode.ENHANCE_YOUR_CALM
    assert out.most_running <= 100


def _two_answers_and_a_reset(out: Outcome) -> None:
    assert out.statuses() == {1: "200", 3: "200"}
    assert out.resets() == {5: ErrorCode.PROTOCOL_ERROR}
    assert out.goaway is None


def _one_answer_and_a_reset(out: Outcome) -> None:
    assert out.statuses() == {1: "200"}
    assert out.resets() == {3: ErrorCode.PROTOCOL_ERROR}
    assert out.goaway is None


def _padding_is_credited(out: Outcome) -> None:
    padding = 200 * 256
    exchange = out.peer.exchanges[0]
    assert exchange.window == 262_144 - padding
    exchange.consumed(131_072 - padding)  # credit is given once it is half a window
    (update,) = [f for f in out.peer.frames() if f.stream_id == 1]
    assert (update.kind, update.number) == (WINDOW_UPDATE, 131_072)
    _alive(out)


def _short_body(out: Outcome) -> None:
    assert out.resets() == {1: ErrorCode.PROTOCOL_ERROR}
    reader = out.peer.exchanges[0].body
    run = out.peer.connection.runtime.run
    assert out.peer.exchanges[0].received in {2, 9}
    if out.peer.exchanges[0].received == 2:  # what was within the length is read first
        assert run(reader.next_chunk) == b"ab"
    with pytest.raises(RemoteProtocolError):
        run(reader.next_chunk)
    _alive(out)


def _never_read(out: Outcome) -> None:
    assert not [f for f in out.frames if f.kind == DATA]
    peer = out.peer
    peer.advance(29)
    assert peer.rst_codes() == []
    peer.advance(5)
    assert len(peer.rst_codes()) == 100
    assert not peer.engine.busy


def _refused_above_the_limit(out: Outcome) -> None:
    assert out.most_running == 100
    assert set(out.resets().values()) == {ErrorCode.REFUSED_STREAM}
    assert len(out.resets()) == 3900
    assert out.goaway is None


def _opened(out: Outcome) -> None:
    assert out.statuses() == {1: "200"}
    (head,) = [f for f in out.frames if f.kind == HEADERS]
    assert not head.ends
    assert bytes(out.sinks[0].data)
    _survives(out)


def _survives(out: Outcome) -> None:
    assert out.goaway is None
    assert not out.peer.engine.closing


def _status(*statuses: str) -> Callable[[Outcome], None]:
    def verdict(out: Outcome) -> None:
        assert out.statuses()[1] in statuses
        assert any(f.ends for f in out.frames if f.stream_id == 1)
        _survives(out)

    return verdict


def _tunnel_reset(out: Outcome) -> None:
    # In one read the stream is gone before its handler could start, which it never does
    assert len(out.sinks) == len(out.peer.exchanges)
    for sink in out.sinks:
        assert [type(end).__name__ for end in sink.ends] == ["Disconnected"]
    assert not out.peer.engine.busy
    _survives(out)


def _settings_late(out: Outcome) -> None:
    peer = out.peer
    assert out.goaway is None
    peer.advance(10)
    assert peer.goaway_codes() == [ErrorCode.SETTINGS_TIMEOUT]
    assert peer.engine.closing


E_ = ErrorCode
_RSTS = _rst(1, E_.PROTOCOL_ERROR)
_VERDICTS: dict[str, Callable[[Outcome], None]] = {
    "H2-01": _goaway(E_.PROTOCOL_ERROR),
    "H2-02": _goaway(E_.PROTOCOL_ERROR),
    "H2-03": _calm_and_bounded,
    "H2-05": _calm_and_bounded,
    "H2-06": _calm_and_bounded,
    "H2-09": _goaway(E_.FLOW_CONTROL_ERROR),
    "H2-10": _rst(1, E_.PROTOCOL_ERROR),
    "H2-11": _rst(1, E_.FRAME_SIZE_ERROR),
    "H2-12": _calm_or_alive,
    "H2-17": _goaway(E_.ENHANCE_YOUR_CALM),
    "H2-27": _calm_or_alive,
    "H2-28": _calm_or_alive,
    "H2-30": _goaway(E_.PROTOCOL_ERROR),
    "H2-31": _goaway(E_.FRAME_SIZE_ERROR),
    "H2-33": _goaway(E_.PROTOCOL_ERROR),
    "H2-34": _settings_late,
    "H2-36": _goaway(E_.FRAME_SIZE_ERROR),
    "H2-37": _goaway(E_.ENHANCE_YOUR_CALM),
    "H2-38": _padding_is_credited,
    "H2-39": _goaway(E_.PROTOCOL_ERROR),
    "H2-41": _survives,  # within our window; beyond it: test_h2_windows
    "H2-43": _goaway(E_.ENHANCE_YOUR_CALM),
    "H2-44": _goaway(E_.ENHANCE_YOUR_CALM),  # spread over time: test_h2_defence
    "H2-45": _never_read,
    "H2-47": _one_answer_and_a_reset,
    "H2-48": _two_answers_and_a_reset,
    **dict.fromkeys(
        ["H2-49", "H2-50", "H2-51", "H2-52", "H2-53", "H2-54", "H2-56", "H2-59"], _RSTS
    ),
    "H2-62": _RSTS,
    "H2-63": _short_body,
    "H2-64": _short_body,
    "H2-65": _RSTS,
    "H2-66": _RSTS,
    "H2-67": _goaway(E_.PROTOCOL_ERROR),
    "H2-68": _goaway(E_.PROTOCOL_ERROR),
    "H2-69": _goaway(E_.PROTOCOL_ERROR),
    "H2-74": _refused_above_the_limit,
    "XC-01": _opened,
    "XC-03": _status("400", "501"),
    "XC-05": _RSTS,
    "XC-07": _RSTS,
    "XC-09": _RSTS,
    "XC-10": _status("400"),
    "XC-11": _status("400"),
    "XC-12": _status("400"),
    "XC-17": _status("400"),
    "XC-19": _tunnel_reset,
    "XC-24": _RSTS,
}
_DATA = _rows()


def test_every_row_has_a_verdict() -> None:
    assert _DATA.keys() == _VERDICTS.keys()


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "h2"])
@pytest.mark.parametrize("row", _VERDICTS)
def test_row_in_one_read(row: str, lane: bool) -> None:
    _VERDICTS[row](_run(row, _DATA[row], lane=lane, split=False))


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "h2"])
@pytest.mark.parametrize("row", [r for r, d in _DATA.items() if len(d) <= 2048])
def test_row_one_byte_a_read(row: str, lane: bool) -> None:
    _VERDICTS[row](_run(row, _DATA[row], lane=lane, split=True))
