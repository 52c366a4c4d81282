"""``AppFacts``: what an app holds, and what is done until it is called.

Compiled where ``TAKO_COMPILE`` says so: it runs for each request. What it is about, and
its documentation, is in ``AsgiApp``.
"""

from typing import TYPE_CHECKING, Any, Final

from tako.asgi.apps.http import answer_directly
from tako.asgi.protocol import App
from tako.asgi.scope import http_scope
from tako.core.exchange_of import exchange_of
from tako.http.compiling import mypyc_attr


if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tako.core.seams import Exchange
    from tako.http.request import Request
    from tako.http.request_facts import RequestFacts
    from tako.http.response import Response

_DIRECTLY: Final = answer_directly  # compiled code would look the name up


@mypyc_attr(allow_interpreted_subclasses=True)
class AppFacts:
    """The base of ``AsgiApp``."""

    __slots__ = ("_app", "_root_path", "_state", "_websockets")

    def __init__(self, app: App, root_path: str, websockets: bool) -> None:
        """Hold an app whose lifespan does not run yet."""
        self._app: App = app
        self._root_path = root_path
        self._websockets = websockets
        self._state: dict[str, Any] | None = None

    def _answer(self, request: "Request") -> "Coroutine[Any, Any, Response]":
        """Have the app answer a request; see ``AsgiApp.answer``."""
        facts: RequestFacts = request
        exchange = exchange_of(request)
        if exchange is None:
            raise unconnected()
        if facts.is_websocket and self._websockets:
            return self._websocket(request, exchange)
        scope = http_scope(facts, self._root_path, self._state)
        return _DIRECTLY(self._app, scope, exchange)

    def _websocket(
        self, request: "Request", exchange: "Exchange"
    ) -> "Coroutine[Any, Any, Response]":
        """Return the answer to a handshake; ``AsgiApp`` has it."""
        raise NotImplementedError


def unconnected() -> RuntimeError:
    """Return the error of a request that has no connection."""
    return RuntimeError("an ASGI app answers requests that came over a connection")
