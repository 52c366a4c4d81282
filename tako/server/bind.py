"""``bind``, and what ``serve`` accepts in the place of what it returns."""

import errno
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeAlias, cast

from tako import runtime
from tako.server.listener import Listener, Several, split_address
from tako.server.systemd import inherited
from tako.server.unix import bind_unix


ListenerLike: TypeAlias = (
    str | tuple[str, int] | Listener | socket.socket | Sequence["ListenerLike"]
)
"""An address, what ``bind`` returned, a bound socket, or a list of these."""

Prompt: TypeAlias = Callable[[str], str]
"""Asks a question and returns the answer."""

_UNIX = "unix:"
_FD = "fd://"
_MAX_PORT = 65535


async def bind(
    address: str | tuple[str, int],
    *,
    backlog: int = 1024,
    reuse_port: bool = False,
    port_fallback: bool | Prompt = False,
    unix_mode: int | None = None,
) -> Listener:
    """Bind and listen.

    A name that stands for several addresses (``localhost``) is bound on all of them.

    A Unix socket that a dead server has left behind is replaced. The permissions of its
    directory decide which users can replace ours; those of the file, which follow the
    umask, decide which can connect.

    Args:
        address: one of

            * ``"host:port"``, ``"[ipv6]:port"`` or ``(host, port)``; port 0 takes a
              free one; an empty host means all;
            * ``"unix:/path"``, whose file is removed with the listener;
              ``"unix:@name"`` is a name in Linux's abstract namespace;
            * ``"fd://3"``, a listening socket that this process was started with;
              ``"fd://web"`` is all of those that systemd calls so
              (``FileDescriptorName=``, sd_listen_fds(3)).
        backlog: connections that the kernel keeps for the server to accept.
        reuse_port: let several processes share the port (SO_REUSEPORT).
        port_fallback: if the port is taken, ask on the terminal whether to try the next
            one. A function asks instead of ``input``; it runs in a thread.
        unix_mode: the permissions of a Unix socket's file, such as ``0o660``; ``None``:
            what the umask leaves. Without meaning for other addresses.

    Raises:
        ValueError: the address has another form, or an option is for TCP only.
        ConfigError: systemd's environment variables are malformed.
        OSError: it cannot be bound: another server listens there, a file is in the way,
            the descriptor is no listening socket, or the answer was no (also: there is
            no terminal).

    Cancel safety: safe; a question that was asked stays on the terminal.

    Example::

        with await tako.bind("127.0.0.1:0") as listener:
            print(listener.port)
    """
    if isinstance(address, str) and address.startswith((_UNIX, _FD)):
        if reuse_port or port_fallback:
            msg = f"reuse_port and port_fallback are for TCP, not for {address}"
            raise ValueError(msg)
        await runtime.sleep(0)
        if address.startswith(_FD):
            return inherited(address.removeprefix(_FD))
        path = address.removeprefix(_UNIX)
        return bind_unix(path, backlog=backlog, mode=unix_mode)
    host, port = split_address(address) if isinstance(address, str) else address
    if port_fallback:
        ask = input if port_fallback is True else port_fallback
        return await _bind_or_next(host, port, backlog, ask, reuse_port=reuse_port)
    return await bind_tcp(host, port, backlog, reuse_port=reuse_port)


async def as_listener(listener: ListenerLike) -> Listener:
    """Return ``listener`` as one ``Listener``; addresses are bound.

    If one of a list cannot be bound, all listeners of the list are closed.

    Raises:
        TypeError: ``listener`` is nothing that can listen.
        ValueError: an address has another form, or a list is empty.
        OSError: an address cannot be bound.
    """
    if isinstance(listener, Listener):
        return listener
    if isinstance(listener, socket.socket):
        return Listener([listener])
    if isinstance(listener, (str, tuple)):  # of the sequences a tuple is an address
        return await bind(cast("str | tuple[str, int]", listener))
    if isinstance(cast("object", listener), Sequence):
        with ExitStack() as undo:
            bound = [undo.enter_context(await as_listener(each)) for each in listener]
            if not bound:
                msg = "there is no address in the list"
                raise ValueError(msg)
            undo.pop_all()
        return bound[0] if len(bound) == 1 else Several(bound)
    msg = (
        'a listener is "host:port", ("host", port), "unix:/path", "fd://number", what '
        "tako.bind returns, a bound socket or a list of these, "
        f"not {type(listener).__name__}"
    )
    raise TypeError(msg)


async def bind_tcp(
    host: str, port: int, backlog: int, *, reuse_port: bool = False
) -> Listener:
    """Bind all addresses that ``host`` stands for.

    Raises:
        OSError: one of them cannot be bound.

    Cancel safety: safe.
    """
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


async def _bind_or_next(
    host: str, start: int, backlog: int, ask: Prompt, *, reuse_port: bool
) -> Listener:
    port = start
    while True:
        try:
            listener = await bind_tcp(host, port, backlog, reuse_port=reuse_port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port == _MAX_PORT:
                raise
            if not await _next_port(port, ask):
                raise
            port += 1
        else:
            if port != start:
                _say(f"Port {start} was in use, starting on {port} instead")
            return listener


async def _next_port(port: int, ask: Prompt) -> bool:
    question = f"Port {port} is already in use. Start on {port + 1} instead? [Y/n]: "

    def answered() -> str | None:
        try:
            return ask(question)
        except EOFError:  # no terminal: a service must not hop ports
            return None

    while True:
        answer = await runtime.current().to_thread(answered)
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
