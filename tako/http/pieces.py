"""Keeps waiting bytes in few objects, however small the pieces are that arrive.

As an object of its own a piece of two bytes takes twenty times the memory that it
counts for in the peer's credit. So the first pieces stay as they came (nearly every
body has no more), and small ones behind them are joined.
"""

from collections.abc import MutableSequence
from typing import Final, TypeAlias


Piece: TypeAlias = bytes | bytearray | memoryview

_SEPARATE: Final = 16  # pieces that stay as they came
_LARGE: Final = 4096  # bytes from which a piece is never copied


def keep(pieces: MutableSequence[Piece], data: bytes | memoryview) -> None:
    """Append ``data`` to ``pieces``, or to the last of them if both are small.

    A ``bytearray`` in ``pieces`` may still grow, so no view of it may exist: take it
    out before you use it.
    """
    if len(pieces) < _SEPARATE or len(data) >= _LARGE:
        pieces.append(data)
        return
    last = pieces[-1]
    if isinstance(last, bytearray) and len(last) < _LARGE:
        last += data
    else:
        pieces.append(bytearray(data))
