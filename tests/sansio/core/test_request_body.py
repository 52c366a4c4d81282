"""``BodySink``: credit, ends, backpressure."""

import tracemalloc

import pytest
from hypothesis import given, strategies as st

from tako.core.request_body import BodySink
from tako.errors import Disconnected, RemoteProtocolError
from tests.support.fake_exchange import FakeExchange
from tests.support.wire import FakeTask


@pytest.fixture
def exchange() -> FakeExchange:
    return FakeExchange()


def start_reading(exchange: FakeExchange) -> FakeTask:
    task = exchange.connection.runtime.spawn(exchange.body.next_chunk)
    exchange.connection.runtime.run_ready()
    return task


def read(exchange: FakeExchange) -> bytes:
    chunk = exchange.connection.runtime.run(exchange.body.next_chunk)
    assert isinstance(chunk, bytes)
    return chunk


def test_chunks_come_out_in_order_and_then_the_end(exchange: FakeExchange) -> None:
    body = exchange.body
    body.deliver(b"one")
    body.deliver(b"two")
    body.deliver_eof()
    assert [read(exchange) for _ in range(4)] == [b"one", b"two", b"", b""]


def test_credit_is_given_when_a_chunk_is_taken(exchange: FakeExchange) -> None:
    exchange.body.deliver(b"12345")
    exchange.body.deliver(b"678")
    assert exchange.credit == 0
    read(exchange)
    assert exchange.credit == 5
    read(exchange)
    assert exchange.credit == 8


def test_a_waiting_reader_is_woken_by_data(exchange: FakeExchange) -> None:
    task = start_reading(exchange)
    assert not task.done
    exchange.body.deliver(b"late")
    exchange.connection.runtime.run_ready()
    assert task.result == b"late"


def test_a_waiting_reader_is_woken_by_the_end(exchange: FakeExchange) -> None:
    task = start_reading(exchange)
    exchange.body.deliver_eof()
    exchange.connection.runtime.run_ready()
    assert task.result == b""


def test_an_empty_chunk_is_not_taken_for_the_end(exchange: FakeExchange) -> None:
    task = start_reading(exchange)
    exchange.body.deliver(b"")
    exchange.connection.runtime.run_ready()
    assert not task.done


@pytest.mark.parametrize("error", [Disconnected("gone"), RemoteProtocolError("bad")])
def test_an_error_comes_after_what_arrived_and_each_time_anew(
    exchange: FakeExchange, error: Exception
) -> None:
    exchange.body.deliver(b"rest")
    exchange.body.deliver_eof(error)
    assert read(exchange) == b"rest"
    raised = []
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            read(exchange)
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert raised[0].args == error.args


def test_an_error_after_the_end_changes_nothing(exchange: FakeExchange) -> None:
    exchange.body.deliver_eof()
    exchange.body.deliver_eof(Disconnected())
    assert read(exchange) == b""
    assert exchange.body.complete


def test_the_first_error_stays(exchange: FakeExchange) -> None:
    exchange.body.deliver_eof(RemoteProtocolError("first"))
    exchange.body.deliver_eof(Disconnected())
    with pytest.raises(RemoteProtocolError, match="first"):
        read(exchange)


def test_the_end_after_an_error_does_not_complete_the_body(
    exchange: FakeExchange,
) -> None:
    exchange.body.deliver_eof(RemoteProtocolError("cut short"))
    exchange.body.deliver_eof()
    assert not exchange.body.complete
    with pytest.raises(RemoteProtocolError):
        read(exchange)


def test_discard_credits_what_waits_and_what_comes(exchange: FakeExchange) -> None:
    exchange.body.deliver(b"123")
    exchange.body.discard()
    assert exchange.credit == 3
    exchange.body.deliver(b"4567")
    assert exchange.credit == 7


def test_exhausted_means_complete_and_read(exchange: FakeExchange) -> None:
    body = exchange.body
    body.deliver(b"x")
    body.deliver_eof()
    assert (body.complete, body.exhausted) == (True, False)
    read(exchange)
    assert body.exhausted


def test_100_continue_is_asked_for_by_the_first_wait_only() -> None:
    exchange = FakeExchange()
    asked: list[None] = []
    exchange.body = body = BodySink(exchange, lambda: asked.append(None))
    body.deliver(b"early")
    assert read(exchange) == b"early"
    assert not asked, "what is there already need not be asked for (RFC 9110 §10.1.1)"
    start_reading(exchange)
    assert len(asked) == 1
    body.deliver(b"x")
    exchange.connection.runtime.run_ready()
    start_reading(exchange)
    assert len(asked) == 1


def test_a_cancelled_read_loses_no_chunk(exchange: FakeExchange) -> None:
    for _ in range(100):
        task = start_reading(exchange)
        task.cancel()
        exchange.connection.runtime.run_ready()
        assert task.cancelled
    exchange.body.deliver(b"kept")
    assert read(exchange) == b"kept"


def test_drained_returns_at_once_while_output_is_welcome(
    exchange: FakeExchange,
) -> None:
    exchange.connection.runtime.run(exchange.body.writable_again)


@pytest.mark.parametrize("reason", ["writable", "over"])
def test_drained_waits_until_writable_or_over(
    exchange: FakeExchange, reason: str
) -> None:
    runtime = exchange.connection.runtime
    exchange.writable = False
    task = runtime.spawn(exchange.body.writable_again)
    runtime.run_ready()
    exchange.body.wake_writer()  # a false alarm
    runtime.run_ready()
    assert not task.done
    if reason == "writable":
        exchange.writable = True
        exchange.body.wake_writer()
    else:
        exchange.gone = True
        exchange.body.deliver_eof(Disconnected())
    runtime.run_ready()
    assert task.done
    assert task.error is None


@given(
    st.lists(
        st.one_of(st.binary(max_size=20), st.sampled_from(["read", "discard"])),
        max_size=40,
    )
)
def test_bytes_delivered_are_consumed_or_waiting(
    steps: list[bytes | str],
) -> None:
    exchange = FakeExchange()
    delivered = waiting = 0
    discarded = False
    for step in steps:
        if isinstance(step, bytes):
            exchange.body.deliver(step)
            delivered += len(step)
            waiting += 0 if discarded else len(step)
        elif step == "discard":
            exchange.body.discard()
            discarded, waiting = True, 0
        elif waiting:
            waiting -= len(read(exchange))
        assert exchange.credit + waiting == delivered


def test_a_body_in_tiny_pieces_costs_about_its_credit(exchange: FakeExchange) -> None:
    pieces = [b"%02d" % (index % 100) for index in range(50_000)]
    tracemalloc.start()
    try:
        for piece in pieces:
            exchange.body.deliver(piece)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 2 * 100_000  # as objects they are 1.7 MB
    exchange.body.deliver_eof()
    got = b""
    while chunk := read(exchange):
        assert type(chunk) is bytes
        got += chunk
        assert exchange.credit == len(got)
    assert got == b"".join(pieces)
