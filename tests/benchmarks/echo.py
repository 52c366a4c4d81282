"""Echo of small messages, one at a time and pipelined."""

import sys

from tests.benchmarks.runner import main


if __name__ == "__main__":
    sys.exit(main("echo"))
