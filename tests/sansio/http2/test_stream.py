"""The states of a stream (RFC 9113 §5.1): each way through them, and what is none."""

import logging

import pytest

from tako.core.error_code import ErrorCode
from tako.h2.stream import StreamState
from tests.support.h2wire import GET, POST, Make, Peer, answer, data


OPEN, LOCAL, REMOTE, CLOSED = StreamState


def test_an_answer_closes_a_stream_that_the_peer_has_ended(peer: Peer) -> None:
    exchange = peer.request(1, GET)
    assert exchange.state is REMOTE
    assert (exchange.over, exchange.peer_ended, exchange.closed) == (False, True, False)
    answer(exchange)
    assert exchange.state is CLOSED
    assert (exchange.over, exchange.peer_ended, exchange.closed) == (True, True, True)


def test_an_answered_stream_is_closed_by_the_end_of_its_request(peer: Peer) -> None:
    exchange = peer.request(1, POST, end=False)
    assert exchange.state is OPEN
    assert (exchange.over, exchange.peer_ended, exchange.closed) == (
        False,
        False,
        False,
    )
    answer(exchange)
    assert exchange.state is LOCAL
    assert (exchange.over, exchange.peer_ended, exchange.closed) == (True, False, False)
    peer.send(data(1, b"", end=True))
    assert exchange.state is CLOSED


def test_a_reset_closes_an_open_stream(peer: Peer) -> None:
    exchange = peer.request(1, POST, end=False)
    exchange.reset(ErrorCode.CANCEL)
    assert exchange.state is CLOSED


def test_a_state_that_must_not_follow_is_an_error_of_ours(peer: Peer) -> None:
    exchange = peer.request(1, GET)
    exchange.reset()
    with pytest.raises(AssertionError, match=r"OPEN must not follow .*CLOSED"):
        exchange._enter(OPEN)


def test_each_change_of_state_is_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tako.h2")
    answer(make().request(1, GET))
    said = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert said == [
        "stream 1 is HALF_CLOSED_REMOTE",
        "response of stream 1 is BODY",
        "response of stream 1 is ENDED",
        "stream 1 is CLOSED",
    ]
