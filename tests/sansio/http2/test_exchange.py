"""A stream as a request and its answer: the states of a response, and whole ones."""

from collections.abc import Sequence
from typing import TypeAlias

import pytest
from hypothesis import given, strategies as st

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.core.response_state import ResponseState
from tako.errors import LocalProtocolError
from tako.h2 import H2Exchange, response_head
from tako.h2.frames import DATA, HEADERS
from tako.http.date import HttpDate
from tako.http.headers import RawHeader
from tests.support.h2wire import (
    CONNECT,
    GET,
    POST,
    Fields,
    Make,
    Peer,
    data,
    rst,
    settings,
    window_update,
)


HEAD: Fields = ((":method", "HEAD"), *GET[1:])
HELLO = [(b"content-length", b"5")]

Seen: TypeAlias = tuple[list[tuple[int, int, bytes]], str, ResponseState, int]


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock: answers are compared."""
    monkeypatch.setattr(response_head, "http_date", HttpDate(lambda: 784111777.0))


class TestStates:
    def test_a_response_in_pieces(self, peer: Peer) -> None:
        exchange = peer.request()
        exchange.send_headers(103, [])
        assert (exchange.response, exchange.head_sent) == (ResponseState.NO_HEAD, False)
        exchange.send_headers(200, [])
        assert (exchange.response, exchange.head_sent) == (ResponseState.BODY, True)
        exchange.send_data(b"hello", end=True)
        assert (exchange.response, exchange.head_sent) == (ResponseState.ENDED, True)

    def test_a_tunnel(self, peer: Peer) -> None:
        exchange, _ = peer.tunnel()
        assert (exchange.response, exchange.tunnel) == (ResponseState.SWITCHED, True)
        exchange.send_data(b"", end=True)
        assert (exchange.response, exchange.tunnel) == (ResponseState.ENDED, True)

    @pytest.mark.parametrize("begun", [True, False])
    def test_a_reset(self, peer: Peer, begun: bool) -> None:
        exchange = peer.request()
        if begun:
            exchange.send_headers(200, [])
        peer.send(rst(1))
        assert exchange.response is ResponseState.CUT_OFF
        assert exchange.head_sent is begun
        exchange.send_headers(200, [])
        exchange.send_response(200, [], b"hello")
        exchange.send_data(b"", end=True)
        exchange.send_trailers([])

    def test_one_whose_end_waits_for_its_window_takes_nothing_more(
        self, peer: Peer
    ) -> None:
        peer.send(settings((4, 3)))
        exchange = peer.request()
        exchange.send_response(200, HELLO, b"hello")
        assert (exchange.response, exchange.over) == (ResponseState.ENDED, False)
        with pytest.raises(LocalProtocolError, match="has ended"):
            exchange.send_data(b"more")
        with pytest.raises(LocalProtocolError, match="sent already"):
            exchange.send_response(200, HELLO, b"hello")
        peer.send(window_update(1, 2))
        exchange.send_data(b"more")

    def test_one_that_must_not_follow_is_an_error_of_ours(self, peer: Peer) -> None:
        exchange = peer.request()
        exchange.send_headers(200, [])
        with pytest.raises(AssertionError, match=r"NO_HEAD must not follow .*BODY"):
            exchange._enter_response(ResponseState.NO_HEAD)


def in_pieces(
    exchange: H2Exchange, status: int, headers: Sequence[RawHeader], body: bytes
) -> None:
    """Do what ``send_response`` must equal."""
    if status < 200:
        msg = "not a whole response"
        raise LocalProtocolError(msg)
    if status in (204, 205, 304) or exchange.request.method == "HEAD":
        exchange.send_headers(status, headers, end=True)
        return
    if b"content-length" not in dict(headers):
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    exchange.send_headers(status, headers)
    if not exchange.over:
        exchange.send_data(body, end=True)


def seen(peer: Peer, exchange: H2Exchange, problem: str) -> Seen:
    """Return what the client got, DATA of a response joined."""
    frames: list[tuple[int, int, bytes]] = []
    for frame in peer.frames():
        kind, flags, payload = frame.kind, frame.flags, frame.payload
        if kind == DATA and frames and frames[-1][0] == DATA:
            payload = frames.pop()[2] + payload
        if kind == DATA and not payload and frames and frames[-1][0] == HEADERS:
            kind, before, payload = frames.pop()
            flags |= before
        frames.append((kind, flags, payload))
    return frames, problem, exchange.response, peer.engine._output.send_window


@given(
    head=st.sampled_from([GET, POST, HEAD, CONNECT]),
    ended=st.booleans(),
    status=st.sampled_from([100, 101, 200, 200, 204, 205, 304, 404, 500]),
    length=st.sampled_from([None, 0, 5, 6, 20_000]),
    size=st.sampled_from([0, 5, 6, 20_000]),
    window=st.sampled_from([0, 3, 65_535]),
    writable=st.booleans(),
)
def test_a_whole_response_is_what_its_pieces_are(
    head: Fields,
    ended: bool,
    status: int,
    length: int | None,
    size: int,
    window: int,
    writable: bool,
) -> None:
    headers = [(b"x-tako", b"1")]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    results: list[Seen] = []
    for send in (in_pieces, H2Exchange.send_response):
        peer = Peer()
        peer.send(settings((4, window)))
        exchange = peer.request(1, head, end=ended and head is not CONNECT)
        peer.frames()
        peer.connection.writable = writable
        problem = ""
        try:
            send(exchange, status, headers, bytes(size))
        except LocalProtocolError:
            problem = "refused"
            exchange.reset()
        if status in (204, 304) or head is HEAD:
            assert not problem or status < 200
        peer.connection.writable = True
        peer.engine.wake_writers()
        peer.send(window_update(1, 1 << 20)) if not exchange.over else None
        results.append(seen(peer, exchange, problem))
    pieces, whole = results
    if pieces[1] and any(frame[0] == HEADERS for frame in pieces[0]):
        # In pieces the head is sent before the body turns out to be of another size
        assert whole[1]
        assert [frame[0] for frame in whole[0]] == [frame[0] for frame in pieces[0]][1:]
    else:
        assert whole == pieces


class TestSendResponse:
    def test_it_is_one_head_and_one_frame_of_data(self, peer: Peer) -> None:
        exchange = peer.request()
        exchange.send_response(200, HELLO, b"hello")
        head, body = peer.frames()
        assert peer.decode(head)["content-length"] == "5"
        assert (body.kind, body.payload, body.ends) == (DATA, b"hello", True)
        assert exchange.closed

    def test_one_without_a_body_is_its_head(self, peer: Peer) -> None:
        exchange = peer.request()
        exchange.send_response(404, [], b"")
        (head,) = peer.frames()
        assert (head.kind, head.ends, exchange.closed) == (HEADERS, True, True)

    @pytest.mark.parametrize("status", [100, 101, 199])
    def test_an_interim_one_is_refused(self, peer: Peer, status: int) -> None:
        exchange = peer.request()
        with pytest.raises(LocalProtocolError):
            exchange.send_response(status, [], b"")
        assert peer.frames() == []
        exchange.send_response(200, HELLO, b"hello")
        assert exchange.over

    @pytest.mark.parametrize("body", [b"", b"hell", b"hello!"])
    def test_a_body_of_another_size_is_refused_before_anything_is_sent(
        self, peer: Peer, body: bytes
    ) -> None:
        exchange = peer.request()
        with pytest.raises(LocalProtocolError, match="content-length"):
            exchange.send_response(200, HELLO, body)
        assert peer.frames() == []
        assert exchange.response is ResponseState.NO_HEAD

    def test_a_websocket_that_is_answered_with_2xx_gets_501(self, peer: Peer) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        exchange.send_response(200, HELLO, b"hello")
        frames = peer.frames()
        assert peer.decode(frames[0])[":status"] == "501"
        assert exchange.response is ResponseState.CUT_OFF
        exchange.send_response(200, HELLO, b"hello")
        assert peer.frames() == []

    def test_before_its_request_is_complete(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        exchange.send_response(200, HELLO, b"hello")
        assert [f.kind for f in peer.frames()] == [HEADERS, DATA]
        assert (exchange.over, exchange.closed) == (True, False)
        peer.send(data(1, b"", end=True))
        assert exchange.closed
        assert peer.rst_codes() == []

    def test_what_the_windows_have_no_room_for_waits(self, make: Make) -> None:
        peer = make(config=ServerConfig(send_timeout=7))
        peer.send(settings((4, 3)))
        exchange = peer.request()
        exchange.send_response(200, HELLO, b"hello")
        assert [f.payload for f in peer.frames() if f.kind == DATA] == [b"hel"]
        peer.advance(10)
        assert peer.rst_codes() == [(1, ErrorCode.CANCEL)]
