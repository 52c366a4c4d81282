"""A worker's link to its supervisor: three kinds of descriptors.

The *listening sockets* are inherited, so that connections wait in the kernel while
workers come and go. On the *ready pipe* the worker says, once, that it serves, or why
not, and closes it. The *life pipe* is open as long as the supervisor lives: when it
ends, the worker drains.
"""

import os
import signal
import threading
from dataclasses import dataclass
from typing import Self

from tako.cli.listeners import adopt
from tako.server.listener import Listener


ENVIRONMENT = "TAKO_WORKER"


READY, FAILED, END = b"ready ", b"failed ", b"\n"
"""What a ready pipe carries begins with one of the first two, and ends with the last.

Its end itself says nothing: the app may have forked.
"""

_MOST = 32 << 10  # bytes of a failure: a pipe takes more without waiting


@dataclass(slots=True)
class Worker:
    """What a worker has inherited."""

    listener: Listener
    ready: int

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return what the supervisor has passed on, once; ``None`` without one."""
        value = os.environ.pop(ENVIRONMENT, None)
        if value is None:
            return None
        ready, life, *sockets = map(int, value.split(","))
        for number in (ready, life, *sockets):  # not for programs that the app starts
            os.set_inheritable(number, False)
        threading.Thread(target=_outlive, args=(life,), daemon=True).start()
        return cls(adopt(sockets), ready)

    def tell_ready(self, kind: str) -> None:
        """Tell the supervisor that this worker serves ``kind``."""
        self._tell(READY + kind.encode() + END)

    def tell_failure(self, text: str) -> bool:
        """Tell the supervisor why this worker cannot start; ``False``: it has."""
        if self.ready < 0:
            return False
        data = text.encode(errors="backslashreplace")
        self._tell(FAILED + data[-_MOST:] + END)
        return True

    def _tell(self, data: bytes) -> None:
        os.write(self.ready, data)
        os.close(self.ready)
        self.ready = -1


def describe(ready: int, life: int, sockets: list[int]) -> str:
    """Return the value of the environment variable, for the supervisor."""
    return ",".join(map(str, [ready, life, *sockets]))


def _outlive(life: int) -> None:
    """Drain when the supervisor is gone."""
    while os.read(life, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
