"""All that a handler may still call once its connection is lost: the seams' methods."""

from collections.abc import Callable
from functools import partial

from tako.core.error_code import ErrorCode
from tako.core.seams import Connection, Engine, Exchange, Pause, Tunnel


class DeafSink:
    """``seams.Sink`` that counts the ends it is told of."""

    def __init__(self) -> None:
        self.received = b""
        self.ends = 0

    def deliver(self, data: bytes) -> None:
        self.received += data

    def deliver_eof(self, error: Exception | None = None) -> None:
        self.ends += 1

    def wake_writer(self) -> None:
        """There is none."""

    def shut_down(self) -> None:
        """There is nothing to close."""


def calls_of_connection(connection: Connection) -> list[Callable[[], object]]:
    """Return calls of a lost connection; what they arm raises if it fires."""
    deadline = connection.deadlines.new(_fired)
    turn = connection.turn
    return [
        connection.delivery,
        connection.peer_ended,
        connection.flush,
        partial(connection.flush, soon=True),
        partial(connection.write, b"x", True),
        partial(connection.pause_reading, Pause.BODY),
        partial(connection.resume_reading, Pause.BODY),
        connection.close,
        connection.abort,
        lambda: connection.deadlines.new(_fired).set(connection.time()),
        partial(deadline.set, connection.time()),
        partial(deadline.set, connection.time() - 1),
        partial(deadline.set, None),
        deadline.close,
        partial(turn.spend, 1000),
        partial(turn.later, _fired),
        turn.put_off,
        turn.serve_sinks,
    ]


def calls_of_exchange(exchange: Exchange) -> list[Callable[[], object]]:
    """Return calls of an exchange whose connection is lost."""
    connection = exchange.connection
    return [
        lambda: exchange.error_delay,
        lambda: exchange.writable,
        partial(exchange.send_headers, 200, ()),
        partial(exchange.send_headers, 200, (), end=True),
        partial(exchange.send_response, 200, (), b"hello"),
        partial(exchange.send_data, b"x"),
        partial(exchange.send_data, b"", end=True),
        partial(exchange.send_trailers, ()),
        partial(exchange.consumed, 1),
        exchange.reset,
        partial(exchange.reset, ErrorCode.NO_ERROR),
        exchange.flush,
        partial(exchange.flush, soon=True),
        exchange.body.discard,
        exchange.body.leave,
        partial(connection.cancel_at, connection.time(), exchange),
        lambda: [each() for each in calls_of_tunnel(exchange.open_tunnel(200, ()))],
        *calls_of_connection(connection),
    ]


def calls_of_tunnel(tunnel: Tunnel) -> list[Callable[[], object]]:
    """Return calls of a tunnel whose connection is lost."""
    return [
        lambda: tunnel.writable,
        partial(tunnel.receive_into, DeafSink()),
        partial(tunnel.send_frame, 0x81, "x", soon=False),
        partial(tunnel.send_frame, 0x81, "x", soon=True),
        partial(tunnel.send_data, b"x"),
        partial(tunnel.send_data, b"", end=True),
        partial(tunnel.consumed, 1),
        tunnel.reset,
        partial(tunnel.reset, ErrorCode.NO_ERROR),
        tunnel.flush,
        partial(tunnel.flush, soon=True),
        partial(tunnel.cancel_at, tunnel.connection.time()),
    ]


def calls_of_engine(engine: Engine) -> list[Callable[[], object]]:
    """Return calls of an engine whose connection is lost."""
    return [
        lambda: engine.complaint,
        partial(engine.receive_data, b""),
        partial(engine.receive_data, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        engine.receive_eof,
        engine.connection_lost,
        engine.data_to_send,
        engine.wake_writers,
        engine.shut_down,
    ]


def _fired() -> None:
    msg = "a lost connection has called its owner"
    raise AssertionError(msg)
