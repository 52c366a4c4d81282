"""The program of the hub: ``python -I -S .../tako/topics/hub/__main__.py DESCRIPTOR``.

It is run by its path, and needs 10 MiB: the packages that it is in are not executed,
because that of ``tako`` imports the whole server.
"""

import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType


def main() -> int:
    """Be the hub of a control socket; return the exit code."""
    # A terminal and systemd signal all of a group. What ends this process is the end of
    # its supervisor's socket, which comes after the workers'.
    for number in (
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR1,
    ):
        signal.signal(number, signal.SIG_IGN)
    folder = Path(__file__).parent
    for name in ("tako.topics.hub", "tako.topics", "tako"):
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
        folder = folder.parent

    process = import_module("tako.topics.hub.process")
    code: int = process.Process(socket.socket(fileno=int(sys.argv[1]))).run()
    return code


if __name__ == "__main__":
    sys.exit(main())
