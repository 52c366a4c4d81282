"""DATA frames of which a read holds only a part: handed on as they arrive."""

import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.h2.frames import DATA, END_STREAM, PADDED, PING, WINDOW_UPDATE, frame
from tests.support.h2wire import POST, SETTINGS_ACK, Make, Peer, data, rst, settings


BODY = bytes(range(256)) * 64  # of the largest frame


def cut(sent: bytes, size: int) -> list[bytes]:
    return [sent[at : at + size] for at in range(0, len(sent), size)]


def pongs(peer: Peer) -> int:
    return sum(f.kind == PING for f in peer.frames())


def test_the_beginning_of_a_frame_is_handed_on(peer: Peer) -> None:
    exchange = peer.request(1, POST, end=False)
    peer.send(data(1, BODY)[:10_009])
    assert exchange.received == 10_000
    assert not peer.engine._reader._rest


def test_the_beginning_of_a_small_frame_waits(peer: Peer) -> None:
    exchange = peer.request(1, POST, end=False)
    peer.send(data(1, bytes(4096))[:4000])
    assert exchange.received == 0
    peer.send(data(1, bytes(4096))[4000:])
    assert exchange.received == 4096


def test_a_header_alone_waits(peer: Peer) -> None:
    exchange = peer.request(1, POST, end=False)
    peer.send(data(1, BODY)[:9])
    assert exchange.received == 0
    peer.send(data(1, BODY)[9:])
    assert exchange.received == len(BODY)


@pytest.mark.parametrize("size", [700, 4097, 9999, 16_392])
def test_a_tunnel_gets_all_of_it_in_order(make: Make, size: int) -> None:
    peer = make()
    _, sink = peer.tunnel()
    sent = data(1, BODY) + data(1, b"small") + data(1, BODY)
    for part in cut(sent, size):
        peer.send(part)
    assert sink.data == BODY + b"small" + BODY


def test_the_end_comes_with_the_last_part(peer: Peer) -> None:
    exchange, sink = peer.tunnel()
    whole = data(1, BODY, end=True)
    peer.send(whole[:9000])
    assert not exchange.peer_ended
    peer.send(whole[9000:-1])
    assert sink.ends == []
    peer.send(whole[-1:])
    assert sink.ends == [None]
    assert sink.data == BODY
    assert exchange.peer_ended


def test_what_follows_is_read_in_the_same_go(peer: Peer) -> None:
    _, sink = peer.tunnel()
    peer.send(data(1, BODY)[:9000])
    peer.send(data(1, BODY)[9000:], frame(PING, 0, 0, bytes(8)), data(1, b"x"))
    assert pongs(peer) == 1
    assert sink.data == BODY + b"x"


def test_more_than_the_streams_window_fails_before_it_comes(make: Make) -> None:
    peer = make(config=ServerConfig(h2_initial_window_size=10_000))
    exchange = peer.request(1, POST, end=False)
    peer.send(data(1, bytes(10_001))[:10])
    assert exchange.received == 0
    assert peer.rst_codes() == [(1, ErrorCode.FLOW_CONTROL_ERROR)]
    peer.send(data(1, bytes(10_001))[10:], frame(PING, 0, 0, bytes(8)))
    assert pongs(peer) == 1


def test_more_than_the_connections_window_fails_before_it_comes(peer: Peer) -> None:
    for stream_id in range(1, 11, 2):
        peer.tunnel(stream_id, greedy=False)
    peer.frames()
    # In one read, so that no credit can be given in between
    burst = b"".join(data(s, bytes(16_384)) * 16 for s in range(1, 9, 2))
    peer.engine.receive_data(burst + data(9, bytes(16_384))[:10])
    assert peer.goaway_codes() == [ErrorCode.FLOW_CONTROL_ERROR]


def test_the_rest_for_a_stream_that_was_reset_is_dropped(peer: Peer) -> None:
    exchange = peer.request(1, POST, end=False)
    peer.send(data(1, BODY)[:9000])
    exchange.reset()
    assert peer.rst_codes() == [(1, ErrorCode.CANCEL)]
    peer.send(data(1, BODY)[9000:], frame(PING, 0, 0, bytes(8)))
    assert pongs(peer) == 1
    assert exchange.received == 9000 - 9
    assert peer.goaway_codes() == []


def test_a_frame_for_a_closed_stream_is_answered_once(peer: Peer) -> None:
    peer.request(1, POST, end=False)
    peer.send(rst(1))
    for at in range(0, 9 + len(BODY), 5000):
        peer.send(data(1, BODY)[at : at + 5000])
    assert peer.rst_codes() == [(1, ErrorCode.STREAM_CLOSED)]


def test_padding_is_taken_off_when_all_of_it_is_here(peer: Peer) -> None:
    exchange = peer.request(1, POST, end=False)
    body = BODY[:16_128]
    whole = frame(DATA, PADDED | END_STREAM, 1, b"\xff" + body + bytes(255))
    peer.send(whole[:10_000])
    assert exchange.received == 0
    peer.send(whole[10_000:])
    assert exchange.received == len(body)
    assert exchange.peer_ended


def test_the_connection_is_credited_for_the_frame_at_once(peer: Peer) -> None:
    exchange = peer.request(1, POST, end=False)
    exchange.reset()
    peer.frames()
    peer.send(data(1, BODY) * 31, data(1, BODY)[:10])
    (update,) = [f for f in peer.frames() if f.kind == WINDOW_UPDATE]
    assert (update.stream_id, update.number) == (0, 32 * 16_384)
    peer.send(data(1, BODY)[10:])
    assert not [f for f in peer.frames() if f.kind == WINDOW_UPDATE]


def test_the_stream_is_credited_for_each_part_once(peer: Peer) -> None:
    exchange, _ = peer.tunnel()
    before = exchange.window
    for _ in range(4):
        for at in range(0, 9 + len(BODY), 5000):
            peer.send(data(1, BODY)[at : at + 5000])
    updates = [f.number for f in peer.frames() if f.stream_id == 1]
    assert before - 4 * len(BODY) + sum(updates) == exchange.window


def test_smaller_windows_take_what_was_sent_before(make: Make) -> None:
    peer = make(config=ServerConfig(h2_initial_window_size=10_000), greet=False)
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings())
    exchange = peer.request(1, POST, end=False)
    peer.send(data(1, BODY)[:9000])
    peer.send(data(1, BODY)[9000:], SETTINGS_ACK)
    assert exchange.received == len(BODY)
    assert peer.rst_codes() == []


def test_an_end_of_input_within_a_frame_cuts_the_stream(peer: Peer) -> None:
    exchange = peer.request(1, POST, end=False)
    peer.send(data(1, BODY)[:9000])
    peer.engine.receive_eof()
    assert exchange.closed
    assert peer.engine._reader._receiving is None
