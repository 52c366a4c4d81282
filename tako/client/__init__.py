"""A client: WebSockets over HTTP/2 and HTTP/1.1; see the README here."""

from tako.client.client import Client
from tako.client.connect import Connect, connect


__all__ = ["Client", "Connect", "connect"]
