"""Header blocks (RFC 7541), with the static tables of the ``hpack`` library.

*Decoding* (``native.loops.FieldTable``) does what ``hpack``'s decoder does, error for
error, in a fraction of the time for the blocks that cost most: any must fit into a
turn, and ``hpack`` copies the rest of a block for each literal. A block that changes
nothing in the table means what it meant before as long as no other block has come in
between, and is not decoded again. Clients that send one request many times send such
blocks: all indices, or literals that are not to be indexed. A block with a field that
must never be indexed is not kept: another user of a proxy's connection could find out
by the time it takes whether a guess at it is right.

*Encoding* is stateless: fields of the static table by their index, everything else as a
literal that enters no table. A head costs some bytes more than with a dynamic table
and a tenth of the time; and no field of one response is in the table with another's.
The table's size is set to 0 at the front of the first block (RFC 7541 §4.2), so that
the peer may change its limit as it likes: ``NO_TABLE``.
"""

from collections.abc import Iterable
from typing import Final

from hpack.table import HeaderTable

from tako.h2.fields import KINDS, Field, FieldKind, read_field
from tako.http.headers import RawHeader
from tako.http.response_fields import SECRET
from tako.native.loops import FieldTable


_INDEXED: Final = 0x80  # RFC 7541 §6.1
_NOT_INDEXED: Final = 0x00  # RFC 7541 §6.2.2
_NEVER_INDEXED: Final = 0x10  # RFC 7541 §6.2.3
_SIZE_UPDATE: Final = 0x20  # RFC 7541 §6.3
NO_TABLE: Final = bytes([_SIZE_UPDATE])
"""What comes before our first block: the table's size is 0."""


_LARGEST_KEPT: Final = 64  # bytes of a field whose encoding is kept
_MOST_KEPT: Final = 512

_lengths: Final[dict[int, bytes]] = {}

_LARGEST_BLOCK: Final = 4096  # bytes of a received block that a connection keeps

_STATIC_TABLE: Final = tuple(HeaderTable.STATIC_TABLE)  # RFC 7541 appendix A
_READ_STATIC: Final = [read_field(*field) for field in ((b"", b""), *_STATIC_TABLE)]
_STATIC: Final = list(enumerate(_STATIC_TABLE, 1))
_STATIC_FIELDS: Final = {
    (name, value): bytes([_INDEXED | index]) for index, (name, value) in _STATIC
}
_STATIC_NAMES: Final = {name: index for index, (name, _) in reversed(_STATIC)}

_kept: Final[dict[RawHeader, bytes]] = dict(_STATIC_FIELDS)


class FieldDecoder:
    """A decoder that knows a block again."""

    def __init__(self, max_list_size: int) -> None:
        """Begin with an empty table.

        Args:
            max_list_size: bytes of all names and values, and 32 for each, from which
                decoding gives up.
        """
        self._max_list_size = max_list_size
        self.table: FieldTable = FieldTable(
            _READ_STATIC, read_field, KINDS, FieldKind.PLAIN
        )
        self._last_block: bytes | None = None
        self._last_fields: list[Field] = []

    @property
    def fields(self) -> tuple[RawHeader, ...]:
        """The dynamic table (RFC 7541 §2.3.2), the youngest first."""
        return tuple(field[0] for field in self.table.fields[len(_READ_STATIC) :])

    def decode_block(self, block: bytes) -> list[Field]:
        """Return the fields of a block; the same list if it is the same block again.

        Raises:
            HPACKError: or one of its relatives; the table is of no use any more.
        """
        if block == self._last_block:
            return self._last_fields
        self._last_block = None
        fields: list[Field] = self.table.decode(block, self._max_list_size)
        if self.table.repeatable and len(block) <= _LARGEST_BLOCK:
            self._last_block, self._last_fields = block, fields
        return fields


def encode_field(field: RawHeader) -> bytes:
    """Return a field as a block, or part of one, that uses no dynamic table."""
    return _kept.get(field) or _literal(field)


def encode_length(length: int) -> bytes:
    """Return what ``encode_field`` does, of a ``content-length`` that says this."""
    block = _lengths.get(length)
    if block is None:
        if len(_lengths) >= _MOST_KEPT:
            _lengths.clear()
        block = encode_field((b"content-length", b"%d" % length))
        _lengths[length] = block
    return block


def encode(fields: Iterable[RawHeader]) -> bytes:
    """Return a block that uses no dynamic table."""
    return b"".join([_kept.get(field) or _literal(field) for field in fields])


def _literal(field: RawHeader) -> bytes:
    name, value = field
    sensitive = name in SECRET
    kind = _NEVER_INDEXED if sensitive else _NOT_INDEXED
    index = _STATIC_NAMES.get(name)
    if index is None:
        literal = bytes([kind]) + _integer(0, 7, len(name)) + name
    else:
        literal = _integer(kind, 4, index)
    literal += _integer(0, 7, len(value)) + value
    if len(literal) <= _LARGEST_KEPT and not sensitive:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
            _kept.update(_STATIC_FIELDS)
        _kept[field] = literal
    return literal


def _integer(first: int, bits: int, value: int) -> bytes:
    """Return ``value`` behind the high bits of ``first`` (RFC 7541 §5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out = bytearray([first | most])
    value -= most
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
