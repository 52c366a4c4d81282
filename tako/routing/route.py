"""``Route``: one method and path with its handler; and the types that register it."""

import logging
from typing import NoReturn, Protocol, Self, TypeVar, get_args, overload

from tako.config import Duration, seconds
from tako.errors import ConfigError
from tako.http.request_head import HttpVersion
from tako.http.state import TypeMap
from tako.routing.middleware import (
    Innermost,
    IntoMiddleware,
    Middleware,
    as_middleware,
)
from tako.routing.path_table import Pattern, join, parse_path
from tako.routing.route_facts import RouteFacts
from tako.routing.signature import MOUNT, BoundHandler, Handler


H = TypeVar("H", bound=Handler)

_VERSIONS: tuple[str, ...] = get_args(HttpVersion)

_log = logging.getLogger("tako.router")


class Decorator(Protocol):
    """Registers the function below it and returns it unchanged."""

    def __call__(self, handler: H, /) -> H:
        """Register ``handler``.

        Raises:
            ConfigError: as ``Router.route``.
        """
        ...


class Verb(Protocol):
    """``Router.route`` for one method: ``router.get("/x", handler)``."""

    @overload
    def __call__(self, path: str, *, redirect_slashes: bool = False) -> Decorator: ...
    @overload
    def __call__(
        self, path: str, handler: Handler, *, redirect_slashes: bool = False
    ) -> "Route": ...


class Route(RouteFacts):
    """One method and path with its handler; made by a router.

    Attributes:
        method: the method that it answers.
        path: its path as registered, with the prefixes of scopes and routers around it.
        redirect_slashes: whether its path with another ending is redirected to it.
        mount: whether an app is mounted here, with its index and what is below.
        http_version: the only version that it answers, ``None`` for all.
        seconds: its timeout, ``None`` for its router's.
        states: where the requests that it answers find application state.
        sender: what answers without a ``Response`` for others to look at; an app's.
    """

    __slots__ = (
        "method",
        "mount",
        "pattern",
        "redirect_slashes",
    )

    def __init__(
        self,
        method: str,
        pattern: Pattern,
        call: BoundHandler,
        states: tuple[TypeMap, ...],
        *,
        redirect_slashes: bool = False,
        mount: bool = False,
    ) -> None:
        answer = getattr(call, "answer", None) if getattr(call, MOUNT, False) else None
        sender = None if answer is None else Innermost(answer).__call__
        super().__init__(pattern.path, pattern.names, states, call, sender)
        self.method: str = method
        self.pattern: Pattern = pattern
        self.redirect_slashes: bool = redirect_slashes
        self.mount: bool = mount

    def middleware(self, mw: Middleware | IntoMiddleware) -> Self:
        """Run ``mw`` around this route's handler, inside what was added before.

        Raises:
            TypeError: ``mw`` is not a middleware.
        """
        self.surround(as_middleware(mw))
        return self

    def timeout(self, duration: Duration) -> Self:
        """Limit the time to a response; the first call wins.

        Raises:
            ConfigError: ``duration`` is not positive.
        """
        limit = seconds(duration, "timeout")
        if self.seconds is None:
            self.set_seconds(limit)
        else:
            _log.warning("%r has a timeout already; the later one is ignored", self)
        return self

    def version(self, http_version: HttpVersion) -> Self:
        """Answer requests of other HTTP versions with 505; the first call wins.

        Raises:
            ConfigError: there is no such version here.
        """
        if http_version not in _VERSIONS:
            msg = f"version takes one of {_VERSIONS}, not {http_version!r}"
            raise ConfigError(msg)
        if self.http_version is None:
            self.set_version(http_version)
        else:
            _log.warning("%r has a version already; the later one is ignored", self)
        return self

    def copy(
        self, prefix: str, outer: tuple[Middleware, ...], state: TypeMap
    ) -> "Route":
        """Return a copy for a router that this route's own router is nested in.

        Args:
            prefix: what the copy's path has before this one.
            outer: middlewares of its own router, which become the copy's.
            state: application state of the router around.
        """
        route = Route(
            self.method,
            parse_path(join(prefix, self.path, mount=self.mount)),
            self._call,
            (*self.states, state),
            redirect_slashes=self.redirect_slashes,
            mount=self.mount,
        )
        route.http_version = self.http_version
        route.seconds = self.seconds
        route.middlewares = outer + self.middlewares
        return route

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: a router copies its routes."""
        msg = "a Route is not copied or pickled: Router.merge and nest copy routes"
        raise TypeError(msg)

    def __repr__(self) -> str:
        return f"<Route {self.method} {self.path}>"
