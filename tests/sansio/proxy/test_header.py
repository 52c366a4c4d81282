"""The PROXY protocol (HAProxy's ``proxy-protocol.txt``): spec section 10, T-PX-01."""

import asyncio
import logging
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given, strategies as st

from tako.errors import ConfigError, ProxyProtocolError
from tako.http.conn_info import IpPeer, OtherPeer, PeerAddr, UnixPeer
from tako.http.request import Request
from tako.proxy import tlv as proxy_tlv
from tako.proxy.header import (
    ProxyHeader,
    ProxyReader,
    ProxyTlsInfo,
    ProxyTlv,
    ProxyTransport,
    ProxyVersion,
    parse_proxy_header,
    read_proxy_protocol,
)
from tako.proxy.policy import ProxyPolicy, adopt_header


SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1 = b"PROXY TCP4 192.168.1.100 10.0.0.1 56324 8080\r\n"
IPV4 = (
    IPv4Address("192.0.2.1").packed
    + IPv4Address("198.51.100.2").packed
    + struct.pack("!HH", 1234, 443)
)
IPV6 = (
    IPv6Address("2001:db8::1").packed
    + IPv6Address("2001:db8::2").packed
    + struct.pack("!HH", 1234, 443)
)
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")


def v2(
    payload: bytes = b"", *, command: int = 0x21, family: int = 0x11, size: int = -1
) -> bytes:
    length = len(payload) if size < 0 else size
    return SIGNATURE + bytes((command, family)) + length.to_bytes(2, "big") + payload


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def with_crc(payload: bytes) -> bytes:
    """Return a v2 header over TCP4; its last TLV is the right checksum."""
    header = v2(payload + tlv(proxy_tlv.CRC32C, bytes(4)))
    return header[:-4] + slow_crc32c(header).to_bytes(4, "big")


def slow_crc32c(data: bytes) -> int:
    """Divide bit by bit, without a table."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def parsed(data: bytes) -> ProxyHeader:
    header, rest = parse_proxy_header(data + b"GET /")
    assert rest == b"GET /"
    return header


def refused(data: bytes, *, max_header: int = 4096) -> str:
    with pytest.raises(ProxyProtocolError) as caught:
        parse_proxy_header(data, max_header=max_header)
    return str(caught.value)


class TestVersion1:
    def test_tcp4(self) -> None:
        assert parsed(V1) == ProxyHeader(
            ProxyVersion.V1,
            ProxyTransport.TCP,
            IpPeer("192.168.1.100", 56324),
            IpPeer("10.0.0.1", 8080),
        )

    def test_tcp6_addresses_are_normalised(self) -> None:
        header = parsed(b"PROXY TCP6 2001:DB8:0::1 ::ffff:192.0.2.1 0 65535\r\n")
        assert header.source == IpPeer("2001:db8::1", 0)
        assert header.destination == IpPeer("::ffff:192.0.2.1", 65535)

    @pytest.mark.parametrize(
        "line",
        [
            b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN \r\n",
            b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        ],
    )
    def test_unknown_has_no_addresses_and_its_rest_is_ignored(
        self, line: bytes
    ) -> None:
        assert parsed(line) == ProxyHeader(ProxyVersion.V1)

    def test_further_fields_are_ignored(self) -> None:
        assert parsed(V1[:-2] + b" more 1 2\r\n") == parsed(V1)

    def test_the_longest_line_has_107_bytes(self) -> None:
        line = b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n"
        assert parsed(line).source is None
        assert refused(b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n") == (
            "PROXY v1 header exceeds maximum length"
        )

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            (b"PROXY\x20\r\n", "unknown PROXY v1 protocol: "),
            (b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", "unknown PROXY v1 protocol: UDP4"),
            (b"PROXY tcp4 1.1.1.1 1.1.1.1 1 1\r\n", "unknown PROXY v1 protocol: tcp4"),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", "incomplete PROXY v1 TCP header"),
            (b"PROXY TCP4\r\n", "incomplete PROXY v1 TCP header"),
            (b"PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n", "bad source IP: 1.1.1"),
            (b"PROXY TCP4 1.1.1.01 1.1.1.1 1 1\r\n", "bad source IP: 1.1.1.01"),
            (b"PROXY TCP4 1.1.1.1 nobody 1 1\r\n", "bad destination IP: nobody"),
            (b"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", "bad source IP: "),
            (b"PROXY TCP4 ::1 ::1 1 1\r\n", "bad source IP: ::1"),
            (b"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n", "bad source IP: 1.1.1.1"),
            (b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", "bad source IP: fe80::1%eth0"),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n", "bad source port: 65536"),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", "bad source port: +1"),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", "bad source port: 01"),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 -1\r\n", "bad destination port: -1"),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 \r\n", "bad destination port: "),
        ],
    )
    def test_a_malformed_line_is_refused_with_the_reason(
        self, line: bytes, why: str
    ) -> None:
        assert refused(line) == why

    @pytest.mark.parametrize(
        "line",
        [
            b"PROXY UNKNOWN \xff\r\n",
            b"PROXY UNKNOWN x\nGET / HTTP/1.1\r\n",
            b"PROXY TCP4\t1.1.1.1 1.1.1.1 1 1\r\n",
            b"PROXY UNKNOWN \x00\r\n",
        ],
    )
    def test_a_line_is_printable_ascii(self, line: bytes) -> None:
        assert refused(line) == "PROXY v1 header is not printable ASCII"


class TestVersion2:
    def test_tcp4(self) -> None:
        assert parsed(v2(IPV4)) == ProxyHeader(
            ProxyVersion.V2,
            ProxyTransport.TCP,
            IpPeer("192.0.2.1", 1234),
            IpPeer("198.51.100.2", 443),
        )

    def test_udp6(self) -> None:
        assert parsed(v2(IPV6, family=0x22)) == ProxyHeader(
            ProxyVersion.V2,
            ProxyTransport.UDP,
            IpPeer("2001:db8::1", 1234),
            IpPeer("2001:db8::2", 443),
        )

    def test_unix_addresses_are_paths(self) -> None:
        header = parsed(v2(UNIX, family=0x31))
        assert header.source == UnixPeer("/run/a")
        assert header.destination == UnixPeer("/run/b")

    def test_an_unnamed_or_odd_unix_address_is_no_error(self) -> None:
        header = parsed(v2(bytes(108) + b"\xff" * 108, family=0x31))
        assert header.source == UnixPeer(None)
        assert header.destination == UnixPeer("\\xff" * 108)

    def test_another_family_has_no_addresses_but_tlvs(self) -> None:
        header = parsed(v2(tlv(0xE0, b"x"), family=0x00))
        assert header.source is None
        assert header.transport is ProxyTransport.UNKNOWN
        assert header.tlvs == (ProxyTlv(0xE0, b"x"),)

    def test_local_is_the_proxy_itself_and_its_payload_is_skipped(self) -> None:
        header = parsed(v2(IPV4 + tlv(0xE0, b"x"), command=0x20))
        assert header == ProxyHeader(ProxyVersion.V2)

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (v2(IPV4, command=0x11), "unsupported PROXY v2 version: 1"),
            (v2(IPV4, command=0x31), "unsupported PROXY v2 version: 3"),
            (v2(IPV4, command=0x22), "unsupported PROXY v2 command: 2"),
            (v2(IPV4, command=0x2F), "unsupported PROXY v2 command: 15"),
            (v2(IPV4[:-1]), "PROXY v2 address family 1 needs 12 bytes, not 11"),
            (v2(IPV4, family=0x21), "PROXY v2 address family 2 needs 36 bytes, not 12"),
            (v2(b"", family=0x31), "PROXY v2 address family 3 needs 216 bytes, not 0"),
        ],
    )
    def test_a_malformed_header_is_refused_with_the_reason(
        self, data: bytes, why: str
    ) -> None:
        assert refused(data) == why

    def test_a_long_header_is_refused_before_its_payload_comes(self) -> None:
        assert refused(v2(size=537), max_header=536) == (
            "PROXY v2 addr_len 537 exceeds 536"
        )
        assert refused(v2(size=4097)) == "PROXY v2 addr_len 4097 exceeds 4096"
        assert parsed(v2(IPV4 + tlv(4, bytes(4096 - 15)))).source is not None


class TestTlvs:
    def test_all_that_are_known(self) -> None:
        inner = [b"TLSv1.3", b"client", b"TLS_AES_128_GCM_SHA256", b"SHA256", b"EC256"]
        ssl = (
            b"\x07" + bytes(4) + b"".join(tlv(0x21 + i, v) for i, v in enumerate(inner))
        )
        fields = {
            0x01: b"h2",
            0x02: b"example.test",
            0x04: b"ignored",
            0x05: b"\x00unique\xff",
            0x20: ssl,
            0x30: b"blue",
            0xEA: b"\x01vpce-0abc",
            0xE7: b"the application's own",
        }
        header = parsed(v2(IPV4 + b"".join(tlv(*each) for each in fields.items())))
        assert header.tlvs == tuple(ProxyTlv(*each) for each in fields.items())
        assert header.alpn == b"h2"
        assert header.authority == "example.test"
        assert header.unique_id == b"\x00unique\xff"
        assert header.netns == "blue"
        assert header.vpc_endpoint_id == "vpce-0abc"
        assert header.crc32c_verified is None
        assert header.tls == ProxyTlsInfo(7, 0, *(each.decode() for each in inner))
        assert header.tls.encrypted
        assert header.tls.client_verified

    def test_tls_without_details_and_an_unverified_certificate(self) -> None:
        header = parsed(v2(IPV4 + tlv(0x20, b"\x03\x00\x00\x00\x01")))
        assert header.tls == ProxyTlsInfo(flags=3, verify=1)
        assert not header.tls.client_verified

    def test_a_client_without_tls_and_without_certificate(self) -> None:
        header = parsed(v2(IPV4 + tlv(0x20, bytes(5))))
        assert header.tls is not None
        assert not header.tls.encrypted
        assert not header.tls.client_verified

    @pytest.mark.parametrize("short", [b"\x02", b"\x02\x00", tlv(2, b"abc")[:-1]])
    def test_one_that_is_cut_short_ends_them(self, short: bytes) -> None:
        header = parsed(v2(IPV4 + tlv(1, b"h2") + short))
        assert header.tlvs == (ProxyTlv(1, b"h2"),)
        assert header.authority is None

    def test_what_is_no_utf8_stays_raw(self) -> None:
        header = parsed(v2(IPV4 + tlv(2, b"\xff") + tlv(0xEA, b"\x01\xff")))
        assert (header.authority, header.vpc_endpoint_id) == (None, None)
        assert [each.value for each in header.tlvs] == [b"\xff", b"\x01\xff"]

    def test_of_two_of_a_type_the_first_counts(self) -> None:
        header = parsed(v2(IPV4 + tlv(2, b"first") + tlv(2, b"second")))
        assert header.authority == "first"

    def test_tls_that_is_too_short_to_read_is_none(self) -> None:
        assert parsed(v2(IPV4 + tlv(0x20, b"\x01\x00"))).tls is None


class TestChecksum:
    def test_crc32c_of_the_standard_vectors(self) -> None:
        assert proxy_tlv.crc32c(b"123456789") == 0xE3069283
        assert proxy_tlv.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 appendix B.4
        assert proxy_tlv.crc32c(b"\xff" * 32) == 0x62A8AB43

    def test_a_right_one_is_verified(self) -> None:
        assert parsed(with_crc(IPV4 + tlv(2, b"a.test"))).crc32c_verified is True

    @pytest.mark.parametrize("value", [b"\0\0\0\0", b"\0\0\0", b""])
    def test_a_wrong_one_is_logged_and_left_to_the_application(
        self, value: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        header = parsed(v2(IPV4 + tlv(3, value)))
        assert header.crc32c_verified is False
        assert header.source == IpPeer("192.0.2.1", 1234)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "CRC32C" in record.message

    def test_every_byte_of_the_header_counts(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        good = with_crc(IPV4 + tlv(2, b"a.test"))
        for at in range(16, 28):
            bad = good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :]
            assert parsed(bad).crc32c_verified is False
        assert len(caplog.records) == 12


class TestReading:
    @pytest.mark.parametrize("data", [V1, v2(IPV4), v2(command=0x20), with_crc(IPV4)])
    def test_byte_by_byte(self, data: bytes) -> None:
        reader = ProxyReader()
        assert not reader.begun
        for byte in data[:-1]:
            assert reader.receive_data(bytes((byte,))) is None
            assert reader.begun
        assert reader.receive_data(data[-1:]) is not None
        assert reader.rest == b""

    @pytest.mark.parametrize(
        "data", [V1, v2(IPV4), v2(command=0x20), b"PROXY UNKNOWN\r\n"]
    )
    def test_a_stream_keeps_what_follows_the_header(self, data: bytes) -> None:
        async def main() -> None:
            stream = asyncio.StreamReader()
            stream.feed_data(data + b"GET /")
            stream.feed_eof()
            assert await read_proxy_protocol(stream.read) == parsed(data)
            assert await stream.read() == b"GET /"

        asyncio.run(main())

    @pytest.mark.parametrize("data", [b"", V1[:-1], v2(IPV4)[:-1], SIGNATURE])
    def test_a_stream_that_ends_early_is_an_error(self, data: bytes) -> None:
        async def main() -> None:
            stream = asyncio.StreamReader()
            stream.feed_data(data)
            stream.feed_eof()
            with pytest.raises(ProxyProtocolError, match="incomplete"):
                await read_proxy_protocol(stream.read)

        asyncio.run(main())
        assert refused(data) == "incomplete PROXY header"

    @pytest.mark.parametrize(
        "data",
        [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"PROXX", b"PROXY\t", b"\r\n\r\n\x01"],
    )
    def test_other_protocols_are_not_waited_for(self, data: bytes) -> None:
        assert refused(data) == (
            "invalid PROXY protocol header: unrecognized signature"
        )


BYTES = st.binary(max_size=64)
HEADERS = st.one_of(
    BYTES,
    st.tuples(st.just(b"PROXY "), BYTES, st.just(b"\r\n"), BYTES).map(b"".join),
    st.tuples(
        st.sampled_from([b"PROXY TCP4 ", b"PROXY TCP6 "]),
        st.text("0123456789.:abf% ", max_size=60).map(str.encode),
        st.just(b"\r\n"),
    ).map(b"".join),
    st.builds(
        lambda payload, command, family: v2(payload, command=command, family=family),
        st.binary(max_size=400),
        st.sampled_from([0x20, 0x21, 0x22, 0x11]),
        st.integers(0, 255),
    ),
    st.builds(
        lambda fields: v2(IPV4 + b"".join(tlv(k, v) for k, v in fields)),
        st.lists(
            st.tuples(st.sampled_from([1, 2, 3, 4, 5, 32, 48, 0xEA]), BYTES), max_size=6
        ),
    ),
    st.tuples(st.just(SIGNATURE), BYTES).map(b"".join),
)


class TestArbitraryBytes:
    @given(HEADERS, st.integers(1, 40))
    @example(b"", 1)
    @example(b"PROXY TCP6 ::1%a ::1 1 1\r\n", 7)
    def test_nothing_but_proxy_protocol_error_is_raised(
        self, data: bytes, size: int
    ) -> None:
        reader = ProxyReader()
        pieces = (data[at : at + size] for at in range(0, len(data), size))
        try:
            header = next(filter(None, map(reader.receive_data, pieces)), None)
        except ProxyProtocolError:
            header = None
        else:
            assert header is not None or reader.begun == bool(data)
        try:
            whole, rest = parse_proxy_header(data)
        except ProxyProtocolError:
            assert header is None  # however it is cut, the answer is the same
        else:
            assert header == whole
            assert data.endswith(rest)

    @given(HEADERS)
    def test_a_reader_never_wants_more_than_the_header(self, data: bytes) -> None:
        reader, at = ProxyReader(), 0
        try:
            while at < len(data):
                wanted = reader.wanted
                assert wanted >= 1
                piece = data[at : at + wanted]
                at += len(piece)
                if reader.receive_data(piece) is not None:
                    assert reader.rest == b""
                    return
        except ProxyProtocolError:
            return


class TestPolicy:
    @pytest.mark.parametrize(
        ("peer", "trusted"),
        [
            (IpPeer("10.1.2.3", 1), True),
            (IpPeer("11.1.2.3", 1), False),
            (IpPeer("::ffff:10.1.2.3", 1), True),
            (IpPeer("2001:db8::5", 1), True),
            (IpPeer("2001:db9::5", 1), False),
            (IpPeer("fe80::1%eth0", 1), False),
            (UnixPeer("/run/x"), False),
            (OtherPeer("vsock"), False),
        ],
    )
    def test_networks_are_trusted(self, peer: PeerAddr, trusted: bool) -> None:
        assert ProxyPolicy(["10.0.0.0/8", "2001:db8::/32"]).trusts(peer) == trusted

    def test_one_address_and_unix_sockets(self) -> None:
        policy = ProxyPolicy(["192.0.2.1", "unix"])
        assert policy.trusts(IpPeer("192.0.2.1", 1))
        assert not policy.trusts(IpPeer("192.0.2.2", 1))
        assert policy.trusts(UnixPeer(None))

    def test_everybody(self) -> None:
        policy = ProxyPolicy.everybody()
        for peer in (IpPeer("192.0.2.1", 1), IpPeer("::1", 1), UnixPeer(None)):
            assert policy.trusts(peer)
        assert policy.required

    @pytest.mark.parametrize(
        ("trusted", "why"),
        [
            ("10.0.0.0/8", r'write \["10.0.0.0/8"\]'),
            ([], "trusted is empty"),
            (["10.0.0.1/8"], "'10.0.0.1/8' is no network: .*host bits"),
            (["proxy.test"], "'proxy.test' is no network"),
        ],
    )
    def test_what_is_no_network_is_refused(
        self, trusted: str | list[str], why: str
    ) -> None:
        with pytest.raises(ConfigError, match=why):
            ProxyPolicy(trusted)


SPOOFED = [
    ("Forwarded", "for=1.2.3.4"),
    ("x-forwarded-for", "1.2.3.4"),
    ("X-Forwarded-Host", "evil.test"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-For", "5.6.7.8"),
    ("Accept", "*/*"),
]


class TestForwardedFields:
    @pytest.mark.parametrize(
        ("source", "forwarded"),
        [
            (IpPeer("192.0.2.1", 1234), ['for="192.0.2.1:1234"']),
            (IpPeer("2001:db8::1", 1234), ['for="[2001:db8::1]:1234"']),
            (UnixPeer("/run/a"), []),
            (None, []),
        ],
    )
    def test_one_forwarded_field_replaces_all_that_came(
        self, source: PeerAddr | None, forwarded: list[str]
    ) -> None:
        request = Request.build(headers=SPOOFED)
        header = ProxyHeader(ProxyVersion.V2, source=source)
        adopt_header(request, header)
        expected = [("accept", "*/*"), *(("forwarded", each) for each in forwarded)]
        assert request.headers.items() == expected
        assert request.extensions[ProxyHeader] is header

    @pytest.mark.parametrize(
        ("flags", "scheme"), [(None, "http"), (0, "http"), (1, "https")]
    )
    def test_what_reached_the_proxy_encrypted_is_https(
        self, flags: int | None, scheme: str
    ) -> None:
        tls = None if flags is None else ProxyTlsInfo(flags=flags, verify=0)
        request = Request.build(headers=SPOOFED)
        adopt_header(request, ProxyHeader(ProxyVersion.V2, tls=tls))
        assert request.scheme == scheme

    def test_without_a_header_they_are_removed_as_well(self) -> None:
        request = Request.build(headers=SPOOFED)
        adopt_header(request, None)
        assert request.headers.items() == [("accept", "*/*")]
        assert ProxyHeader not in request.extensions
