"""``HttpConnect``: asks an HTTP proxy for a server (RFC 9110 §9.3.6)."""

from tako.client.proxy_step import ProxyState, ProxyStep
from tako.h1.client import STATUS_LINE
from tako.native.loops import split_fields


_MAX_HEAD = 16 * 1024  # bytes of the answer, interim ones among them
_MAX_FIELDS = 100
_TEMPORARY = frozenset({500, 502, 503, 504})


class HttpConnect(ProxyStep):
    """One CONNECT over HTTP/1.1."""

    def __init__(
        self,
        host: str,
        port: int,
        authorization: bytes | None,
        user_agent: bytes | None,
    ) -> None:
        """Ask for a server.

        Args:
            host: the server's name or address.
            port: its port.
            authorization: the value of ``proxy-authorization``.
            user_agent: the value of ``user-agent``.
        """
        # RFC 9112 §3.2.3: the port is always there
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        authority = name.encode("ascii")
        lines = [b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % (authority, authority)]
        if user_agent is not None:
            lines.append(b"user-agent: %b\r\n" % user_agent)
        if authorization is not None:
            lines.append(b"proxy-authorization: %b\r\n" % authorization)
        super().__init__(ProxyState.ASKING, b"".join([*lines, b"\r\n"]))
        self._head_bytes = 0  # of the interim answers
        self._looked_at = 0  # bytes that the end of the head is not in

    def _advance(self) -> bool:
        received = self._received
        end = received.find(b"\r\n\r\n", self._looked_at) + 4
        complete = end >= 4
        if self._head_bytes + (end if complete else len(received)) > _MAX_HEAD:
            self._refuse("the proxy's answer is too large")
            return False
        if not complete:
            self._looked_at = max(len(received) - 3, 0)
            if not received.startswith(b"HTTP/1."[: len(received)]):
                self._refuse("the proxy does not speak HTTP/1.1")
            return False
        raw = bytes(received[:end])
        del received[:end]
        self._looked_at = 0
        line = STATUS_LINE.match(raw)
        if line is None or split_fields(raw, line.end(), _MAX_FIELDS)[1] != end - 2:
            self._refuse("the proxy's answer is malformed")
            return False
        return self._take(int(line[2]), end)

    def _take(self, status: int, size: int) -> bool:
        """Take an answer of ``size`` bytes; tell whether another follows."""
        if 100 <= status < 200 and status != 101:  # RFC 9110 §15.2
            self._head_bytes += size
            return True
        self._answered(status)
        if 200 <= status < 300:  # content-length is ignored, as RFC 9110 §9.3.6 asks
            self._enter(ProxyState.OPEN)
        elif status == 407:
            self._refuse("the proxy wants other credentials (407)")
        else:
            text = f"the proxy answers CONNECT with {status}"
            self._refuse(text, temporary=status in _TEMPORARY)
        return False
