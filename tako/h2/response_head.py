"""The fields of a response on HTTP/2 (RFC 9113 §8.2.2, §8.3.2)."""

from collections.abc import Iterable

from tako.grammar import content_length
from tako.h2.validate import CONNECTION_SPECIFIC
from tako.headers import RawHeader
from tako.httpdate import http_date


def response_fields(fields: Iterable[RawHeader]) -> list[RawHeader]:
    """Return ``fields`` without those that are HTTP/1.1's own (RFC 9113 §8.2.2)."""
    return [field for field in fields if field[0] not in CONNECTION_SPECIFIC]


def response_head(status: int, headers: Iterable[RawHeader]) -> list[RawHeader]:
    """Return all fields of a head, with ``:status`` and ``date``."""
    fields = [(b":status", b"%d" % status), *response_fields(headers)]
    if status == 204:  # RFC 9110 §8.6
        fields = [field for field in fields if field[0] != b"content-length"]
    if status >= 200 and all(name != b"date" for name, _ in fields):
        fields.insert(1, (b"date", http_date()))  # RFC 9110 §6.6.1
    return fields


def declared_length(fields: Iterable[RawHeader]) -> int | None:
    """Return the content-length among ``fields``, if there is one."""
    for name, value in fields:
        if name == b"content-length":
            return content_length(value)
    return None


def text_head(status: int, body: bytes) -> list[RawHeader]:
    """Return the head of a short answer of the engine's own."""
    headers: list[RawHeader] = [(b"content-length", b"%d" % len(body))]
    if body:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    return response_head(status, headers)


def tunnel_head(status: int, headers: Iterable[RawHeader]) -> list[RawHeader]:
    """Return the head that opens a tunnel."""
    # RFC 9113 §8.6: there is no 101. RFC 9110 §9.3.6: no content-length.
    head = response_head(200 if status == 101 else status, headers)
    return [field for field in head if field[0] != b"content-length"]
