"""Counters: what they hold, what bounds them, and how servers of a process add up."""

import pytest

from tako.core.counters import (
    OTHER,
    PROCESS,
    Counters,
    Histogram,
    Wire,
    hit,
)
from tako.core.seams import Exchange
from tako.http.request import Request


class Answered(Exchange):
    """An exchange, as ``Counters.answered`` sees it."""

    def __init__(self, method: str, route: str | None, status: int) -> None:
        self.request = Request.build(method)
        self.request.matched_path = route
        self.status = status


class Connection:
    received = 10
    written = 20


class Socket:
    messages_received = 3
    messages_sent = 4


def answered(counters: Counters, method: str, route: str | None, status: int) -> None:
    exchange = Answered(method, route, status)
    counters.answered(exchange, "2", 0.25)


def test_a_value_at_a_bound_belongs_to_the_bucket_below() -> None:
    histogram = Histogram((1.0, 2.0))
    for seconds in (0.0, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == 7.5


def test_requests_are_counted_by_method_route_status_and_version() -> None:
    counters = Counters()
    for _ in range(3):
        answered(counters, "GET", "/{name}", 200)
    answered(counters, "GET", None, 404)
    sums = {key: sum(slot.counts) for key, slot in counters.requests.items()}
    assert sums == {
        ("GET", "/{name}", 200, "2"): 3,
        ("GET", None, 404, "2"): 1,
    }


def test_methods_that_clients_invent_share_a_slot() -> None:
    counters = Counters()
    for number in range(5000):
        answered(counters, f"M{number}", None, 501)
    ((key, slot),) = counters.requests.items()
    assert key == (OTHER, None, 501, "2")
    assert sum(slot.counts) == 5000


def test_requests_beyond_so_many_slots_share_one() -> None:
    counters = Counters()
    for number in range(3000):
        answered(counters, "GET", f"/{number}", 200)
    assert len(counters.requests) == 2001
    shared = counters.requests[OTHER, OTHER, 200, "2"]
    assert sum(shared.counts) == 1000


def test_close_codes_that_peers_invent_share_a_count() -> None:
    counters = Counters()
    for code in range(3000, 5000):
        counters.closed(code, "client")
    assert len(counters.closes) == 101
    assert counters.closes[OTHER, "client"] == 1900


def test_a_connection_counts_as_it_goes_and_once_it_is_gone() -> None:
    wire, connection = Wire("2"), Connection()
    wire.opened(connection)
    assert wire.bytes() == (10, 20)
    wire.lost(connection)
    wire.lost(connection)
    assert wire.bytes() == (10, 20)
    assert (wire.connections_opened, len(wire.connections)) == (1, 0)


def test_a_websocket_counts_as_it_goes_and_once_it_has_ended() -> None:
    wire, socket = Wire("1.1"), Socket()
    wire.socket_opened(socket)
    assert wire.messages() == (3, 4)
    wire.socket_closed(socket)
    assert wire.messages() == (3, 4)
    assert (wire.sockets_opened, len(wire.sockets)) == (1, 0)


def test_the_event_loop_is_never_early() -> None:
    counters = Counters()
    counters.looked(-0.001)
    assert counters.lag == counters.loop_lag.sum == 0.0


@pytest.mark.parametrize("version", ["1.0", "1.1", "2"])
def test_a_version_has_a_wire(version: str) -> None:
    counters = Counters()
    assert counters.wire(version).version == ("2" if version == "2" else "1.1")


def test_what_a_server_has_counted_stays_when_it_has_ended() -> None:
    def total() -> int:
        return sum(each.accepted for each in PROCESS)

    counters, before = Counters(), total()
    with PROCESS.serving(counters):
        counters.accepted += 5
        assert counters in set(PROCESS)
        assert total() == before + 5
    assert counters not in set(PROCESS)
    assert total() == before + 5


def test_counters_add_up_in_every_number() -> None:
    one, two = Counters(), Counters()
    for counters in (one, two):
        answered(counters, "GET", "/", 200)
        counters.closed(1000, "client")
        counters.looked(0.5)
        counters.pings.observe(0.002)
        counters.accepted = counters.accept_errors = 1
        counters.socket_waits.count, counters.socket_waits.seconds = 1, 2.0
        counters.response_waits.count, counters.response_waits.seconds = 3, 4.0
        for table in (counters.stream_resets, counters.faults, counters.limits):
            hit(table, "x")
        hit(counters.refused, 400)
        hit(counters.handshakes, ("complete", "TLSv1.3"))
        for wire in counters.wires():
            connection, socket = Connection(), Socket()
            wire.opened(connection)
            wire.lost(connection)
            wire.socket_opened(socket)
            wire.socket_closed(socket)
            wire.streams = 7
    one.add(two)
    assert sum(one.requests["GET", "/", 200, "2"].counts) == 2
    assert one.requests["GET", "/", 200, "2"].sum == 0.5
    assert one.closes == {("1000", "client"): 2}
    assert (one.loop_lag.sum, sum(one.pings.counts)) == (1.0, 2)
    assert (one.accepted, one.accept_errors) == (2, 2)
    assert (one.socket_waits.count, one.socket_waits.seconds) == (2, 4.0)
    assert (one.response_waits.count, one.response_waits.seconds) == (6, 8.0)
    assert one.stream_resets == one.faults == one.limits == {"x": 2}
    assert one.refused == {400: 2}
    assert one.handshakes == {("complete", "TLSv1.3"): 2}
    for wire in one.wires():
        assert wire.bytes() == (20, 40)
        assert wire.messages() == (6, 8)
        assert (wire.connections_opened, wire.sockets_opened) == (2, 2)
        assert wire.streams == 14
