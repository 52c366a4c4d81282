"""``RouteFacts``: what a dispatch asks of a route.

Compiled where ``TAKO_COMPILE`` says so: it is asked at each request. What it does, and
its documentation, is in ``Route``.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from tako.http.compiling import mypyc_attr
from tako.routing.middleware import chain


if TYPE_CHECKING:
    from tako.http.request import Request
    from tako.http.request_head import HttpVersion
    from tako.http.response import Response
    from tako.http.state import TypeMap
    from tako.routing.middleware import Middleware
    from tako.routing.signature import BoundHandler

Answer: TypeAlias = Callable[["Request"], Coroutine[Any, Any, "Response"]]
"""Returns the response to a request: a ``Next``, or its bound method, called faster."""


@mypyc_attr(allow_interpreted_subclasses=True)
class RouteFacts:
    """The base of ``Route``, whose attributes are described there."""

    __slots__ = (
        "_call",
        "built",
        "http_version",
        "middlewares",
        "names",
        "path",
        "seconds",
        "sender",
        "states",
    )

    def __init__(
        self,
        path: str,
        names: "tuple[str, ...]",
        states: "tuple[TypeMap, ...]",
        call: "BoundHandler",
        sender: Answer | None,
    ) -> None:
        """Answer any version of HTTP, without a timeout and middlewares."""
        self.path: str = path
        self.names: tuple[str, ...] = names
        self.states: tuple[TypeMap, ...] = states
        self._call = call
        self.sender: Answer | None = sender
        self.seconds: float | None = None
        self.http_version: HttpVersion | None = None
        self.middlewares: tuple[Middleware, ...] = ()
        self.built: Answer | None = None  # by ``chain``, when it is first needed

    def set_seconds(self, limit: float) -> None:
        """Limit the time to a response."""
        self.seconds = limit

    def set_version(self, http_version: "HttpVersion") -> None:
        """Answer requests of one version of HTTP only."""
        self.http_version = http_version

    def surround(self, mw: "Middleware") -> None:
        """Run ``mw`` inside the middlewares that are there."""
        self.middlewares += (mw,)
        self.built = None

    def chain(self, outer: "tuple[Middleware, ...]") -> Answer:
        """Return the handler inside this route's middlewares inside ``outer``.

        Built once, until ``forget_chain`` is called.
        """
        answer = self.built
        if answer is None:
            answer = chain(outer + self.middlewares, self._call).__call__
            self.built = answer
        return answer

    def forget_chain(self) -> None:
        """Build the chain again: the middlewares of its router have changed."""
        self.built = None
