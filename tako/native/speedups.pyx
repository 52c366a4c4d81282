# cython: language_level=3
"""The byte loops in C: the twin of ``pure.py``, where all of it is described.

Every read is bounded by the length of a buffer that is locked while it is read
(``Py_buffer``); payloads are copied once, unmasked on the way.
"""

from collections import deque

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from sys import getsizeof

from hpack import (
    HPACKDecodingError,
    InvalidTableIndexError,
    InvalidTableSizeError,
    OversizedHeaderListError,
)
from hpack.huffman_table import (
    HUFFMAN_COMPLETE,
    HUFFMAN_EMIT_SYMBOL,
    HUFFMAN_FAIL,
    HUFFMAN_TABLE,
)

from tako.native.pure import _CONTROL, _NAME, _OBJECT, _SHARE, _VALUE
from tako.native.pure import TABLE_SIZE as _TABLE_SIZE


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void* PyUnicode_DATA(object text)
    str PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    bytes PyUnicode_AsUTF8String(object text)
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)


_MAX_H2_LENGTH = (1 << 24) - 1

cdef Py_ssize_t SHARE = _SHARE
cdef Py_ssize_t OBJECT = _OBJECT
cdef Py_ssize_t CONTROL = _CONTROL
cdef Py_ssize_t MAX_H2_LENGTH = _MAX_H2_LENGTH
cdef Py_ssize_t TABLE_SIZE = _TABLE_SIZE
cdef enum:
    MOST_FEW = 512
cdef uint64_t HIGH_BITS = 0x8080808080808080


cdef unsigned char xor_into(
    unsigned char* target,
    const unsigned char* source,
    Py_ssize_t size,
    const unsigned char* key,
) noexcept nogil:
    """Unmask eight bytes at a time; return a byte > 127 iff one of the bytes is."""
    cdef uint64_t pattern, word, seen = 0
    cdef unsigned char byte, tail = 0
    cdef Py_ssize_t index = 0
    memcpy(&pattern, key, 4)
    memcpy(<unsigned char*>&pattern + 4, key, 4)
    while index + 8 <= size:
        memcpy(&word, source + index, 8)
        word ^= pattern
        seen |= word
        memcpy(target + index, &word, 8)
        index += 8
    while index < size:
        byte = source[index] ^ key[index & 3]
        tail |= byte
        target[index] = byte
        index += 1
    return tail | (0x80 if seen & HIGH_BITS else 0)


cdef bytes unmasked_bytes(
    const unsigned char* source, Py_ssize_t size, const unsigned char* key
):
    cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
    xor_into(<unsigned char*>PyBytes_AS_STRING(data), source, size, key)
    return data


cdef str unmasked_text(
    const unsigned char* source, Py_ssize_t size, const unsigned char* key
):
    """Return the text; ASCII, the common case, is unmasked straight into its ``str``.

    Raises:
        UnicodeDecodeError: the bytes are not UTF-8.
    """
    cdef str text
    cdef unsigned char* target
    if size == 0:
        return ""
    text = PyUnicode_New(size, 127)
    target = <unsigned char*>PyUnicode_DATA(text)
    if xor_into(target, source, size, key) < 128:
        return text
    # Only ASCII may stay in that object, which no other code has seen: decode from it.
    return PyUnicode_DecodeUTF8(<const char*>target, size, NULL)


cdef Py_ssize_t long_size(
    const unsigned char* at, Py_ssize_t available, int form
) noexcept nogil:
    """Return a 16- or 64-bit payload length, -1 if it is not minimal or not there."""
    cdef uint64_t size = 0
    cdef int index
    if form == 126:
        if available < 2:
            return -1
        size = <uint64_t>at[0] << 8 | at[1]
        return <Py_ssize_t>size if size > 125 else -1
    if available < 8:
        return -1
    for index in range(8):
        size = size << 8 | at[index]
    if size < 65536 or size > <uint64_t>PY_SSIZE_T_MAX:
        return -1
    return <Py_ssize_t>size


cdef Py_ssize_t scan(
    const unsigned char* data,
    Py_ssize_t end,
    Py_ssize_t start,
    Py_ssize_t max_payload,
    Py_ssize_t limit,
    list messages,
) except -1:
    cdef Py_ssize_t at, size, found = 0
    cdef unsigned char first
    while end - start >= 6 and found < limit:
        first = data[start]
        if (first != 0x81 and first != 0x82) or data[start + 1] < 0x80:
            break
        size = data[start + 1] & 0x7F
        at = start + 2
        if size > 125:
            at += 2 if size == 126 else 8
            size = long_size(data + start + 2, end - start - 2, <int>size)
        # Written so that no sum can overflow: size may be anything up to 2**63 - 1.
        if size < 0 or size > max_payload or end - at < 4 or size > end - at - 4:
            break
        if first == 0x82:
            messages.append(unmasked_bytes(data + at + 4, size, data + at))
        else:
            try:
                messages.append(unmasked_text(data + at + 4, size, data + at))
            except UnicodeDecodeError:
                break
        found += 1
        start = at + 4 + size
    return start


cdef int check_start(Py_ssize_t start, Py_ssize_t size) except -1:
    if start < 0 or start > size:
        raise ValueError("start is outside of the buffer")
    return 0


cdef int head_size(Py_ssize_t size) noexcept nogil:
    return 2 if size < 126 else 4 if size < 65536 else 10


cdef unsigned char* write_head(
    unsigned char* target, unsigned char first_byte, Py_ssize_t size
) noexcept nogil:
    """Write a frame's head; return where its payload goes."""
    cdef int index
    target[0] = first_byte
    if size < 126:
        target[1] = <unsigned char>size
        return target + 2
    if size < 65536:
        target[1] = 126
        target[2] = <unsigned char>(size >> 8)
        target[3] = <unsigned char>(size & 0xFF)
        return target + 4
    target[1] = 127
    for index in range(8):
        target[2 + index] = <unsigned char>(<uint64_t>size >> (56 - 8 * index) & 0xFF)
    return target + 10


cdef bytes frame(
    const void* payload, Py_ssize_t size, unsigned char first_byte, uint32_t stream_id
):
    """Return a frame, inside a DATA frame unless ``stream_id`` is 0."""
    cdef Py_ssize_t inner = head_size(size) + size
    cdef int index
    cdef bytes result
    cdef unsigned char* target
    if stream_id == 0:
        result = PyBytes_FromStringAndSize(NULL, inner)
        target = <unsigned char*>PyBytes_AS_STRING(result)
    else:
        if inner > MAX_H2_LENGTH:
            raise ValueError("the frame is too long for HTTP/2")
        result = PyBytes_FromStringAndSize(NULL, 9 + inner)
        target = <unsigned char*>PyBytes_AS_STRING(result)
        for index in range(3):
            target[index] = <unsigned char>(inner >> (16 - 8 * index) & 0xFF)
        target[3] = 0  # DATA
        target[4] = 0  # no flags
        for index in range(4):
            target[5 + index] = <unsigned char>(stream_id >> (24 - 8 * index) & 0xFF)
        target += 9
    target = write_head(target, first_byte, size)
    if size:
        memcpy(target, payload, <size_t>size)
    return result


cdef bytes encoded(object payload, unsigned char first_byte, uint32_t stream_id):
    cdef Py_buffer view
    if isinstance(payload, str):
        if PyUnicode_IS_ASCII(payload):  # its UTF-8 form is what it holds
            return frame(
                PyUnicode_DATA(payload),
                PyUnicode_GET_LENGTH(payload),
                first_byte,
                stream_id,
            )
        payload = PyUnicode_AsUTF8String(payload)
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        return frame(view.buf, view.len, first_byte, stream_id)
    finally:
        PyBuffer_Release(&view)


def unmask(data, bytes mask not None, Py_ssize_t offset=0):
    cdef Py_buffer view
    cdef unsigned char key[4]
    cdef int index
    if len(mask) != 4:
        raise ValueError("a masking key has four bytes")
    for index in range(4):
        key[index] = <unsigned char>PyBytes_AS_STRING(mask)[(offset + index) & 3]
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return unmasked_bytes(<const unsigned char*>view.buf, view.len, key)
    finally:
        PyBuffer_Release(&view)


def scan_frames(
    buffer, Py_ssize_t start, Py_ssize_t max_payload, Py_ssize_t limit
):
    cdef Py_buffer view
    cdef list messages = []
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        check_start(start, view.len)
        start = scan(
            <const unsigned char*>view.buf,
            view.len,
            start,
            max_payload,
            limit,
            messages,
        )
    finally:
        PyBuffer_Release(&view)
    return messages, start


def encode_frame(unsigned char first_byte, payload):
    return encoded(payload, first_byte, 0)


def encode_data_frame(uint32_t stream_id, unsigned char first_byte, payload):
    return encoded(payload, first_byte, stream_id)


def split_frames(
    buffer,
    Py_ssize_t start=0,
    Py_ssize_t max_length=_MAX_H2_LENGTH,
    Py_ssize_t limit=1 << 24,
):
    cdef Py_buffer view
    cdef const unsigned char* at
    cdef Py_ssize_t length
    cdef uint32_t stream_id
    cdef list frames = []
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        check_start(start, view.len)
        while view.len - start >= 9 and len(frames) < limit:
            at = <const unsigned char*>view.buf + start
            length = <Py_ssize_t>at[0] << 16 | <Py_ssize_t>at[1] << 8 | at[2]
            if length > max_length or length > view.len - start - 9:
                break
            stream_id = <uint32_t>(at[5] & 0x7F) << 24 | <uint32_t>at[6] << 16
            stream_id |= <uint32_t>at[7] << 8 | at[8]
            frames.append((at[3], at[4], stream_id, start + 9, start + 9 + length))
            start += 9 + length
    finally:
        PyBuffer_Release(&view)
    return frames, start


# What each byte of a field line may be: of a name, in lower case; of a value. Else 0.
cdef unsigned char IN_NAME[256]
cdef unsigned char IN_VALUE[256]

for _byte in range(256):
    IN_NAME[_byte] = bytes((_byte,)).lower()[0] if _byte in _NAME else 0
    IN_VALUE[_byte] = _byte in _VALUE


cdef bytes lowered(const unsigned char* source, Py_ssize_t size):
    cdef bytes name = PyBytes_FromStringAndSize(NULL, size)
    cdef unsigned char* target = <unsigned char*>PyBytes_AS_STRING(name)
    cdef Py_ssize_t index
    for index in range(size):
        target[index] = IN_NAME[source[index]]
    return name


cdef bytes stripped(const unsigned char* source, Py_ssize_t size):
    while size > 0 and (source[0] == 0x20 or source[0] == 0x09):
        source += 1
        size -= 1
    while size > 0 and (source[size - 1] == 0x20 or source[size - 1] == 0x09):
        size -= 1
    return PyBytes_FromStringAndSize(<const char*>source, size)


def split_fields(bytes head not None, Py_ssize_t start, Py_ssize_t limit):
    cdef const unsigned char* data = <const unsigned char*>PyBytes_AS_STRING(head)
    cdef Py_ssize_t end = len(head)
    cdef Py_ssize_t at, colon
    cdef list fields = []
    check_start(start, end)
    while limit > 0:
        at = start
        while at < end and IN_NAME[data[at]]:
            at += 1
        if at == start or at == end or data[at] != 0x3A:
            break
        colon = at
        at += 1
        while at < end and IN_VALUE[data[at]]:
            at += 1
        if end - at < 2 or data[at] != 0x0D or data[at + 1] != 0x0A:
            break
        fields.append(
            (
                lowered(data + start, colon - start),
                stripped(data + colon + 1, at - colon - 1),
            )
        )
        start = at + 2
        limit -= 1
    return fields, start


cdef Py_ssize_t cost(object message) except -1:
    if isinstance(message, bytes):
        return OBJECT + len(<bytes>message)
    if isinstance(message, str):
        if PyUnicode_IS_ASCII(message):
            return OBJECT + PyUnicode_GET_LENGTH(message)
        return getsizeof(message)
    return CONTROL


def weigh(messages):
    cdef Py_ssize_t total = 0
    for message in messages:
        total += cost(message)
    return total


# ``hpack``'s state machine: four bits at a time, 16 entries for each of 256 states.
cdef unsigned char NEXT_STATE[4096]
cdef unsigned char STEP_FLAGS[4096]
cdef unsigned char SYMBOL[4096]
cdef unsigned char COMPLETE = HUFFMAN_COMPLETE
cdef unsigned char EMIT = HUFFMAN_EMIT_SYMBOL
cdef unsigned char FAIL = HUFFMAN_FAIL


cdef int fill_huffman() except -1:
    cdef int index
    if len(HUFFMAN_TABLE) != 4096:
        raise ImportError("hpack has another Huffman table")
    for index in range(4096):
        state, flags, symbol = HUFFMAN_TABLE[index]
        NEXT_STATE[index] = state
        STEP_FLAGS[index] = flags
        SYMBOL[index] = symbol
    return 0


fill_huffman()


cdef Py_ssize_t expand_huffman(
    const unsigned char* source, Py_ssize_t size, unsigned char* target
) noexcept nogil:
    """Return the length of what is in ``target``, -1 if ``source`` is not decodable."""
    cdef Py_ssize_t index, length = 0
    cdef int half, step = 0
    cdef unsigned char state = 0
    for index in range(size):
        for half in range(2):
            step = state << 4
            step |= source[index] & 15 if half else source[index] >> 4
            if STEP_FLAGS[step] & FAIL:
                return -1
            if STEP_FLAGS[step] & EMIT:
                target[length] = SYMBOL[step]
                length += 1
            state = NEXT_STATE[step]
    return length if size == 0 or STEP_FLAGS[step] & COMPLETE else -1


cdef bytes huffman_text(const unsigned char* source, Py_ssize_t size):
    cdef unsigned char few[MOST_FEW]
    cdef unsigned char* target = few
    cdef Py_ssize_t length
    cdef bytearray many
    if 2 * size > MOST_FEW:  # a step of four bits emits one octet at most
        many = bytearray(2 * size)
        target = <unsigned char*>PyByteArray_AS_STRING(many)
    length = expand_huffman(source, size, target)
    if length < 0:
        raise HPACKDecodingError("a string is no Huffman code")
    return PyBytes_FromStringAndSize(<const char*>target, length)


cdef int64_t read_integer(
    const unsigned char* data, Py_ssize_t* at, Py_ssize_t end, int most
) except -1:
    """Return the integer at ``at``, which moves behind it."""
    cdef int64_t number
    cdef int shift
    cdef unsigned char octet
    if at[0] < end:
        number = data[at[0]] & most
        at[0] += 1
        if number < most:
            return number
        for shift in range(0, 35, 7):
            if at[0] >= end:
                break
            octet = data[at[0]]
            at[0] += 1
            number += <int64_t>(octet & 0x7F) << shift
            if octet < 0x80:
                return number
    raise HPACKDecodingError("an integer is broken")


cdef bytes read_string(const unsigned char* data, Py_ssize_t* at, Py_ssize_t end):
    """Return the string at ``at``, which moves behind it."""
    cdef Py_ssize_t start = at[0]
    cdef int64_t size = read_integer(data, at, end, 0x7F)
    cdef bint coded = data[start] >= 0x80  # it is there: it was read
    if size > end - at[0]:
        raise HPACKDecodingError("a header block ends too early")
    start = at[0]
    at[0] += <Py_ssize_t>size
    if coded:
        return huffman_text(data + start, <Py_ssize_t>size)
    return PyBytes_FromStringAndSize(<const char*>data + start, <Py_ssize_t>size)


cdef class FieldTable:
    cdef readonly list fields
    cdef readonly bint repeatable
    cdef object read
    cdef Py_ssize_t first, size, max_size

    def __init__(self, list static not None, read not None):
        self.fields = list(static)
        self.repeatable = False
        self.first = len(static)
        self.read = read
        self.size = 0
        self.max_size = TABLE_SIZE

    def decode(self, bytes block not None, Py_ssize_t room):
        cdef const unsigned char* data = <const unsigned char*>PyBytes_AS_STRING(block)
        cdef Py_ssize_t at = 0, end = len(block)
        cdef list fields = []
        cdef tuple field
        self.repeatable = True
        while at < end:
            if data[at] >= 0x80:
                field = self.field(read_integer(data, &at, end, 0x7F))
            elif data[at] & 0xE0 == 0x20:
                if fields:
                    raise HPACKDecodingError("a table size update behind a field")
                self.resize(read_integer(data, &at, end, 0x1F))
                continue
            else:
                field = self.literal(data, &at, end)
            fields.append(field)
            room -= <Py_ssize_t>field[2]
            if room < 0:
                raise OversizedHeaderListError("the header list is too large")
        return fields

    cdef tuple field(self, int64_t index):
        if 0 < index < len(self.fields):
            return <tuple?>self.fields[<Py_ssize_t>index]
        raise InvalidTableIndexError(f"no entry {index} in the tables")

    cdef tuple literal(
        self, const unsigned char* data, Py_ssize_t* at, Py_ssize_t end
    ):
        cdef unsigned char first = data[at[0]]
        cdef int64_t index = read_integer(data, at, end, 0x3F if first & 0x40 else 0x0F)
        cdef bytes name
        cdef tuple field
        if index:
            name = self.field(index)[0][0]
        else:
            name = read_string(data, at, end)
        field = self.read(name, read_string(data, at, end))
        if first & 0x40:
            self.repeatable = False
            self.fields.insert(self.first, field)
            self.size += <Py_ssize_t>field[2]
            self.evict()
        elif first & 0x10:
            self.repeatable = False
        return field

    cdef int resize(self, int64_t size) except -1:
        self.repeatable = False
        if size > TABLE_SIZE:
            raise InvalidTableSizeError("a table size above the limit")
        self.max_size = <Py_ssize_t>size
        return self.evict()

    cdef int evict(self) except -1:
        while self.size > self.max_size:
            self.size -= <Py_ssize_t>self.fields.pop()[2]
        return 0


cdef class Inbox:
    cdef readonly object messages
    cdef readonly Py_ssize_t weight
    cdef public Py_ssize_t held
    cdef public bint plain
    cdef object append, popleft, wake, consumed
    cdef readonly Py_ssize_t least
    cdef Py_ssize_t max_payload, most, heaviest

    def __init__(
        self,
        wake not None,
        consumed not None,
        Py_ssize_t max_payload,
        Py_ssize_t most,
        Py_ssize_t least,
        Py_ssize_t heaviest=PY_SSIZE_T_MAX,
    ):
        self.messages = deque()
        self.append = self.messages.append
        self.popleft = self.messages.popleft
        self.held = 0
        self.plain = True
        self.wake = wake
        self.consumed = consumed
        self.max_payload = max_payload
        self.most = most
        self.least = least
        self.weight = 0
        self.heaviest = heaviest

    def put(self, list messages not None):
        self.messages.extend(messages)
        self.weight += weigh(messages)

    def clear(self):
        self.messages.clear()
        self.weight = 0

    def pop(self):
        cdef Py_ssize_t waiting, share
        message = self.popleft()
        self.weight = self.weight - cost(message) if len(self.messages) else 0
        if self.held > self.least:
            waiting = len(self.messages)
            if waiting == 0 or self.held >= SHARE:
                share = self.held // (waiting + 1)
                self.held -= share
                self.consumed(share)
        return message

    cdef bint take_part(self, const unsigned char* data, Py_ssize_t size) except -1:
        cdef list found = []
        cdef Py_ssize_t room
        if not self.plain or size == 0 or self.weight >= self.heaviest:
            return False
        room = self.most - len(self.messages)
        if scan(data, size, 0, self.max_payload, room, found) != size:
            return False
        if len(found) == 1:
            self.append(found[0])
            self.weight += cost(found[0])
        else:
            self.put(found)
        self.held += size
        self.wake()
        return True

    def take(self, data):
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self.take_part(<const unsigned char*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)


def take_data(
    buffer,
    Py_ssize_t start,
    Py_ssize_t left,
    dict lane not None,
    Py_ssize_t max_length,
    Py_ssize_t limit,
):
    cdef Py_buffer view
    cdef const unsigned char* at
    cdef Py_ssize_t length, window
    cdef uint32_t stream_id
    cdef tuple entry
    cdef Inbox inbox
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        check_start(start, view.len)
        while view.len - start >= 9 and limit > 0:
            at = <const unsigned char*>view.buf + start
            length = <Py_ssize_t>at[0] << 16 | <Py_ssize_t>at[1] << 8 | at[2]
            if at[3] or at[4] or length == 0 or length > left:
                break
            if length > max_length or length > view.len - start - 9:
                break
            stream_id = <uint32_t>(at[5] & 0x7F) << 24 | <uint32_t>at[6] << 16
            stream_id |= <uint32_t>at[7] << 8 | at[8]
            entry = lane.get(stream_id)
            if entry is None or entry[1] is None:
                break
            stream, inbox = entry
            window = stream.window
            if length > window or not inbox.take_part(at + 9, length):
                break
            stream.window = window - length
            left -= length
            start += 9 + length
            limit -= 1
    finally:
        PyBuffer_Release(&view)
    return start, left
