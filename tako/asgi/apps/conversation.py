"""``Conversation``: an app in a task of its own, and who waits for whom.

Theory of operation. The app runs beside the handler's task, which waits for its
decision and then for what it sends (see ``handover``). The handler's task ends, and
frees its slot, when the app has understood that its client left.

Invariants: the app's task is cancelled if the handler's task is; nothing that the app
raises is lost: the handler's task raises it, or it is logged here.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from tako.asgi.apps.handover import Handover
from tako.asgi.apps.responding import Responding
from tako.asgi.apps.response_steps import KINDS, Kinds
from tako.asgi.protocol import App, Receive, Scope, Send, is_farewell
from tako.core.error_code import ErrorCode
from tako.core.seams import Exchange
from tako.http.response import Response


if TYPE_CHECKING:
    from tako.core.loop import Task


_logger = logging.getLogger("tako.asgi")


def judged(
    responding: Responding, error: BaseException, scope: Scope, *, complete: bool
) -> BaseException | None:
    """Return what is left to report of what the app raised; log the rest.

    Args:
        responding: its response.
        error: what it raised.
        scope: what it was called with.
        complete: it has answered.
    """
    if responding.left and is_farewell(error):
        _logger.debug("%s: the client left: %r", scope["path"], error)
        return None
    if complete:
        # Cancelled at the end of a drain, or a bug in a background task.
        if isinstance(error, Exception):
            _logger.error(
                "app failed after answering %s", scope["path"], exc_info=error
            )
        return None
    return error


class Conversation:
    """What HTTP and WebSocket conversations have in common."""

    __slots__ = ("_exchange", "_handover", "_task")

    def __init__(self, exchange: Exchange, kinds: Kinds = KINDS) -> None:
        self._exchange = exchange
        self._handover = Handover(exchange, kinds)
        self._task: Task | None = None

    async def _call(
        self,
        app: App,
        scope: Scope,
        receive: Receive,
        send: Send,
        decided: Callable[[], bool],
    ) -> None:
        """Start the app and wait for its decision, or its end.

        Cancel safety: safe; the app is cancelled.
        """
        handover = self._handover
        spawn = self._exchange.connection.runtime.spawn
        self._task = spawn(self._run, app, scope, receive, send)
        await self._until(lambda: decided() or handover.ended)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()``. Cancel safety: safe; the app is cancelled."""
        try:
            await self._handover.until(condition)
        except BaseException:
            self._cancel_app()
            raise

    def _cancel_app(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app: the isolation boundary of its task."""
        handover = self._handover
        failure: BaseException | None = None
        try:
            await app(scope, receive, send)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            complete = handover.stage == "complete"
            failure = judged(handover, error, scope, complete=complete)
        finally:
            handover.app_ended(failure)

    def _no_answer(self) -> Response:
        """Return the answer where the app has decided nothing, because the client left.

        Raises:
            Exception: what the app raised otherwise, or a ``RuntimeError`` that says
                what is missing.
        """
        error = self._handover.error
        if self._handover.left and error is None:
            # One that only half-closed is told that there is no answer
            self._exchange.reset(ErrorCode.CANCEL)
            return Response(499)  # for access logs only: the client is gone
        if isinstance(error, Exception):
            raise error
        msg = "the app ended without answering"
        raise RuntimeError(msg) from error
