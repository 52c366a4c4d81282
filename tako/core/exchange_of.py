"""``exchange_of``: from a request to the exchange that carries it."""

from typing import TYPE_CHECKING, cast

from tako.core.seams import Exchange
from tako.http.request import Request


if TYPE_CHECKING:
    from tako.http.request_facts import RequestFacts


def exchange_of(request: Request) -> Exchange | None:
    """Return the exchange of ``request``.

    ``None`` without a connection (``Request.build``, an app hosted by another server),
    and once the exchange is over and its handler has ended.
    """
    facts: RequestFacts = request
    # ``http`` is below ``core``: it types only what a request needs of an exchange
    return cast("Exchange | None", facts.exchange)
