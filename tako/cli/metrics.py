"""``--metrics-bind``: a small service of its own, beside what is served.

It is not counted itself and has no access log. Of several workers each serves it, on
sockets that they share, and each answers for all.
"""

from typing import TYPE_CHECKING

from tako.cli.worker import Worker
from tako.config import ServerConfig
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.router import Router
from tako.runtime import ServerRuntime
from tako.server.listener import Listener
from tako.server.service import Endpoint, Service


if TYPE_CHECKING:
    from collections.abc import Callable

    from tako.metrics.snapshot import Snapshot


_PATH = "/metrics"
_CONFIG = ServerConfig(
    max_connections=64, header_read_timeout=10, keep_alive_timeout=75
)


def metrics_service(
    runtime: ServerRuntime, listener: Listener, worker: Worker | None
) -> Service:
    """Return what serves metrics, on a runtime whose end ends it."""
    from tako.metrics import exposition
    from tako.metrics.snapshot import taken

    source: Callable[[], Snapshot] = taken if worker is None else worker.metrics

    async def answer(request: Request) -> Response:
        body, kind = exposition(request.headers.get("accept") or "", source)
        headers = {"content-type": kind, "cache-control": "no-store"}
        return Response(200, headers, body=body)

    router = Router()
    router.get(_PATH, answer)
    return Service(runtime, listener, router, Endpoint(aside=True), _CONFIG)
