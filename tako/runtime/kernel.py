"""What the kernel knows about a connection."""

import select
import socket
import struct
import sys


_INT = struct.Struct("i")
_TCP_INFO = struct.Struct("2xB53xI")  # of linux/tcp.h: retransmits, last_ack_recv
_RDHUP: int = getattr(select, "POLLRDHUP", 0)  # Linux only


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
    if sys.platform != "linux" or fd < 0:
        return 0.0
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=fd)
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:  # not that kind of socket
        return 0.0
    finally:
        sock.detach()
    retransmits, milliseconds = _TCP_INFO.unpack(info)
    return milliseconds / 1000 if retransmits else 0.0


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
