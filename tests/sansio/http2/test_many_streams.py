"""A thousand streams of one connection, open at once."""

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.h2.frames import DATA, DEFAULT_WINDOW, PING, frame
from tests.support.h2wire import (
    CONNECT,
    GET,
    Make,
    Peer,
    answer,
    data,
    rst,
    settings,
    window_update,
)


MANY = 1000
IDS = range(1, 2 * MANY, 2)


def many(make: Make) -> Peer:
    return make(config=ServerConfig(h2_max_concurrent_streams=MANY))


def test_a_thousand_tunnels_are_open_and_one_more_is_refused(make: Make) -> None:
    peer = many(make)
    for stream_id in IDS:
        exchange, _ = peer.tunnel(stream_id)
        exchange.flush()
    assert len(peer.engine.exchanges) == MANY
    assert peer.send(peer.headers(IDS[-1] + 2, CONNECT, end=False)) == []
    assert peer.rst_codes() == [(IDS[-1] + 2, ErrorCode.REFUSED_STREAM)]
    peer.send(*(data(stream_id, b"x") for stream_id in IDS))
    for exchange in peer.exchanges:
        exchange.send_data(b"y")
    echoes = [f for f in peer.frames() if f.kind == DATA]
    assert [f.stream_id for f in echoes] == list(IDS)


def test_a_thousand_requests_in_one_read_are_all_answered(make: Make) -> None:
    peer = many(make)
    exchanges = peer.send(*(peer.headers(stream_id) for stream_id in IDS))
    assert len(exchanges) == MANY
    for exchange in exchanges:
        answer(exchange)
    ends = [f.stream_id for f in peer.frames() if f.ends]
    assert ends == list(IDS)
    assert not peer.engine.exchanges


def test_bytes_on_their_way_to_a_thousand_streams_that_were_reset(make: Make) -> None:
    peer = make(config=ServerConfig(h2_max_concurrent_streams=3 * MANY))
    ids = range(1, 6 * MANY, 2)
    for stream_id in ids:
        peer.tunnel(stream_id)
    for exchange in list(peer.exchanges):
        exchange.reset(ErrorCode.CANCEL)
    peer.frames()
    # RFC 9113 §5.4.2: the peer may have sent these before it saw the resets
    peer.send(*(data(stream_id, b"late") for stream_id in ids))
    assert peer.goaway_codes() == []
    assert not peer.engine.closing


def test_those_that_wait_for_the_connections_window_go_on_with_it(make: Make) -> None:
    peer = many(make)
    for stream_id in IDS:
        peer.tunnel(stream_id)
    peer.frames()
    size = DEFAULT_WINDOW // MANY + 1
    for exchange in peer.exchanges:
        exchange.send_data(bytes(size))
    peer.send(settings((4, DEFAULT_WINDOW + 1)))
    peer.frames()
    waiting = {each.stream_id for each in peer.exchanges if each.outbox.size}
    assert waiting
    for _ in range(len(waiting)):
        peer.send(window_update(0, size))
    sent = {f.stream_id for f in peer.frames() if f.kind == DATA}
    assert sent == waiting
    assert not any(each.outbox.size for each in peer.exchanges)


def test_a_thousand_resets_of_open_streams_keep_the_connection(make: Make) -> None:
    config = ServerConfig(
        h2_max_concurrent_streams=MANY, h2_max_pending_accept_reset_streams=MANY
    )
    peer = make(config=config)
    for stream_id in IDS:
        peer.tunnel(stream_id)
    peer.send(*(rst(stream_id) for stream_id in IDS))
    for exchange in list(peer.exchanges):
        exchange.ended()
    peer.frames()
    peer.send(frame(PING, 0, 0, bytes(8)))
    assert [f.kind for f in peer.frames()] == [PING]
    answer(peer.request(IDS[-1] + 2, GET))
    assert any(f.ends for f in peer.frames())
