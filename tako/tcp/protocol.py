"""What a connection speaks, and what speaks it."""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from tako.core.seams import Engine, ServerConnection


WireProtocol: TypeAlias = Literal["http/1.1", "h2"]
"""What an engine speaks."""

Protocol: TypeAlias = Literal["http/1.1", "h2", "tls"]
"""What a connection speaks; with ``"tls"`` ALPN decides between the others."""

Engines: TypeAlias = Mapping[WireProtocol, Callable[[ServerConnection], Engine]]
"""Makes what speaks a protocol."""
