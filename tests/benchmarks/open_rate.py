"""How fast WebSockets open, handshakes of TCP and TLS included."""

import sys

from tests.benchmarks.runner import main


if __name__ == "__main__":
    sys.exit(main("open"))
