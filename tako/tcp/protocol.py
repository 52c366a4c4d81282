"""What a connection speaks, and what speaks it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, TypeAlias

from tako.core.seams import Engine, Exchange, ServerConnection


WireProtocol: TypeAlias = Literal["http/1.1", "h2"]
"""What an engine speaks."""

Protocol: TypeAlias = Literal["http/1.1", "h2", "tls"]
"""What a connection speaks; with ``"tls"`` ALPN decides between the others."""

Engines: TypeAlias = Mapping[WireProtocol, Callable[[ServerConnection], Engine]]
"""Makes what speaks a protocol."""

Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]
"""Answers an exchange, in a task of its own.

What ends it is told to ``Connection.failed``; behind that, and whatever happens, it
calls ``Connection.answered``. So there is no level of ``await`` around it.
"""
