"""HTTP requests, the same each time and different each time."""

import sys

from tests.benchmarks.runner import main


if __name__ == "__main__":
    sys.exit(main("http"))
