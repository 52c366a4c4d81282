"""Routes, and how they are registered: by method, path and prefix."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol, Self, TypeVar, overload

from tako.config import Duration, seconds
from tako.errors import ConfigError, RouteConflictError
from tako.http import grammar
from tako.http.method import Method
from tako.http.state import TypeMap
from tako.routing.middleware import (
    IntoMiddleware,
    Middleware,
    Next,
    as_middleware,
    chain,
)
from tako.routing.path_table import EMPTY, PathTable, Pattern, parse_path
from tako.routing.signature import MOUNT, BoundHandler, Handler, bind_handler


H = TypeVar("H", bound=Handler)

_log = logging.getLogger("tako.router")


class Decorator(Protocol):
    """Registers the function below it and returns it unchanged."""

    def __call__(self, handler: H, /) -> H:
        """Register ``handler``."""
        ...


class Route:
    """One method and path with its handler; made by a router.

    Attributes:
        method: the method that it answers.
        path: its path as registered, with the prefixes of scopes and routers around it.
        tsr: whether its path with, or without, a slash at the end is redirected to it.
        mount: whether an app is mounted here, with its index and what is below.
        http_version: the only version that it answers, ``None`` for all.
        seconds: its timeout, ``None`` for its router's.
        states: where the requests that it answers find application state.
    """

    __slots__ = (
        "_call",
        "_chain",
        "_middlewares",
        "http_version",
        "method",
        "mount",
        "path",
        "pattern",
        "seconds",
        "states",
        "tsr",
    )

    def __init__(
        self,
        method: str,
        pattern: Pattern,
        call: BoundHandler,
        states: tuple[TypeMap, ...],
        *,
        tsr: bool = False,
        mount: bool = False,
    ) -> None:
        self.method: str = method
        self.pattern: Pattern = pattern
        self.path: str = pattern.path
        self.tsr: bool = tsr
        self.mount: bool = mount
        self.http_version: str | None = None
        self.seconds: float | None = None
        self.states: tuple[TypeMap, ...] = states
        self._call = call
        self._middlewares: tuple[Middleware, ...] = ()
        self._chain: Next | None = None

    def middleware(self, mw: Middleware | IntoMiddleware) -> Self:
        """Run ``mw`` around this route's handler, inside what was added before."""
        self._middlewares += (as_middleware(mw),)
        self._chain = None
        return self

    def timeout(self, duration: Duration) -> Self:
        """Limit the time to a response; the first call wins.

        Raises:
            ConfigError: ``duration`` is not positive.
        """
        limit = seconds(duration, "timeout")
        if self.seconds is None:
            self.seconds = limit
        else:
            _log.warning("%r has a timeout already; the later one is ignored", self)
        return self

    def version(self, http_version: str) -> Self:
        """Answer requests of other HTTP versions with 505; the first call wins.

        Args:
            http_version: ``"0.9"``, ``"1.0"``, ``"1.1"`` or ``"2"``.

        Raises:
            ConfigError: there is no such version here.
        """
        if http_version not in {"0.9", "1.0", "1.1", "2"}:
            msg = f'version takes "0.9", "1.0", "1.1" or "2", not {http_version!r}'
            raise ConfigError(msg)
        if self.http_version is None:
            self.http_version = http_version
        else:
            _log.warning("%r has a version already; the later one is ignored", self)
        return self

    def h09(self) -> Self:
        """Answer HTTP/0.9 only, which no transport here speaks: always 505."""
        return self.version("0.9")

    def h10(self) -> Self:
        """Answer HTTP/1.0 only."""
        return self.version("1.0")

    def h11(self) -> Self:
        """Answer HTTP/1.1 only."""
        return self.version("1.1")

    def h2(self) -> Self:
        """Answer HTTP/2 only."""
        return self.version("2")

    def chain(self, outer: tuple[Middleware, ...]) -> Next:
        """Return the handler inside this route's middlewares inside ``outer``.

        Built once, until ``forget_chain`` is called.
        """
        if self._chain is None:
            self._chain = chain(outer + self._middlewares, self._call)
        return self._chain

    def forget_chain(self) -> None:
        """The middlewares around this route have changed; for its router."""
        self._chain = None

    def copy(self, path: str, outer: tuple[Middleware, ...], state: TypeMap) -> "Route":
        """Return a copy at ``path`` for a router around this route's own.

        Args:
            path: the copy's path.
            outer: middlewares of the own router, which become the copy's.
            state: application state of the router around.
        """
        route = Route(
            self.method,
            parse_path(path),
            self._call,
            (*self.states, state),
            tsr=self.tsr,
            mount=self.mount,
        )
        route.http_version = self.http_version
        route.seconds = self.seconds
        route._middlewares = outer + self._middlewares
        return route

    def __repr__(self) -> str:
        return f"<Route {self.method} {self.path}>"


def join(prefix: str, path: str, *, mount: bool = False) -> str:
    """Return ``path`` below ``prefix``; the bare prefix for ``"/"`` and ``""``.

    The index of what is mounted keeps its slash: links in it are relative to that.
    """
    if prefix and path in {"", "/"}:
        return prefix + "/" if mount else prefix
    if not path.startswith("/"):
        msg = f"a route's path starts with '/', unlike {path!r}"
        raise ConfigError(msg)
    return prefix + path


def normal_prefix(prefix: str) -> str:
    """Return ``prefix`` with a slash at its front and none at its end."""
    bare = prefix.strip("/")
    return f"/{bare}" if bare else ""


def checked_method(method: str) -> str:
    """Return ``method`` as a plain string.

    Raises:
        ConfigError: it is no token, or a known method in the wrong case, which no
            request would match: methods are case-sensitive (RFC 9110 §9.1).
    """
    name = str(method)
    if not grammar.is_token(name.encode()):
        msg = f"{name!r} is not a method (RFC 9110 §9.1)"
        raise ConfigError(msg)
    if name not in Method.__members__ and name.upper() in Method.__members__:
        msg = f"methods are case-sensitive: write {name.upper()!r} instead of {name!r}"
        raise ConfigError(msg)
    return name


class Registrar:
    """The registering half of a router."""

    def __init__(self) -> None:
        self._routes: list[Route] = []
        self._tables: dict[str, PathTable[Route]] = {}
        self._middlewares: tuple[Middleware, ...] = ()
        self._prefix = ""
        self._state = TypeMap()

    @property
    def routes(self) -> tuple[Route, ...]:
        """All routes, in the order of registration."""
        return tuple(self._routes)

    @overload
    def route(self, method: str, path: str) -> Decorator: ...
    @overload
    def route(self, method: str, path: str, handler: Handler) -> Route: ...
    def route(
        self, method: str, path: str, handler: Handler | None = None
    ) -> Route | Decorator:
        """Register ``handler`` for ``method`` and ``path``.

        Without a handler it is a decorator: ``@router.route("GET", "/x")``.

        Args:
            method: a ``Method`` or the name of another one.
            path: ``/`` and segments; ``{name}`` is a parameter, perhaps with text
                around it in its segment, ``{*rest}`` at the end takes everything.
            handler: takes nothing, the request, path parameters by name, or both.

        Raises:
            RouteConflictError: another route matches the same requests.
            ConfigError: the method, path or handler cannot work.
        """
        if handler is None:

            def register(function: H, /) -> H:
                self._register(method, path, function)
                return function

            return register
        return self._register(method, path, handler)

    @overload
    def route_with_tsr(self, method: str, path: str) -> Decorator: ...
    @overload
    def route_with_tsr(self, method: str, path: str, handler: Handler) -> Route: ...
    def route_with_tsr(
        self, method: str, path: str, handler: Handler | None = None
    ) -> Route | Decorator:
        """Register as ``route`` does, and redirect from the path with the other ending.

        A request for the path with slashes at its end that it does not have, or without
        the one that it has, is answered with 308.

        Raises:
            ConfigError: the path is ``/``, or as ``route``.
        """
        if join(self._prefix, path) == "/":
            msg = "Cannot route with TSR for root path"
            raise ConfigError(msg)
        if handler is None:

            def register(function: H, /) -> H:
                self._register(method, path, function, tsr=True)
                return function

            return register
        return self._register(method, path, handler, tsr=True)

    @overload
    def get(self, path: str) -> Decorator: ...
    @overload
    def get(self, path: str, handler: Handler) -> Route: ...
    def get(self, path: str, handler: Handler | None = None) -> Route | Decorator:
        """Register a handler for GET, and for HEAD where that has none."""
        return self._verb(Method.GET, path, handler)

    @overload
    def post(self, path: str) -> Decorator: ...
    @overload
    def post(self, path: str, handler: Handler) -> Route: ...
    def post(self, path: str, handler: Handler | None = None) -> Route | Decorator:
        """Register a handler for POST."""
        return self._verb(Method.POST, path, handler)

    @overload
    def put(self, path: str) -> Decorator: ...
    @overload
    def put(self, path: str, handler: Handler) -> Route: ...
    def put(self, path: str, handler: Handler | None = None) -> Route | Decorator:
        """Register a handler for PUT."""
        return self._verb(Method.PUT, path, handler)

    @overload
    def delete(self, path: str) -> Decorator: ...
    @overload
    def delete(self, path: str, handler: Handler) -> Route: ...
    def delete(self, path: str, handler: Handler | None = None) -> Route | Decorator:
        """Register a handler for DELETE."""
        return self._verb(Method.DELETE, path, handler)

    @overload
    def patch(self, path: str) -> Decorator: ...
    @overload
    def patch(self, path: str, handler: Handler) -> Route: ...
    def patch(self, path: str, handler: Handler | None = None) -> Route | Decorator:
        """Register a handler for PATCH."""
        return self._verb(Method.PATCH, path, handler)

    @overload
    def head(self, path: str) -> Decorator: ...
    @overload
    def head(self, path: str, handler: Handler) -> Route: ...
    def head(self, path: str, handler: Handler | None = None) -> Route | Decorator:
        """Register a handler for HEAD alone."""
        return self._verb(Method.HEAD, path, handler)

    @overload
    def options(self, path: str) -> Decorator: ...
    @overload
    def options(self, path: str, handler: Handler) -> Route: ...
    def options(self, path: str, handler: Handler | None = None) -> Route | Decorator:
        """Register a handler for OPTIONS."""
        return self._verb(Method.OPTIONS, path, handler)

    @contextmanager
    def _prefixed(self, prefix: str) -> Generator[Self, None, None]:
        before = self._prefix
        self._prefix = before + normal_prefix(prefix)
        try:
            yield self
        finally:
            self._prefix = before

    def _verb(
        self, method: Method, path: str, handler: Handler | None
    ) -> Route | Decorator:
        if handler is None:
            return self.route(method, path)
        return self.route(method, path, handler)

    def _register(
        self, method: str, path: str, handler: Handler, *, tsr: bool = False
    ) -> Route:
        app = bool(getattr(handler, MOUNT, False))
        pattern = parse_path(join(self._prefix, path, mount=app))
        last = pattern.segments[-1]
        mount = app and (last.catch_all or last == EMPTY)
        call = bind_handler(handler, pattern.names)
        states = (self._state,)
        route = Route(
            checked_method(method), pattern, call, states, tsr=tsr, mount=mount
        )
        self._check(route, "Failed to register route")
        self._add(route)
        return route

    def _check(self, route: Route, failed: str) -> None:
        """Raise RouteConflictError if ``route`` cannot be added."""
        table = self._tables.get(route.method)
        other = table.conflict(route.pattern) if table is not None else None
        if other is not None:
            msg = (
                f"{failed}: {route.method} {route.path} conflicts with"
                f" {other.method} {other.path}"
            )
            raise RouteConflictError(msg)

    def _add(self, route: Route) -> None:
        table = self._tables.get(route.method)
        if table is None:
            table = self._tables[route.method] = PathTable()
        table.add(route.pattern, route, mounted=route.mount)
        self._routes.append(route)
