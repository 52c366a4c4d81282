"""``ServerTlsPipe``: a ``TlsPipe`` that looks at the client's hello first.

Theory of operation. Bytes wait in a ``ClientHelloReader``. Once the message is complete
its server name picks the ``SSLContext`` and its ALPN list is compared with ours; only
then does OpenSSL get an object and the bytes. So a context is never switched in a
handshake (ALPN, versions and client authentication are those of the context that was
picked), and a peer that sends nothing, or no TLS, costs next to nothing. Refusals are
plaintext alerts.

An authority that looks at a name (RFC 8737) gets a handshake with a certificate for
that, and then the end: such a connection fails as soon as its handshake is complete, so
that nothing above the pipe ever sees it.
"""

import logging
import ssl
from typing import Final

from tako.core.turn import Turn
from tako.errors import TlsConfigError
from tako.http.date import http_date
from tako.tls.acme import CHALLENGE_ALPN
from tako.tls.certificates import TlsSettings
from tako.tls.client_hello import (
    Alert,
    ClientHello,
    ClientHelloError,
    ClientHelloReader,
)
from tako.tls.pipe import MAX_IDLE, TlsPipe


logger: Final[logging.Logger] = logging.getLogger("tako.tls")

# RFC 8737 §3: the authority offers this, and nothing else
_CHALLENGE: Final = (CHALLENGE_ALPN.encode(),)


class ServerTlsPipe(TlsPipe):
    """The server's side of one TLS connection."""

    __slots__ = ("_challenged", "_reader", "_settings")

    def __init__(
        self,
        tls: TlsSettings,
        turn: Turn | None = None,
        *,
        max_idle: int = MAX_IDLE,
    ) -> None:
        """Make a pipe for a connection that was accepted just now.

        Args:
            tls: certificates and protocols.
            turn: the connection's budget; ``None``: all is decrypted at once.
            max_idle: records without data before the connection is closed.
        """
        super().__init__(turn, max_idle=max_idle)
        self._settings = tls
        self._reader: ClientHelloReader | None = ClientHelloReader()
        self._challenged = False  # by an authority that looks at a name

    def _receive_early(self, ciphertext: bytes) -> bytes:
        if self._reader is not None:
            return self._receive_hello(self._reader, ciphertext)
        return self._handshake(ciphertext)

    def _receive_hello(self, reader: ClientHelloReader, ciphertext: bytes) -> bytes:
        try:
            hello = reader.receive_data(ciphertext)
        except ClientHelloError as error:
            if error.plain_http:
                self._complain("plain HTTP on a port for TLS, answered with 400")
                self._outgoing.write(_plain_answer(reader.raw))
            self._refuse(str(error), error.alert, error)
            return b""
        if hello is None:
            return b""
        self._reader = None
        self._choose(hello)
        return self._handshake(bytes(reader.raw))

    def _choose(self, hello: ClientHello) -> None:
        """Begin with the context that answers ``hello``, or refuse."""
        if hello.alpn == _CHALLENGE and self._meet_challenge(hello.sni):
            return
        if hello.alpn is not None and not self._settings.shares_protocol(hello.alpn):
            # RFC 7301 §3.2: no protocol in common SHALL be a fatal alert; OpenSSL, as
            # Python drives it, would go on without ALPN
            offered = b", ".join(hello.alpn)
            text = f"no application protocol in common with the client's {offered!r}"
            self._refuse(text, Alert.NO_APPLICATION_PROTOCOL)
            return
        try:
            answer = self._settings.answer(hello.sni)
            if answer is not None:
                self.begin(
                    answer.context,
                    server_side=True,
                    sni=hello.sni,
                    answered_by=answer.by,
                )
        except Exception as error:  # the application's resolver must not end the server
            logger.exception("choosing a certificate for %r failed", hello.sni)
            self._refuse("choosing a certificate failed", Alert.INTERNAL_ERROR, error)
            return
        if answer is None:
            # RFC 6066 §3: a name that the server does not know MAY be a fatal alert
            text = f"no certificate for the server name {hello.sni!r}"
            self._refuse(text, Alert.UNRECOGNIZED_NAME)

    def _meet_challenge(self, sni: str | None) -> bool:
        """Begin with the context of a challenge, if there is one under way."""
        try:
            context = self._settings.challenge(sni)
        except TlsConfigError as error:
            logger.error("the ACME challenge for %r: %s", sni, error)  # noqa: TRY400 - its text says it all
            return False
        if context is None:
            return False
        self._challenged = True
        self.begin(context, server_side=True, sni=sni)
        return True

    def _establish(self, ssl_object: ssl.SSLObject) -> None:
        super()._establish(ssl_object)
        if self._challenged:
            self.close_notify()
            self.established = False
            # RFC 8737 §3: the connection ends with the handshake, without data
            self._fail("it was an ACME challenge, which has been answered")

    def _refuse(
        self, text: str, alert: Alert | None, cause: Exception | None = None
    ) -> None:
        """Fail before OpenSSL took over."""
        self._fail(text, cause)
        if alert is not None:
            self._outgoing.write(alert.record)

    def _fail(self, text: str, cause: Exception | None = None) -> None:
        self._reader = None  # and the bytes in it
        super()._fail(text, cause)


def _plain_answer(received: bytearray) -> bytes:
    """Return the answer to a client that speaks HTTP instead of TLS."""
    text = b"This port speaks HTTPS: use https:// in the URL.\n"
    # RFC 9110 §9.3.2: no content in the answer to HEAD
    content = b"" if received.startswith(b"HEAD ") else text
    return b"HTTP/1.1 400 Bad Request\r\n%b%b%d\r\n%b\r\n%b" % (
        http_date.line(),
        b"content-type: text/plain; charset=utf-8\r\ncontent-length: ",
        len(text),
        b"connection: close\r\n",  # RFC 9112 §9.6
        content,
    )
