"""Listening sockets: ``bind`` and what ``serve*`` accept in its place."""

import errno
import socket
import sys
from collections.abc import Callable
from typing import Any, Self, TypeAlias, cast

from tako import runtime
from tako.http.conn_info import IpPeer, OtherPeer, PeerAddr, UnixPeer


_MAX_PORT = 65535


class Listener:
    """One or more bound, listening sockets that are served together."""

    __slots__ = ("sockets",)

    def __init__(self, sockets: list[socket.socket]) -> None:
        for sock in sockets:
            sock.setblocking(False)
        self.sockets: list[socket.socket] = sockets

    @property
    def local_addr(self) -> PeerAddr:
        """The address of the first socket, with the port it really got."""
        return address_of(self.sockets[0].family, self.sockets[0].getsockname())

    @property
    def port(self) -> int:
        """The TCP port.

        Raises:
            ValueError: this is not a TCP listener.
        """
        address = self.local_addr
        if not isinstance(address, IpPeer):
            msg = f"{address} has no port"
            raise ValueError(msg)  # noqa: TRY004 - what we are, not what we were given
        return address.port

    def close(self) -> None:
        """Stop listening; closing again is a no-op."""
        for sock in self.sockets:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


ListenerLike: TypeAlias = Listener | socket.socket | tuple[str, int] | str


def address_of(family: int, address: object) -> PeerAddr:
    """Return a socket address as a ``PeerAddr``."""
    if family in {socket.AF_INET, socket.AF_INET6} and isinstance(address, tuple):
        parts = cast("Any", address)
        return IpPeer(str(parts[0]), int(parts[1]))
    if family == socket.AF_UNIX:
        if isinstance(address, bytes):  # Linux: a name in the abstract namespace
            name = address.removeprefix(b"\0").decode(errors="backslashreplace")
            return UnixPeer(f"@{name}")
        return UnixPeer(str(address) or None)
    return OtherPeer(str(address))


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[ipv6]:port``.

    Raises:
        ValueError: ``address`` has another form.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        msg = f'an address is "host:port" or "[ipv6]:port", not {address!r}'
        raise ValueError(msg)
    return host, int(port)


async def bind(
    address: str | tuple[str, int], *, backlog: int = 1024, reuse_port: bool = False
) -> Listener:
    """Bind and listen.

    A name that stands for several addresses (``localhost``) is bound on all of them.

    Args:
        address: ``"host:port"``; port 0 takes a free one; an empty host means all.
        backlog: connections that the kernel keeps for us to accept.
        reuse_port: let several processes share the port (SO_REUSEPORT).

    Raises:
        ValueError: the address has another form.
        OSError: it cannot be bound.

    Cancel safety: safe.
    """
    host, port = split_address(address) if isinstance(address, str) else address
    await runtime.sleep(0)
    sockets: list[socket.socket] = []
    failures: list[OSError] = []
    try:
        found = socket.getaddrinfo(  # a literal or a name of this host: does not block
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, sockaddr in dict.fromkeys((f, a) for f, _, _, _, a in found):
            if sockets and port == 0:
                sockaddr = (sockaddr[0], sockets[0].getsockname()[1], *sockaddr[2:])  # noqa: PLW2901
            try:
                sockets.append(
                    _listen(family, sockaddr, backlog, reuse_port=reuse_port)
                )
            except OSError as error:
                # A host without IPv6 still resolves names to ::1.
                if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                    raise
                failures.append(error)
        if not sockets:
            raise failures[-1]
    except OSError as error:
        for sock in sockets:
            sock.close()
        text = f"cannot listen on {host or '*'}:{port}: {error.strerror or error}"
        raise OSError(error.errno, text) from None
    return Listener(sockets)


def _listen(
    family: int, sockaddr: tuple[object, ...], backlog: int, *, reuse_port: bool
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


async def as_listener(listener: ListenerLike) -> Listener:
    """Return ``listener`` as a ``Listener``, binding it if it is an address."""
    if isinstance(listener, Listener):
        return listener
    if isinstance(listener, socket.socket):
        return Listener([listener])
    if isinstance(listener, (str, tuple)):
        return await bind(listener)
    msg = (
        "a listener is what tako.bind returns, a bound socket, "
        f'("host", port) or "host:port", not {type(listener).__name__}'
    )
    raise TypeError(msg)


async def bind_with_port_fallback(
    address: str, *, prompt: Callable[[str], str] | None = None
) -> Listener:
    """Bind; if the port is taken ask on the terminal whether to try the next one.

    Args:
        address: ``"ip:port"``.
        prompt: asks a question and returns the answer; ``input`` by default. It runs
            in a thread.

    Raises:
        ValueError: the address has another form.
        OSError: it cannot be bound, or the answer was no (also: no terminal).

    Cancel safety: safe; a question that was asked stays on the terminal.
    """
    host, start = split_address(address)
    port = start
    while True:
        try:
            listener = await bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port == _MAX_PORT:
                raise
            if not await _next_port(port, prompt or input):
                raise
            port += 1
        else:
            if port != start:
                _say(f"Port {start} was in use, starting on {port} instead")
            return listener


async def _next_port(port: int, prompt: Callable[[str], str]) -> bool:
    question = f"Port {port} is already in use. Start on {port + 1} instead? [Y/n]: "

    def ask() -> str | None:
        try:
            return prompt(question)
        except EOFError:  # no terminal: a service must not hop ports
            return None

    while True:
        answer = await runtime.current().to_thread(ask)
        if answer is None:
            return False
        word = answer.strip().lower()
        if word in {"", "y", "yes"}:
            return True
        if word in {"n", "no"}:
            return False
        _say("Please answer 'y' or 'n'.")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
