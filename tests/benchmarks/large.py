"""Echo of messages of 64 KiB and of 1 MiB."""

import sys

from tests.benchmarks.runner import main


if __name__ == "__main__":
    sys.exit(main("large"))
