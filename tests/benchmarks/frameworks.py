"""HTTP requests to the same Starlette and FastAPI app on each ASGI server."""

import sys

from tests.benchmarks.runner import main


if __name__ == "__main__":
    sys.exit(main("frameworks"))
