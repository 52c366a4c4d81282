"""One message to 1,000 WebSockets."""

import sys

from tests.benchmarks.runner import main


if __name__ == "__main__":
    sys.exit(main("fan-out"))
