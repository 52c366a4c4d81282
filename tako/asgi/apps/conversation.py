"""``Conversation``: one call of an ASGI app for one request, and who waits for whom.

Theory of operation. The app runs in a task of its own, beside the handler's task, which
waits for its decision and then for what it sends (see ``responding``). A client that
leaves does not cancel an app: ASGI tells it, by a disconnect event and by an
``OSError`` from ``send``. So the exchange's task is taken out of the engine's reach;
the handler's task ends, and frees its slot, when the app has understood.

The event comes when the client has ended its direction of the connection: hardly one
that does so is still there. But some read on, so ``send`` goes on until it is certain.

Invariants: the app's task is cancelled if the handler's task is; nothing that the app
raises is lost: the handler's task raises it, or it is logged here.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from tako.asgi.apps.responding import Responding
from tako.asgi.protocol import App, Event, Scope, is_farewell
from tako.core.error_code import ErrorCode
from tako.core.seams import Exchange
from tako.http.response import Response


if TYPE_CHECKING:
    from tako.core.loop import Task


_logger = logging.getLogger("tako.asgi")


class Conversation:
    """What HTTP and WebSocket conversations have in common."""

    __slots__ = ("_exchange", "_responding", "_task")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._responding = Responding(exchange)
        self._task: Task | None = None

    async def receive(self) -> Event:
        """Return the next event; what the app calls."""
        raise NotImplementedError

    async def send(self, event: Event) -> None:
        """Take an event; what the app calls."""
        raise NotImplementedError

    async def _call(self, app: App, scope: Scope, decided: Callable[[], bool]) -> None:
        """Start the app and wait for its decision, or its end.

        Cancel safety: safe; the app is cancelled.
        """
        exchange, responding = self._exchange, self._responding
        exchange.task = None
        body = exchange.body
        body.on_leave = responding.client_left
        body.on_disconnect = responding.client_gone
        if body.left:
            responding.client_left()
        if exchange.over:
            responding.client_gone()
        self._task = exchange.connection.runtime.spawn(self._run, app, scope)
        await self._until(lambda: decided() or responding.ended)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()``. Cancel safety: safe; the app is cancelled."""
        try:
            await self._responding.until(condition)
        except BaseException:
            if self._task is not None:
                self._task.cancel()
            raise

    async def _run(self, app: App, scope: Scope) -> None:
        """Run the app: the isolation boundary of its task."""
        failure: BaseException | None = None
        try:
            await app(scope, self.receive, self.send)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            failure = self._judged(error, str(scope["path"]))
        finally:
            self._responding.app_ended(failure)

    def _judged(self, error: BaseException, path: str) -> BaseException | None:
        """Return what is left to report of what the app raised."""
        if self._responding.left and is_farewell(error):
            _logger.debug("%s: the client left: %r", path, error)
            return None
        if self._responding.stage == "complete":
            # Cancelled at the end of a drain, or a bug in a background task.
            if isinstance(error, Exception):
                _logger.error("app failed after answering %s", path, exc_info=error)
            return None
        return error

    def _no_answer(self) -> Response:
        """Return the answer where the app has decided nothing, because the client left.

        Raises:
            Exception: what the app raised otherwise, or a ``RuntimeError`` that says
                what is missing.
        """
        error = self._responding.error
        if self._responding.left and error is None:
            # One that only half-closed is told that there is no answer
            self._exchange.reset(ErrorCode.CANCEL)
            return Response(499)  # for access logs only: the client is gone
        if isinstance(error, Exception):
            raise error
        msg = "the app ended without answering"
        raise RuntimeError(msg) from error
