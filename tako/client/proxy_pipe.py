"""``ProxyPipe``: the way to a server through a proxy, as one pipe.

Theory of operation. Three things come one after the other, and the first and the last
may be left out: TLS to the proxy, the step that asks it for the server, TLS to the
server. To the connection that is a handshake; the pipe is ``established`` when all of
it is done. Bytes then go through both of TLS, one in the other. Where there is none to
the proxy, the connection goes on without us: ``remainder``.

Invariant: what the connection reads of a ``TlsPipe`` is what ``_mirror`` last saw below
and above.
"""

from tako.client.proxy_step import ProxyState, ProxyStep
from tako.tls.pipe import TlsPipe


class ProxyPipe(TlsPipe):
    """A ``TlsPipe`` with a proxy on its way.

    Attributes:
        step: what is said to the proxy.
    """

    __slots__ = ("_above", "_below", "step")

    def __init__(
        self, step: ProxyStep, below: TlsPipe | None, above: TlsPipe | None
    ) -> None:
        """Make the pipe.

        Args:
            step: asks the proxy.
            below: TLS to the proxy; ``None``: it is plain.
            above: TLS to the server; ``None``: it is plain.
        """
        super().__init__()
        self.step: ProxyStep = step
        self._below = below
        self._above = above

    @property
    def remainder(self) -> TlsPipe | None:
        """What is needed of the pipe once it is established."""
        return self._above if self._below is None else self

    def receive_data(self, ciphertext: bytes) -> bytes:
        """Take bytes from the proxy; return the server's; see ``TlsPipe``."""
        below, above, step = self._below, self._above, self.step
        data = ciphertext if below is None else below.receive_data(ciphertext)
        if step.state is not ProxyState.OPEN and data:
            data = step.receive_data(data)
        if above is not None and (data or above.backlog):
            data = above.receive_data(data)
        if below is not None and below.peer_closed and not below.backlog:
            self._end()
        self._mirror()
        return data

    def receive_eof(self) -> None:
        """Note that the proxy will send nothing more."""
        if self._below is not None:
            self._below.receive_eof()
        self._end()
        self._mirror()

    def data_to_send(self, plaintext: bytes | memoryview = b"") -> bytes:
        """Return what is queued for the proxy and the server; see ``TlsPipe``."""
        below, above, step = self._below, self._above, self.step
        data: bytes | memoryview = plaintext
        if step.state is not ProxyState.OPEN:
            ready = below is None or below.established
            data = step.data_to_send() if ready else b""
        elif above is not None:
            data = above.data_to_send(plaintext)
        if below is not None:
            data = below.data_to_send(data)
        if self._queued:
            return b"".join([*self._take(), data])
        return bytes(data)

    def pieces_to_send(self, plaintext: bytes | memoryview) -> list[bytes]:
        """Return what ``data_to_send`` would join; see ``TlsPipe``."""
        below, above = self._below, self._above
        pieces = [plaintext] if above is None else above.pieces_to_send(plaintext)
        sent = self._take()
        for piece in pieces:
            if below is None:
                sent.append(bytes(piece))
            else:
                sent += below.pieces_to_send(piece)
        return sent

    def close_notify(self) -> None:
        """Queue our close_notify to the server, and behind it that to the proxy."""
        below, above = self._below, self._above
        if above is not None:
            above.close_notify()
        if below is not None:
            self._queued.append(self.data_to_send())
            below.close_notify()

    def _end(self) -> None:
        """End what is above TLS to the proxy: nothing more comes out of it."""
        self.step.receive_eof()
        if self._above is not None and self.step.state is ProxyState.OPEN:
            self._above.receive_eof()

    def _mirror(self) -> None:
        """Take over what the connection wants to know of the pipes."""
        below, above, step = self._below, self._above, self.step
        pipes = [pipe for pipe in (above, below) if pipe is not None]
        for pipe in pipes:
            self._show_end(pipe)
        self._show(
            step.refusal,
            None if above is None else above.alpn,
            None if above is None else above.info,
            backlog=any(pipe.backlog for pipe in pipes),
            established=step.state is ProxyState.OPEN
            and (above is None or above.established),
            truncated=bool(pipes) and pipes[0].truncated,
        )
