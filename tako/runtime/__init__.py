"""The I/O edge: the event loops, and how a program runs on them.

Only this package imports asyncio or trio.
"""

from tako.runtime.backend import (
    Backend,
    OpenRuntime,
    ServerRuntime,
    current,
    sleep,
)
from tako.runtime.run import ctrl_c, managed, run, signalled


__all__ = [
    "Backend",
    "OpenRuntime",
    "ServerRuntime",
    "ctrl_c",
    "current",
    "managed",
    "run",
    "signalled",
    "sleep",
]
