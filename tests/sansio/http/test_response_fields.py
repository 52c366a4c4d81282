"""What an application may not send: one verdict for both wires, before any byte."""

import pytest
from hypothesis import given, strategies as st

from tako.errors import LocalProtocolError
from tako.h1 import H1Exchange
from tako.h2.frames import HEADERS, RST_STREAM
from tako.http.headers import RawHeader
from tests.support.h1_peer import H1Peer
from tests.support.h2wire import GET, Fields, Frame, Peer


Verdict = tuple[str, list[str]]

LENGTH = b"content-length"
OURS = {":status", "connection", "date", "keep-alive", "transfer-encoding"}
WRONG: list[list[RawHeader]] = [
    [(LENGTH, b"1, 1")],
    [(LENGTH, b"+5")],
    [(LENGTH, b"-1")],
    [(LENGTH, b"")],
    [(LENGTH, b"0x5")],
    [(LENGTH, b"5 ")],
    [(LENGTH, b"5"), (LENGTH, b"5")],
    [(LENGTH, b"5"), (LENGTH, b"6")],
    [(b"x", b"a\x01b")],
    [(b"x", b"a\x7fb")],
    [(b"x", b"a\0b")],
    [(b"x", b"a\r\ny: b")],
    [(b"x", b"a\nb")],
    [(b"x", b"a\rb")],
    [(b"x", b" a")],
    [(b"x", b"a\t")],
    [(b"x y", b"a")],
    [(b"x:y", b"a")],
    [(b"X", b"a")],
    [(b"", b"a")],
    [(b"x\r\ny", b"a")],
    [(b"x\0y", b"a")],
    [(b":status", b"200")],
    [(b":path", b"/")],
    [(b"date", b"a\r\nx: y")],
    [(b"upgrade", b"a\x01")],
    [(b"good", b"a"), (b"x\xe9", b"a")],
]


def sent_on_h1(
    status: int,
    fields: list[RawHeader],
    method: str = "GET",
    trailers: list[RawHeader] | None = None,
) -> Verdict:
    async def handler(exchange: H1Exchange) -> None:
        exchange.send_headers(status, fields, end=trailers is None)
        if trailers is not None:
            exchange.send_trailers(trailers)

    peer = H1Peer(handler)
    peer.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    head, _, body = peer.take().partition(b"\r\n\r\n")
    if peer.errors:
        assert all(isinstance(error, LocalProtocolError) for error in peer.errors)
        assert trailers is not None or not head
        return "wrong", []
    lines = [line.decode("latin-1").partition(": ") for line in head.split(b"\r\n")[1:]]
    kept = [f"{name}: {value}" for name, _, value in lines if name not in OURS]
    return "sent", sorted(kept) + body.removeprefix(b"0\r\n").decode("latin-1").split(
        "\r\n"
    )


def sent_on_h2(
    status: int,
    fields: list[RawHeader],
    method: str = "GET",
    trailers: list[RawHeader] | None = None,
) -> Verdict:
    peer = Peer()
    request: Fields = [(":method", method), *GET[1:]]
    exchange = peer.request(1, request)
    try:
        exchange.send_headers(status, fields, end=trailers is None)
        if trailers is not None:
            exchange.send_trailers(trailers)
    except LocalProtocolError:
        frames = peer.frames()
        assert trailers is not None or not frames
        return "wrong", []
    head, *more = peer.frames()
    kept = sorted(
        line for line in lines_of(peer, head) if line.partition(": ")[0] not in OURS
    )
    if trailers is None:
        return "sent", [*kept, ""]
    last = lines_of(peer, more[0]) if more[0].kind == HEADERS else []
    return "sent", [*kept, *last, "", ""]


def lines_of(peer: Peer, frame: Frame) -> list[str]:
    fields = peer.decoder.decode(frame.payload, raw=True)
    return [(name + b": " + value).decode("latin-1") for name, value in fields]


@pytest.mark.parametrize("fields", WRONG)
@pytest.mark.parametrize("status", [200, 204, 205, 304, 404])
def test_fields_that_cannot_be_sent_are_an_error_before_anything_is(
    status: int, fields: list[RawHeader]
) -> None:
    for method in ("GET", "HEAD"):
        assert sent_on_h1(status, fields, method) == ("wrong", [])
        assert sent_on_h2(status, fields, method) == ("wrong", [])


@pytest.mark.parametrize("fields", WRONG)
def test_the_same_in_interim_heads_and_trailers(fields: list[RawHeader]) -> None:
    assert sent_on_h1(200, [], trailers=fields) == ("wrong", [])
    assert sent_on_h2(200, [], trailers=fields) == ("wrong", [])
    assert sent_on_h1(200, [(LENGTH, b"0")], trailers=fields) == ("wrong", [])
    assert sent_on_h2(200, [(LENGTH, b"0")], trailers=fields) == ("wrong", [])
    assert sent_on_h1(103, fields) == ("wrong", [])
    assert sent_on_h2(103, fields) == ("wrong", [])


def test_what_belongs_to_one_connection_is_left_out_on_both_wires() -> None:
    fields: list[RawHeader] = [
        (b"transfer-encoding", b"chunked"),
        (b"keep-alive", b"5"),
        (b"proxy-connection", b"close"),
        (b"x", b"\xe9 \t\x80"),
    ]
    expected = ("sent", ["content-length: 0", "x: \xe9 \t\x80", ""])
    assert sent_on_h1(200, fields) == expected
    assert sent_on_h2(200, [*fields, (LENGTH, b"0")]) == expected


@pytest.mark.parametrize("fields", [[(LENGTH, b"3")], [(LENGTH, b"0")], []])
def test_a_reset_content_has_no_length_but_nothing(fields: list[RawHeader]) -> None:
    """RFC 9110 §15.3.6."""
    assert sent_on_h1(205, fields) == ("sent", ["content-length: 0", ""])
    assert sent_on_h2(205, fields) == ("sent", [""])


@pytest.mark.parametrize("status", [200, 204, 205, 304, 404])
@pytest.mark.parametrize("fields", [[(LENGTH, b"500")], [(b"etag", b'"a"')], []])
def test_head_is_answered_with_what_the_handler_says(
    status: int, fields: list[RawHeader]
) -> None:
    """RFC 9110 §8.6, §9.3.2; 204 and 205 have no length."""
    said = [f"{n.decode()}: {v.decode()}" for n, v in fields]
    if status in {204, 205}:
        said = [line for line in said if not line.startswith("content-length")]
    for sent in (sent_on_h1, sent_on_h2):
        assert sent(status, fields, "HEAD") == ("sent", [*said, ""])


def test_a_tunnel_is_not_opened_with_them() -> None:
    peer = Peer()
    exchange = peer.request(
        1, [(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]], end=False
    )
    with pytest.raises(LocalProtocolError):
        exchange.open_tunnel(200, [(b"x", b"\r\n")]).receive_into(exchange.body)
    assert peer.frames() == []


names = st.sampled_from([b"x", LENGTH, b"date", b"X", b"x\r", b":x", b"upgrade"])
values = st.one_of(
    st.sampled_from([b"", b"0", b"5", b"a b", b"a\x1fb", b" a", b"\x85"]),
    st.binary(max_size=4),
)


@given(
    st.sampled_from([200, 205, 304]),
    st.lists(st.tuples(names, values), max_size=3),
    st.booleans(),
)
def test_both_wires_judge_alike(
    status: int, fields: list[RawHeader], trailers: bool
) -> None:
    if trailers:
        verdicts = [sent(200, [], "GET", fields) for sent in (sent_on_h1, sent_on_h2)]
    else:
        verdicts = [sent(status, fields, "HEAD") for sent in (sent_on_h1, sent_on_h2)]
    assert verdicts[0] == verdicts[1]


def test_trailers_that_fail_cut_the_response_off() -> None:
    peer = Peer()
    exchange = peer.request(1)
    exchange.send_headers(200, [])
    with pytest.raises(LocalProtocolError):
        exchange.send_trailers([(b"x", b"\x01")])
    exchange.ended()
    assert [frame.kind for frame in peer.frames()] == [HEADERS, RST_STREAM]
