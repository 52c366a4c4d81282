"""HTTP/1.1 (RFC 9112): see ``README.md`` beside this file, and ``engine``."""

from tako.h1.engine import H1Engine
from tako.h1.exchange import H1Exchange
from tako.h1.tunnel import H1Tunnel


__all__ = ["H1Engine", "H1Exchange", "H1Tunnel"]
