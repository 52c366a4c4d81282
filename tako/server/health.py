"""``answer_probes``: says at one path whether a server is well.

For whatever decides where requests go: a balancer, a container's supervisor. It is a
guard, as those in ``guards``, and the first of them: a probe is answered whatever its
host, with or without TLS, and no app, middleware or access log sees it.
"""

from collections.abc import Awaitable, Callable

from tako.http.request import Request
from tako.http.response import Response
from tako.server.pipeline import Dispatch


_METHODS = ("GET", "HEAD")


def answer_probes(
    path: str, trouble: Callable[[], str | None], dispatch: Dispatch, request: Request
) -> Awaitable[Response]:
    """Answer a probe; dispatch all else. No coroutine: requests do not pay for one.

    Args:
        path: of probes, as it is received; a query makes no difference.
        trouble: returns why requests had better go elsewhere; ``None``: all is well.
        dispatch: what comes after this guard.
        request: the request.
    """
    if request.path != path:
        return dispatch(request)
    return _answer(request.method, trouble)


async def _answer(method: str, trouble: Callable[[], str | None]) -> Response:
    headers = {"cache-control": "no-store"}
    if method not in _METHODS:  # RFC 9110 §15.5.6
        headers["allow"] = ", ".join(_METHODS)
        return Response(405, headers, body="Method Not Allowed\n")
    reason = trouble()
    if reason is None:
        return Response(200, headers, body="ok\n")
    # RFC 9110 §15.6.4: for now; nothing tells for how long
    return Response(503, headers, body=f"{reason}\n")
