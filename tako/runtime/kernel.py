"""What the kernel knows of a connection and sends by itself; sockets for new ones."""

import contextlib
import os
import select
import socket
import struct
import sys

from tako.core.loop import Transport


_INT = struct.Struct("i")
_TCP_INFO = struct.Struct("2xB53xI")  # of linux/tcp.h: retransmits, last_ack_recv
_ROUND_TRIP = struct.Struct("68xI")  # likewise: rtt, in microseconds
_CARRIED = 16 * 1024  # bytes
_RDHUP: int = getattr(select, "POLLRDHUP", 0)  # Linux only


def new_socket(family: int) -> socket.socket:
    """Return a non-blocking stream socket that sends what it is given at once."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    if family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def send_file(transport: Transport, fd: int, file: int, offset: int, size: int) -> int:
    """Send bytes of ``file``; where the socket takes none, the transport gets a few.

    It waits with these for the socket as with any output: neither asyncio nor uvloop
    lets others wait for the socket of a transport, and asyncio's ``sendfile``, which
    uvloop lacks, takes the transport from its protocol. The socket has room again for
    far more than these few (a third of its buffer, on Linux).

    Args:
        transport: the connection's.
        fd: the descriptor of its socket.
        file: as for ``loop.Runtime.send_file``.
        offset: as there.
        size: as there.
    """
    if sys.platform != "linux" or fd < 0:
        return 0
    try:
        if not transport.get_write_buffer_size():  # else it would overtake that
            with contextlib.suppress(BlockingIOError):
                return os.sendfile(fd, file, offset, size)
        data = os.pread(file, min(size, _CARRIED), offset)
    except OSError:  # not this kind of file, or a reset: who reads and writes is told
        return 0
    if data:
        transport.write(data)
    return len(data)


def unacknowledged(fd: int) -> int:
    """Return how many bytes the kernel holds for the peer; 0: it does not say."""
    if sys.platform != "linux" or fd < 0:
        return 0
    import fcntl
    import termios

    try:  # SIOCOUTQ, tcp(7) and unix(7), has the number of TIOCOUTQ
        answer = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(_INT.size))
    except OSError:  # not that kind of socket
        return 0
    size: int = _INT.unpack(answer)[0]
    return size


def unanswered(fd: int) -> float:
    """Return for how many seconds the peer has acknowledged nothing that was sent.

    0: it has, or nothing was to be sent again, or the kernel does not say. A peer
    without room for more acknowledges the probes of its window, and so counts as one.
    """
    retransmits, milliseconds = _tcp_info(fd, _TCP_INFO) or (0, 0)
    return milliseconds / 1000 if retransmits else 0.0


def _tcp_info(fd: int, fields: struct.Struct) -> tuple[int, ...] | None:
    """Return fields of ``tcp_info``, of linux/tcp.h."""
    if sys.platform != "linux" or fd < 0:
        return None
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=fd)
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, fields.size)
    except OSError:  # not that kind of socket
        return None
    finally:
        sock.detach()
    return None if len(info) < fields.size else fields.unpack(info)


def round_trip(fd: int) -> float | None:
    """Return the seconds of a round trip to the peer; ``None``: it does not say."""
    info = _tcp_info(fd, _ROUND_TRIP)
    return None if info is None else info[0] / 1_000_000


def hung_up(fd: int) -> bool:
    """Tell whether the kernel knows that the peer takes no more output."""
    return bool(_events(fd) & ~_RDHUP)


def peer_ended(fd: int) -> bool:
    """Tell whether the peer's end of its direction is here, perhaps behind data."""
    return bool(_events(fd))


def _events(fd: int) -> int:
    """Return what poll(2) reports: POLLRDHUP, and POLLHUP and POLLERR in any case."""
    if sys.platform != "linux" or fd < 0:
        return 0
    poll = select.poll()
    poll.register(fd, _RDHUP)
    found = poll.poll(0)
    return found[0][1] if found else 0
