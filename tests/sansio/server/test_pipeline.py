"""``run_exchange``: from what a handler returns, or raises, to the exchange."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tako.core.error_code import ErrorCode
from tako.core.seams import Tunnel
from tako.core.upgrade import UpgradeResponse
from tako.errors import Disconnected
from tako.http.headers import Headers
from tako.http.request import Request
from tako.http.response import Response
from tako.server.pipeline import run_exchange
from tests.support.fake_exchange import FakeExchange
from tests.support.wire import FakeTask


KIB = 1024


def answer(response: Response, exchange: FakeExchange | None = None) -> FakeExchange:
    """Run an exchange with a handler that returns ``response``."""
    exchange = exchange or FakeExchange()
    task = start(response, exchange)
    assert task.done
    if task.error is not None:
        raise task.error
    return exchange


def start(response: Response, exchange: FakeExchange) -> FakeTask:
    async def dispatch(_: Request) -> Response:
        return response

    task = exchange.connection.runtime.spawn(run_exchange, dispatch, exchange)
    exchange.connection.runtime.advance(0)
    return task


def length(exchange: FakeExchange) -> bytes | None:
    return dict(exchange.headers).get(b"content-length")


class TestBytes:
    def test_a_body_has_its_length(self) -> None:
        exchange = answer(Response(200, body=b"hello"))
        assert (exchange.status, exchange.take()) == (200, b"hello")
        assert length(exchange) == b"5"
        assert exchange.output_ended

    def test_an_empty_body_ends_with_the_head(self) -> None:
        exchange = answer(Response(200))
        assert exchange.output_ended
        assert exchange.pieces == []
        assert length(exchange) == b"0"

    def test_the_length_that_a_handler_gave_is_not_repeated(self) -> None:
        response = Response(200, [("content-length", "5")], b"hello")
        names = [name for name, _ in answer(response).headers]
        assert names.count(b"content-length") == 1

    def test_a_wrong_length_is_a_500(self, caplog: pytest.LogCaptureFixture) -> None:
        exchange = answer(Response(200, [("content-length", "4")], b"hello"))
        assert exchange.status == 500
        assert exchange.take() == b"Internal Server Error"
        assert not exchange.resets
        assert "content-length" in caplog.text

    def test_a_body_that_may_leave_at_once_is_queued_as_it_is(self) -> None:
        exchange, body = FakeExchange(), bytes(200 * KIB)
        exchange.at_once = len(body)
        task = start(Response(200, body=body), exchange)
        assert exchange.pieces == [body]
        assert exchange.pieces[0] is body
        assert task.done

    def test_it_waits_for_room_as_any_other(self) -> None:
        exchange, body = FakeExchange(), bytes(200 * KIB)
        exchange.at_once, exchange.writable = len(body), False
        task = start(Response(200, body=body), exchange)
        assert len(exchange.take()) == 64 * KIB
        assert not task.done

    def test_a_large_body_is_queued_in_pieces_and_waits_for_room(self) -> None:
        exchange = FakeExchange()
        exchange.writable = False
        task = start(Response(200, body=bytes(200 * KIB)), exchange)
        assert [len(piece) for piece in exchange.pieces] == [64 * KIB]
        assert not task.done
        exchange.writable = True
        exchange.body.wake_writer()
        exchange.connection.runtime.advance(0)
        assert task.done
        assert [len(piece) for piece in exchange.pieces] == [
            64 * KIB,
            64 * KIB,
            64 * KIB,
            8 * KIB,
        ]
        assert exchange.output_ended

    def test_a_peer_that_leaves_ends_it(self) -> None:
        exchange = FakeExchange()
        exchange.writable = False
        task = start(Response(200, body=bytes(200 * KIB)), exchange)
        exchange.gone = True
        exchange.body.deliver_eof(Disconnected())
        exchange.connection.runtime.advance(0)
        assert task.done
        assert task.error is None
        assert len(exchange.pieces) == 1

    @pytest.mark.parametrize("status", [204, 205, 304])
    def test_some_statuses_have_no_body(self, status: int) -> None:
        """RFC 9110 §15.3.5, §15.3.6, §15.4.5."""
        exchange = answer(Response(status, body=b"dropped"))
        assert exchange.output_ended
        assert exchange.pieces == []
        assert length(exchange) is None

    def test_head_has_the_length_and_no_body(self) -> None:
        """RFC 9110 §9.3.2."""
        exchange = answer(Response(200, body=b"hello"), FakeExchange(method="HEAD"))
        assert length(exchange) == b"5"
        assert exchange.output_ended
        assert exchange.pieces == []


class Source:
    """A streamed body that notes how it ends."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self.chunks = chunks
        self.closed = False
        self.taken = 0

    async def stream(self) -> AsyncIterator[bytes]:
        try:
            for chunk in self.chunks:
                if isinstance(chunk, Exception):
                    raise chunk
                self.taken += 1
                yield chunk
        finally:
            self.closed = True

    def iterate(self) -> Iterator[bytes]:
        try:
            for chunk in self.chunks:
                assert isinstance(chunk, bytes)
                self.taken += 1
                yield chunk
        finally:
            self.closed = True


class TestStreams:
    @pytest.mark.parametrize("kind", ["async", "sync"])
    def test_chunks_are_sent_as_they_come(self, kind: str) -> None:
        source = Source(b"a", b"b")
        body = source.stream() if kind == "async" else source.iterate()
        exchange = answer(Response(200, body=body))
        assert exchange.pieces == [b"a", b"b", b""]
        assert exchange.output_ended
        assert length(exchange) is None
        assert source.closed

    def test_a_large_chunk_is_split(self) -> None:
        exchange = answer(Response(200, body=Source(bytes(150 * KIB)).stream()))
        sizes = [len(piece) // KIB for piece in exchange.pieces]
        assert sizes == [64, 64, 22, 0]

    def test_trailers_end_it(self) -> None:
        response = Response(200, body=Source(b"x").stream())
        response.trailers = Headers([("x-sum", "1")])
        exchange = answer(response)
        assert exchange.trailers == [(b"x-sum", b"1")]
        assert exchange.output_ended

    def test_the_producer_waits_for_a_slow_peer(self) -> None:
        exchange = FakeExchange()
        exchange.writable = False
        source = Source(b"a", b"b", b"c")
        start(Response(200, body=source.stream()), exchange)
        assert source.taken == 1
        exchange.writable = True
        exchange.body.wake_writer()
        exchange.connection.runtime.advance(0)
        assert source.taken == 3

    @pytest.mark.parametrize("kind", ["async", "sync"])
    def test_a_peer_that_leaves_closes_the_generator(self, kind: str) -> None:
        exchange = FakeExchange()
        exchange.writable = False
        source = Source(b"a", b"b")
        body = source.stream() if kind == "async" else source.iterate()
        task = start(Response(200, body=body), exchange)
        exchange.gone = True
        exchange.body.deliver_eof(Disconnected())
        exchange.connection.runtime.advance(0)
        assert task.done
        assert source.closed
        assert source.taken == 1

    def test_head_closes_the_generator_unused(self) -> None:
        source = Source(b"a")
        exchange = answer(
            Response(200, body=source.stream()), FakeExchange(method="HEAD")
        )
        assert source.taken == 0
        assert exchange.output_ended

    def test_failing_in_the_middle_resets(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = Source(b"a", ValueError("secret"))
        exchange = answer(Response(200, body=source.stream()))
        assert exchange.resets == [ErrorCode.INTERNAL_ERROR]
        assert exchange.take() == b"a"
        assert "secret" in caplog.text
        assert source.closed


class TestFailures:
    def test_a_handler_that_raises_is_a_500_without_the_text(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def dispatch(_: Request) -> Response:
            msg = "secret"
            raise ValueError(msg)

        exchange = FakeExchange()
        exchange.connection.runtime.run(run_exchange, dispatch, exchange)
        assert (exchange.status, exchange.take()) == (500, b"Internal Server Error")
        assert "secret" in caplog.text

    @pytest.mark.parametrize(("status", "waits"), [(200, False), (404, True)])
    def test_an_error_waits_a_moment_for_a_small_body(
        self, status: int, waits: bool
    ) -> None:
        exchange = FakeExchange()
        exchange.error_delay = 0.05
        start(Response(status), exchange)
        assert (exchange.status == 499) is waits
        exchange.body.deliver_eof()
        exchange.connection.runtime.advance(0)
        assert exchange.status == status

    def test_but_no_longer(self) -> None:
        exchange = FakeExchange()
        exchange.error_delay = 0.05
        start(Response(404), exchange)
        exchange.connection.runtime.advance(0.06)
        assert exchange.status == 404

    def test_the_unread_body_is_credited(self) -> None:
        exchange = FakeExchange()
        exchange.body.deliver(b"12345")
        answer(Response(200), exchange)
        assert exchange.credit == 5
        exchange.body.deliver(b"67")
        assert exchange.credit == 7


class Upgrade:
    """An upgrade that notes what is done with it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.attached: list[Tunnel] = []
        self.runs = 0

    def attach(self, tunnel: Tunnel) -> None:
        self.attached.append(tunnel)

    async def run(self) -> None:
        self.runs += 1
        if self.error is not None:
            raise self.error


class TestUpgrades:
    def test_the_tunnel_is_open_before_the_conversation_begins(self) -> None:
        upgrade = Upgrade()
        response = UpgradeResponse(101, [(b"upgrade", b"websocket")], upgrade)
        exchange = answer(response)
        assert exchange.status == 101
        assert exchange.headers == [(b"upgrade", b"websocket")]
        assert [id(each) for each in upgrade.attached] == [id(exchange)]
        assert upgrade.runs == 1
        assert exchange.flushes == [True]

    def test_a_bug_in_it_resets(self, caplog: pytest.LogCaptureFixture) -> None:
        response = UpgradeResponse(101, (), Upgrade(RuntimeError("bug")))
        assert answer(response).resets == [ErrorCode.INTERNAL_ERROR]
        assert "bug" in caplog.text
