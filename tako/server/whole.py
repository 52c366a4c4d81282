"""``send_whole``: the response that leaves at once, as most do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tako.core.seams import PIECE, Exchange
from tako.core.upgrade import UpgradeResponse
from tako.http.headers import RawHeader
from tako.http.response_facts import ResponseFacts, fields_of
from tako.http.response_fields import WITHOUT_BODY


if TYPE_CHECKING:
    from tako.http.request_facts import RequestFacts


_UPGRADE: Final[type] = UpgradeResponse  # compiled code would look the name up


def send_at_once(exchange: Exchange, response: ResponseFacts) -> bool:
    """Do what ``send_whole`` does, but with a response that carries an upgrade.

    Raises: as ``send_whole``.
    """
    if isinstance(response, _UPGRADE):
        return False
    return send_whole(exchange, response.status, fields_of(response), response.body)


def call_back(exchange: Exchange, status: int, complete: bool) -> None:
    """Tell what ``Request.on_end`` was given that the answer has ended, once."""
    callbacks = exchange.end_callbacks
    if callbacks:
        exchange.end_callbacks = ()
        for callback in callbacks:
            callback(status, complete)


def send_whole(
    exchange: Exchange, status: int, headers: Sequence[RawHeader], body: object
) -> bool:
    """Send a response if it needs no rule of its own and no wait; tell whether it did.

    If not, it is ``pipeline.send_response`` that sends it: nothing is done.

    Raises:
        LocalProtocolError: the response contradicts itself.
    """
    request: RequestFacts = exchange.request
    if (
        not isinstance(body, bytes)
        or (len(body) > PIECE and not _leaves_at_once(exchange, len(body)))
        or status < 200
        or (status > 200 and status in WITHOUT_BODY)
        or request.method == "HEAD"
        or (status >= 400 and exchange.error_delay)
    ):
        return False
    exchange.send_response(status, headers, body)
    exchange.bytes_sent = len(body)  # there were none before
    if len(body) > PIECE:
        exchange.flush()  # now: with its head, where the transport can do that
    exchange.body.discard()
    return True


def _leaves_at_once(exchange: Exchange, size: int) -> bool:
    return size <= exchange.at_once and exchange.writable
