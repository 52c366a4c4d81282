"""How a response head is written on HTTP/2 (RFC 9113 §8.3.2)."""

from tako.http.date import http_date
from tako.http.headers import RawHeader
from tako.http.response_fields import ResponseFields, read_fields


def response_head(status: int, said: ResponseFields) -> list[RawHeader]:
    """Return all fields of a head.

    RFC 9113 §8.2.2: those that are HTTP/1.1's own are not among ``said.own``.
    """
    head = [(b":status", b"%d" % status)]
    if said.date is not None:
        head.append((b"date", said.date))
    elif status >= 200:  # RFC 9110 §6.6.1
        head.append((b"date", http_date()))
    head += said.own
    if said.length is not None:
        head.append((b"content-length", b"%d" % said.length))
    return head


def text_head(status: int, body: bytes) -> list[RawHeader]:
    """Return the head of a short answer of the engine's own."""
    headers: list[RawHeader] = [(b"content-length", b"%d" % len(body))]
    if body:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    return response_head(status, read_fields(status, headers))


def tunnel_head(status: int, said: ResponseFields) -> list[RawHeader]:
    """Return the head that opens a tunnel."""
    said.length = None  # RFC 9110 §9.3.6
    # RFC 9113 §8.6: there is no 101
    return response_head(200 if status == 101 else status, said)
