"""Middleware: code around handlers, and the answerer, where exceptions become answers.

Theory of operation. The chain around a handler is built once, from the inside out:
each ``Next`` holds a middleware and the ``Next`` below it. Nothing in it belongs to a
request, so running one builds nothing, and ``next`` may be called twice.

Invariant: a ``Next`` returns a ``Response``: it is the answerer. What a handler or a
middleware raises becomes an answer right there, so that the middleware around it sees
every answer. Only what is not an ``Exception`` (cancellation, ``KeyboardInterrupt``)
passes through. The isolation boundary of the exchange, in the server, is another one:
it catches what fails while an answer is sent.
"""

import logging
from collections.abc import Awaitable, Iterable
from types import CoroutineType
from typing import Any, Protocol, runtime_checkable

from tako.core.on_fault import tell_of_fault
from tako.errors import Disconnected, HttpError, RemoteProtocolError
from tako.http.request import Request
from tako.http.response import Response, error_response, into_response
from tako.routing.signature import BoundHandler


_log = logging.getLogger("tako.router")


class Next:
    """The rest of the chain: ``await next(request)`` returns its response."""

    __slots__ = ("_inner", "_middleware")

    def __init__(self, middleware: "Middleware", inner: "Next") -> None:
        self._middleware = middleware
        self._inner = inner

    async def __call__(self, request: Request) -> Response:
        """Run the rest of the chain; it may be called again, also with another request.

        It raises no ``Exception``: what the chain raises is answered (the answerer).

        Cancel safety: that of the handler and middleware.
        """
        try:
            return into_response(await self._middleware(request, self._inner))
        except Exception as error:  # the answerer, of a middleware
            return failure_response(request, error)

    async def run(self, request: Request) -> Response:
        """Run the rest of the chain; the same as calling it.

        Cancel safety: that of the handler and middleware.
        """
        return await self(request)


class Innermost(Next):
    """The innermost part of a chain: a handler."""

    __slots__ = ("_call",)

    def __init__(self, call: BoundHandler) -> None:
        self._call = call

    async def __call__(self, request: Request) -> Response:
        """Run the handler.

        Cancel safety: that of the handler.
        """
        try:
            result: Any = self._call(request)
            kind: Any = type(result)  # pyright: ignore[reportUnknownVariableType]
            # The first test is the usual case and spares the second: 0.1 us.
            if kind is CoroutineType or hasattr(kind, "__await__"):
                result = await result
            return result if type(result) is Response else into_response(result)
        except Exception as error:  # the answerer, of a handler
            return failure_response(request, error)


@runtime_checkable
class Middleware(Protocol):
    """``async def middleware(request, next)``: returns what a handler may return."""

    def __call__(self, request: Request, next: Next, /) -> Awaitable[Any]:  # noqa: A002
        """Answer ``request``, usually with ``await next(request)``."""
        ...


@runtime_checkable
class IntoMiddleware(Protocol):
    """An object that makes a middleware from its settings."""

    def into_middleware(self) -> Middleware:
        """Return the middleware that these settings make."""
        ...


def as_middleware(value: Middleware | IntoMiddleware) -> Middleware:
    """Return ``value`` as a middleware.

    Raises:
        TypeError: it is neither callable nor an ``IntoMiddleware``.
    """
    made = value.into_middleware() if isinstance(value, IntoMiddleware) else value
    if not callable(made):
        msg = f"{type(made).__name__} is not a middleware: async def mw(request, next)"
        raise TypeError(msg)
    return made


def chain(middlewares: Iterable[Middleware], call: BoundHandler) -> Next:
    """Return ``call`` with ``middlewares`` around it, the first one outermost."""
    inner: Next = Innermost(call)
    for middleware in reversed(tuple(middlewares)):
        inner = Next(middleware, inner)
    return inner


def failure_response(request: Request, error: Exception) -> Response:
    """Return the answer to an exception that a handler or a middleware raised.

    A fault (any 500) is logged with its traceback, and nothing of it is in the answer.
    """
    if isinstance(error, Disconnected):
        _log.debug("%s %s: the client is gone", request.method, request.path)
        return Response(499)  # for access logs only: the client cannot read it
    if isinstance(error, RemoteProtocolError):
        _log.debug("%s %s: %s", request.method, request.path, error)
        return error_response(HttpError(400))
    try:
        response = into_response(error)
    except Exception:  # its ``into_response`` failed: a fault in place of an answer
        _log.exception("%s has no response that can be sent", type(error).__name__)
        response = error_response(RuntimeError())
    if response.status == 500:
        _log.error(
            "%s %s: handler failed", request.method, request.path, exc_info=error
        )
        tell_of_fault(request, error)
    return response
