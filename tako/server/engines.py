"""``ENGINES``: which engine speaks which protocol; handed to each connection."""

from collections.abc import Callable
from typing import Final

from tako.core.seams import Engine, ServerConnection
from tako.h1.engine import H1Engine
from tako.h2.engine import H2Engine
from tako.tcp.protocol import WireProtocol


ENGINES: Final[dict[WireProtocol, Callable[[ServerConnection], Engine]]] = {
    "http/1.1": H1Engine,
    "h2": H2Engine,
}
