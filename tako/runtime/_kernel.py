"""What the kernel knows about a connection."""

import select
import struct
import sys


_INT = struct.Struct("i")


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


def hung_up(fd: int) -> bool:
    """Tell whether the kernel knows that the peer takes nothing any more."""
    if sys.platform != "linux" or fd < 0:
        return False
    poll = select.poll()
    poll.register(fd, 0)  # POLLHUP and POLLERR are always reported, poll(2)
    return bool(poll.poll(0))
