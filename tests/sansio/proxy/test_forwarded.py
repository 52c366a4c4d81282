"""``X-Forwarded-*`` and ``Forwarded`` (RFC 7239) of proxies, trusted or not."""

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from tako.errors import ConfigError
from tako.http.conn_info import (
    Carrier,
    ConnInfo,
    Forwarded,
    IpPeer,
    OtherPeer,
    PeerAddr,
    UnixPeer,
)
from tako.http.headers import Headers
from tako.http.request import Request
from tako.http.request_head import FORWARDED
from tako.proxy.forwarded import Forwarders, hops, read_node
from tako.proxy.header import ProxyHeader, ProxyTlsInfo, ProxyVersion
from tako.proxy.policy import adopt_header
from tako.proxy.trust import TrustedPeers


PROXY = IpPeer("10.0.0.1", 4000)
LOCAL = IpPeer("10.0.0.9", 80)
NETWORKS = ("10.0.0.0/8", "2001:db8:10::/48")
UNKNOWN = OtherPeer("unknown")

Fields = Iterable[tuple[str, str]]


def adopted(
    fields: Fields,
    *,
    trusted: Iterable[str] = NETWORKS,
    host: bool = False,
    peer: PeerAddr = PROXY,
    authority: str | None = "inner.test",
) -> Request:
    """Return a request from a trusted proxy, with what it says."""
    forwarders = Forwarders(trusted, host=host)
    assert forwarders.trusts(peer)
    request = Request(
        "GET",
        "/path",
        Headers([("host", authority or ""), *fields]),
        authority=authority,
        conn_info=ConnInfo(peer, LOCAL, Carrier.HTTP1),
    )
    forwarders.adopt(request)
    return request


def client_of(*fields: tuple[str, str], **more: Iterable[str]) -> PeerAddr:
    info = adopted(fields, **more).conn_info  # type: ignore[arg-type]
    assert info is not None
    assert info.forwarded is not None
    return info.peer


def said(request: Request) -> Forwarded:
    assert request.conn_info is not None
    assert request.conn_info.forwarded is not None
    return request.conn_info.forwarded


class TestWalk:
    @pytest.mark.parametrize(
        ("field", "client"),
        [
            ("192.0.2.1", IpPeer("192.0.2.1", 0)),
            ("192.0.2.1:99", IpPeer("192.0.2.1", 99)),
            (" 192.0.2.1 ,", IpPeer("192.0.2.1", 0)),
            ("2001:db8::1", IpPeer("2001:db8::1", 0)),
            ("[2001:DB8:0::1]", IpPeer("2001:db8::1", 0)),
            ("[2001:db8::1]:99", IpPeer("2001:db8::1", 99)),
            ("::ffff:192.0.2.1", IpPeer("::ffff:192.0.2.1", 0)),
            # what a client wrote is in front of what its proxy saw
            ("9.9.9.9, 192.0.2.1", IpPeer("192.0.2.1", 0)),
            ("127.0.0.1,10.0.0.7, 192.0.2.1", IpPeer("192.0.2.1", 0)),
            ('for="x, 192.0.2.1', IpPeer("192.0.2.1", 0)),
            (",,\x00,, 192.0.2.1", IpPeer("192.0.2.1", 0)),
            ("9.9.9.9, 192.0.2.1, 10.0.0.2", IpPeer("192.0.2.1", 0)),
            ("192.0.2.1, 10.0.0.3,, 10.0.0.2", IpPeer("192.0.2.1", 0)),
            ("9.9.9.9, 192.0.2.1, ::ffff:10.0.0.2", IpPeer("192.0.2.1", 0)),
            ("9.9.9.9, 2001:db8:11::1, 2001:db8:10::1", IpPeer("2001:db8:11::1", 0)),
            # all of them are proxies: the first of them asks for itself
            ("10.0.0.3, 10.0.0.2", IpPeer("10.0.0.3", 0)),
            # the proxy that we have got to does not know, or does not tell
            ("unknown", UNKNOWN),
            ("9.9.9.9, Unknown, 10.0.0.2", UNKNOWN),
            ("_hidden", OtherPeer("_hidden")),
            # malformed: the client is unknown, and not its proxy
            ("junk", UNKNOWN),
            ("9.9.9.9, junk", UNKNOWN),
            ("9.9.9.9, junk, 10.0.0.2", UNKNOWN),
            ("192.0.2.1:70000", UNKNOWN),
            ("192.0.2.256", UNKNOWN),
            ("[192.0.2.1]", UNKNOWN),
            ("fe80::1%eth0", UNKNOWN),
            ("192.0.2.1;10.0.0.2", UNKNOWN),
            ('"192.0.2.1"', UNKNOWN),
            ("localhost", UNKNOWN),
            # nothing is said
            ("", PROXY),
            (" , ", PROXY),
        ],
    )
    def test_the_client_is_the_first_from_the_right_that_is_no_proxy(
        self, field: str, client: PeerAddr
    ) -> None:
        headers = Headers.from_raw([(b"x-forwarded-for", field.encode("latin-1"))])
        request = Request(
            "GET", "/", headers, conn_info=ConnInfo(PROXY, LOCAL, Carrier.HTTP2)
        )
        Forwarders(NETWORKS, host=False).adopt(request)
        assert request.conn_info is not None
        assert request.conn_info.peer == client
        assert said(request).proxy == PROXY

    @pytest.mark.parametrize(
        ("field", "client"),
        [
            ("for=192.0.2.1", IpPeer("192.0.2.1", 0)),
            ('For="192.0.2.1:99"', IpPeer("192.0.2.1", 99)),
            ('for="[2001:db8::1]:99";proto=https', IpPeer("2001:db8::1", 99)),
            ('by=_a ; for="[2001:db8::1]" ; x=""', IpPeer("2001:db8::1", 0)),
            (r'for="\1\92.0.2.1"', IpPeer("192.0.2.1", 0)),
            # §4 wants quotes; without them it means the same
            ("for=192.0.2.1:99", IpPeer("192.0.2.1", 99)),
            ("for=9.9.9.9, for=192.0.2.1", IpPeer("192.0.2.1", 0)),
            ("for=9.9.9.9, for=192.0.2.1;by=x, for=10.0.0.2", IpPeer("192.0.2.1", 0)),
            ("for=10.0.0.3,for=10.0.0.2", IpPeer("10.0.0.3", 0)),
            # a quoted string that a client left open does not swallow what follows
            ('for="9.9.9.9, for=192.0.2.1', IpPeer("192.0.2.1", 0)),
            ('x=", for="192.0.2.1:1"', IpPeer("192.0.2.1", 1)),
            ('for=1.1.1.1;x="\\, for="[2001:db8::1]"', IpPeer("2001:db8::1", 0)),
            # a comma and a semicolon in a quoted string are text
            ('for=192.0.2.1;x="for=9.9.9.9, for=8.8.8.8;"', IpPeer("192.0.2.1", 0)),
            (r'for=192.0.2.1;x="\", for=9.9.9.9;y=\""', IpPeer("192.0.2.1", 0)),
            ("for=unknown", UNKNOWN),
            ('for="unknown:80"', UNKNOWN),
            ("for=_SEVKISEK", OtherPeer("_SEVKISEK")),
            ('for="_a:_b"', OtherPeer("_a")),
            ('for="192.0.2.1:_b"', IpPeer("192.0.2.1", 0)),
            # it does not say for whom
            ("proto=https", PROXY),
            ("for=9.9.9.9, proto=https", PROXY),
            ("for=9.9.9.9, by=x, for=10.0.0.2", IpPeer("10.0.0.2", 0)),
            # malformed
            ("192.0.2.1", UNKNOWN),
            ("for=", UNKNOWN),
            ("=192.0.2.1", UNKNOWN),
            ("for=192.0.2.1;", UNKNOWN),
            ("for=192.0.2.1;for=10.0.0.2", UNKNOWN),
            ('for="192.0.2.1', UNKNOWN),
            ('for=192.0.2.1"', UNKNOWN),
            ('for="192.0.2.1\\"', UNKNOWN),
            ("for = 192.0.2.1", UNKNOWN),
            ("for=192.0.2.1 proto=https", UNKNOWN),
            ("for=192.0.2.1, for=junk", UNKNOWN),
            ("for=192.0.2.1, junk, for=10.0.0.2", UNKNOWN),
            ('for="192.0.2.1"x, for=10.0.0.2', UNKNOWN),
            ("", PROXY),
        ],
    )
    def test_forwarded_is_read_from_its_end(self, field: str, client: PeerAddr) -> None:
        assert client_of(("Forwarded", field)) == client

    def test_lines_of_a_field_are_one_list(self) -> None:
        for name, before in (("X-Forwarded-For", ""), ("Forwarded", "for=")):
            texts = ("9.9.9.9", "192.0.2.1, " + before + "10.0.0.3", "10.0.0.2")
            lines = [(name, before + text) for text in texts]
            assert client_of(*lines) == IpPeer("192.0.2.1", 0)

    def test_every_peer_is_trusted_but_no_hop_before_it(self) -> None:
        for trusted in (["*"], ["*", "192.0.2.0/24"]):
            found = client_of(("x-forwarded-for", "9.9.9.9, 8.8.8.8"), trusted=trusted)
            assert found == IpPeer("8.8.8.8", 0)
        named = ["*", "8.8.8.0/24"]
        found = client_of(("x-forwarded-for", "7.7.7.7, 8.8.8.8"), trusted=named)
        assert found == IpPeer("7.7.7.7", 0)

    def test_a_unix_socket_may_be_trusted(self) -> None:
        request = adopted(
            [("x-forwarded-for", "9.9.9.9, 192.0.2.1")],
            trusted=["unix"],
            peer=UnixPeer(None),
        )
        assert request.conn_info is not None
        assert request.conn_info.peer == IpPeer("192.0.2.1", 0)
        assert said(request).proxy == UnixPeer(None)

    def test_x_forwarded_for_wins_over_forwarded(self) -> None:
        both = (
            ("forwarded", "for=9.9.9.9;proto=https"),
            ("x-forwarded-for", "8.8.8.8"),
        )
        for fields in (both, both[::-1]):
            request = adopted(fields)
            assert request.conn_info is not None
            assert request.conn_info.peer == IpPeer("8.8.8.8", 0)
            assert request.scheme == "http"  # nothing of the other kind

    def test_forwarded_wins_over_other_fields(self) -> None:
        request = adopted(
            [
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "evil.test"),
                ("forwarded", "for=8.8.8.8"),
            ],
            host=True,
        )
        assert request.conn_info is not None
        assert request.conn_info.peer == IpPeer("8.8.8.8", 0)
        assert (request.scheme, request.host) == ("http", "inner.test")

    def test_the_fields_stay(self) -> None:
        fields = [("x-forwarded-for", "9.9.9.9, 8.8.8.8"), ("forwarded", "for=x")]
        assert adopted(fields).headers == Headers([("host", "inner.test"), *fields])

    def test_extensions_have_the_client(self) -> None:
        request = adopted([("x-forwarded-for", "192.0.2.1")])
        assert request.extensions[IpPeer] == IpPeer("192.0.2.1", 0)
        assert request.extensions[ConnInfo] is request.conn_info


class TestScheme:
    @pytest.mark.parametrize(
        ("text", "scheme"),
        [
            ("https", "https"),
            ("HTTPS", "https"),
            ("wss", "https"),
            ("ws", "http"),
            ("http", "http"),
            ("http, https", "https"),
            ("https, http", "http"),
            ("javascript", "http"),
            ("", "http"),
        ],
    )
    def test_it_is_the_last_one(self, text: str, scheme: str) -> None:
        fields = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", text)]
        assert adopted(fields).scheme == adopted(fields[1:]).scheme == scheme
        known = text.lower().split(", ")[-1] in {"http", "https", "ws", "wss"}
        assert said(adopted(fields)).scheme == (scheme if known else None)

    @pytest.mark.parametrize(
        ("nodes", "schemes", "scheme"),
        [
            ("192.0.2.1, 10.0.0.2", "https, http", "https"),
            ("192.0.2.1, 10.0.0.2", "https", "https"),
            ("192.0.2.1", "http, https", "https"),
            ("9.9.9.9, 192.0.2.1, 10.0.0.2", "http, https, http", "https"),
        ],
    )
    def test_it_belongs_to_the_hop_of_the_client(
        self, nodes: str, schemes: str, scheme: str
    ) -> None:
        fields = [("x-forwarded-for", nodes), ("x-forwarded-proto", schemes)]
        assert adopted(fields).scheme == scheme

    @pytest.mark.parametrize(
        ("field", "scheme"),
        [
            ("for=192.0.2.1;proto=https", "https"),
            ("for=192.0.2.1;proto=https, for=10.0.0.2;proto=http", "https"),
            ("for=9.9.9.9;proto=https, for=192.0.2.1;proto=http", "http"),
            ("for=192.0.2.1, for=10.0.0.2;proto=https", "http"),
            ("for=junk;proto=https", "http"),
            ("proto=https;proto=http", "http"),
        ],
    )
    def test_forwarded_says_it_with_the_client(self, field: str, scheme: str) -> None:
        assert adopted([("forwarded", field)]).scheme == scheme

    def test_of_a_malformed_hop_nothing_is_believed(self) -> None:
        fields = [("x-forwarded-for", "junk"), ("x-forwarded-proto", "https")]
        request = adopted(fields)
        assert request.scheme == "http"
        assert said(request) == Forwarded(PROXY)


class TestHost:
    FIELDS = (
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "a.test"),
        ("x-forwarded-port", "8443"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-prefix", "/app/"),
    )

    def test_it_is_not_believed_unless_asked_for(self) -> None:
        for fields in (self.FIELDS, [("forwarded", "for=192.0.2.1;host=a.test")]):
            request = adopted(fields)
            assert (request.host, request.authority) == ("inner.test", "inner.test")
            assert (said(request).authority, said(request).prefix) == (None, "")

    def test_host_port_and_prefix(self) -> None:
        request = adopted(self.FIELDS, host=True)
        assert request.host == request.authority == "a.test:8443"
        assert request.headers.get_all("host") == ["a.test:8443"]
        assert said(request) == Forwarded(PROXY, "https", "inner.test", "/app")

    def test_forwarded_has_a_host_too(self) -> None:
        field = 'for=10.0.0.2;host=b.test, for=192.0.2.1;host="a.test:1"'
        request = adopted([("forwarded", field)], host=True)
        assert request.host == "a.test:1"

    @pytest.mark.parametrize(
        ("host", "port", "scheme", "expected"),
        [
            ("a.test", "443", "https", "a.test"),
            ("a.test", "80", "http", "a.test"),
            ("a.test", "80", "https", "a.test:80"),
            ("a.test:1", "2", "https", "a.test:1"),
            ("[::1]", "2", "https", "[::1]:2"),
            ("[::1]:1", "2", "https", "[::1]:1"),
            ("", "8443", "https", "inner.test:8443"),
            ("x.test, a.test", "", "https", "a.test"),
            ("a.test", "0", "https", "a.test"),
            ("a.test", "x", "https", "a.test"),
            ("a.test", "70000", "https", "inner.test"),
            ("a b", "", "https", "inner.test"),
            ("a.test/", "", "https", "inner.test"),
            ("user@a.test", "", "https", "inner.test"),
            ("\xe4.test", "", "https", "inner.test"),
            ("inner.test", "", "https", "inner.test"),
        ],
    )
    def test_host_and_port_are_one_authority(
        self, host: str, port: str, scheme: str, expected: str
    ) -> None:
        request = adopted(
            [
                ("x-forwarded-host", host),
                ("x-forwarded-port", port),
                ("x-forwarded-proto", scheme),
            ],
            host=True,
        )
        assert request.host == expected
        assert request.headers.get_all("host") == [expected]
        changed = expected != "inner.test"
        assert said(request).authority == ("inner.test" if changed else None)

    def test_http_1_0_may_have_had_none(self) -> None:
        request = adopted([("x-forwarded-host", "a.test")], host=True, authority=None)
        assert (request.host, said(request).authority) == ("a.test", None)
        request = adopted([("x-forwarded-port", "1")], host=True, authority=None)
        assert request.authority is None

    @pytest.mark.parametrize(
        ("text", "prefix"),
        [
            ("/a", "/a"),
            ("/a/b%20c/", "/a/b%20c"),
            ("/", ""),
            ("a", ""),
            ("//evil.test", ""),
            ("/\\evil.test", ""),
            ("/a?b", ""),
            ("/a#b", ""),
            ("/\xe4", ""),
            ("https://evil.test", ""),
            ("/x, /a", "/a"),
        ],
    )
    def test_a_prefix_leads_to_no_other_host(self, text: str, prefix: str) -> None:
        fields = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-prefix", text)]
        assert said(adopted(fields, host=True)).prefix == prefix


class TestBounds:
    @pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded"])
    def test_no_more_than_32_hops(self, name: str) -> None:
        node = "for=10.0.0.2" if name == "forwarded" else "10.0.0.2"
        first = node.replace("10.0.0.2", "192.0.2.1")
        assert client_of((name, ",".join([first] + [node] * 31))) == IpPeer(
            "192.0.2.1", 0
        )
        assert client_of((name, ",".join([first] + [node] * 32))) == UNKNOWN
        assert client_of((name, ",".join([node] * 4000))) == UNKNOWN

    @pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded"])
    def test_a_long_list_is_read_from_its_end(self, name: str) -> None:
        end = "for=192.0.2.1" if name == "forwarded" else "192.0.2.1"
        for junk in ("x" * 60_000, "," * 60_000, '"' * 60_000, '="\\' * 20_000):
            assert client_of((name, f"{junk},{end}")) == IpPeer("192.0.2.1", 0)
            assert client_of((name, end + junk)) in {UNKNOWN, PROXY}

    def test_what_is_cut_off_is_malformed(self) -> None:
        text = "for=192.0.2.1" + " " * 8179 + ",for=10.0.0.2"
        assert client_of(("forwarded", "xx" + text)) == UNKNOWN
        assert client_of(("x-forwarded-for", "1" * 9000)) == UNKNOWN

    def test_no_more_than_16_pairs(self) -> None:
        for count, client in ((15, IpPeer("192.0.2.1", 0)), (16, UNKNOWN)):
            pairs = [f"x{number}=1" for number in range(count)]
            field = ";".join(["for=192.0.2.1", *pairs])
            assert client_of(("forwarded", field)) == client


ANY = st.one_of(
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=60),
    st.text(',;="\\ \tforby[]:_.19a', max_size=60),
)
NAMES = st.sampled_from(sorted(name.decode() for name in FORWARDED))
ADDRESS = st.one_of(st.ip_addresses().map(str), st.just("10.1.2.3"))


class TestProperties:
    @given(st.lists(st.tuples(NAMES, ANY), max_size=8), st.booleans())
    def test_no_input_raises(self, fields: list[tuple[str, str]], host: bool) -> None:
        request = adopted(fields, host=host)
        if not fields:
            return
        info = request.conn_info
        assert info is not None
        assert isinstance(info.peer, IpPeer | OtherPeer)
        assert request.scheme in {"http", "https"}
        assert request.headers.get_all("host") == [request.authority]
        prefix = said(request).prefix
        assert re.fullmatch(r"(/[!-~]+)?", prefix)
        assert not prefix.startswith("//")

    @given(st.lists(ADDRESS, min_size=1, max_size=8), ANY)
    def test_the_walk_stops_at_the_first_that_is_not_trusted(
        self, chain: list[str], spoofed: str
    ) -> None:
        """``chain``: the client, then the proxies, each of which appends its peer."""
        trusted = [ip_network(text) for text in NETWORKS]

        def is_proxy(text: str) -> bool:
            address = ip_address(text)
            address = getattr(address, "ipv4_mapped", None) or address
            return any(address in network for network in trusted)

        proxies = [text for text in chain[1:] if is_proxy(text)]
        client = chain[0]
        if is_proxy(client):
            client = "192.0.2.1"
        nodes = [client, *proxies]
        plain = ", ".join([spoofed, *nodes])
        found = client_of(("x-forwarded-for", plain))
        assert isinstance(found, IpPeer)
        assert ip_address(found.host) == ip_address(client)
        quoted = [f'for="[{it}]"' if ":" in it else f"for={it}" for it in nodes]
        found = client_of(("forwarded", ", ".join([spoofed, *quoted])))
        assert isinstance(found, IpPeer)
        assert ip_address(found.host) == ip_address(client)

    @given(
        st.lists(
            st.dictionaries(
                st.sampled_from(["for", "proto", "host", "by", "x"]),
                st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"])),
                min_size=1,
            ),
            min_size=1,
            max_size=5,
        )
    )
    def test_quoted_strings_are_read_as_they_are_meant(
        self, elements: list[dict[str, str]]
    ) -> None:
        def quoted(text: str) -> str:
            return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'

        written = ", ".join(
            ";".join(f"{name}={quoted(text)}" for name, text in pairs.items())
            for pairs in elements
        )
        found = list(hops({b"forwarded": [written.encode()]}))
        expected = [
            (it.get("for"), it.get("proto", ""), it.get("host", "")) for it in elements
        ]
        assert [hop and hop[:3] for hop in found] == expected[::-1]

    @given(st.ip_addresses(), st.one_of(st.none(), st.integers(0, 65535)))
    def test_addresses_are_read(self, address: object, port: int | None) -> None:
        text = f"[{address}]" if ":" in str(address) else str(address)
        found = read_node(text if port is None else f"{text}:{port}")
        assert isinstance(found, IpPeer)
        assert ip_address(found.host) == address
        assert found.port == (port or 0)


class TestTrustedPeers:
    @pytest.mark.parametrize(
        ("names", "peer", "trusted"),
        [
            (["127.0.0.0/8"], IpPeer("127.0.0.2", 1), True),
            (["127.0.0.0/8"], IpPeer("::ffff:127.0.0.2", 1), True),
            (["127.0.0.0/8"], IpPeer("::1", 1), False),
            (["::1"], IpPeer("::1", 1), True),
            (["10.0.0.1"], IpPeer("10.0.0.2", 1), False),
            (["unix"], UnixPeer("/x"), True),
            (["127.0.0.0/8"], UnixPeer("/x"), False),
            (["*"], UnixPeer("/x"), True),
            (["*"], OtherPeer("vsock"), True),
            (["unix"], OtherPeer("vsock"), False),
            ([], IpPeer("127.0.0.1", 1), False),
        ],
    )
    def test_peers(self, names: list[str], peer: PeerAddr, trusted: bool) -> None:
        peers = TrustedPeers(names)
        assert peers.trusts(peer) is trusted
        assert peers.trusts(peer) is trusted  # as it is remembered
        assert peers.names(peer) is (trusted and "*" not in names)

    def test_what_is_no_network_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="'proxy' is no network"):
            TrustedPeers(["proxy"])


class TestBehindAProxyHeader:
    """A PROXY header names the peer; if that is a trusted proxy, its fields count."""

    TLS = ProxyTlsInfo(flags=1, verify=0)

    def adopted(self, *, believed: bool, proto: str = "") -> Request:
        source = IpPeer("10.0.0.7", 1)
        forwarders = Forwarders(NETWORKS, host=False)
        fields = [("x-forwarded-for", "192.0.2.1"), ("x-real-ip", "9.9.9.9")]
        if proto:
            fields.append(("x-forwarded-proto", proto))
        request = Request(
            "GET",
            "/",
            Headers(fields),
            conn_info=ConnInfo(source, LOCAL, Carrier.HTTP1),
        )
        if believed:
            forwarders.adopt(request)
        adopt_header(request, ProxyHeader(ProxyVersion.V2, source=source, tls=self.TLS))
        return request

    def test_a_client_is_not_believed(self) -> None:
        request = self.adopted(believed=False, proto="http")
        assert request.headers.items() == [("forwarded", 'for="10.0.0.7:1"')]
        assert request.scheme == "https"

    def test_a_proxy_is_believed(self) -> None:
        request = self.adopted(believed=True, proto="http")
        assert request.extensions[IpPeer] == IpPeer("192.0.2.1", 0)
        assert request.headers["x-forwarded-for"] == "192.0.2.1"
        assert request.scheme == "http"  # of the client; TLS was among the proxies
        assert self.adopted(believed=True).scheme == "https"


def test_the_last_hop_is_one_that_something_is_said_of() -> None:
    names = sorted(FORWARDED - {b"forwarded"})
    for first, second in pairwise(names):
        assert len(list(hops({first: [b"a"], second: [b"b"]}))) == 1
