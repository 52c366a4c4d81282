"""``ENGINES``: which engine speaks which protocol; handed to each connection."""

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

from tako.core.seams import Engine, ServerConnection
from tako.h1.engine import H1Engine
from tako.h2.engine import H2Engine


WireProtocol: TypeAlias = Literal["http/1.1", "h2"]
Engines: TypeAlias = Mapping[WireProtocol, Callable[[ServerConnection], Engine]]

ENGINES: Final[dict[WireProtocol, Callable[[ServerConnection], Engine]]] = {
    "http/1.1": H1Engine,
    "h2": H2Engine,
}
