"""URLs of Redis, read without showing a password."""

import ssl
from pathlib import Path

import pytest

from tako.errors import ConfigError
from tako.topics.redis.url import RedisUrl, Topology


def test_one_server() -> None:
    url = RedisUrl.parse("redis://example.test")
    assert (url.topology, url.hosts) == (Topology.SINGLE, (("example.test", 6379),))
    assert (url.db, url.username, url.password, url.tls) == (0, None, None, False)
    for text in ("redis://h:1/3", "redis://h?db=3"):
        assert RedisUrl.parse(text).db == 3
    assert RedisUrl.parse("rediss://[::1]:7000").hosts == (("::1", 7000),)
    assert RedisUrl.parse("rediss://[::1]").hosts == (("::1", 6379),)
    assert RedisUrl.parse("valkeys://h").tls
    assert not RedisUrl.parse("valkey://h").tls


def test_a_socket() -> None:
    url = RedisUrl.parse("redis+unix://me:p%40ss@/run/my%20redis.sock?db=2")
    assert (url.path, url.db, url.hosts) == ("/run/my redis.sock", 2, ())
    assert (url.username, url.password) == ("me", "p@ss")


def test_sentinels_and_clusters() -> None:
    url = RedisUrl.parse("rediss+sentinel://:pass@a,b:7,[::2]/main?db=1")
    assert url.topology is Topology.SENTINEL
    assert url.hosts == (("a", 26379), ("b", 7), ("::2", 26379))
    assert (url.service, url.db) == ("main", 1)
    assert (url.username, url.password) == (None, "pass")
    assert url.tls
    url = RedisUrl.parse("valkey+cluster://a:1,b")
    assert (url.topology, url.hosts) == (Topology.CLUSTER, (("a", 1), ("b", 6379)))


@pytest.mark.parametrize(
    "text",
    [
        "http://h",
        "redis:",
        "redis://[::1",
        "redis://\u2100",
        "redis:///3",
        "redis://h:0",
        "redis://h:port",
        "redis://h:99999",
        "redis://h/three",
        "redis://h,,i",
        "redis://h?color=red",
        "redis+unix://host/path",
        "redis+unix://",
        "rediss+unix:///path",
        "redis+sentinel://h",
        "redis+cluster://h/1",
        "redis+other://h",
    ],
)
def test_what_is_none_is_refused_without_being_shown(text: str) -> None:
    secret = "open sesame"
    hidden = text.replace("://", f"://me:{secret.replace(' ', '%20')}@", 1)
    for each in (text, hidden):
        with pytest.raises(ConfigError) as caught:
            RedisUrl.parse(each)
        assert "sesame" not in str(caught.value)


def test_it_is_shown_without_its_password() -> None:
    for text in (
        "redis://a:6379",
        "redis://a:6379/3",
        "rediss+sentinel://a:1,b:2/main",
    ):
        scheme, _, rest = text.partition("://")
        url = RedisUrl.parse(f"{scheme}://me:secret@{rest}")
        assert str(url) == repr(url) == text
    assert repr(RedisUrl.parse("redis+unix://:x@/run/s")) == "redis+unix:///run/s"


def test_its_context_verifies(ca_file: Path) -> None:
    assert RedisUrl.parse("rediss://h").context().check_hostname
    context = RedisUrl.parse(f"rediss://h?ssl_ca_certs={ca_file}").context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
    RedisUrl.parse(f"rediss://h?ssl_ca_certs={ca_file.parent}").context()
    for options in ("ssl_ca_certs=/nowhere", "ssl_certfile=/nowhere"):
        with pytest.raises(ConfigError, match="TLS"):
            RedisUrl.parse(f"rediss://h?{options}").context()
