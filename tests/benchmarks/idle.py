"""What an open WebSocket costs in memory while nothing is said."""

import sys

from tests.benchmarks.runner import main


if __name__ == "__main__":
    sys.exit(main("idle"))
