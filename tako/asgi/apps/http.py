"""An ordinary request, answered by an ASGI app.

Theory of operation. Where nothing is between the app and the server that wants to see
the answer, the app runs in the exchange's task and writes to the wire itself
(``answer_directly``). In a router an answer is a ``Response``, for middlewares, error
handlers and timeouts to look at: ``HttpConversation`` makes one, with the app in a task
of its own. ``Direct`` and ``Handover`` say how.
"""

from tako.asgi.apps.conversation import Conversation, judged
from tako.asgi.apps.direct import Direct
from tako.asgi.apps.response_steps import KINDS
from tako.asgi.protocol import App, Scope
from tako.core.error_code import ErrorCode
from tako.core.on_fault import tell_of_fault
from tako.core.seams import Exchange
from tako.errors import LocalProtocolError
from tako.http.response import Response


_SENT = Response()  # in place of one that was sent: none looks at it


async def answer_directly(app: App, scope: Scope, exchange: Exchange) -> Response:
    """Have ``app`` answer ``exchange``, whose head is sent then.

    Raises:
        Exception: what the app raised before its answer was complete, or what is wrong
            with the answer; what was sent of it is cut off.

    Cancel safety: safe; the app is cancelled.
    """
    direct = Direct(exchange, KINDS, True)
    try:
        await app(scope, direct.receive, direct.send)
    except Exception as error:
        failure = judged(direct, error, scope, complete=direct.settled)
        if failure is not None:
            tell_of_fault(exchange.request, error)  # what is cut has ended
            direct.cut(ErrorCode.INTERNAL_ERROR)
            raise
    except BaseException as error:
        runtime = exchange.connection.runtime
        if isinstance(error, runtime.cancelled) and not runtime.cancelling():
            # It waited for something that was cancelled: an error as any other
            direct.cut(ErrorCode.INTERNAL_ERROR)
            msg = "the app was cancelled from within"
            raise RuntimeError(msg) from error
        direct.cut(ErrorCode.CANCEL)
        raise
    if direct.settled:
        return _SENT
    if direct.left:
        # One that only half-closed is told that there is no answer, or no more of it
        direct.cut(ErrorCode.CANCEL)
        exchange.reset(ErrorCode.CANCEL)
        return Response(499)  # for access logs only: the client is gone
    if not exchange.head_sent:
        msg = "the app ended without answering"
        raise RuntimeError(msg)
    direct.cut(ErrorCode.INTERNAL_ERROR)
    msg = "the app returned in the middle of its response"
    raise LocalProtocolError(msg)


class HttpConversation(Conversation):
    """One request, answered by a ``Response``."""

    __slots__ = ()

    async def run(self, app: App, scope: Scope) -> Response:
        """Call the app; return the response once it is known.

        Raises:
            Exception: what the app raised instead.

        Cancel safety: safe; the app is cancelled.
        """
        handover = self._handover
        await self._call(
            app, scope, handover.receive, handover.send, lambda: handover.decided
        )
        if handover.decided:
            return handover.response()
        return self._no_answer()
