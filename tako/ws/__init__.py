"""WebSockets (RFC 6455, 7692, 8441) inside ordinary handlers; see the README here."""

from tako.ws.message import AnyMessage, Message
from tako.ws.options import Deflate, WsKeepAlive
from tako.ws.origin import normalize_origin
from tako.ws.responder import TakoWs
from tako.ws.websocket import WebSocket


__all__ = [
    "AnyMessage",
    "Deflate",
    "Message",
    "TakoWs",
    "WebSocket",
    "WsKeepAlive",
    "normalize_origin",
]
