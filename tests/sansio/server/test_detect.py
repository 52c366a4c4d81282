"""Before the engine: ``ProtocolDetector`` by bytes, ``Undecided`` by time."""

import logging
from typing import Any, cast

import pytest

from tako.config import ServerConfig
from tako.errors import ProxyProtocolError
from tako.http.conn_info import IpPeer
from tako.proxy.policy import ProxyPolicy
from tako.server.detect import ListenerProtocol, ProtocolDetector
from tako.server.undecided import SharedTransport, Undecided
from tako.tcp.protocol import Protocol
from tests.support.wire import FakeRuntime, FakeTransport


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HELLO = b"\x16\x03\x01\x00\x05hello"
PROXY = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 8080\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
CONFIG = ServerConfig(proxy_read_timeout=3, tls_handshake_timeout=5)
REQUIRED = ProxyPolicy.everybody()
OPTIONAL = ProxyPolicy(["127.0.0.1"], required=False)


def detector(
    protocol: ListenerProtocol = "any",
    policy: ProxyPolicy | None = None,
    *,
    tls: bool = True,
) -> ProtocolDetector:
    return ProtocolDetector(CONFIG, protocol, tls=tls, policy=policy)


def drip(subject: ProtocolDetector, data: bytes) -> tuple[Protocol | None, bytes]:
    """Feed byte by byte; return the answer and what the engine is to get."""
    for at in range(len(data)):
        answer = subject.receive_data(data[at : at + 1])
        if answer is not None:
            return answer, subject.rest + data[at + 1 :]
    return None, b""


class TestFirstBytes:
    @pytest.mark.parametrize(
        ("data", "answer"),
        [
            (HELLO, "tls"),
            (PREFACE, "h2"),
            (b"GET / HTTP/1.1\r\n", "http/1.1"),
            (b"POST / HTTP/1.1\r\n", "http/1.1"),
            (b"PUT / HTTP/1.1\r\n", "http/1.1"),
            (b"PROPFIND / HTTP/1.1\r\n", "http/1.1"),
            (b"PRI * HTTP/1.1\r\n\r\n", "http/1.1"),
            (PROXY, "http/1.1"),
            (b"\r\nGET / HTTP/1.1\r\n", "http/1.1"),
            (b"\x80\x2e\x01", "http/1.1"),
        ],
    )
    def test_they_say_what_it_is(self, data: bytes, answer: Protocol) -> None:
        whole = detector()
        assert whole.receive_data(data) == answer
        assert whole.rest == data
        assert drip(detector(), data) == (answer, data)

    def test_without_a_certificate_tls_is_a_bad_request(self) -> None:
        assert detector(tls=False).receive_data(HELLO) == "http/1.1"

    def test_a_part_of_the_preface_is_no_answer(self) -> None:
        for size in range(len(PREFACE)):
            assert detector().receive_data(PREFACE[:size]) is None


class TestProxyHeader:
    @pytest.mark.parametrize("protocol", ["http/1.1", "h2", "tls"])
    def test_a_listener_of_one_protocol_looks_no_further(
        self, protocol: Protocol
    ) -> None:
        subject = detector(protocol, REQUIRED)
        assert subject.receive_data(PROXY) == protocol
        assert subject.header is not None
        assert subject.header.source == IpPeer("192.0.2.1", 56324)
        assert subject.rest == b""

    @pytest.mark.parametrize(
        ("data", "answer"),
        [(HELLO, "tls"), (PREFACE, "h2"), (b"GET /", "http/1.1"), (PROXY, "http/1.1")],
    )
    @pytest.mark.parametrize("policy", [REQUIRED, OPTIONAL])
    def test_behind_it_comes_any_protocol_but_no_second_header(
        self, policy: ProxyPolicy, data: bytes, answer: Protocol
    ) -> None:
        subject = detector(policy=policy)
        assert drip(subject, PROXY + data) == (answer, data)
        assert subject.header is not None
        whole = detector(policy=policy)
        assert whole.receive_data(PROXY + data) == answer
        assert whole.rest == data

    @pytest.mark.parametrize("data", [HELLO, PREFACE, b"GET /"])
    def test_where_it_is_required_nothing_else_is_served(self, data: bytes) -> None:
        with pytest.raises(ProxyProtocolError):
            detector(policy=REQUIRED).receive_data(data)

    @pytest.mark.parametrize(
        ("data", "answer"),
        [
            (HELLO, "tls"),
            (PREFACE, "h2"),
            (b"PROPFIND /", "http/1.1"),
            (b"POST /", "http/1.1"),
            (b"\r\n\r\nGET /", "http/1.1"),
        ],
    )
    def test_where_it_is_optional_everything_else_is_served(
        self, data: bytes, answer: Protocol
    ) -> None:
        for feed in (lambda s: (s.receive_data(data), s.rest), lambda s: drip(s, data)):
            subject = detector(policy=OPTIONAL)
            assert feed(subject) == (answer, data)
            assert subject.header is None

    def test_an_optional_v2_header_is_found(self) -> None:
        local = SIGNATURE + b"\x20\x00\x00\x00"
        assert drip(detector(policy=OPTIONAL), local + b"GET /") == (
            "http/1.1",
            b"GET /",
        )

    def test_an_optional_header_may_not_be_malformed(self) -> None:
        with pytest.raises(ProxyProtocolError):
            detector(policy=OPTIONAL).receive_data(b"PROXY SPX\r\n")


class Door:
    """An entrance with doubles around it."""

    def __init__(self, subject: ProtocolDetector) -> None:
        self.runtime = FakeRuntime()
        self.transport = FakeTransport()
        self.entered: list[Protocol] = []
        self.lost = 0
        self.undecided = Undecided(
            cast("Any", self.runtime),
            subject,
            IpPeer("127.0.0.1", 50000),
            on_decided=lambda _, transport, protocol: self.entered.append(protocol),
            on_lost=lambda _: self._count(),
        )

    def connect(self) -> "Door":
        self.undecided.connection_made(cast("SharedTransport", self.transport))
        return self

    def _count(self) -> None:
        self.lost += 1


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    return [record.message for record in caplog.records]


class TestEntrance:
    def test_on_a_late_loop_input_comes_first(self) -> None:
        door = Door(detector(policy=REQUIRED)).connect()
        door.runtime.now += 5
        door.runtime.advance(0)
        door.undecided.data_received(PROXY + b"GET / ")
        door.runtime.advance(10)
        assert door.entered
        assert not door.transport.aborted

    def test_a_late_proxy_header_ends_the_connection(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        door = Door(detector(policy=REQUIRED)).connect()
        door.runtime.advance(2)
        door.undecided.data_received(PROXY[:-1])
        door.runtime.advance(0.9)
        assert not door.transport.aborted
        door.runtime.advance(0.2)
        assert door.transport.aborted
        assert warnings(caplog) == [
            "PROXY header timeout after 3.0 s from 127.0.0.1:50000"
        ]
        assert not door.transport.written
        assert not door.entered

    def test_the_first_bytes_have_their_own_time(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        door = Door(detector(policy=REQUIRED)).connect()
        door.runtime.advance(2)
        door.undecided.data_received(PROXY)
        door.runtime.advance(4.9)
        assert not door.transport.aborted
        door.runtime.advance(0.2)
        assert door.transport.aborted
        assert warnings(caplog) == [
            "first bytes timeout after 5.0 s from 127.0.0.1:50000"
        ]

    def test_a_malformed_header_ends_the_connection_without_a_word(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        door = Door(detector(policy=REQUIRED)).connect()
        door.undecided.data_received(b"GET / HTTP/1.1\r\n\r\n")
        assert door.transport.aborted
        assert not door.transport.written
        assert not door.entered
        (text,) = warnings(caplog)
        assert text.startswith("invalid PROXY protocol header")
        assert text.endswith("from 127.0.0.1:50000")
        door.runtime.advance(100)
        assert len(caplog.records) == 1

    def test_an_incomplete_header_is_worth_a_warning_and_silence_is_not(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        silent = Door(detector(policy=REQUIRED)).connect()
        assert not silent.undecided.eof_received()
        assert (silent.transport.aborted, warnings(caplog)) == (True, [])
        for policy in (REQUIRED, OPTIONAL):
            door = Door(detector(policy=policy)).connect()
            door.undecided.data_received(PROXY[:4])
            assert not door.undecided.eof_received()
            expected = "incomplete PROXY header, from 127.0.0.1:50000"
            assert warnings(caplog).pop() == expected

    def test_after_it_was_entered_no_clock_runs(self) -> None:
        door = Door(detector()).connect()
        assert door.undecided.handshaking
        door.undecided.data_received(b"GET /")
        assert door.entered == ["http/1.1"]
        assert not door.undecided.handshaking
        door.runtime.advance(100)
        assert not door.transport.aborted

    def test_a_drain_drops_it(self) -> None:
        door = Door(detector()).connect()
        door.undecided.shut_down()
        assert door.transport.aborted
        door.undecided.data_received(b"GET /")
        door.undecided.connection_lost(None)
        assert (door.entered, door.lost) == ([], 1)
        door.runtime.advance(100)

    def test_a_drain_before_it_has_a_transport_drops_it(self) -> None:
        door = Door(detector())
        door.undecided.shut_down()
        door.connect()
        assert door.transport.aborted
