"""The I/O edge: the event loops, and how a program runs on them.

Only this package imports asyncio or trio.
"""

from tako.runtime.backend import (
    Address,
    Backend,
    ClientRuntime,
    OpenRuntime,
    ServerRuntime,
    Socket,
    current,
    monotonic,
    sleep,
)
from tako.runtime.dial import dial, unix_address
from tako.runtime.run import ctrl_c, managed, run, signalled
from tako.runtime.signals import first_only


__all__ = [
    "Address",
    "Backend",
    "ClientRuntime",
    "OpenRuntime",
    "ServerRuntime",
    "Socket",
    "ctrl_c",
    "current",
    "dial",
    "first_only",
    "managed",
    "monotonic",
    "run",
    "signalled",
    "sleep",
    "unix_address",
]
