"""``request_of``: from a head to the request of a handler; both wires call it."""

from typing import Final

from tako.http.conn_info import ConnInfo
from tako.http.request import Body, Request
from tako.http.request_facts import Exchange, connect
from tako.http.request_head import RequestHead


_NEW: Final[type[Request]] = Request  # compiled code would look the name up each time


def request_of(
    head: RequestHead,
    exchange: Exchange,
    body: Body,
    scheme: str,
    conn_info: ConnInfo,
    max_body_size: int | None,
) -> Request:
    """Return the request that ``head`` begins.

    Args:
        head: what the client asks for.
        exchange: what carries the request.
        body: where its body comes from, and whether its client has left.
        scheme: ``"http"`` or ``"https"``.
        conn_info: the connection.
        max_body_size: the default limit of ``body`` and what reads by it, in bytes.
    """
    # By ``connect``: each argument of ``Request`` is unpacked and checked
    request = _NEW(head.method, head.target, head.fields, head.version)
    connect(
        request,
        scheme,
        head.authority,
        "websocket" if head.websocket else None,
        body,
        conn_info,
        body,
        exchange,
        max_body_size,
    )
    if head.forwarded and conn_info.believe is not None:
        conn_info.believe(request)
    return request
