"""Bytes that wait, in few objects however small the pieces were that they came in.

A piece of two bytes costs as an object of its own twenty times what it counts for its
peer's credit. So the first pieces stay as they came, which is all that there is of
nearly every body; behind them small ones are joined.
"""

from collections.abc import MutableSequence
from typing import TypeAlias


Piece: TypeAlias = bytes | bytearray | memoryview

_SEPARATE = 16  # pieces that stay as they came
_LARGE = 4096  # bytes from which a piece is never copied


def keep(pieces: MutableSequence[Piece], data: bytes) -> None:
    """Append ``data`` to ``pieces``; a ``bytearray`` among them may still grow.

    So that no view of it may exist: take it out of ``pieces`` before it is used.
    """
    if len(pieces) < _SEPARATE or len(data) >= _LARGE:
        pieces.append(data)
        return
    last = pieces[-1]
    if isinstance(last, bytearray) and len(last) < _LARGE:
        last += data
    else:
        pieces.append(bytearray(data))
