"""``TlsTap``: bytes are told, and nothing else changes."""

import contextlib

from tako.tls.pipe import TlsPipe
from tako.tls.server_pipe import ServerTlsPipe
from tako.tls.tap import TlsTap
from tests.sansio.tls.test_pipe import Client, client_context, settings


class Told:
    """What was told: both directions."""

    def __init__(self) -> None:
        self.received = b""
        self.sent = b""

    def __call__(self, received: bool, data: bytes) -> None:
        if received:
            self.received += data
        else:
            self.sent += data


def established() -> tuple[TlsPipe, Client]:
    pipe, client = ServerTlsPipe(settings()), Client(client_context())
    while not pipe.established:
        pipe.receive_data(client.step())
        client.incoming.write(pipe.data_to_send())
    client.step()
    client.incoming.write(pipe.data_to_send())
    return pipe, client


def test_plaintext_of_both_directions_is_told() -> None:
    below, client = established()
    told = Told()
    tap = TlsTap(below, told)
    client.ssl.write(b"question")
    assert tap.receive_data(client.outgoing.read()) == b"question"
    client.incoming.write(tap.data_to_send(b"answer"))
    client.incoming.write(b"".join(tap.pieces_to_send(b"x" * 100_000)))
    assert client.ssl.read(1 << 20) == b"answer"
    assert (told.received, told.sent) == (b"question", b"answer" + b"x" * 100_000)


def test_the_end_of_the_pipe_below_is_that_of_the_tap() -> None:
    below, client = established()
    tap = TlsTap(below, Told())
    assert tap.established
    assert not tap.ended
    client.ssl.write(b"last")
    with contextlib.suppress(OSError):  # ours has not come
        client.ssl.unwrap()
    assert tap.receive_data(client.outgoing.read()) == b"last"
    assert (tap.ended, tap.peer_closed, tap.failed) == (True, True, False)
    tap.close_notify()
    assert tap.data_to_send() != b""


def test_a_failure_below_is_one_of_the_tap() -> None:
    below, _ = established()
    tap = TlsTap(below, Told())
    assert tap.receive_data(b"\x17\x03\x03\x00\x20" + bytes(32)) == b""
    assert (tap.failed, tap.ended) == (True, True)
    assert tap.error == below.error


def test_the_end_of_the_socket_reaches_the_pipe_below() -> None:
    below, _ = established()
    tap = TlsTap(below, Told())
    tap.receive_eof()
    assert below.truncated
    assert tap.truncated


def test_without_tls_bytes_go_through_unchanged() -> None:
    told = Told()
    tap = TlsTap(None, told)
    assert (tap.established, tap.ended, tap.backlog) == (True, False, False)
    assert tap.receive_data(b"in") == b"in"
    assert tap.data_to_send(memoryview(b"out")) == b"out"
    assert tap.pieces_to_send(b"more") == [b"more"]
    assert tap.data_to_send() == b""
    tap.receive_eof()
    tap.close_notify()
    assert (told.received, told.sent) == (b"in", b"outmore")
