"""What the tests themselves rely on: ports that no other process gets."""

import errno
import os
import socket

import pytest

from tests.support.ports import HELD, free_port


def test_a_server_can_listen_there() -> None:
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert client.getpeername()[1] == port


def test_to_others_it_is_taken() -> None:
    # as for bind(0) and connect(), which choose for themselves
    taken = os.strerror(errno.EADDRINUSE)
    with socket.socket() as other, pytest.raises(OSError, match=taken):
        other.bind(("127.0.0.1", free_port()))


def test_none_comes_again_soon() -> None:
    assert len({free_port() for _ in range(HELD)}) == HELD
