"""HTTP/2 (RFC 9113) and its WebSocket tunnels (RFC 8441); see README.md."""

from tako.h2.engine import H2Engine
from tako.h2.exchange import H2Exchange


__all__ = ["H2Engine", "H2Exchange"]
