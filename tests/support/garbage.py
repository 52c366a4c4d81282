"""What is left to the garbage collector."""

import contextlib
import gc
from collections.abc import Iterator


class Garbage:
    """What a block has left; there is nothing before its end."""

    def __init__(self) -> None:
        self.count = 0
        self.types: set[str] = set()


@contextlib.contextmanager
def garbage() -> Iterator[Garbage]:
    """Find what the block leaves in cycles; nothing is collected meanwhile."""
    found = Garbage()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found.count = len(gc.garbage)
        found.types = {type(each).__name__ for each in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
