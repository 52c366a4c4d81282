"""What servers and topics have counted, for Prometheus (extra ``metrics``).

Requests are counted from the import on. Under ``tako serve`` the option
``--metrics-bind`` serves the metrics of all workers.
"""

from tako.core.counters import PROCESS
from tako.http.request import Request
from tako.http.response import Response
from tako.metrics.prometheus import TakoCollector, exposition


__all__ = ["TakoCollector", "exposition", "respond"]

for _each in (TakoCollector, exposition):  # what users import them as
    _each.__module__ = __name__

PROCESS.time_requests()


def respond(request: Request) -> Response:
    """Answer with the metrics of this process: a handler.

    Example::

        router.get("/metrics", tako.metrics.respond)
    """
    body, kind = exposition(request.headers.get("accept") or "")
    return Response(200, {"content-type": kind, "cache-control": "no-store"}, body=body)
