"""The connection preface of a client (RFC 9113 §3.4), as its server sees it."""

from tako.h2.frames import PREFACE
from tako.http.conn_info import ConnInfo


class ClientPreface:
    """What is still to come of the preface.

    Attributes:
        complete: all of it was received.
        complaint: what the client speaks instead of HTTP/2, once that is known.
    """

    __slots__ = ("_conn_info", "_left", "complaint", "complete")

    def __init__(self, conn_info: ConnInfo) -> None:
        self._conn_info = conn_info
        self._left = PREFACE
        self.complete: bool = False
        self.complaint: str | None = None

    def strip(self, data: bytes) -> bytes | None:
        """Return what of ``data`` follows the preface; ``None``: it is none."""
        size = min(len(data), len(self._left))
        if data[:size] != self._left[:size]:
            self.complaint = self._spoken(data)
            return None
        self._left = self._left[size:]
        self.complete = not self._left
        return data[size:]

    def _spoken(self, data: bytes) -> str:
        if data.startswith(b"\x16"):  # RFC 8446 §5.1: a ClientHello's record
            return "TLS on a port for HTTP/2 in the clear"
        spoken = "HTTP/1.1" if data[:1].isalpha() else "something else than HTTP/2"
        if self._conn_info.tls is not None:  # RFC 9113 §3.2
            return f"{spoken} from a client that agreed on h2 by ALPN"
        return f"{spoken} on a port for HTTP/2 with prior knowledge"
