"""RFC 8446 §4.1.2, §5.1: the ClientHello as tako reads it before OpenSSL does."""

import random
import ssl

import pytest

from tako.tls.client_hello import (
    LIMIT,
    Alert,
    ClientHello,
    ClientHelloError,
    ClientHelloReader,
    parse_client_hello,
)


def vector(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width) + data


def extension(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2) + vector(value, 2)


def server_name(host: bytes) -> bytes:
    return extension(0, vector(b"\0" + vector(host, 2), 2))


def alpn(*names: bytes) -> bytes:
    return extension(16, vector(b"".join(vector(name, 1) for name in names), 2))


def body(*extensions: bytes) -> bytes:
    fixed = b"\x03\x03" + bytes(32) + vector(b"", 1) + vector(b"\x13\x01", 2)
    return fixed + vector(b"\0", 1) + vector(b"".join(extensions), 2)


def records(message_body: bytes, size: int = 1 << 14) -> bytes:
    message = b"\x01" + vector(message_body, 3)
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + vector(piece, 2) for piece in pieces)


def real_hello(host: str | None, protocols: list[str]) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = host is not None
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def refused(data: bytes) -> ClientHelloError:
    with pytest.raises(ClientHelloError) as caught:
        ClientHelloReader().receive_data(data)
    return caught.value


HELLO = body(server_name(b"A.Test"), alpn(b"h2", b"http/1.1"))
WANTED = ClientHello("a.test", (b"h2", b"http/1.1"))


@pytest.mark.parametrize(
    ("host", "protocols", "wanted"),
    [
        ("B.Test", ["h2", "http/1.1"], ClientHello("b.test", (b"h2", b"http/1.1"))),
        ("b.test", [], ClientHello("b.test", None)),
        (None, ["foo"], ClientHello(None, (b"foo",))),
        (None, [], ClientHello(None, None)),
    ],
)
def test_hello_of_openssl_is_understood(
    host: str | None, protocols: list[str], wanted: ClientHello
) -> None:
    reader = ClientHelloReader()
    sent = real_hello(host, protocols)
    assert reader.receive_data(sent) == wanted
    assert reader.raw == sent


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 50, 1 << 14])
def test_hello_cut_over_records_is_put_together(size: int) -> None:
    assert ClientHelloReader().receive_data(records(HELLO, size)) == WANTED


@pytest.mark.parametrize("size", [1, 3, 1 << 14])
def test_hello_cut_over_reads_is_put_together(size: int) -> None:
    sent = records(HELLO, size)
    for cut in range(len(sent)):
        reader = ClientHelloReader()
        assert reader.receive_data(sent[:cut]) is None
        assert reader.receive_data(sent[cut:]) == WANTED
        assert reader.raw == sent


def test_hello_byte_by_byte_is_put_together() -> None:
    reader = ClientHelloReader()
    sent = records(HELLO, 2)
    results = [reader.receive_data(bytes((byte,))) for byte in sent]
    assert results[:-1] == [None] * (len(sent) - 1)
    assert results[-1] == WANTED


def test_what_follows_the_hello_is_kept_and_not_looked_at() -> None:
    reader = ClientHelloReader()
    sent = records(HELLO) + b"\xff\xff\xff"
    assert reader.receive_data(sent) == WANTED
    assert reader.raw == sent


def test_hello_without_extensions_names_nothing() -> None:
    # RFC 5246 §7.4.1.2
    assert parse_client_hello(body()[:-2]) == ClientHello(None, None)
    assert parse_client_hello(body()) == ClientHello(None, None)


def test_extensions_that_do_not_concern_us_are_skipped() -> None:
    hello = body(extension(0x0A0A, b""), alpn(b"h2"), extension(0xFFFF, b"abc"))
    assert parse_client_hello(hello) == ClientHello(None, (b"h2",))


BARE = len(body()) - 2  # a ClientHello may end here, where extensions would begin


@pytest.mark.parametrize("cut", sorted({*range(len(HELLO))} - {BARE}))
def test_hello_cut_short_anywhere_is_a_decode_error(cut: int) -> None:
    with pytest.raises(ClientHelloError) as caught:
        parse_client_hello(HELLO[:cut])
    assert caught.value.alert is Alert.DECODE_ERROR


@pytest.mark.parametrize(
    ("hello", "alert"),
    [
        # RFC 8446 §4.2: no extension twice
        (body(alpn(b"h2"), alpn(b"h2")), Alert.ILLEGAL_PARAMETER),
        (body(server_name(b"a"), server_name(b"b")), Alert.ILLEGAL_PARAMETER),
        (body() + b"\0", Alert.DECODE_ERROR),
        # RFC 6066 §3
        (body(server_name(b"")), Alert.DECODE_ERROR),
        (body(extension(0, b"")), Alert.DECODE_ERROR),
        (body(extension(0, vector(b"\x01" + vector(b"a", 2), 2))), Alert.DECODE_ERROR),
        (body(extension(0, vector(2 * b"\0\0\x01a", 2))), Alert.DECODE_ERROR),
        (body(extension(0, vector(b"\0\0\x01a", 2) + b"x")), Alert.DECODE_ERROR),
        (body(server_name(b"a\nb")), Alert.ILLEGAL_PARAMETER),
        (body(server_name(b"a b")), Alert.ILLEGAL_PARAMETER),
        (body(server_name(b"a\0b")), Alert.ILLEGAL_PARAMETER),
        (body(server_name("ä".encode())), Alert.ILLEGAL_PARAMETER),
        # RFC 7301 §3.1
        (body(alpn()), Alert.DECODE_ERROR),
        (body(alpn(b"h2", b"")), Alert.DECODE_ERROR),
        (body(extension(16, vector(vector(b"h2", 1), 2) + b"x")), Alert.DECODE_ERROR),
    ],
)
def test_malformed_hello_is_refused_with(hello: bytes, alert: Alert) -> None:
    assert refused(records(hello)).alert is alert


@pytest.mark.parametrize(
    ("start", "alert"),
    [
        (b"\x16\x02\x00\x00\x04", Alert.UNEXPECTED_MESSAGE),  # a major version of 2
        (b"\x16\x03\x01\x00\x00", Alert.UNEXPECTED_MESSAGE),  # §5.1: no empty fragments
        (b"\x16\x03\x01\x40\x01", Alert.RECORD_OVERFLOW),  # §5.1: 2^14 at most
        (b"\x16\x03\x01\x00\x04\x02", Alert.UNEXPECTED_MESSAGE),  # a ServerHello
        (b"\x16\x03\x01\x00\x01\x02", Alert.UNEXPECTED_MESSAGE),
        # a second record that is not a handshake record
        (b"\x16\x03\x01\x00\x01\x01\x17\x03\x01\x00\x01", Alert.UNEXPECTED_MESSAGE),
    ],
)
def test_record_that_begins_wrong_is_refused_at_once(
    start: bytes, alert: Alert
) -> None:
    assert refused(start).alert is alert


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "plain HTTP instead of a TLS Clien"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "plain HTTP instead of a TLS Clien"),
        (b"\x80\x2e\x01\x03\x01", "unknown bytes instead of a TLS ClientHello"),
        (b"\x15\x03\x01\x00\x02\x01\x00", "an alert instead of a ClientHello"),
        (b"G", "plain HTTP instead of a TLS ClientHello"),
    ],
)
def test_peer_that_does_not_speak_tls_gets_no_alert(data: bytes, text: str) -> None:
    error = refused(data)
    assert error.alert is None
    assert text in str(error)


def test_hello_declared_as_16_megabytes_is_refused_before_it_comes() -> None:
    # TL-19
    assert refused(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff").alert is Alert.DECODE_ERROR


def test_declared_length_cut_over_records_is_refused_as_well() -> None:
    sent = b"".join(b"\x16\x03\x01\x00\x01" + bytes((b,)) for b in b"\x01\xff\xff\xff")
    assert refused(sent).alert is Alert.DECODE_ERROR


def test_hello_of_tiny_records_is_refused_at_the_limit() -> None:
    reader = ClientHelloReader()
    sent = records(body(extension(0xFFFF, bytes(65_000))), 100)
    for taken in range(0, LIMIT - 1000, 1000):
        assert reader.receive_data(sent[taken : taken + 1000]) is None
    with pytest.raises(ClientHelloError) as caught:
        reader.receive_data(sent[taken + 1000 : taken + 3000])
    assert caught.value.alert is Alert.DECODE_ERROR


def test_hello_of_more_records_than_one_turn_has_time_for_is_refused() -> None:
    sent = records(body(extension(0xFFFF, bytes(3000))), 1)
    assert refused(sent).alert is Alert.UNEXPECTED_MESSAGE
    sent = records(body(extension(0xFFFF, bytes(3000))), 4)
    assert ClientHelloReader().receive_data(sent) == ClientHello(None, None)


def test_hello_of_60_000_bytes_is_understood() -> None:
    hello = body(extension(0xFFFF, bytes(60_000)), alpn(b"h2"))
    assert ClientHelloReader().receive_data(records(hello)) == ClientHello(
        None, (b"h2",)
    )


def test_alert_is_a_fatal_plaintext_record() -> None:
    # RFC 8446 §5.1, §6
    record = Alert.NO_APPLICATION_PROTOCOL.record
    assert record == bytes.fromhex("15 03 03 00 02 02 78")


def test_changed_hello_is_understood_or_refused_but_raises_nothing_else() -> None:
    choose = random.Random(8446)
    sent = records(HELLO, 40)
    outcomes = set()
    for _ in range(5000):
        changed = bytearray(sent)
        for _ in range(choose.randrange(1, 4)):
            changed[choose.randrange(len(changed))] = choose.randrange(256)
        try:
            outcome = ClientHelloReader().receive_data(bytes(changed))
        except ClientHelloError as error:
            outcomes.add(type(error).__name__)
        else:
            outcomes.add(type(outcome).__name__)
    assert outcomes == {"ClientHello", "ClientHelloError", "NoneType"}
