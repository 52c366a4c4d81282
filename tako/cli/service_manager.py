"""``ServiceManager``: what systemd is told of this process, as ``sd_notify(3)`` says.

With ``Type=notify`` a unit counts as started once it has said ``READY=1``. What is told
is a datagram, which never waits and may be lost; that it could not be sent is logged at
DEBUG, and changes nothing.
"""

import logging
import os
import re
import socket
import time
from typing import Self


_logger = logging.getLogger("tako.cli")

_MICROSECONDS = re.compile("[1-9][0-9]{0,18}")


class ServiceManager:
    """Tells systemd, or whatever has set ``NOTIFY_SOCKET``, how the service is.

    Attributes:
        watchdog: seconds between two calls of ``alive``; ``None``: none are wanted.
    """

    __slots__ = ("_address", "_serving", "_status", "watchdog")

    def __init__(
        self, address: str | None = None, watchdog: float | None = None
    ) -> None:
        """Make one that tells ``address``: a path, or ``@`` and an abstract name.

        Without an address it tells nothing.
        """
        self._address = address
        self._serving = False
        self._status = ""
        self.watchdog: float | None = None if address is None else watchdog

    @classmethod
    def from_environment(cls) -> Self:
        """Return the one that this process was started by.

        The variables are removed: they are not for workers and other children.
        """
        address, period, pid = (
            os.environ.pop(name, "")
            for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        )
        ours = not pid or pid == str(os.getpid())
        wanted = ours and _MICROSECONDS.fullmatch(period)
        return cls(address or None, int(period) / 2e6 if wanted else None)

    def ready(self, status: str) -> None:
        """Tell that the service has started, and how it is, in words."""
        self._serving, self._status = True, status
        self._tell("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Tell how it is, if that has changed."""
        if status != self._status:
            self._status = status
            self._tell(f"STATUS={status}")

    def reloading(self) -> None:
        """Tell that it reloads; ``reloaded`` says that this is over.

        Both do nothing before ``ready``, and after ``stopping``.
        """
        if self._serving:
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def reloaded(self) -> None:
        """Tell that it has reloaded."""
        if self._serving:
            self._tell("READY=1")

    def stopping(self) -> None:
        """Tell that it has begun to stop."""
        self._serving = False
        self._tell("STOPPING=1", "STATUS=draining")

    def alive(self) -> None:
        """Tell that it is well; to be called every ``watchdog`` seconds."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        name = self._address
        if name.startswith("@"):
            name = "\0" + name[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), name)
        except OSError as error:
            _logger.debug("%s could not be told: %s", self._address, error)
