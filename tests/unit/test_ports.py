"""What the tests themselves rely on: ports that nobody else gets."""

import errno
import os
import socket

import pytest

from tests.support import ports
from tests.support.ports import free_port


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


def test_they_differ_and_few_are_held() -> None:
    found = [free_port() for _ in range(200)]
    assert len(set(found[-64:])) == 64
    assert len(ports._held) == 64
    for file in ports._held:
        os.fstat(file)
