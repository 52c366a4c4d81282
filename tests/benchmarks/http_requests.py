"""HTTP requests over TLS, by h2load."""

import sys

from tests.benchmarks.runner import main


if __name__ == "__main__":
    sys.exit(main("http"))
