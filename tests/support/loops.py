"""Run a test's async function on each runtime that tako serves on."""

from collections.abc import Awaitable, Callable
from typing import Any

import tako
from tests.support.server import RuntimeName


def run_on(
    name: RuntimeName, main: Callable[..., Awaitable[Any]], *args: object
) -> Any:
    """Return what ``main(*args)`` returns on a new event loop."""
    if name == "trio":
        return tako.run(main, *args, runtime="trio")
    return tako.run(main, *args, loop=name)
