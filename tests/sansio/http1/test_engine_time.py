"""How long a head and an idle connection may take, on a clock that the test moves."""

from tako.config import ServerConfig
from tako.h1 import H1Exchange
from tests.support.h1_peer import H1Peer


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def ok(exchange: H1Exchange) -> None:
    exchange.send_headers(200, [], end=True)


def peer(*, handler: object = None, **settings: float | None) -> H1Peer:
    config = ServerConfig(**settings)  # type: ignore[arg-type]
    return H1Peer(ok, config) if handler is None else H1Peer(handler, config)  # type: ignore[arg-type]


# The request head


def test_silent_connection_is_closed_without_a_word() -> None:
    client = peer(header_read_timeout=10)
    client.runtime.advance(9.9)
    assert not client.closed
    client.runtime.advance(0.2)
    assert client.closed
    assert client.take() == b""


def test_slow_head_is_408_however_often_a_byte_comes() -> None:
    client = peer(header_read_timeout=10)
    for octet in GET[:10]:
        client.send(bytes([octet]))
        client.runtime.advance(0.99)
    assert not client.closed
    client.runtime.advance(0.2)
    (answer,) = client.answers()
    assert answer.status == 408
    assert answer.has("connection: close")
    assert client.closed


def test_head_timeout_can_be_off() -> None:
    client = peer(header_read_timeout=None)
    client.send(b"GET")
    client.runtime.advance(1e6)
    assert not client.closed


def test_complete_head_stops_the_clock() -> None:
    async def slow(exchange: H1Exchange) -> None:
        await exchange.connection.runtime.sleep(100)
        await ok(exchange)

    client = peer(handler=slow, header_read_timeout=10)
    client.send(GET)
    client.runtime.advance(99)
    assert not client.closed
    client.runtime.advance(1)
    assert [answer.status for answer in client.answers()] == [200]
    assert not client.closed


# Between requests


def test_idle_time_counts_towards_the_next_head() -> None:
    client = peer(header_read_timeout=10)
    client.runtime.advance(5)
    client.send(GET)
    client.take()
    client.runtime.advance(9.9)
    assert not client.closed
    client.runtime.advance(0.2)
    assert client.closed
    assert client.take() == b""


def test_keep_alive_timeout_applies_between_requests() -> None:
    client = peer(header_read_timeout=10, keep_alive_timeout=75)
    client.send(GET)
    client.take()
    client.runtime.advance(74)
    client.send(GET)
    assert len(client.answers()) == 1
    client.runtime.advance(76)
    assert client.closed
    assert client.take() == b""


def test_head_timeout_begins_with_the_first_byte_after_idle_time() -> None:
    client = peer(header_read_timeout=10, keep_alive_timeout=75)
    client.send(GET)
    client.take()
    client.runtime.advance(74)
    client.send(b"GET")
    client.runtime.advance(9)
    client.send(b" ")
    assert not client.closed
    client.runtime.advance(2)
    assert [answer.status for answer in client.answers()] == [408]
