"""``HandshakeResponse``: how a server has answered a client."""

from dataclasses import dataclass
from typing import Literal

from tako.http.headers import Headers


@dataclass(frozen=True, slots=True)
class HandshakeResponse:
    """A server's answer to the handshake of a WebSocket.

    Attributes:
        status: 101 on HTTP/1.1, 200 on HTTP/2; another one if it refused.
        headers: its fields.
        http_version: what carries the WebSocket.
        body: of a refusal, as much as came: 4 KiB at most.
    """

    status: int
    headers: Headers
    http_version: Literal["1.1", "2"]
    body: bytes = b""
