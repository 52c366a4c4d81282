"""``request_id``: middleware that gives each request an id, for logs on both sides.

Theory of operation. The id is a fact of the request, a field of the request and of its
response, and the value of a context variable: each request has a task of its own, and
tasks and threads that the handler starts get a copy of its context. So the variable is
never reset: bodies, sessions and what runs after the answer still belong to the
request.
"""

import re
import secrets
from contextvars import ContextVar

from tako.http.headers import Headers
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.middleware import Middleware, Next


# Nothing that could end a line, a quoted string or a field where it is copied to.
_ACCEPTABLE = re.compile(r"[0-9A-Za-z._~+/=:-]{1,128}")


class RequestId(str):
    """The id of a request: ``request.extensions[RequestId]``."""

    __slots__ = ()


_current: ContextVar[RequestId | None] = ContextVar("tako request id", default=None)


def current_request_id() -> RequestId | None:
    """Return the id of the request that the calling code works for.

    It is that of ``request_id``, in the handler, in tasks and threads that it starts,
    and in whatever they call; ``None`` elsewhere. For a filter of ``logging``, say.
    """
    return _current.get()


def request_id(header: str = "x-request-id", *, trust: bool = False) -> Middleware:
    """Return a middleware that gives each request an id, and each response its field.

    Handlers find it as ``request.extensions[RequestId]``, ASGI apps as the field of the
    request; ``current_request_id`` returns it, and ``access_log`` writes it.

    Args:
        header: the field that carries the id, in the request and in the response.
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
        request.headers.set(header, sent)
        own = RequestId(sent)
        request.extensions.insert(own)
        _current.set(own)
        response = await call_next(request)
        response.headers.set(header, sent)
        return response

    return name
