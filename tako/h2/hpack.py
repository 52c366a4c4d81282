"""Header blocks (RFC 7541), with the static tables of the ``hpack`` library.

*Decoding* does what ``hpack``'s decoder does, error for error, in a fraction of the
time for the blocks that cost most: any must fit into a turn, and
``hpack`` copies the rest of a block for each literal. A block that changes nothing in
the table means what it meant before as long as no other block has come in between, and
is not decoded again. Clients that send one request many times send such blocks: all
indices, or literals that are not to be indexed. A block with a field that must never be
indexed is not kept: another user of a proxy's connection could find out by the time it
takes whether a guess at it is right.

*Encoding* is stateless: fields of the static table by their index, everything else as a
literal that enters no table. A head costs some bytes more than with a dynamic table
and a tenth of the time; and no field of one response is in the table with another's.
The table's size is set to 0 at the front of the first block (RFC 7541 §4.2), so that
the peer may change its limit as it likes: ``NO_TABLE``.
"""

from collections import deque
from collections.abc import Iterable

from hpack import (
    HPACKDecodingError,
    InvalidTableIndexError,
    InvalidTableSizeError,
    OversizedHeaderListError,
)
from hpack.table import HeaderTable

from tako.http.headers import RawHeader
from tako.http.response_fields import SECRET
from tako.native.loops import decode_huffman


_INDEXED = 0x80  # RFC 7541 §6.1
_NOT_INDEXED = 0x00  # RFC 7541 §6.2.2
_NEVER_INDEXED = 0x10  # RFC 7541 §6.2.3
_SIZE_UPDATE = 0x20  # RFC 7541 §6.3
_INCREMENTAL = 0x40  # RFC 7541 §6.2.1
_HUFFMAN = 0x80  # RFC 7541 §5.2
_TABLE_SIZE = 4096  # RFC 9113 §6.5.2: what the peer may use; we never say otherwise
_FIELD_COST = 32  # RFC 7541 §4.1
_LONGEST_INTEGER = 28  # bits before the last octet: five of them behind the prefix
NO_TABLE = bytes([_SIZE_UPDATE])
"""What comes before our first block: the table's size is 0."""


_LARGEST_KEPT = 64  # bytes of a field whose encoding is kept
_MOST_KEPT = 512

_LARGEST_BLOCK = 4096  # bytes of a received block that is kept, for each connection

_STATIC_TABLE = tuple(HeaderTable.STATIC_TABLE)  # RFC 7541 appendix A
_STATIC_SIZE = len(_STATIC_TABLE)
_STATIC = list(enumerate(_STATIC_TABLE, 1))
_STATIC_FIELDS = {
    (name, value): bytes([_INDEXED | index]) for index, (name, value) in _STATIC
}
_STATIC_NAMES = {name: index for index, (name, _) in reversed(_STATIC)}

_kept: dict[RawHeader, bytes] = dict(_STATIC_FIELDS)


class FieldTable:
    """The static table, and behind it the dynamic one (RFC 7541 §2.3.3)."""

    __slots__ = ("_max_size", "_size", "changed", "entries")

    def __init__(self) -> None:
        """Begin with an empty dynamic table of the default size."""
        self.entries: deque[RawHeader] = deque()
        """The dynamic table, the youngest first."""
        self._max_size = _TABLE_SIZE
        self._size = 0
        self.changed: bool = False
        """A field was added since this was last set to false."""

    def field(self, index: int) -> RawHeader:
        """Return an entry.

        Raises:
            InvalidTableIndexError: there is none.
        """
        if 0 < index <= _STATIC_SIZE:
            return _STATIC_TABLE[index - 1]
        if not index or index - _STATIC_SIZE > len(self.entries):
            msg = f"no entry {index} in the tables"
            raise InvalidTableIndexError(msg)
        return self.entries[index - _STATIC_SIZE - 1]

    def add(self, field: RawHeader) -> None:
        """Put ``field`` in front; the oldest entries make room (RFC 7541 §4.4)."""
        self.changed = True
        self.entries.appendleft(field)
        self._size += _FIELD_COST + len(field[0]) + len(field[1])
        if self._size > self._max_size:
            self._evict()

    def resize(self, size: int) -> None:
        """Change the size of the dynamic table (RFC 7541 §4.3)."""
        self._max_size = size
        self._evict()

    def _evict(self) -> None:
        while self._size > self._max_size:
            name, value = self.entries.pop()
            self._size -= _FIELD_COST + len(name) + len(value)


class FieldDecoder:
    """A decoder that knows a block again."""

    def __init__(self, max_list_size: int) -> None:
        """Begin with an empty table.

        Args:
            max_list_size: bytes of all names and values, and 32 for each, from which
                decoding gives up.
        """
        self._max_list_size = max_list_size
        self.table: FieldTable = FieldTable()
        self._sensitive = False  # the block has a field that must never be indexed
        self._last_block: bytes | None = None
        self._last_fields: list[RawHeader] = []

    def decode_block(self, block: bytes) -> list[RawHeader]:
        """Return the fields of a block; the same list if it is the same block again.

        Raises:
            HPACKError: or one of its relatives; the table is of no use any more.
        """
        if block == self._last_block:
            return self._last_fields
        self._last_block = None
        self.table.changed = self._sensitive = False
        try:
            fields = self._decode(block)
        except IndexError:
            msg = "a header block ends too early"
            raise HPACKDecodingError(msg) from None
        if self._may_be_kept(block) and not self._sensitive:
            self._last_block, self._last_fields = block, fields
        return fields

    def _decode(self, block: bytes) -> list[RawHeader]:
        table = self.table
        fields: list[RawHeader] = []
        at, room = 0, self._max_list_size
        while at < len(block):
            first = block[at]
            if first & _INDEXED:
                if first < 0xFF:  # as ``_read_integer`` does, without the call
                    index, at = first & 0x7F, at + 1
                else:
                    index, at = _read_integer(block, at, 0x7F)
                field = table.field(index)
            elif first & 0xE0 == _SIZE_UPDATE:
                if fields:  # RFC 7541 §4.2
                    msg = "a table size update behind a field"
                    raise HPACKDecodingError(msg)
                size, at = _read_integer(block, at, 0x1F)
                if size > _TABLE_SIZE:  # RFC 7541 §6.3
                    msg = "a table size above the limit"
                    raise InvalidTableSizeError(msg)
                table.resize(size)
                continue
            else:
                field, at = self._literal(block, at, first)
            fields.append(field)
            room -= _FIELD_COST + len(field[0]) + len(field[1])
            if room < 0:
                msg = f"a header list of more than {self._max_list_size} bytes"
                raise OversizedHeaderListError(msg)
        return fields

    def _literal(self, block: bytes, at: int, first: int) -> tuple[RawHeader, int]:
        """Return the literal field at ``at`` (RFC 7541 §6.2), and where it ends."""
        incremental = first & _INCREMENTAL
        index, at = _read_integer(block, at, 0x3F if incremental else 0x0F)
        if index:
            name = self.table.field(index)[0]
        else:
            name, at = _read_string(block, at)
        value, at = _read_string(block, at)
        field = name, value
        if incremental:
            self.table.add(field)
        elif first & _NEVER_INDEXED:
            self._sensitive = True
        return field, at

    def _may_be_kept(self, block: bytes) -> bool:
        # RFC 7541 §6.3: a size update comes first; it may empty the table
        resized = block[:1] and block[0] & 0xE0 == _SIZE_UPDATE
        return not (resized or self.table.changed or len(block) > _LARGEST_BLOCK)


def _read_integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """Return the integer at ``at`` (RFC 7541 §5.1), and where it ends.

    Raises:
        IndexError: the block ends before it does.
        HPACKDecodingError: it has too many octets.
    """
    number = block[at] & prefix
    at += 1
    if number < prefix:
        return number, at
    shift = 0
    while (octet := block[at]) >= 0x80:
        number += (octet & 0x7F) << shift
        at += 1
        shift += 7
        if shift > _LONGEST_INTEGER:
            msg = "an integer of too many octets"
            raise HPACKDecodingError(msg)
    return number + (octet << shift), at + 1


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    """Return the string at ``at`` (RFC 7541 §5.2), and where it ends."""
    coded = block[at] & _HUFFMAN
    size, at = _read_integer(block, at, 0x7F)
    end = at + size
    if end > len(block):
        msg = "a header block ends too early"
        raise HPACKDecodingError(msg)
    text = block[at:end]
    return decode_huffman(text) if coded else text, end


def encode_field(field: RawHeader) -> bytes:
    """Return a field as a block, or part of one, that uses no dynamic table."""
    return _kept.get(field) or _literal(field)


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
