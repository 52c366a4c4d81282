"""Uploads and downloads of 1 MiB, and pages of several files."""

import sys

from tests.benchmarks.runner import main


if __name__ == "__main__":
    sys.exit(main("transfer"))
