# cython: language_level=3
"""The byte loops in C: the twin of ``pure.py``, where all of it is described.

Every read is bounded by the length of a buffer that is locked while it is read
(``Py_buffer``); payloads are copied once, unmasked on the way.
"""

import os
from collections import deque

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

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

from tako.native.pure import _CONTROL, _NAME, _OBJECT, _POOL, _SHARE, _VALUE
from tako.native.pure import _FORWARDED, _MAX_PORT, _PATH, _REG_NAME, _RULED
from tako.native.pure import _AROUND_FIELD, _AROUND_LINE, _LISTED
from tako.native.pure import _CRUMB_KIND, _PLAIN_KIND, _PSEUDO_KIND, _RULED_KIND
from tako.native.pure import _DATA, _END_HEADERS, _END_STREAM, _HEADERS, _LONGEST_HEAD
from tako.native.pure import _MAX_METHOD, _PSEUDO_NAMES
from tako.native.pure import _MAX_DIGITS as _DIGITS
from tako.native.pure import TABLE_SIZE as _TABLE_SIZE


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void* PyUnicode_DATA(object text)
    str PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    bytes PyUnicode_AsUTF8String(object text)
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    bint PyBytes_CheckExact(object value)
    Py_ssize_t PyBytes_GET_SIZE(object value)
    bint PyTuple_CheckExact(object value)
    Py_ssize_t PyTuple_GET_SIZE(object value)
    # Of what an object holds, borrowed
    PyObject* list_item "PyList_GET_ITEM"(PyObject* items, Py_ssize_t at)
    PyObject* tuple_item "PyTuple_GET_ITEM"(PyObject* items, Py_ssize_t at)
    void set_list_item "PyList_SET_ITEM"(
        PyObject* items, Py_ssize_t at, PyObject* item
    )
    void Py_INCREF(PyObject* item)
    void Py_DECREF(PyObject* item)


cdef extern from *:
    """
    #if defined(_WIN32)
    #define tako_send(fd, data, size) ((Py_ssize_t)-1)
    #else
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL  /* Python ignores SIGPIPE, too */
    #define MSG_NOSIGNAL 0
    #endif
    #define tako_send(fd, data, size) send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
    #endif
    """
    Py_ssize_t tako_send(int fd, const char* data, size_t size)


_MAX_H2_LENGTH = (1 << 24) - 1

cdef Py_ssize_t POOL = _POOL
cdef Py_ssize_t SHARE = _SHARE
cdef Py_ssize_t OBJECT = _OBJECT
cdef Py_ssize_t CONTROL = _CONTROL
cdef Py_ssize_t MAX_H2_LENGTH = _MAX_H2_LENGTH
cdef unsigned char DATA = _DATA
cdef unsigned char HEADERS = _HEADERS
cdef unsigned char END_STREAM = _END_STREAM
cdef unsigned char END_HEADERS = _END_HEADERS
cdef Py_ssize_t TABLE_SIZE = _TABLE_SIZE
cdef Py_ssize_t LONGEST_HEAD = _LONGEST_HEAD
cdef enum:
    MOST_FEW = 512
cdef uint64_t HIGH_BITS = 0x8080808080808080


cdef unsigned char xor_into(
    unsigned char* target,
    const unsigned char* source,
    Py_ssize_t size,
    const unsigned char* key,
) noexcept nogil:
    """Unmask four words at a time; return a byte > 127 iff one of the bytes is."""
    cdef uint64_t pattern, word, word2, word3, word4, seen = 0
    cdef unsigned char byte, tail = 0
    cdef Py_ssize_t index = 0
    memcpy(&pattern, key, 4)
    memcpy(<unsigned char*>&pattern + 4, key, 4)
    while index + 32 <= size:  # all are read before one is written: for SIMD
        memcpy(&word, source + index, 8)
        memcpy(&word2, source + index + 8, 8)
        memcpy(&word3, source + index + 16, 8)
        memcpy(&word4, source + index + 24, 8)
        word ^= pattern
        word2 ^= pattern
        word3 ^= pattern
        word4 ^= pattern
        seen |= word | word2 | word3 | word4
        memcpy(target + index, &word, 8)
        memcpy(target + index + 8, &word2, 8)
        memcpy(target + index + 16, &word3, 8)
        memcpy(target + index + 24, &word4, 8)
        index += 32
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


cdef unsigned char NO_KEY[4]
NO_KEY[:] = [0, 0, 0, 0]


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


cdef object next_message(
    const unsigned char* data,
    Py_ssize_t end,
    Py_ssize_t* start,
    Py_ssize_t max_payload,
):
    """Return the masked message at ``start``, which moves behind it; ``None``: none."""
    cdef Py_ssize_t at, size
    cdef unsigned char first
    cdef object message
    if end - start[0] < 6:
        return None
    first = data[start[0]]
    if (first != 0x81 and first != 0x82) or data[start[0] + 1] < 0x80:
        return None
    size = data[start[0] + 1] & 0x7F
    at = start[0] + 2
    if size > 125:
        at += 2 if size == 126 else 8
        size = long_size(data + start[0] + 2, end - start[0] - 2, <int>size)
    # Written so that no sum can overflow: size may be anything up to 2**63 - 1.
    if size < 0 or size > max_payload or end - at < 4 or size > end - at - 4:
        return None
    if first == 0x82:
        message = unmasked_bytes(data + at + 4, size, data + at)
    else:
        try:
            message = unmasked_text(data + at + 4, size, data + at)
        except UnicodeDecodeError:
            return None
    start[0] = at + 4 + size
    return message


cdef Py_ssize_t scan(
    const unsigned char* data,
    Py_ssize_t end,
    Py_ssize_t start,
    Py_ssize_t max_payload,
    Py_ssize_t limit,
    list messages,
) except -1:
    cdef Py_ssize_t found
    cdef object message
    for found in range(limit):
        message = next_message(data, end, &start, max_payload)
        if message is None:
            break
        messages.append(message)
    return start


cdef Py_ssize_t scan_unmasked(
    const unsigned char* data,
    Py_ssize_t end,
    Py_ssize_t start,
    Py_ssize_t max_payload,
    Py_ssize_t limit,
    list messages,
) except -1:
    cdef Py_ssize_t at, size, found = 0
    cdef unsigned char first
    while end - start >= 2 and found < limit:
        first = data[start]
        if (first != 0x81 and first != 0x82) or data[start + 1] >= 0x80:
            break
        size = data[start + 1]
        at = start + 2
        if size > 125:
            at += 2 if size == 126 else 8
            size = long_size(data + start + 2, end - start - 2, <int>size)
        if size < 0 or size > max_payload or end < at or size > end - at:
            break
        if first == 0x82:
            messages.append(PyBytes_FromStringAndSize(<const char*>data + at, size))
        else:
            try:
                messages.append(unmasked_text(data + at, size, NO_KEY))
            except UnicodeDecodeError:
                break
        found += 1
        start = at + size
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


cdef inline unsigned char* write_data_head(
    unsigned char* target, Py_ssize_t size, uint32_t stream_id
) noexcept nogil:
    """Write the head of a DATA frame without flags; return where its payload goes."""
    cdef int index
    for index in range(3):
        target[index] = <unsigned char>(size >> (16 - 8 * index) & 0xFF)
    target[3] = 0  # DATA
    target[4] = 0  # no flags
    for index in range(4):
        target[5 + index] = <unsigned char>(stream_id >> (24 - 8 * index) & 0xFF)
    return target + 9


cdef bytes KEYS = b""  # random bytes, of which those before NEXT_KEY were used
cdef Py_ssize_t NEXT_KEY = 0


def drop_keys():
    global KEYS, NEXT_KEY
    KEYS, NEXT_KEY = b"", 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=drop_keys)


cdef int take_key(unsigned char* key) except -1:
    """Take a key that no other frame has."""
    global KEYS, NEXT_KEY
    if NEXT_KEY == len(KEYS):
        KEYS, NEXT_KEY = os.urandom(POOL), 0
    memcpy(key, PyBytes_AS_STRING(KEYS) + NEXT_KEY, 4)
    NEXT_KEY += 4
    return 0


cdef bytes framed(
    const unsigned char* payload,
    Py_ssize_t size,
    unsigned char first_byte,
    uint32_t stream_id,
    Py_ssize_t most,
    bint masked,
):
    """Return a frame; unless ``stream_id`` is 0, in DATA frames of ``most`` bytes.

    ``most`` is that of the largest one; 0: it is one, however long.
    """
    cdef Py_ssize_t head = head_size(size) + (4 if masked else 0)
    cdef Py_ssize_t inner = head + size, count = 0, done = 0, part
    cdef unsigned char key[4]
    cdef unsigned char turned[4]
    cdef bytes result
    cdef unsigned char* target
    cdef int index
    if most == 0:
        if stream_id != 0 and inner > MAX_H2_LENGTH:
            raise ValueError("the frame is too long for HTTP/2")
        most = inner
    if stream_id != 0:
        count = 1 if inner <= most else (inner + most - 1) // most
    if masked:
        take_key(key)
    result = PyBytes_FromStringAndSize(NULL, inner + 9 * count)
    target = <unsigned char*>PyBytes_AS_STRING(result)
    if count:
        target = write_data_head(target, min(inner, most), stream_id)
    write_head(target, first_byte, size)
    if masked:
        target[1] |= 0x80
        memcpy(target + head - 4, key, 4)
    target += head
    part = min(size, most - head)
    while True:
        if masked:
            for index in range(4):
                turned[index] = key[(done + index) & 3]
            xor_into(target, payload + done, part, turned)
        elif part:
            memcpy(target, payload + done, <size_t>part)
        done += part
        target += part
        if done == size:
            return result
        part = min(size - done, most)
        target = write_data_head(target, part, stream_id)


cdef bytes encoded(
    object payload,
    unsigned char first_byte,
    uint32_t stream_id,
    Py_ssize_t most,
    bint masked,
):
    cdef Py_buffer view
    if isinstance(payload, str):
        if PyUnicode_IS_ASCII(payload):  # its UTF-8 form is what it holds
            return framed(
                <const unsigned char*>PyUnicode_DATA(payload),
                PyUnicode_GET_LENGTH(payload),
                first_byte,
                stream_id,
                most,
                masked,
            )
        payload = PyUnicode_AsUTF8String(payload)
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        return framed(
            <const unsigned char*>view.buf,
            view.len,
            first_byte,
            stream_id,
            most,
            masked,
        )
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


ctypedef Py_ssize_t (*Scan)(
    const unsigned char*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, list
) except -1


cdef tuple scanned(
    Scan frames, buffer, Py_ssize_t start, Py_ssize_t max_payload, Py_ssize_t limit
):
    cdef Py_buffer view
    cdef list messages = []
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        check_start(start, view.len)
        start = frames(
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


def scan_frames(
    buffer, Py_ssize_t start, Py_ssize_t max_payload, Py_ssize_t limit
):
    return scanned(scan, buffer, start, max_payload, limit)


def scan_unmasked_frames(
    buffer, Py_ssize_t start, Py_ssize_t max_payload, Py_ssize_t limit
):
    return scanned(scan_unmasked, buffer, start, max_payload, limit)


def encode_frame(unsigned char first_byte, payload):
    return encoded(payload, first_byte, 0, 0, False)


def encode_data_frame(uint32_t stream_id, unsigned char first_byte, payload):
    return encoded(payload, first_byte, stream_id, 0, False)


def encode_masked_frame(unsigned char first_byte, payload):
    return encoded(payload, first_byte, 0, 0, True)


def encode_masked_data_frame(
    uint32_t stream_id, unsigned char first_byte, payload
):
    return encoded(payload, first_byte, stream_id, 0, True)


def encode_data_frames(
    uint32_t stream_id,
    unsigned char first_byte,
    payload,
    Py_ssize_t most,
    *,
    bint masked,
):
    if not LONGEST_HEAD <= most <= MAX_H2_LENGTH:
        raise ValueError("no DATA frame is of that size")
    return encoded(payload, first_byte, stream_id, most, masked)


cdef inline unsigned char* write_frame(
    unsigned char* target,
    unsigned char kind,
    unsigned char flags,
    uint32_t stream_id,
    bytes payload,
):
    """Write a whole frame; return where the next one goes."""
    cdef Py_ssize_t size = len(payload)
    cdef unsigned char* behind = write_data_head(target, size, stream_id)
    target[3] = kind
    target[4] = flags
    memcpy(behind, PyBytes_AS_STRING(payload), size)
    return behind + size


def encode_response(uint32_t stream_id, bytes block not None, bytes body not None):
    cdef bytes frames
    cdef unsigned char* target
    if max(len(block), len(body)) > MAX_H2_LENGTH:
        raise ValueError("the frame is too long for HTTP/2")
    frames = PyBytes_FromStringAndSize(NULL, 18 + len(block) + len(body))
    target = <unsigned char*>PyBytes_AS_STRING(frames)
    target = write_frame(target, HEADERS, END_HEADERS, stream_id, block)
    write_frame(target, DATA, END_STREAM, stream_id, body)
    return frames


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
# What each byte of a request target may be: of any form 1, of a path 3. Else 0.
cdef unsigned char IN_TARGET[256]
cdef unsigned char IN_HOST[256]

for _byte in range(256):
    IN_NAME[_byte] = bytes((_byte,)).lower()[0] if _byte in _NAME else 0
    IN_VALUE[_byte] = _byte in _VALUE
    IN_TARGET[_byte] = 3 if _byte in _PATH else 0x21 <= _byte <= 0x7E
    IN_HOST[_byte] = _byte in _REG_NAME

cdef enum:
    NAMES = 256
    LONGEST_NAME = 32

# Names of fields, each where ``name_slot`` puts it: most requests have the same few
cdef list KNOWN = [b""] * NAMES


# Of eight bytes each: 0x01, 0x20, 0x7F
cdef uint64_t ONES = <uint64_t>0x0101010101010101
cdef uint64_t SPACES = ONES * 0x20
cdef uint64_t DELETES = ONES * 0x7F


cdef inline int name_slot(unsigned char first, unsigned char last, Py_ssize_t size):
    return <int>((first * 31 + last * 17 + size * 7) & (NAMES - 1))


cdef bytes lowered(const unsigned char* source, Py_ssize_t size):
    """Return a name, which is not empty, in lower case."""
    cdef bytes name
    cdef unsigned char* target
    cdef Py_ssize_t index = 0
    cdef int slot = 0
    if size <= LONGEST_NAME:
        slot = name_slot(IN_NAME[source[0]], IN_NAME[source[size - 1]], size)
        name = <bytes>KNOWN[slot]
        if len(name) == size:
            target = <unsigned char*>PyBytes_AS_STRING(name)
            while index < size and target[index] == IN_NAME[source[index]]:
                index += 1
            if index == size:
                return name
    name = PyBytes_FromStringAndSize(NULL, size)
    target = <unsigned char*>PyBytes_AS_STRING(name)
    for index in range(size):
        target[index] = IN_NAME[source[index]]
    if size <= LONGEST_NAME:
        KNOWN[slot] = name
    return name


cdef bytes stripped(const unsigned char* source, Py_ssize_t size):
    while size > 0 and (source[0] == 0x20 or source[0] == 0x09):
        source += 1
        size -= 1
    while size > 0 and (source[size - 1] == 0x20 or source[size - 1] == 0x09):
        size -= 1
    return PyBytes_FromStringAndSize(<const char*>source, size)


cdef inline Py_ssize_t skip_text(
    const unsigned char* data, Py_ssize_t at, Py_ssize_t end
) noexcept:
    """Return where the bytes of a value end that are looked at eight at a time.

    Before that none is a control character; behind it the table says what is one.
    """
    cdef uint64_t word, mark
    while end - at >= 8:
        memcpy(&word, data + at, 8)
        mark = word ^ DELETES
        mark = (mark - ONES) & ~mark | (word - SPACES) & ~word
        if mark & HIGH_BITS:
            break
        at += 8
    return at


cdef inline const char* behind_line(const char* line, const char* end):
    """Return where the line behind this one begins, ``end`` if there is none."""
    cdef const char* eol = <const char*>memchr(line, 0x0A, <size_t>(end - line))
    return end if eol is NULL else eol + 1


cdef Py_ssize_t take_fields(
    const unsigned char* data,
    Py_ssize_t end,
    Py_ssize_t start,
    Py_ssize_t limit,
    list fields,
    bytes known_head,
    list known,
) except -1:
    """Take field lines; return where the first line not taken begins.

    ``known`` are the fields of ``known_head``: a line that has the same place there,
    and the same bytes, is not read again.
    """
    cdef Py_ssize_t at, colon, size, index = 0, left = len(known)
    cdef const char* line = PyBytes_AS_STRING(known_head)
    cdef const char* known_end = line + len(known_head)
    cdef const char* next_line = behind_line(line, known_end)
    while limit > 0:
        if index < left:
            line = next_line
            next_line = behind_line(line, known_end)
            size = next_line - line
            index += 1
            if 0 < size <= end - start and memcmp(data + start, line, size) == 0:
                fields.append(known[index - 1])
                start += size
                limit -= 1
                continue
        at = start
        while at < end and IN_NAME[data[at]]:
            at += 1
        if at == start or at == end or data[at] != 0x3A:
            break
        colon = at
        at = skip_text(data, at + 1, end)
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
    return start


def split_fields(bytes head not None, Py_ssize_t start, Py_ssize_t limit):
    cdef const unsigned char* data = <const unsigned char*>PyBytes_AS_STRING(head)
    cdef Py_ssize_t end = len(head)
    cdef list fields = []
    check_start(start, end)
    start = take_fields(data, end, start, limit, fields, b"", [])
    return fields, start


cdef enum:
    HOST = 1
    CONTENT_LENGTH
    CONNECTION
    FORWARDED
    OTHER

cdef dict KINDS = {name: FORWARDED if name in _FORWARDED else OTHER for name in _RULED}
KINDS.update({b"host": HOST, b"content-length": CONTENT_LENGTH})
KINDS[b"connection"] = CONNECTION
cdef unsigned char RULED[NAMES]  # whether a name in KINDS has this slot

for _name in KINDS:
    RULED[name_slot(_name[0], _name[-1], len(_name))] = 1

cdef Py_ssize_t MAX_DIGITS = _DIGITS
cdef Py_ssize_t MAX_PORT = _MAX_PORT


cdef bint is_host(bytes value):
    """Tell whether this is a name, perhaps with a port of five digits at most."""
    cdef const unsigned char* data = <const unsigned char*>PyBytes_AS_STRING(value)
    cdef Py_ssize_t at = 0, end = len(value), port = 0
    while at < end and IN_HOST[data[at]]:
        at += 1
    if at == 0 or at == end:
        return at > 0
    if data[at] != 0x3A or end - at > 6:
        return False
    at += 1
    while at < end and 0x30 <= data[at] <= 0x39:
        port = 10 * port + data[at] - 0x30
        at += 1
    return at == end and port <= MAX_PORT


cdef int64_t length_of(bytes value):
    """Return the number that this spells, -1 if it is none or has too many digits."""
    cdef const unsigned char* data = <const unsigned char*>PyBytes_AS_STRING(value)
    cdef Py_ssize_t at, end = len(value)
    cdef int64_t length = 0
    if end == 0 or end > MAX_DIGITS:
        return -1
    for at in range(end):
        if data[at] < 0x30 or data[at] > 0x39:
            return -1
        length = 10 * length + data[at] - 0x30
    return length


cdef tuple usual(list fields):
    cdef bytes host = None
    cdef bytes name, value
    cdef const unsigned char* letters
    cdef int64_t length = -1
    cdef bint forwarded = False
    cdef Py_ssize_t size
    cdef int kind
    for name, value in fields:
        letters = <const unsigned char*>PyBytes_AS_STRING(name)
        size = len(name)
        if not RULED[name_slot(letters[0], letters[size - 1], size)]:
            continue
        kind = KINDS.get(name, 0)
        if kind == 0:
            continue
        if kind == HOST and host is None and is_host(value):
            host = value
        elif kind == CONTENT_LENGTH and length < 0:
            length = length_of(value)
            if length < 0:
                return None
        elif kind == FORWARDED:
            forwarded = True
        elif kind != CONNECTION or value.lower() != b"keep-alive":
            return None
    if host is None:
        return None
    return host.decode("ascii"), length if length > 0 else 0, forwarded


cdef inline str ascii_text(const unsigned char* source, Py_ssize_t size):
    """Return bytes below 128 as text."""
    cdef str text = PyUnicode_New(size, 127)
    memcpy(PyUnicode_DATA(text), source, size)
    return text


def split_head(
    bytes head not None,
    Py_ssize_t limit,
    bytes known_head not None=b"",
    list known not None=[],
):
    cdef const unsigned char* data = <const unsigned char*>PyBytes_AS_STRING(head)
    cdef Py_ssize_t end = len(head), at = 0, space, version
    cdef unsigned char form
    cdef list fields = []
    cdef str method, target
    while at < end and IN_NAME[data[at]]:
        at += 1
    if at == 0 or at == end or data[at] != 0x20:
        return None
    space = at
    at += 1
    form = 3 if at < end and data[at] == 0x2F else 1
    while at < end and IN_TARGET[data[at]]:
        form &= IN_TARGET[data[at]]
        at += 1
    version = at
    if version == space + 1 or end - version < 11:
        return None
    if memcmp(data + version, b" HTTP/1.", 8) or not 0x30 <= data[version + 8] <= 0x31:
        return None
    if data[version + 9] != 0x0D or data[version + 10] != 0x0A:
        return None
    at = take_fields(data, end, version + 11, limit, fields, known_head, known)
    if end - at != 2 or data[at] != 0x0D or data[at + 1] != 0x0A:
        return None
    method = ascii_text(data, space)
    target = ascii_text(data + space + 1, version - space - 1)
    if data[version + 8] == 0x30:
        return method, target, "1.0", fields, None
    if form == 1 or method == "CONNECT":
        return method, target, "1.1", fields, None
    return method, target, "1.1", fields, usual(fields)


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


cdef bint is_lower_name(bytes name):
    """Tell whether this is a field's name in lower case."""
    cdef const unsigned char* data = <const unsigned char*>PyBytes_AS_STRING(name)
    cdef Py_ssize_t at, end = len(name)
    for at in range(end):
        if data[at] == 0 or IN_NAME[data[at]] != data[at]:
            return False
    return end > 0


cdef bint is_value(bytes value):
    """Tell whether this is a field's value without white space around it."""
    cdef const unsigned char* data = <const unsigned char*>PyBytes_AS_STRING(value)
    cdef Py_ssize_t at, end = len(value)
    if end == 0:
        return True
    if data[0] <= 0x20 or data[end - 1] <= 0x20:
        return False
    at = skip_text(data, 0, end)
    while at < end and IN_VALUE[data[at]]:
        at += 1
    return at == end


cdef Py_ssize_t LISTED = _LISTED


cdef class FieldTable:
    cdef readonly list fields
    cdef readonly bint repeatable
    cdef object read, plain
    cdef dict kinds
    cdef Py_ssize_t first, size, max_size

    def __init__(self, list static not None, read not None, dict kinds not None, plain):
        self.fields = list(static)
        self.repeatable = False
        self.first = len(static)
        self.read = read
        self.kinds = kinds
        self.plain = plain
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
        cdef list fields = self.fields
        if 0 < index < len(fields):
            return <tuple>list_item(<PyObject*>fields, <Py_ssize_t>index)
        raise InvalidTableIndexError(f"no entry {index} in the tables")

    cdef tuple literal(
        self, const unsigned char* data, Py_ssize_t* at, Py_ssize_t end
    ):
        cdef unsigned char first = data[at[0]]
        cdef int64_t index = read_integer(data, at, end, 0x3F if first & 0x40 else 0x0F)
        cdef bytes name
        cdef tuple field
        if index:
            name = (<tuple>self.field(index)[0])[0]
        else:
            name = read_string(data, at, end)
        field = self.judge(name, read_string(data, at, end))
        if first & 0x40:
            self.repeatable = False
            self.fields.insert(self.first, field)
            self.size += <Py_ssize_t>field[2]
            self.evict()
        elif first & 0x10:
            self.repeatable = False
        return field

    cdef tuple judge(self, bytes name, bytes value):
        cdef PyObject* found = PyDict_GetItemWithError(self.kinds, name)
        cdef object kind = None
        if found is not NULL:
            kind = <object>found
        elif is_lower_name(name):
            kind = self.plain
        if kind is None or not is_value(value):
            return self.read(name, value)
        return (name, value), kind, LISTED + len(name) + len(value)

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


cdef int PLAIN_KIND = _PLAIN_KIND
cdef int PSEUDO_KIND = _PSEUDO_KIND
cdef int CRUMB_KIND = _CRUMB_KIND
cdef int RULED_KIND = _RULED_KIND
cdef Py_ssize_t PSEUDO_FIELDS = len(_PSEUDO_NAMES)
cdef Py_ssize_t MAX_METHOD = _MAX_METHOD
cdef Py_ssize_t AROUND_FIELD = _AROUND_FIELD
cdef Py_ssize_t AROUND_LINE = _AROUND_LINE


cdef struct Text:
    const unsigned char* data
    Py_ssize_t size


cdef Text NO_TEXT
NO_TEXT.data = NULL
NO_TEXT.size = 0


cdef inline int set_text(Text* text, PyObject* value) except -1:
    if not PyBytes_CheckExact(<object>value):
        raise TypeError("a field has a name and a value, both bytes")
    text.data = <const unsigned char*>PyBytes_AS_STRING(<object>value)
    text.size = PyBytes_GET_SIZE(<object>value)
    return 0


cdef inline PyObject* field_at(
    list fields, Py_ssize_t at, int* kind, Text* name, Text* value
) except NULL:
    """Return the pair of a field, borrowed from the list, and what it says."""
    cdef PyObject* field = list_item(<PyObject*>fields, at)
    cdef PyObject* pair
    if not PyTuple_CheckExact(<object>field) or PyTuple_GET_SIZE(<object>field) != 3:
        raise TypeError("a field is a pair, a kind and a size")
    pair = tuple_item(field, 0)
    if not PyTuple_CheckExact(<object>pair) or PyTuple_GET_SIZE(<object>pair) != 2:
        raise TypeError("a field has a name and a value, both bytes")
    kind[0] = <object>tuple_item(field, 1)
    set_text(name, tuple_item(pair, 0))
    set_text(value, tuple_item(pair, 1))
    return pair


cdef inline void put(list fields, Py_ssize_t at, PyObject* pair) noexcept:
    """Put a pair in the place of what others refer to as well."""
    cdef PyObject* old = list_item(<PyObject*>fields, at)
    Py_INCREF(pair)
    set_list_item(<PyObject*>fields, at, pair)
    Py_DECREF(old)


cdef inline bint same(Text text, const char* letters, Py_ssize_t size) noexcept:
    return text.size == size and memcmp(text.data, letters, <size_t>size) == 0


cdef str usual_text(Text text):
    """Return text, ``None`` if it has more than ASCII in it."""
    cdef unsigned char seen = 0
    cdef Py_ssize_t at
    for at in range(text.size):
        seen |= text.data[at]
    return ascii_text(text.data, text.size) if seen < 128 else None


cdef str path_text(Text path, Py_ssize_t most):
    """Return a path of at most ``most`` bytes as text, ``None`` if it is no such."""
    cdef Py_ssize_t at = 0
    if path.size == 0 or path.size > most or path.data[0] != 0x2F:
        return None
    while at < path.size and IN_TARGET[path.data[at]] == 3:
        at += 1
    return ascii_text(path.data, path.size) if at == path.size else None


cdef inline bint is_space(unsigned char octet) noexcept:
    return octet == 0x20 or octet == 0x09


cdef bytes joined_cookie(list fields, Py_ssize_t size):
    """Return what several crumbs say together in so many bytes."""
    cdef bytes cookie = PyBytes_FromStringAndSize(NULL, size)
    cdef char* target = PyBytes_AS_STRING(cookie)
    cdef Py_ssize_t at, done = 0
    cdef int kind
    cdef Text name, value
    for at in range(len(fields)):
        field_at(fields, at, &kind, &name, &value)
        if kind == CRUMB_KIND:
            if done:
                memcpy(target + done - 2, b"; ", 2)
            memcpy(target + done, value.data, <size_t>value.size)
            done += value.size + 2
    return cookie


def usual_request(list fields not None, tuple limits not None):
    cdef Text method, path, scheme, authority, name, value, first, last
    cdef PyObject* pair
    cdef PyObject* host = NULL
    cdef bint forwarded = False
    cdef int64_t length = -1
    cdef Py_ssize_t at, crumbs = 0, crumb = 0, cookie = 0
    cdef Py_ssize_t end = len(fields), count = 0, text = 0, pseudo = 0
    cdef Py_ssize_t most, most_lines, most_listed, most_path
    cdef int kind, ruled
    cdef list own
    cdef str verb, target, named, authority_text
    most, most_lines, most_listed, most_path = limits
    if end < PSEUDO_FIELDS:
        return None
    method = path = scheme = authority = first = last = NO_TEXT
    for at in range(PSEUDO_FIELDS):
        pair = field_at(fields, at, &kind, &name, &value)
        if kind != PSEUDO_KIND:
            return None
        pseudo += name.size + value.size
        if path.data is NULL and same(name, b":path", 5):
            path = value
        elif method.data is NULL and same(name, b":method", 7):
            method = value
        elif scheme.data is NULL and same(name, b":scheme", 7):
            scheme = value
        elif authority.data is NULL and same(name, b":authority", 10):
            authority = value
            host = tuple_item(pair, 1)
        else:
            return None
    # the first place will be that of ``host``; any other is read before it is written
    own = fields[PSEUDO_FIELDS - 1 :]
    for at in range(PSEUDO_FIELDS, end):
        pair = field_at(fields, at, &kind, &name, &value)
        if kind == CRUMB_KIND:
            crumbs += 1
            last = value
            if crumbs > 1:
                cookie += 2 + value.size
                text += 2 + value.size
                continue
            first = value
            cookie = value.size
            crumb = count + 1
        elif kind == RULED_KIND:
            ruled = KINDS.get(<object>tuple_item(pair, 0), 0)
            if ruled == FORWARDED:
                forwarded = True
            elif ruled == CONTENT_LENGTH and length < 0:
                length = length_of(<bytes>tuple_item(pair, 1))
                if length < 0:
                    return None
            else:
                return None
        elif kind != PLAIN_KIND:
            return None
        text += name.size + value.size
        count += 1
        put(own, count, pair)
    if first.size and is_space(first.data[0]):
        return None
    if crumbs > 1 and last.size == 0:  # the end is that of "; "
        return None
    if last.size and is_space(last.data[last.size - 1]):
        return None
    if (
        count > most
        or text + method.size + path.size + authority.size + 4 + AROUND_LINE
        + AROUND_FIELD * (count + 1) > most_lines
        or text + pseudo + LISTED * (count + PSEUDO_FIELDS) > most_listed
    ):
        return None
    if same(method, b"GET", 3):
        verb = "GET"
    elif method.size > MAX_METHOD or same(method, b"CONNECT", 7):
        return None
    else:
        verb = usual_text(method)
    if same(scheme, b"https", 5):
        named = "https"
    elif same(scheme, b"http", 4):
        named = "http"
    else:
        return None
    target = path_text(path, most_path)
    authority_text = usual_text(authority)
    if verb is None or target is None or authority_text is None:
        return None
    if crumbs > 1:
        own[crumb] = (b"cookie", joined_cookie(fields, cookie))
        del own[count + 1 :]
    own[0] = (b"host", <object>host)
    return (
        verb,
        target,
        named,
        authority_text,
        own,
        length if length >= 0 else None,
        forwarded,
    )


cdef class Inbox:
    cdef readonly object messages
    cdef readonly Py_ssize_t weight, received
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
        self.received += len(messages)
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
        cdef list found
        cdef Py_ssize_t room, at = 0
        cdef object first
        if not self.plain or size == 0 or self.weight >= self.heaviest:
            return False
        room = self.most - len(self.messages)
        if room <= 0:
            return False
        first = next_message(data, size, &at, self.max_payload)
        if first is None:
            return False
        if at == size:
            self.append(first)
            self.received += 1
            self.weight += cost(first)
        else:
            found = [first]
            if scan(data, size, at, self.max_payload, room - 1, found) != size:
                return False
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


cdef class UnmaskedInbox(Inbox):
    cdef bint take_part(self, const unsigned char* data, Py_ssize_t size) except -1:
        cdef list found = []
        cdef Py_ssize_t room
        if not self.plain or size == 0 or self.weight >= self.heaviest:
            return False
        room = self.most - len(self.messages)
        if scan_unmasked(data, size, 0, self.max_payload, room, found) != size:
            return False
        self.put(found)
        self.held += size
        self.wake()
        return True


cdef Py_ssize_t spread(
    const unsigned char* at,
    Py_ssize_t end,
    Py_ssize_t room,
    Py_ssize_t max_length,
    Py_ssize_t limit,
    Py_ssize_t* frames,
) noexcept:
    """Return how large the one message is that begins ``at`` and ends a later frame.

    0: it does not; see ``pure._spread``.
    """
    cdef const unsigned char* head = at + 9
    cdef const unsigned char* next
    cdef Py_ssize_t got, length, size, offset, position
    got = <Py_ssize_t>at[0] << 16 | <Py_ssize_t>at[1] << 8 | at[2]
    if got < 14 or head[0] != 0x81 and head[0] != 0x82:
        return 0
    size = head[1] & 0x7F
    position = 2
    if size == 126:
        size = <Py_ssize_t>head[2] << 8 | head[3]
        position = 4
    elif size == 127:
        if head[2] | head[3] | head[4] | head[5]:
            return 0
        size = <Py_ssize_t>head[6] << 24 | <Py_ssize_t>head[7] << 16
        size |= <Py_ssize_t>head[8] << 8 | head[9]
        position = 10
    size += position + (4 if head[1] & 0x80 else 0)
    if size <= got or size > room:
        return 0
    frames[0] = 1
    offset = 9 + got
    while got < size:
        if end - offset < 9 or frames[0] >= limit:
            return 0
        next = at + offset
        length = <Py_ssize_t>next[0] << 16 | <Py_ssize_t>next[1] << 8 | next[2]
        if next[3] or next[4] or length == 0 or length > max_length:
            return 0
        if length > end - offset - 9 or memcmp(next + 5, at + 5, 4):
            return 0
        got += length
        offset += 9 + length
        frames[0] += 1
    return size if got == size else 0


cdef bytes joined(const unsigned char* at, Py_ssize_t size):
    """Return the payloads of DATA frames, ``size`` bytes of them together."""
    cdef bytes whole = PyBytes_FromStringAndSize(NULL, size)
    cdef char* to = PyBytes_AS_STRING(whole)
    cdef Py_ssize_t got = 0, length
    while got < size:
        length = <Py_ssize_t>at[0] << 16 | <Py_ssize_t>at[1] << 8 | at[2]
        memcpy(to + got, at + 9, length)
        got += length
        at += 9 + length
    return whole


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
    cdef Py_ssize_t length, window, frames
    cdef uint32_t stream_id
    cdef tuple entry
    cdef Inbox inbox
    cdef bytes whole
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
            frames = 1
            if length > window:
                break
            if not inbox.take_part(at + 9, length):
                if not inbox.plain:
                    break
                length = spread(
                    at, view.len - start, min(left, window), max_length, limit, &frames
                )
                if length == 0:
                    break
                whole = joined(at, length)
                if not inbox.take_part(
                    <const unsigned char*>PyBytes_AS_STRING(whole), length
                ):
                    break
            stream.window = window - length
            left -= length
            start += 9 * frames + length
            limit -= frames
    finally:
        PyBuffer_Release(&view)
    return start, left


def send_now(int fd, bytes data not None):
    cdef Py_ssize_t sent = tako_send(fd, PyBytes_AS_STRING(data), <size_t>len(data))
    return sent if sent > 0 else 0
