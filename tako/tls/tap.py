"""``TlsTap``: a pipe that tells what goes through another, or through none.

It takes the place of a connection's pipe while somebody follows the connection, so that
all others pay nothing for that.

Invariant: what the connection reads of a ``TlsPipe`` is what ``_mirror`` saw last.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from tako.tls.pipe import TlsPipe


Tell: TypeAlias = Callable[[bool, bytes], None]
"""Is told of bytes without TLS: whether they were received, and which."""


class TlsTap(TlsPipe):
    """A ``TlsPipe`` around another.

    Attributes:
        below: the pipe that it is around; ``None``: the connection has none.
    """

    __slots__ = ("_tell", "below")

    def __init__(self, below: TlsPipe | None, tell: Tell) -> None:
        """Tell ``tell`` what goes through ``below``, which is established."""
        super().__init__()
        self.below: Final = below
        self._tell = tell
        self._mirror()

    def receive_data(self, ciphertext: bytes) -> bytes:
        """Take bytes from the peer; see ``TlsPipe``."""
        below = self.below
        data = ciphertext if below is None else below.receive_data(ciphertext)
        self._mirror()
        if data:
            self._tell(True, data)
        return data

    def receive_eof(self) -> None:
        """Note that the peer will send nothing more."""
        if self.below is not None:
            self.below.receive_eof()
            self._mirror()

    def data_to_send(self, plaintext: bytes | memoryview = b"") -> bytes:
        """Return what is to be sent for ``plaintext``; see ``TlsPipe``."""
        if plaintext:
            self._tell(False, bytes(plaintext))
        if self.below is None:
            return bytes(plaintext)
        return self.below.data_to_send(plaintext)

    def pieces_to_send(self, plaintext: bytes | memoryview) -> list[bytes]:
        """Return what ``data_to_send`` would join; see ``TlsPipe``."""
        data = bytes(plaintext)
        self._tell(False, data)
        return [data] if self.below is None else self.below.pieces_to_send(data)

    def close_notify(self) -> None:
        """Queue our close_notify, where there is TLS."""
        if self.below is not None:
            self.below.close_notify()
            self._mirror()

    def _mirror(self) -> None:
        """Take over what the connection wants to know of the pipe below."""
        below = self.below
        if below is None:
            self._show(
                None, None, None, backlog=False, established=True, truncated=False
            )
            return
        self._show_end(below)
        self._show(
            below.error,
            below.alpn,
            below.info,
            backlog=below.backlog,
            established=below.established,
            truncated=below.truncated,
        )
