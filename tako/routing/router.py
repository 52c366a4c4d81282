"""``Router``: one ``dispatch`` for every request on every transport.

Theory of operation. Each method has a path table. ``dispatch`` looks the route up, or
else decides between a redirect, 405, the fallback, 404 and 501; runs the chain of
middlewares around that; and passes an error to the error handlers. A route's chain is
built when it is first needed and dropped when a middleware is added.

Invariants: a route object belongs to one router (``nest`` and ``merge`` copy);
``dispatch`` raises no ``Exception`` because of a request, a handler or a middleware.
"""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NoReturn, Protocol, Self, TypeAlias, TypeVar, cast, overload

from tako.config import Duration, seconds
from tako.errors import ConfigError, RouteConflictError
from tako.http import grammar
from tako.http.conn_info import prefix_of
from tako.http.method import Method
from tako.http.problem import default_problem_responder
from tako.http.request import Request
from tako.http.response import Response, into_response
from tako.http.state import TypeMap
from tako.routing.middleware import (
    Innermost,
    IntoMiddleware,
    Middleware,
    Next,
    as_middleware,
    chain,
    failure_response,
)
from tako.routing.path_table import (
    EMPTY,
    PathTable,
    join,
    normal_prefix,
    parse_path,
)
from tako.routing.route import Decorator, Route, Verb
from tako.routing.route_facts import Answer
from tako.routing.router_facts import RouterFacts, find_route
from tako.routing.signature import MOUNT, Handler, bind_handler


H = TypeVar("H", bound=Handler)
T = TypeVar("T")

ErrorHandler: TypeAlias = Callable[[Response], Response | Awaitable[Response]]

_ORDER = {str(method): i for i, method in enumerate(Method)}
_TIMED_OUT = Innermost(lambda _: Response(408))


class TimeLimit(Protocol):
    """What ``dispatch`` needs of a runtime where a route or router has a timeout."""

    async def run_within(
        self, seconds: float, function: Callable[..., Awaitable[T]], *args: object
    ) -> T:
        """Return ``await function(*args)``; cancel it after ``seconds``.

        Raises:
            TimeoutError: the time is over.
        """
        ...


class Plugin(Protocol):
    """A named bundle of routes, middleware and state."""

    name: str

    def setup(self, router: "Router") -> None:
        """Register on ``router``; called once, before it serves."""
        ...


class Router(RouterFacts):
    """Sends each request to the handler for its method and path.

    Args:
        auto_head: answer HEAD with the GET route where HEAD has no route of its own.

    Example::

        router = Router()

        @router.get("/hello/{name}")
        async def hello(name: str) -> str:
            return f"Hello, {name}!"
    """

    def __init__(self, *, auto_head: bool = True) -> None:
        self._state = TypeMap()
        super().__init__(auto_head, (self._state,))
        self._routes: list[Route] = []
        self._prefix = ""  # of the scopes around what is registered now
        self._fallback: Next = Innermost(self._answer_unrouted)
        self._timeout_fallback: Next = _TIMED_OUT
        self._error_handler: ErrorHandler | None = None
        self._client_error_handler: ErrorHandler | None = None
        self._plugins: dict[str, Plugin] = {}

    # Registration

    @property
    def routes(self) -> tuple[Route, ...]:
        """All routes, in the order of registration."""
        return tuple(self._routes)

    @overload
    def route(
        self, method: str, path: str, *, redirect_slashes: bool = False
    ) -> Decorator: ...
    @overload
    def route(
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        redirect_slashes: bool = False,
    ) -> Route: ...
    def route(
        self,
        method: str,
        path: str,
        handler: Handler | None = None,
        *,
        redirect_slashes: bool = False,
    ) -> Route | Decorator:
        """Register ``handler`` for ``method`` and ``path``.

        Without a handler it is a decorator: ``@router.route("GET", "/x")``.

        Args:
            method: a ``Method`` or the name of another one.
            path: ``/`` and segments; ``{name}`` is a parameter, perhaps with text
                around it in its segment, ``{*rest}`` at the end takes everything.
            handler: takes nothing, the request, path parameters by name, or both.
            redirect_slashes: answer with 308 a request for the path with slashes at
                its end that it does not have, or without the one that it has.

        Raises:
            RouteConflictError: another route matches the same requests.
            ConfigError: the method, path or handler cannot work, or the slashes of the
                path ``/`` are to be redirected.
        """
        if redirect_slashes and join(self._prefix, path) == "/":
            msg = "redirect_slashes: the root path has no other ending"
            raise ConfigError(msg)
        if handler is None:

            def register(function: H, /) -> H:
                self._register(method, path, function, redirect_slashes)
                return function

            return register
        return self._register(method, path, handler, redirect_slashes)

    def _verb(self, method: Method) -> Verb:
        return cast("Verb", partial(self.route, method))

    @property
    def get(self) -> Verb:
        """Register a handler for GET, and for HEAD where it has none; see ``route``."""
        return self._verb(Method.GET)

    @property
    def post(self) -> Verb:
        """Register a handler for POST; see ``route``."""
        return self._verb(Method.POST)

    @property
    def put(self) -> Verb:
        """Register a handler for PUT; see ``route``."""
        return self._verb(Method.PUT)

    @property
    def delete(self) -> Verb:
        """Register a handler for DELETE; see ``route``."""
        return self._verb(Method.DELETE)

    @property
    def patch(self) -> Verb:
        """Register a handler for PATCH; see ``route``."""
        return self._verb(Method.PATCH)

    @property
    def head(self) -> Verb:
        """Register a handler for HEAD alone; see ``route``."""
        return self._verb(Method.HEAD)

    @property
    def options(self) -> Verb:
        """Register a handler for OPTIONS; see ``route``."""
        return self._verb(Method.OPTIONS)

    def _register(
        self, method: str, path: str, handler: Handler, redirect_slashes: bool
    ) -> Route:
        app = bool(getattr(handler, MOUNT, False))
        pattern = parse_path(join(self._prefix, path, mount=app))
        last = pattern.segments[-1]
        route = Route(
            _checked_method(method),
            pattern,
            bind_handler(handler, pattern.names),
            self._states,
            redirect_slashes=redirect_slashes,
            mount=app and (last.catch_all or last == EMPTY),
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

    # Composition

    @overload
    def scope(self, prefix: str) -> AbstractContextManager[Self]: ...
    @overload
    def scope(self, prefix: str, build: Callable[[Self], object]) -> None: ...
    def scope(
        self, prefix: str, build: Callable[[Self], object] | None = None
    ) -> AbstractContextManager[Self] | None:
        """Put a prefix before every path that ``build(router)`` registers.

        Without ``build`` it is a context manager: ``with router.scope("/api"):``. In a
        scope ``"/"`` is the bare prefix.
        """
        prefixed = self._prefixed(prefix)
        if build is None:
            return prefixed
        with prefixed:
            build(self)
        return None

    @contextmanager
    def _prefixed(self, prefix: str) -> Generator[Self, None, None]:
        before = self._prefix
        self._prefix = before + normal_prefix(prefix)
        try:
            yield self
        finally:
            self._prefix = before

    def nest(self, prefix: str, child: "Router") -> Self:
        """Copy the routes of ``child`` below ``prefix``, with its middleware and state.

        The child's fallback, timeout and error handlers are not copied, and what is
        registered on it later is not either. Handlers see the full path.

        Raises:
            RouteConflictError: two routes match the same requests; none is copied.
        """
        prefix = self._prefix + normal_prefix(prefix)
        self._add_copies(child._copies(prefix, self._state), "Failed to nest route")
        return self

    def merge(self, other: "Router") -> None:
        """Copy the routes of ``other``, with its middleware and state.

        Raises:
            RouteConflictError: two routes match the same requests; none is copied.
        """
        self._add_copies(
            other._copies(self._prefix, self._state),
            "Failed to merge route {0.path!r} (method {0.method})",
        )

    def _copies(self, prefix: str, state: TypeMap) -> list[Route]:
        """Return copies of the routes, those of plugins too; see ``Route.copy``."""
        self.prepare()
        return [route.copy(prefix, self._middlewares, state) for route in self._routes]

    def _add_copies(self, copies: list[Route], failed: str) -> None:
        for copy in copies:
            self._check(copy, failed.format(copy))
        for copy in copies:
            self._add(copy)

    def middleware(self, mw: Middleware | IntoMiddleware) -> Self:
        """Run ``mw`` around every answer, inside what was added before.

        Raises:
            TypeError: ``mw`` is not a middleware.
        """
        self._middlewares += (as_middleware(mw),)
        self._missed = None
        for route in self._routes:
            route.forget_chain()
        return self

    def plugin(self, plugin: Plugin) -> Self:
        """Set ``plugin`` up before the router serves; a second time does nothing.

        Raises:
            ConfigError: the router has another plugin of that name.
        """
        known = self._plugins.get(plugin.name)
        if known is None:
            self._plugins[plugin.name] = plugin
            self._pending.append(plugin)
        elif known is not plugin:
            msg = f"there is another plugin named {plugin.name!r}"
            raise ConfigError(msg)
        return self

    def prepare(self) -> None:
        """Set the plugins up, in order; servers call it before they accept connections.

        A plugin that fails stays pending: the router never serves without it.

        Raises:
            Exception: whatever a plugin's ``setup`` raises.
        """
        while self._pending:
            self._pending[0].setup(self)
            del self._pending[0]

    # Answers other than a handler's

    def fallback(self, handler: Handler) -> Self:
        """Answer with ``handler`` where no method has a route for the path.

        Raises:
            ConfigError: ``handler`` takes more than the request.
        """
        self._fallback = Innermost(bind_handler(handler, ()))
        return self

    def timeout(self, duration: Duration) -> Self:
        """Limit the time to a response, for routes without a timeout of their own.

        Raises:
            ConfigError: ``duration`` is not positive.
        """
        self._seconds = seconds(duration, "timeout")
        return self

    def timeout_fallback(self, handler: Handler) -> Self:
        """Answer with ``handler``, instead of an empty 408, when the time is over.

        Raises:
            ConfigError: ``handler`` takes more than the request.
        """
        self._timeout_fallback = Innermost(bind_handler(handler, ()))
        return self

    def error_handler(self, function: ErrorHandler) -> Self:
        """Pass every 5xx response through ``function``, last of all."""
        self._error_handler = function
        self._amends = True
        return self

    def client_error_handler(self, function: ErrorHandler) -> Self:
        """Pass every 4xx response through ``function``, last of all."""
        self._client_error_handler = function
        self._amends = True
        return self

    def use_problem_json(self) -> Self:
        """Give errors a body in ``application/problem+json`` (RFC 9457)."""
        self._error_handler = default_problem_responder
        self._client_error_handler = default_problem_responder
        self._amends = True
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: ``merge`` and ``nest`` copy routes."""
        msg = "a Router is not copied or pickled: merge it into a new one"
        raise TypeError(msg)

    # State

    def with_state(self, value: object, *, key: type | None = None) -> Self:
        """Store ``value``, which ``request.state`` finds under ``key`` or its own type.

        Requests to routes nested from another router find that router's state first.
        """
        self._state.insert(value, key=key)
        return self

    # Dispatch

    def dispatch(
        self, request: Request, *, timer: TimeLimit | None = None
    ) -> Coroutine[Any, Any, Response]:
        """Return the response to ``request``.

        Args:
            request: it gets its path parameters and state from the route found.
            timer: limits the time; needed where a timeout is set. Servers give it:
                to them the response of an ASGI app may be one that was sent already.

        Raises:
            RuntimeError: a timeout is set and there is no ``timer``.

        Cancel safety: that of the handler and middleware.
        """
        return self._begin(request, timer)

    async def _dispatch(
        self,
        run: Answer,
        limit: float | None,
        request: Request,
        timer: TimeLimit | None,
    ) -> Response:
        """Do what ``dispatch`` does once it is known what answers."""
        if limit is None:
            response = await run(request)
        else:
            response = await self._run_within(limit, run, request, timer)
        if response.status >= 400:
            return await self._amended(request, response)
        return response

    async def _run_within(
        self, limit: float, run: Answer, request: Request, timer: TimeLimit | None
    ) -> Response:
        if timer is None:
            msg = "a timeout is set: dispatch(request, timer=...) needs a TimeLimit"
            raise RuntimeError(msg)
        try:
            return await timer.run_within(limit, run, request)
        except TimeoutError:
            return await self._timeout_fallback(request)

    async def _amended(self, request: Request, response: Response) -> Response:
        handler = self._client_error_handler
        if response.status >= 500:
            handler = self._error_handler
        if handler is None or response.status >= 600:
            return response
        try:
            result = handler(response)
            if not isinstance(result, Response):
                result = await result
            return into_response(result)
        except Exception as error:  # the answerer (see ``Next``), of error handlers
            return failure_response(request, error)

    # Where no route matches

    def _build_missed(self) -> Answer:
        answer = chain(self._middlewares, self._answer_missed).__call__
        self._missed = answer
        return answer

    async def _answer_missed(self, request: Request) -> Response:
        location = self._slash_location(request)
        if location is not None:
            return Response(308, {"location": location})
        allow = self._allowed(request.path)
        if allow:
            return Response(405, {"allow": ", ".join(allow)})  # RFC 9110 §15.5.6
        return await self._fallback(request)

    async def _answer_unrouted(self, request: Request) -> Response:
        """Answer for a path without a route, where there is no ``fallback``."""
        method = request.method
        known = method in self._tables or method in _ORDER
        # RFC 9110 §15.6.2: 501 to a method that is not supported for any resource
        return Response(404 if known else 501)

    def _slash_location(self, request: Request) -> str | None:
        """Return where a request that lacks, or has, a last slash is redirected to."""
        path = request.path
        other = path.rstrip("/") if path.endswith("/") else path + "/"
        found = find_route(self, request.method, other)
        # As Starlette's Mount: its app's index is at the slash, where links in it lead
        if found is None or not (found[0].redirect_slashes or found[0].mount):
            return None
        location = prefix_of(request.conn_info) + other
        if request.query:
            location = f"{location}?{request.query}"
        if location[1:2] in {"/", "\\"}:
            return None  # RFC 3986 §4.2: it would name another host
        return location if location.isascii() and location.isprintable() else None

    def _allowed(self, path: str) -> list[str]:
        """Return the methods that have a route for ``path``, in the order of Method."""
        allowed = [method for method, table in self._tables.items() if table.find(path)]
        if self._auto_head and "GET" in allowed and "HEAD" not in allowed:
            allowed.append("HEAD")
        return sorted(allowed, key=lambda method: _ORDER.get(method, len(_ORDER)))


def _checked_method(method: str) -> str:
    """Return ``method`` as a plain string.

    Raises:
        ConfigError: it is not a token, or a known method in the wrong case, which no
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
