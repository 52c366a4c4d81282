"""``SocksConnect``: asks a SOCKS5 proxy for a server (RFC 1928, RFC 1929).

``socksio`` writes the requests and reads the answers; it takes each of those whole, and
trusts them more than we do.
"""

from typing import Any, cast

import socksio

from tako.client.proxy_step import ProxyState, ProxyStep


_SIZES = {1: 4, 4: 16}  # bytes of an address, by its type
_NAME = 3  # the type of one that is a name, with its length before it
_TEXTS = {
    socksio.SOCKS5ReplyCode.GENERAL_SERVER_FAILURE: "general failure",
    socksio.SOCKS5ReplyCode.CONNECTION_NOT_ALLOWED_BY_RULESET: "not allowed",
    socksio.SOCKS5ReplyCode.NETWORK_UNREACHABLE: "network unreachable",
    socksio.SOCKS5ReplyCode.HOST_UNREACHABLE: "host unreachable",
    socksio.SOCKS5ReplyCode.CONNECTION_REFUSED: "connection refused",
    socksio.SOCKS5ReplyCode.TTL_EXPIRED: "TTL expired",
    socksio.SOCKS5ReplyCode.COMMAND_NOT_SUPPORTED: "CONNECT not supported",
    socksio.SOCKS5ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED: "address type not supported",
}
_FINAL = frozenset(
    {
        socksio.SOCKS5ReplyCode.CONNECTION_NOT_ALLOWED_BY_RULESET,
        socksio.SOCKS5ReplyCode.COMMAND_NOT_SUPPORTED,
        socksio.SOCKS5ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED,
    }
)


class SocksConnect(ProxyStep):
    """One CONNECT over SOCKS5."""

    def __init__(
        self, host: str, port: int, credentials: tuple[bytes, bytes] | None
    ) -> None:
        """Greet the proxy.

        Args:
            host: the server's address, or its name, which the proxy resolves.
            port: its port.
            credentials: user and password, of 1 to 255 bytes each.
        """
        self._socks = socksio.SOCKS5Connection()
        self._server = host, port
        self._credentials = credentials
        methods = [socksio.SOCKS5AuthMethod.NO_AUTH_REQUIRED]
        if credentials is not None:
            methods.append(socksio.SOCKS5AuthMethod.USERNAME_PASSWORD)
        super().__init__(
            ProxyState.GREETING, self._say(socksio.SOCKS5AuthMethodsRequest(methods))
        )

    def _advance(self) -> bool:
        if self.state >= ProxyState.OPEN:
            return False
        size = self._answer_size()
        if size is None or len(self._received) < size:
            return False
        raw = bytes(self._received[:size])
        del self._received[:size]
        try:
            reply = self._socks.receive_data(raw)
        except socksio.ProtocolError:
            self._refuse("the proxy's answer is malformed")
            return False
        if isinstance(reply, socksio.SOCKS5AuthReply):
            self._take_method(reply.method)
        elif isinstance(reply, socksio.SOCKS5Reply):
            self._take_reply(reply.reply_code)
        elif reply.success:
            self._ask()
        else:
            self._refuse("the proxy refuses our user and password")
        return True

    def _answer_size(self) -> int | None:
        """Return how many bytes the next answer has; ``None``: it is not known yet."""
        received = self._received
        # RFC 1928 §3 and §6; RFC 1929 §2 has a version of its own
        if received and received[0] != (1 if self.state is ProxyState.NAMING else 5):
            self._refuse("the proxy does not speak SOCKS5")
            return None
        if self.state is not ProxyState.ASKING:
            return 2
        if len(received) < 5:  # up to the length of a name
            return None
        kind = received[3]
        if kind == _NAME:
            return 7 + received[4]
        if kind not in _SIZES:
            self._refuse("the proxy's answer is malformed")
            return None
        return 6 + _SIZES[kind]

    def _take_method(self, method: socksio.SOCKS5AuthMethod) -> None:
        if method is socksio.SOCKS5AuthMethod.NO_AUTH_REQUIRED:
            self._ask()
        elif (
            method is socksio.SOCKS5AuthMethod.USERNAME_PASSWORD
            and self._credentials is not None
        ):
            self._enter(ProxyState.NAMING)
            self._out += self._say(
                socksio.SOCKS5UsernamePasswordRequest(*self._credentials)
            )
        elif self._credentials is None:
            self._refuse("the proxy wants a user and a password, or more")
        else:
            self._refuse("the proxy does not take a user and a password")

    def _take_reply(self, code: socksio.SOCKS5ReplyCode) -> None:
        if code is socksio.SOCKS5ReplyCode.SUCCEEDED:
            self._enter(ProxyState.OPEN)
        else:
            text = f"the proxy cannot connect to the server: {_TEXTS[code]}"
            self._refuse(text, temporary=code not in _FINAL)

    def _ask(self) -> None:
        self._enter(ProxyState.ASKING)
        self._out += self._say(
            socksio.SOCKS5CommandRequest.from_address(
                socksio.SOCKS5Command.CONNECT, self._server
            )
        )

    def _say(
        self,
        request: socksio.SOCKS5AuthMethodsRequest
        | socksio.SOCKS5UsernamePasswordRequest
        | socksio.SOCKS5CommandRequest,
    ) -> bytes:
        cast("Any", self._socks).send(request)  # pyright knows no method like this one
        return self._socks.data_to_send()
