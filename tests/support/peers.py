"""Connections of ``tako.testing`` for tests that know their wire."""

import ssl
from typing import Any

from tako.testing import H1Connection, H2Connection, RunningServer, Wire
from tako.testing.peer import connect
from tako.testing.peer.h2 import STREAM_WINDOW
from tako.testing.peer.io import Address


def h1_of(server: RunningServer, **options: Any) -> H1Connection:
    """``server.connection`` for a test that is about HTTP/1.1."""
    connection = server.connection(**options)
    assert isinstance(connection, H1Connection)
    return connection


def h2_of(server: RunningServer, **options: Any) -> H2Connection:
    """``server.connection`` for a test that is about HTTP/2."""
    connection = server.connection(**options)
    assert isinstance(connection, H2Connection)
    return connection


def connect_h1(address: Address, tls: ssl.SSLContext | None = None) -> H1Connection:
    """``connect`` for a test that is about HTTP/1.1."""
    connection = connect(address, "h1s" if tls else "h1", tls)
    assert isinstance(connection, H1Connection)
    return connection


def connect_h2(
    address: Address,
    tls: ssl.SSLContext | None = None,
    *,
    stream_window: int = STREAM_WINDOW,
) -> H2Connection:
    """``connect`` for a test that is about HTTP/2."""
    wire: Wire = "h2" if tls else "h2c"
    connection = connect(address, wire, tls, stream_window=stream_window)
    assert isinstance(connection, H2Connection)
    return connection
