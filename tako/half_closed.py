"""``HalfClosed``: what becomes of the answers to a peer that has sent FIN.

Theory of operation. A peer that half-closed and reads on (RFC 9112 §9.6 lets it) and
one that went away look the same until something is written to them. So an answer that
has begun and then says nothing for ``_SILENCE`` seconds is taken to have no reader, and
given up; one that has not begun is waited for, and one that moves goes on.
"""

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from tako.request import Request
from tako.seams import Host


_SILENCE = 0.5  # seconds


class Answered(Protocol):
    """The exchanges that are watched."""

    request: Request

    @property
    def head_sent(self) -> bool:
        """The answer has begun."""
        ...


Exchange = TypeVar("Exchange", bound=Answered)


class HalfClosed(Generic[Exchange]):
    """The watch over one connection, from the peer's FIN to the last answer."""

    __slots__ = ("_deadline", "_exchanges", "_give_up", "_host", "_sent")

    def __init__(
        self,
        host: Host,
        exchanges: Callable[[], Iterable[Exchange]],
        give_up: Callable[[Exchange], None],
    ) -> None:
        """Watch nothing yet.

        Args:
            host: the connection.
            exchanges: returns those that are not answered in full.
            give_up: ends one as if its peer had reset it.
        """
        self._host = host
        self._exchanges = exchanges
        self._give_up = give_up
        self._sent: dict[Exchange, int] = {}
        self._deadline = host.deadlines.new(self._look)

    def start(self) -> None:
        """The peer's FIN is here."""
        self._sent = {each: each.request.bytes_sent for each in self._exchanges()}
        if self._sent:
            self._deadline.set(self._host.time() + _SILENCE)

    def _look(self) -> None:
        if self._host.writable:  # else there is a reader, or ``send_timeout`` decides
            for exchange in list(self._exchanges()):
                silent = exchange.request.bytes_sent == self._sent.get(exchange)
                if exchange.head_sent and silent:
                    self._give_up(exchange)
        self.start()
        self._host.flush()
