"""Where a Redis or Valkey server is: what its URL says.

=================================  ==================================================
``redis://host:6379/0``            one server; the path is the number of a database
``redis+unix:///run/redis.sock``   one server at a unix socket; ``?db=`` is the database
``redis+sentinel://a,b:26379/x``   the primary that Sentinels know under the name ``x``
``redis+cluster://a:6379,b``       a cluster, of which some nodes are named
=================================  ==================================================

``rediss`` in place of ``redis`` is the same over TLS; ``valkey`` and ``valkeys`` are
the same as those. ``user:password@`` stands before the hosts, percent-encoded. Options
of TLS: ``?ssl_ca_certs=`` (a file or folder of authorities), ``ssl_certfile=`` and
``ssl_keyfile=`` (a certificate of the client).
"""

import enum
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from tako.errors import ConfigError


class Topology(enum.Enum):
    """What stands behind the hosts of a URL."""

    SINGLE = "one server"
    SENTINEL = "a primary that Sentinels know"
    CLUSTER = "a cluster"


_SCHEMES: Final = {
    "redis": Topology.SINGLE,
    "redis+unix": Topology.SINGLE,
    "redis+sentinel": Topology.SENTINEL,
    "redis+cluster": Topology.CLUSTER,
}
_PLAIN: Final = {"rediss": "redis", "valkey": "redis", "valkeys": "redis"}
_ENCRYPTED: Final = frozenset({"rediss", "valkeys"})
_PORTS: Final = {
    Topology.SINGLE: 6379,
    Topology.SENTINEL: 26379,
    Topology.CLUSTER: 6379,
}
_OPTIONS: Final = frozenset({"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A URL, read.

    Attributes:
        scheme: as it was written.
        topology: what stands behind the hosts.
        hosts: of servers, Sentinels or nodes, with their ports.
        path: of a unix socket, in place of hosts.
        service: the name that Sentinels know the primary under.
        db: the number of the database.
        username: of the ACL; ``None``: the default user.
        password: never shown.
        files: options of TLS.
    """

    scheme: str
    topology: Topology
    hosts: tuple[tuple[str, int], ...]
    path: str
    service: str
    db: int
    username: str | None
    password: str | None
    files: dict[str, str]

    @classmethod
    def parse(cls, url: str) -> "RedisUrl":
        """Read a URL. No error shows it: it may have a password.

        Raises:
            ConfigError: it is not one of those above.
        """
        try:
            parts = urlsplit(url)
        except ValueError:  # which may show it
            parts = urlsplit("")
        kind, plus, more = parts.scheme.partition("+")
        topology = _SCHEMES.get(_PLAIN.get(kind, kind) + plus + more)
        local = more == "unix"
        if topology is None or (local and kind in _ENCRYPTED):
            _refuse(f"its scheme is {parts.scheme!r}")
        user, _, hosts = parts.netloc.rpartition("@")
        username, _, password = user.partition(":")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in options.keys() - _OPTIONS:
            _refuse(f"it has an option {name!r}")
        path, service = unquote(parts.path), ""
        database = options.pop("db", "")
        if local != (not hosts) or (local and not path):
            _refuse("it needs hosts, or the path of a socket in place of them")
        if topology is Topology.SENTINEL:
            service = path.strip("/")
            if not service:
                _refuse("it does not name the primary: /name")
        elif not local:
            database = database or path.strip("/")
        return cls(
            parts.scheme,
            topology,
            tuple(_host(each, _PORTS[topology]) for each in hosts.split(",") if hosts),
            path if local else "",
            service,
            _database(database, topology),
            unquote(username) or None,
            unquote(password) or None,
            options,
        )

    @property
    def tls(self) -> bool:
        """Whether the connections are encrypted."""
        return self.scheme.partition("+")[0] in _ENCRYPTED

    def context(self) -> ssl.SSLContext:
        """Return a context of TLS that verifies the server, and its name.

        Raises:
            ConfigError: a file that the URL names is not there, or not what it should.
        """
        files = self.files
        authorities = files.get("ssl_ca_certs")
        folder = authorities is not None and Path(authorities).is_dir()
        try:
            context = ssl.create_default_context(
                cafile=None if folder else authorities,
                capath=authorities if folder else None,
            )
            if "ssl_certfile" in files:
                context.load_cert_chain(
                    files["ssl_certfile"], files.get("ssl_keyfile") or None
                )
        except OSError as error:
            _refuse(f"TLS: {error}")
        return context

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        end = f"/{self.service or self.db or ''}".rstrip("/")
        return f"{self.scheme}://{hosts}{self.path}{end}"

    __repr__ = __str__


def _host(text: str, port: int) -> tuple[str, int]:
    """Return host and port; an IPv6 address stands in brackets."""
    name, colon, number = text.rpartition(":")
    if not colon or number.endswith("]"):
        name, number = text, str(port)
    name = unquote(name.removeprefix("[").removesuffix("]"))
    if not name or not number.isdecimal() or not 0 < int(number) < 1 << 16:
        _refuse("a host is not host:port")
    return name, int(number)


def _database(text: str, topology: Topology) -> int:
    """Return the number of the database."""
    if not (text or "0").isdecimal():
        _refuse("the database is not a number")
    number = int(text or 0)
    if number and topology is Topology.CLUSTER:
        _refuse("a cluster has the database 0 only")
    return number


def _refuse(why: str) -> NoReturn:
    msg = f"this is not the URL of a Redis server: {why}"
    raise ConfigError(msg)
