"""``Outbox``: output of one stream that the windows have no room for yet."""

from collections import deque

from tako.http.pieces import Piece, keep


class Outbox:
    """Bytes in order, taken out in pieces that fit into a frame."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        # Made when first needed: most streams of a connection never have to wait, and
        # an empty deque is 0.7 KB.
        self._pieces: deque[Piece] | None = None
        self.size: int = 0
        """How many bytes wait."""

    def add(self, data: bytes) -> None:
        """Append ``data``; large ones are not copied however often they will be cut."""
        if self._pieces is None:
            self._pieces = deque()
        keep(self._pieces, data)
        self.size += len(data)

    def take(self, room: int) -> Piece:
        """Remove and return up to ``room`` bytes: small pieces are joined."""
        pieces = self._pieces
        if not pieces:
            return b""
        if len(pieces[0]) > room:
            data = memoryview(pieces[0])
            pieces[0] = data[room:]
            self.size -= room
            return data[:room]
        taken: list[Piece] = []
        while pieces and len(pieces[0]) <= room:
            piece = pieces.popleft()
            room -= len(piece)
            self.size -= len(piece)
            taken.append(piece)
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def clear(self) -> None:
        """Forget everything."""
        self._pieces = None
        self.size = 0
