"""What is said to proxies, with every split of what they answer, and hostile ones."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, strategies as st

from tako.client.http_connect import HttpConnect
from tako.client.proxy_step import ProxyState, ProxyStep
from tako.client.socks import SocksConnect


OPENED = b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n"
BEHIND = b"\x16\x03\x03 what the server says"

NO_AUTH, NAMED, GRANTED = b"\x05\x00", b"\x05\x02", b"\x01\x00"
REPLIES = {
    "IPv4": b"\x05\x00\x00\x01\x7f\x00\x00\x01\x1f\x90",
    "IPv6": b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x1f\x90",
    "name": b"\x05\x00\x00\x03\x06p.test\x1f\x90",
}


def http() -> HttpConnect:
    step = HttpConnect("a.test", 80, None, None)
    assert (
        step.data_to_send() == b"CONNECT a.test:80 HTTP/1.1\r\nhost: a.test:80\r\n\r\n"
    )
    return step


def socks() -> SocksConnect:
    step = SocksConnect("a.test", 80, None)
    assert step.data_to_send() == b"\x05\x01\x00"
    return step


def named() -> SocksConnect:
    step = SocksConnect("a.test", 80, (b"user", b"pass"))
    assert step.data_to_send() == b"\x05\x02\x00\x02"
    return step


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def feed(step: ProxyStep, data: bytes, size: int) -> tuple[bytes, bytes]:
    """Return what the step says, and what is behind the proxy's answer."""
    said = rest = b""
    for piece in pieces(data, size):
        rest += step.receive_data(piece)
        said += step.data_to_send()
    return said, rest


ASKED = b"\x05\x01\x00\x03\x06a.test\x00\x50"
ANSWERS: list[tuple[Callable[[], ProxyStep], bytes, bytes]] = [
    (http, OPENED, b""),
    (http, b"HTTP/1.0 200\r\n\r\n", b""),
    (http, b"HTTP/1.1 204 Fine\r\ncontent-length: 20\r\n\r\n", b""),
    (
        http,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\na: b\r\n\r\n" + OPENED,
        b"",
    ),
    (named, NO_AUTH + REPLIES["IPv4"], ASKED),
    (named, NAMED + GRANTED + REPLIES["IPv6"], b"\x01\x04user\x04pass" + ASKED),
    *[(socks, NO_AUTH + reply, ASKED) for reply in REPLIES.values()],
]


@pytest.mark.parametrize(("make", "answer", "says"), ANSWERS)
def test_a_proxy_that_agrees_becomes_a_pipe_wherever_its_answer_is_split(
    make: Callable[[], ProxyStep], answer: bytes, says: bytes
) -> None:
    for size in range(1, len(answer + BEHIND) + 1):
        step = make()
        assert feed(step, answer + BEHIND, size) == (says, BEHIND)
        assert step.state is ProxyState.OPEN
        assert step.refusal is None
        step.receive_eof()
        assert step.state is ProxyState.OPEN
        assert step.receive_data(BEHIND) == BEHIND


@pytest.mark.parametrize(("make", "answer", "says"), ANSWERS)
def test_a_proxy_that_hangs_up_in_its_answer_may_be_asked_again(
    make: Callable[[], ProxyStep], answer: bytes, says: bytes
) -> None:
    for end in range(len(answer)):
        step = make()
        assert step.receive_data(answer[:end]) == b""
        step.receive_eof()
        assert step.state is ProxyState.REFUSED
        assert step.refusal == "the proxy has closed the connection"
        assert step.temporary


@pytest.mark.parametrize(
    ("status", "text", "temporary"),
    [
        (407, "other credentials (407)", False),
        (403, "with 403", False),
        (404, "with 404", False),
        (302, "with 302", False),
        (101, "with 101", False),
        (500, "with 500", True),
        (502, "with 502", True),
        (503, "with 503", True),
        (504, "with 504", True),
    ],
)
def test_an_http_proxy_that_refuses_says_its_status(
    status: int, text: str, temporary: bool
) -> None:
    answer = b"HTTP/1.1 %d X\r\ncontent-length: 4\r\n\r\nbody" % status
    for size in range(1, len(answer) + 1):
        step = http()
        assert feed(step, answer, size) == (b"", b"")
        assert (step.state, step.status) == (ProxyState.REFUSED, status)
        assert step.refusal is not None
        assert step.refusal.endswith(text)
        assert step.temporary is temporary


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example ESMTP\r\n",
        b"\x05\x00",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 O\x00K\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: \x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n",
    ],
)
def test_what_is_no_answer_to_connect_is_refused(answer: bytes) -> None:
    for size in {1, 7, len(answer)}:
        step = http()
        feed(step, answer, size)
        assert step.state is ProxyState.REFUSED
        assert step.status is None
        assert not step.temporary


@pytest.mark.parametrize(
    "endless",
    [
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 20_000,
        b"HTTP/1.1 200 " + b"a" * 20_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 800,
    ],
)
@pytest.mark.parametrize("size", [1, 1000, 20_000])
def test_an_endless_answer_is_not_kept(endless: bytes, size: int) -> None:
    step = http()
    feed(step, endless, size)
    assert step.refusal == "the proxy's answer is too large"
    assert not step._received
    assert step.receive_data(OPENED) == b""


@pytest.mark.parametrize(
    ("make", "answer", "text", "temporary"),
    [
        (socks, b"\x05\xff", "wants a user", False),
        (socks, b"\x05\x02", "wants a user", False),  # nobody offered that
        (named, b"\x05\xff", "does not take a user", False),
        (named, b"\x05\x01", "does not take a user", False),
        (named, b"\x05\x77", "malformed", False),
        (named, b"\x05\x02\x01\x01", "refuses our user", False),
        (named, b"\x05\x02\x05\x00", "does not speak SOCKS5", False),
        (socks, b"\x04\x00", "does not speak SOCKS5", False),
        (socks, b"HTTP/1.1 400 Bad", "does not speak SOCKS5", False),
        (socks, NO_AUTH + b"\x04" + bytes(9), "does not speak SOCKS5", False),
        (socks, NO_AUTH + b"\x05\x00\x00\x02" + bytes(9), "malformed", False),
        (socks, NO_AUTH + b"\x05\x77\x00\x01" + bytes(6), "malformed", False),
        (socks, NO_AUTH + b"\x05\x00\x00\x03\x01\xff\x00\x00", "malformed", False),
        (socks, NO_AUTH + b"\x05\x01\x00\x01" + bytes(6), "general failure", True),
        (socks, NO_AUTH + b"\x05\x02\x00\x01" + bytes(6), "not allowed", False),
        (socks, NO_AUTH + b"\x05\x03\x00\x01" + bytes(6), "network unreach", True),
        (socks, NO_AUTH + b"\x05\x04\x00\x01" + bytes(6), "host unreachable", True),
        (socks, NO_AUTH + b"\x05\x05\x00\x01" + bytes(6), "connection refused", True),
        (socks, NO_AUTH + b"\x05\x06\x00\x01" + bytes(6), "TTL expired", True),
        (socks, NO_AUTH + b"\x05\x07\x00\x01" + bytes(6), "CONNECT not", False),
        (socks, NO_AUTH + b"\x05\x08\x00\x01" + bytes(6), "address type", False),
    ],
)
def test_a_socks_proxy_that_refuses_says_why(
    make: Callable[[], ProxyStep], answer: bytes, text: str, temporary: bool
) -> None:
    for size in range(1, len(answer) + 1):
        step = make()
        _, rest = feed(step, answer + BEHIND, size)
        assert rest == b""
        assert step.state is ProxyState.REFUSED
        assert step.refusal is not None
        assert text in step.refusal
        assert step.temporary is temporary
        assert not step._received
        assert step.data_to_send() == b""


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("a.test", b"\x03\x06a.test"),
        ("127.0.0.1", b"\x01\x7f\x00\x00\x01"),
        ("::1", b"\x04" + bytes(15) + b"\x01"),
        ("a" * 255, b"\x03\xff" + b"a" * 255),
    ],
)
def test_names_and_addresses_are_told_as_what_they_are(host: str, says: bytes) -> None:
    step = SocksConnect(host, 8443, None)
    step.data_to_send()
    step.receive_data(NO_AUTH)
    assert step.data_to_send() == b"\x05\x01\x00" + says + b"\x20\xfb"


def test_an_address_has_brackets_where_http_wants_them() -> None:
    asked = HttpConnect("::1", 443, None, None).data_to_send()
    assert asked == b"CONNECT [::1]:443 HTTP/1.1\r\nhost: [::1]:443\r\n\r\n"


@given(
    make=st.sampled_from([http, socks, named]),
    garbage=st.lists(st.binary(max_size=40), max_size=10),
    begin=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", NO_AUTH, NAMED + GRANTED]),
)
def test_no_answer_makes_a_step_raise(
    make: Callable[[], ProxyStep], garbage: list[bytes], begin: bytes
) -> None:
    step = make()
    for piece in (begin, *garbage):
        step.receive_data(piece)
    step.receive_eof()
    assert step.state in {ProxyState.OPEN, ProxyState.REFUSED}
    assert (step.refusal is None) is (step.state is ProxyState.OPEN)


def test_a_state_that_cannot_follow_is_told() -> None:
    step = http()
    with pytest.raises(AssertionError, match="NAMING must not follow"):
        step._enter(ProxyState.NAMING)
