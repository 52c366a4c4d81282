"""The URL to open, and how long certificates are valid."""

import datetime

import pytest


pytest.importorskip("click")

from tako.cli.banner import urls
from tako.cli.certs import is_due
from tako.http.conn_info import IpPeer, PeerAddr, UnixPeer
from tako.tls.dev import CertFacts


@pytest.mark.parametrize(
    ("host", "names", "url"),
    [
        ("127.0.0.1", ("localhost", "127.0.0.1"), "https://localhost:8443/"),
        ("::1", ("localhost",), "https://localhost:8443/"),
        ("0.0.0.0", ("127.0.0.1", "LOCALHOST"), "https://localhost:8443/"),
        ("::", ("localhost",), "https://localhost:8443/"),
        ("0.0.0.0", ("*.a.test", "a.test"), "https://a.test:8443/"),
        ("127.0.0.1", ("10.0.0.5", "*.a.test"), "https://localhost:8443/"),
        ("10.0.0.5", ("a.test", "10.0.0.5"), "https://10.0.0.5:8443/"),
        ("10.0.0.5", ("a.test",), "https://a.test:8443/"),
        ("10.0.0.5", ("*.a.test",), "https://10.0.0.5:8443/"),
        ("fe80::1%eth0", ("fe80::1",), "https://[fe80::1%eth0]:8443/"),
        ("2001:db8::5", (), "https://[2001:db8::5]:8443/"),
        ("127.0.0.1", (), "https://localhost:8443/"),
    ],
)
def test_a_url_has_a_name_of_the_certificate(
    host: str, names: tuple[str, ...], url: str
) -> None:
    assert urls([IpPeer(host, 8443)], "https", names) == [url]


def test_each_url_is_there_once_and_unix_sockets_have_none() -> None:
    addresses: list[PeerAddr] = [
        IpPeer("127.0.0.1", 80),
        UnixPeer("/run/app.sock"),
        IpPeer("::1", 80),
        IpPeer("127.0.0.1", 443),
    ]
    expected = ["http://localhost/", "http://localhost:443/"]
    assert urls(addresses, "http", ()) == expected
    assert urls([IpPeer("127.0.0.1", 443)], "https", ()) == ["https://localhost/"]
    assert urls([UnixPeer("@name")], "http", ()) == []


@pytest.mark.parametrize(
    ("days", "begun", "due"),
    [(13, True, True), (14, True, False), (-1, True, True), (100, False, True)],
)
def test_a_certificate_is_due_two_weeks_before_its_end(
    days: int, begun: bool, due: bool
) -> None:
    day = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    facts = CertFacts(("a.test",), "ca", "EC", day, days, day, begun)
    assert is_due(facts) is due
