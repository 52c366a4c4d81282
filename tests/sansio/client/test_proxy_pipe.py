"""``ProxyPipe``: TLS to a proxy, its step and TLS to the server, over memory."""

import contextlib
import functools
import ssl
from collections.abc import Iterator

import pytest
import trustme

from tako.client.http_connect import HttpConnect
from tako.client.proxy_pipe import ProxyPipe
from tako.client.proxy_step import ProxyState
from tako.core.turn import Turn
from tako.tls.client_pipe import ClientTlsPipe


OPENED = b"HTTP/1.1 200 OK\r\n\r\n"
SIZES = [1, 7, 100, 1 << 20]


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


class TlsEnd:
    """The other end of TLS, over memory."""

    def __init__(self, name: str, alpn: list[str]) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority().issue_cert(name).configure_cert(context)
        context.set_alpn_protocols(alpn)
        context.num_tickets = 0
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.established = False
        self.ended = False

    def receive(self, data: bytes) -> bytes:
        self.incoming.write(data)
        got = b""
        try:
            if not self.established:
                self.ssl.do_handshake()
                self.established = True
            while piece := self.ssl.read(1 << 16):
                got += piece
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return got

    def send(self, data: bytes = b"", *, end: bool = False) -> bytes:
        if data:
            self.ssl.write(data)
        if end:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.ssl.unwrap()
        return self.outgoing.read()


class Far:
    """The proxy, and the server behind it, which echoes."""

    def __init__(self, *, below: bool, above: bool, answer: bytes = OPENED) -> None:
        self.below = TlsEnd("proxy.test", ["http/1.1"]) if below else None
        self.above = TlsEnd("a.test", ["h2"]) if above else None
        self.answer = answer
        self.asked = b""
        self.got = b""
        self.connected = False

    def receive(self, data: bytes) -> bytes:
        """Return what comes back."""
        if self.below is not None:
            data = self.below.receive(data)
        back = b""
        if not self.connected:
            self.asked += data
            data = b""
            if self.asked.endswith(b"\r\n\r\n"):
                self.connected = True
                back = self.answer
        if self.above is not None:
            data = self.above.receive(data)
            self.got += data
            back += self.above.send(data)
        else:
            self.got += data
            back += data
        return back if self.below is None else self.below.send(back)


def make(*, below: bool, above: bool, turn: Turn | None = None) -> ProxyPipe:
    step = HttpConnect("a.test", 443, None, None)
    return ProxyPipe(
        step,
        ClientTlsPipe(trusting(), "proxy.test", ["http/1.1"], turn) if below else None,
        ClientTlsPipe(trusting(), "a.test", ["h2"], turn) if above else None,
    )


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def talk(pipe: ProxyPipe, far: Far, size: int, data: bytes = b"") -> bytes:
    """Let both talk until they are silent, in pieces; return what the pipe got."""
    got = b""
    sent = pipe.data_to_send(data)
    while sent:
        back = b"".join(far.receive(piece) for piece in pieces(sent, size))
        for piece in pieces(back, size):
            got += pipe.receive_data(piece)
        sent = pipe.data_to_send()
    return got


def settled(pipe: ProxyPipe) -> ProxyPipe:
    assert pipe.remainder is pipe
    return pipe


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("above", [False, True])
def test_bytes_go_through_tls_to_the_proxy(above: bool, size: int) -> None:
    pipe, far = make(below=True, above=above), Far(below=True, above=above)
    assert not pipe.established
    talk(pipe, far, size)
    assert pipe.established
    assert not pipe.failed
    assert pipe.alpn == ("h2" if above else None)
    assert (pipe.info is not None) is above
    assert far.asked == b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n"
    assert settled(pipe) is pipe
    assert talk(pipe, far, size, b"hello") == b"hello"
    large = bytes(range(256)) * 300
    back = b"".join(far.receive(piece) for piece in pipe.pieces_to_send(large))
    assert pipe.receive_data(back) == large
    assert far.got == b"hello" + large


@pytest.mark.parametrize("size", SIZES)
def test_where_the_proxy_is_plain_the_pipe_is_left_out(size: int) -> None:
    pipe, far = make(below=False, above=True), Far(below=False, above=True)
    talk(pipe, far, size)
    assert pipe.established
    rest = pipe.remainder
    assert isinstance(rest, ClientTlsPipe)
    assert rest.alpn == pipe.alpn == "h2"
    assert rest.receive_data(far.receive(rest.data_to_send(b"hello"))) == b"hello"


def test_where_nothing_is_secured_no_pipe_remains() -> None:
    pipe, far = make(below=False, above=False), Far(below=False, above=False)
    back = far.receive(pipe.data_to_send())
    assert pipe.receive_data(back + b"early") == b"early"
    assert pipe.established
    assert (pipe.remainder, pipe.info, pipe.alpn) == (None, None, None)


@pytest.mark.parametrize("below", [False, True])
def test_a_refusal_is_a_failure_of_the_pipe(below: bool) -> None:
    pipe = make(below=below, above=True)
    far = Far(below=below, above=False, answer=b"HTTP/1.1 403 No\r\n\r\n")
    talk(pipe, far, 1000)
    assert pipe.failed
    assert pipe.ended
    assert not pipe.established
    assert pipe.error == "the proxy answers CONNECT with 403"
    assert pipe.step.status == 403
    assert pipe.receive_data(OPENED) == b""


def test_a_proxy_that_is_not_trusted_is_told_nothing() -> None:
    step = HttpConnect("a.test", 443, b"Basic secret", None)
    below = ClientTlsPipe(ssl.create_default_context(), "proxy.test", ["http/1.1"])
    pipe, far = ProxyPipe(step, below, None), Far(below=True, above=False)
    with pytest.raises(ssl.SSLError, match=r"(?i)alert unknown ca"):
        talk(pipe, far, 1 << 20)
    assert pipe.failed
    assert isinstance(pipe.cause, ssl.SSLCertVerificationError)
    assert pipe.step.state is ProxyState.ASKING
    assert far.asked == b""


def test_a_server_that_is_not_trusted_fails_behind_the_proxy() -> None:
    step = HttpConnect("a.test", 443, None, None)
    above = ClientTlsPipe(ssl.create_default_context(), "a.test", ["h2"])
    pipe, far = ProxyPipe(step, None, above), Far(below=False, above=True)
    with pytest.raises(ssl.SSLError, match=r"(?i)alert unknown ca"):
        talk(pipe, far, 1 << 20)
    assert isinstance(pipe.cause, ssl.SSLCertVerificationError)
    assert pipe.step.state is ProxyState.OPEN


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("above", [False, True])
def test_an_end_before_the_pipe_is_open_is_a_failure(below: bool, above: bool) -> None:
    pipe = make(below=below, above=above)
    pipe.data_to_send()
    pipe.receive_eof()
    pipe.receive_eof()
    assert pipe.failed
    assert not pipe.established


def test_both_ends_are_told_in_order_that_we_end() -> None:
    pipe, far = make(below=True, above=True), Far(below=True, above=True)
    talk(pipe, far, 1 << 20)
    pipe.close_notify()
    far.receive(pipe.data_to_send(b"dropped"))
    assert far.above is not None
    assert far.below is not None
    assert far.above.ended
    assert far.below.ended
    assert far.got == b""


def test_the_end_of_the_server_is_the_end_of_the_pipe() -> None:
    pipe, far = make(below=True, above=True), Far(below=True, above=True)
    talk(pipe, far, 1 << 20)
    assert far.above is not None
    assert far.below is not None
    last = far.below.send(far.above.send(b"bye", end=True))
    assert pipe.receive_data(last) == b"bye"
    assert (pipe.ended, pipe.peer_closed, pipe.truncated) == (True, True, False)
    assert not pipe.failed


def test_a_proxy_that_ends_cuts_the_server_short() -> None:
    pipe, far = make(below=True, above=True), Far(below=True, above=True)
    talk(pipe, far, 1 << 20)
    assert far.above is not None
    assert far.below is not None
    last = far.below.send(far.above.send(b"bye"), end=True)
    assert pipe.receive_data(last) == b"bye"
    assert (pipe.ended, pipe.peer_closed, pipe.truncated) == (True, True, True)


def test_input_that_a_turn_has_no_time_for_is_put_off_and_not_lost() -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    turn = Turn(clock, lambda _: None, lambda: None, 0.5, lambda: None)
    pipe = make(below=True, above=True, turn=turn)
    far = Far(below=True, above=True)
    talk(pipe, far, 1 << 20)
    while pipe.backlog:
        pipe.receive_data(b"")
    assert pipe.established
    assert far.above is not None
    assert far.below is not None
    for _ in range(200):
        far.above.ssl.write(b"x")
    got = pipe.receive_data(far.below.send(far.above.send()))
    turns = 0
    while pipe.backlog:
        turns += 1
        got += pipe.receive_data(b"")
    assert got == b"x" * 200
    assert turns
