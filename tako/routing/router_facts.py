"""``RouterFacts``: what a dispatch does until it is known what answers.

Compiled where ``TAKO_COMPILE`` says so: it runs for each request. What it is about, and
its documentation, is in ``Router``.
"""

# pyright: reportPrivateUsage=false

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

from tako.http.compiling import mypyc_attr
from tako.http.request_facts import matched
from tako.http.response import Response
from tako.routing.middleware import Innermost
from tako.routing.path_table import PathTable, named


if TYPE_CHECKING:
    from tako.http.request import Request
    from tako.http.request_facts import RequestFacts
    from tako.http.state import TypeMap
    from tako.routing.middleware import Middleware
    from tako.routing.route_facts import Answer, RouteFacts

_NO_PARAMS: Final[Mapping[str, str]] = {}
_OTHER_VERSION: Final = Innermost(lambda _: Response(505))


@mypyc_attr(allow_interpreted_subclasses=True)
class RouterFacts:
    """The base of ``Router``."""

    __slots__ = (
        "_amends",
        "_auto_head",
        "_middlewares",
        "_missed",
        "_pending",
        "_seconds",
        "_states",
        "_tables",
    )

    def __init__(self, auto_head: bool, states: "tuple[TypeMap, ...]") -> None:
        """Begin without a route."""
        self._auto_head = auto_head
        self._states: tuple[TypeMap, ...] = states
        self._tables: dict[str, PathTable[Any]] = {}  # of ``Route``, by method
        self._middlewares: tuple[Middleware, ...] = ()
        self._seconds: float | None = None
        self._missed: Answer | None = None
        self._pending: list[Any] = []  # ``Plugin``
        self._amends = False  # some responses are passed through a function, last

    def prepare(self) -> None:
        """Set the plugins up; see ``Router``."""
        raise NotImplementedError

    def _build_missed(self) -> "Answer":
        """Return, and keep, what answers where no route matches."""
        raise NotImplementedError

    def _dispatch(
        self, run: "Answer", limit: float | None, request: "Request", timer: Any
    ) -> "Coroutine[Any, Any, Response]":
        """Do what there is to do around ``run``."""
        raise NotImplementedError

    def _begin(
        self, request: "Request", timer: object
    ) -> "Coroutine[Any, Any, Response]":
        """Return the response to ``request``; see ``Router.dispatch``."""
        # A call of a method from here would look for one of a subclass: few are
        facts: RequestFacts = request
        if self._pending:
            self.prepare()
        found = find_route(self, facts.method, facts.path)
        limit = self._seconds
        if found is None:
            facts.states = self._states
            run = self._missed or self._build_missed()
        else:
            route: RouteFacts = found[0]
            names = route.names
            params = named(names, found[1]) if names else _NO_PARAMS
            matched(facts, route.path, params, route.states)
            sender = route.sender
            if (
                sender is not None
                and timer is not None
                # What the route answers is returned as it is, whenever it is
                and not route.middlewares
                and route.seconds is None
                and not self._middlewares
                and limit is None
                and not self._amends
            ):
                run = sender
            else:
                run = route.built or route.chain(self._middlewares)
            limit = route.seconds or limit
            version = route.http_version
            if version is not None and version != facts.http_version:
                run, limit = _OTHER_VERSION, None  # RFC 9110 §15.6.6
        if limit is None and not self._amends:
            return run(request)  # not awaited here: a level less for most requests
        return self._dispatch(run, limit, request, timer)


# A function, not a method: a call of a method would look for one of a subclass
def find_route(
    router: RouterFacts, method: str, path: str
) -> tuple[Any, list[str]] | None:
    """Return the ``Route`` for a path and the values of its parameters."""
    table = router._tables.get(method)
    found = table.find(path) if table is not None else None
    if found is None and method == "HEAD" and router._auto_head:
        # RFC 9110 §9.3.2: HEAD is GET without the content
        return find_route(router, "GET", path)
    return found
