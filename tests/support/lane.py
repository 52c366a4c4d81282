"""``TAKO_LANE=0``: the tests' servers speak HTTP/2 without the express lane.

What is sent and delivered is the same, so the whole suite passes either way; engine
tests run on both anyway. Server processes of the tests obey, too; the command, the
examples and the library know no such variable.
"""

import contextlib
import os
from collections.abc import Iterator
from functools import partial

from tako.h2 import H2Engine
from tako.server.engines import ENGINES


def obey() -> None:
    """Do what ``TAKO_LANE`` says.

    Raises:
        ValueError: it is neither 0 nor 1.
    """
    lane = os.environ.get("TAKO_LANE", "1")
    if lane not in {"0", "1"}:
        msg = f"TAKO_LANE is 0 or 1, not {lane!r}"
        raise ValueError(msg)
    if lane == "0":
        ENGINES["h2"] = partial(H2Engine, lane=False)


@contextlib.contextmanager
def switched(*, on: bool) -> Iterator[None]:
    """Let the connections that are opened meanwhile have the lane, or not."""
    before = ENGINES["h2"]
    ENGINES["h2"] = partial(H2Engine, lane=on)
    try:
        yield
    finally:
        ENGINES["h2"] = before
