"""``PlainSocket``: a socket as any other, whose family and type are numbers."""

import socket

from tako.server.plain_socket import PlainSocket


def test_family_and_type_are_those_of_before_as_plain_numbers() -> None:
    sock, other = socket.socketpair()
    with sock, other:
        before = sock.family, sock.type, sock.fileno()
        sock.__class__ = PlainSocket
        assert (sock.family, sock.type, sock.fileno()) == before
        assert (type(sock.family), type(sock.type)) == (int, int)
        sock.setblocking(False)
        assert sock.type == socket.SOCK_STREAM
        other.sendall(b"x")
        assert sock.recv(1) == b"x"
