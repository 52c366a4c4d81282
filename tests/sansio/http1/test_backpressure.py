"""Bodies that arrive too slowly, on a clock that the test moves."""

import pytest

from tako.config import ServerConfig
from tako.core.seams import Pause
from tako.errors import RemoteProtocolError
from tako.h1 import H1Exchange
from tests.support.h1_peer import H1Peer, read_body


POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"


async def ok(exchange: H1Exchange) -> None:
    exchange.send_headers(200, [], end=True)


def peer(*, handler: object = None, **settings: float | None) -> H1Peer:
    config = ServerConfig(**settings)  # type: ignore[arg-type]
    return H1Peer(ok, config) if handler is None else H1Peer(handler, config)  # type: ignore[arg-type]


async def reads(exchange: H1Exchange) -> None:
    await read_body(exchange)
    await ok(exchange)


def test_body_that_stops_is_408_and_raises() -> None:
    client = peer(handler=reads)
    client.send(POST + b"x" * 100)
    client.runtime.advance(4.9)
    assert not client.closed
    client.runtime.advance(0.2)
    client.go_on()
    (answer,) = client.answers()
    assert answer.status == 408
    assert [type(error) for error in client.errors] == [RemoteProtocolError]
    assert client.closed


def test_body_that_trickles_is_ended_by_its_average() -> None:
    client = peer(handler=reads)
    client.send(POST)
    for _ in range(9):
        client.send(b"x" * 10)
        client.runtime.advance(1)
    assert [answer.status for answer in client.answers()] == [408]


def test_body_at_the_minimal_rate_is_read() -> None:
    client = peer(handler=reads)
    client.send(POST)
    for _ in range(400):
        client.send(b"x" * 250)
        client.runtime.advance(1)
    assert [answer.status for answer in client.answers()] == [200]


def test_a_fast_beginning_buys_time() -> None:
    client = peer(handler=reads)
    client.send(POST + b"x" * 24_000)
    client.runtime.advance(99)
    assert not client.closed
    client.runtime.advance(2)
    assert client.closed


def test_rate_is_not_measured_while_we_do_not_read() -> None:
    async def late(exchange: H1Exchange) -> None:
        await exchange.connection.runtime.sleep(1000)
        await reads(exchange)

    client = peer(handler=late, read_buffer=1024)
    client.send(POST + b"x" * 2048, size=1024)
    assert client.connection.pauses
    client.runtime.advance(999)
    assert not client.closed
    client.runtime.advance(1)
    assert not client.connection.pauses
    client.send(b"x" * (100_000 - 2048), size=1000)
    assert [answer.status for answer in client.answers()] == [200]


def test_one_read_does_not_pause_but_the_next_one_does() -> None:
    async def late(exchange: H1Exchange) -> None:
        await exchange.connection.runtime.sleep(1000)
        await reads(exchange)

    client = peer(handler=late, read_buffer=1024)
    client.send(POST)
    client.send(b"x" * 50_000)
    assert client.connection.pauses == 0
    client.send(b"x")
    assert client.connection.pauses == Pause.BODY


def test_rate_is_measured_again_after_a_pause() -> None:
    async def late(exchange: H1Exchange) -> None:
        await exchange.connection.runtime.sleep(100)
        await reads(exchange)

    client = peer(handler=late, read_buffer=1024)
    client.send(POST + b"x" * 2048, size=1024)
    client.runtime.advance(100)
    assert not client.closed
    client.runtime.advance(10)
    assert client.closed


def test_rate_is_not_measured_while_the_output_is_blocked() -> None:
    client = peer(handler=reads)
    client.send(POST)
    client.connection.writable = False
    client.runtime.advance(60)
    assert not client.closed
    client.connection.writable = True
    client.runtime.advance(6)
    assert client.closed


@pytest.mark.parametrize(
    "settings", [{"min_rate": 0}, {"min_rate_grace": None}], ids=["rate", "grace"]
)
def test_minimal_rate_can_be_off(settings: dict[str, float | None]) -> None:
    client = peer(handler=reads, **settings)
    client.send(POST)
    client.runtime.advance(1e6)
    assert not client.closed


def test_client_that_waits_for_100_is_not_slow() -> None:
    async def late(exchange: H1Exchange) -> None:
        await exchange.connection.runtime.sleep(1000)
        await reads(exchange)

    client = peer(handler=late)
    client.send(POST[:-2] + b"Expect: 100-continue\r\n\r\n")
    client.runtime.advance(1000)
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.runtime.advance(4)
    assert not client.closed
    client.runtime.advance(2)
    assert client.closed


def test_body_timeout_behind_a_head_lets_the_answer_finish() -> None:
    async def stream(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [])
        with pytest.raises(RemoteProtocolError):
            await read_body(exchange)
        exchange.send_data(b"late", end=True)

    client = peer(handler=stream)
    client.send(POST)
    client.runtime.advance(6)
    (answer,) = client.answers()
    assert (answer.status, answer.body) == (200, b"late")
    assert client.closed


def test_drained_body_must_keep_the_rate() -> None:
    client = peer()
    client.send(POST)
    assert len(client.answers()) == 1
    client.runtime.advance(6)
    assert client.closed
    assert client.take() == b""
