"""``request_id``: middleware that gives each request an id, for logs on both sides."""

import re
import secrets

from tako.http.headers import Headers
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.middleware import Middleware, Next


# Nothing that could end a line, a quoted string or a field where it is copied to.
_ACCEPTABLE = re.compile(r"[0-9A-Za-z._~+/=:-]{1,128}")


class RequestId(str):
    """The id of a request: ``request.extensions[RequestId]``."""

    __slots__ = ()


def request_id(header: str = "x-request-id", *, trust: bool = False) -> Middleware:
    """Return a middleware that gives each request an id, and each response its field.

    Handlers find it as ``request.extensions[RequestId]``; ``access_log`` writes it.

    Args:
        header: the field that carries the id.
        trust: take the id that the client sent, if it is a plain word of at most 128
            characters: for servers behind a proxy that sets or removes the field.

    Raises:
        ValueError: ``header`` is not the name of a header field.
    """
    Headers([(header, "")])

    async def name(request: Request, call_next: Next) -> Response:
        sent = request.headers.get(header) if trust else None
        if sent is None or not _ACCEPTABLE.fullmatch(sent):
            sent = secrets.token_hex(16)
        request.extensions.insert(RequestId(sent))
        response = await call_next(request)
        response.headers.set(header, sent)
        return response

    return name
