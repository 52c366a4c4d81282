"""What a server may leave behind: sockets of the process, tasks of its loop."""

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import Any, cast


_DESCRIPTORS = Path("/proc/self/fd")  # Linux; elsewhere no socket is seen
UNNAMED = "unnamed"
"""A socket of Unix without an address."""
_LOOPS = ("anyio", "asyncio", "trio")
_TAKO = f"{Path(__file__).parents[1]}{os.sep}"


def open_sockets() -> dict[str, int]:
    """Return the sockets that this process has open: their inodes, and descriptors."""
    found: dict[str, int] = {}
    if _DESCRIPTORS.is_dir():
        for name in os.listdir(_DESCRIPTORS):
            with contextlib.suppress(OSError):
                target = os.readlink(_DESCRIPTORS / name)
                if target.startswith("socket:"):
                    found[target] = int(name)
    return found


def ends_of(descriptor: int) -> list[str]:
    """Return the addresses of a socket and of its peer, as far as there are any."""
    ends: list[str] = []
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            ends.append(_address(sock.getsockname()))
            ends.append(_address(sock.getpeername()))
    except OSError:
        return ends  # it was closed meanwhile, or has no peer
    return ends


def _address(address: Any) -> str:
    if isinstance(address, tuple):
        host, port = cast("tuple[object, ...]", address)[:2]
        return f"{host}:{port}"
    return str(address) or UNNAMED


def told(coroutine: Any) -> str | None:
    """Return where a task waits, in the lines of the app; ``None``: not in the app."""
    libraries = _libraries()
    lines: list[str] = []
    name = getattr(coroutine, "__qualname__", repr(coroutine))
    waiting: Any = coroutine
    while waiting is not None:
        frame = _first(waiting, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            code = frame.f_code
            if not code.co_filename.startswith(libraries):
                lines.append(
                    f'  File "{code.co_filename}", line {frame.f_lineno}, '
                    f"in {code.co_qualname}"
                )
        waiting = _first(waiting, "cr_await", "gi_yieldfrom", "ag_await")
    return "\n".join([name, *lines]) if lines else None


def _libraries() -> tuple[str, ...]:
    """Return the folders of tako and of the event loops."""
    loops = (getattr(sys.modules.get(name), "__file__", None) for name in _LOOPS)
    return _TAKO, *(f"{Path(file).parent}{os.sep}" for file in loops if file)


def _first(value: Any, *names: str) -> Any:
    for name in names:
        found = getattr(value, name, None)
        if found is not None:
            return found
    return None
