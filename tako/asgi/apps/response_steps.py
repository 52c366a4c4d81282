"""``ResponseSteps``: what an app's events mean, as far as nothing has to be waited for.

Compiled where ``TAKO_COMPILE`` says so: it runs for each event of each app. All of a
usual answer is in here; ``Responding`` has the rest, and says what it is about.
"""

# pyright: reportPrivateUsage=false

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tako.asgi.apps.file_events import is_file
from tako.asgi.fields import checked_fields
from tako.asgi.protocol import ClientDisconnectedError, Event, EventError, unexpected
from tako.core.callbacks import Uncancelled
from tako.core.loop import Signal, Task
from tako.core.seams import Exchange
from tako.errors import Disconnected
from tako.http.compiling import mypyc_attr
from tako.http.grammar import has_token
from tako.http.headers import Headers
from tako.server.whole import call_back, send_whole


if TYPE_CHECKING:
    from tako.http.request_facts import RequestFacts
    from tako.http.response_fields import Fields

Stage: TypeAlias = Literal["start", "body", "trailers", "complete"]


class Kinds:
    """The type of the event that is due in each stage."""

    __slots__ = ("body", "start", "trailers")

    def __init__(self, prefix: str) -> None:
        """Have types that begin with ``prefix``."""
        self.start: str = prefix + "start"
        self.body: str = prefix + "body"
        self.trailers: str = prefix + "trailers"

    def due(self, stage: Stage) -> str | None:
        """Return the type that is due; ``None``: the answer is complete."""
        if stage == "start":
            return self.start
        if stage == "body":
            return self.body
        return self.trailers if stage == "trailers" else None


KINDS: Final = Kinds("http.response.")
_HINT: Final = "http.response.early_hint"

# To be copied, as the scopes are
_NO_BODY: Final[dict[str, Any]] = {
    "type": "http.request",
    "body": b"",
    "more_body": False,
}

# A task is not cancelled if its client leaves: ASGI has an event for that
_KEPT: Final[Task] = Uncancelled()


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseSteps:
    """The base of ``Responding``."""

    __slots__ = (
        "_at_once",
        "_begun",
        "_checkpoint",
        "_kinds",
        "_read",
        "_request_body",
        "_sending",
        "_took",
        "changed",
        "exchange",
        "fields",
        "gone",
        "in_parts",
        "reading",
        "settled",
        "stage",
        "status",
        "trailer_fields",
        "unwanted",
    )

    def __init__(
        self, exchange: Exchange, kinds: Kinds = KINDS, at_once: bool = False
    ) -> None:
        """Expect a response.

        Args:
            exchange: the request.
            kinds: the types of the events.
            at_once: the app runs in the exchange's task, and ``send`` writes.
        """
        self.exchange: Exchange = exchange
        self._kinds = kinds
        self.status: int = 0
        self.fields: Fields = ()
        self.trailer_fields: Headers | None = None  # the response's, if it has any
        body = self._request_body = exchange.body
        self._checkpoint = body.runtime.checkpoint
        request: RequestFacts = exchange.request
        # The length of an answer to HEAD is the one that the app says
        self.in_parts: bool = request.method == "HEAD"  # whatever it says
        self._begun = False  # the head was passed on, and parts follow
        self._sending = False  # a chunk is on its way
        self._took = False  # the event that was sent last, at once
        self._read = False  # the request's body, to its end
        self.changed: Signal | None = None
        """Set when one of the attributes below changes; made when first needed."""
        self.stage: Stage = "start"
        """What the app has to send next."""
        self.gone: bool = False
        """Nothing can be sent to the client any more."""
        self.unwanted: bool = False
        """The rest of the body is dropped."""
        self.reading: int = 0
        """How many tasks of the app wait for the request's body."""
        self.settled: bool = False
        """The answer was written at once, and the exchange has ended."""
        self._at_once = at_once
        exchange.task = _KEPT if at_once else None
        body.watcher = self
        if exchange.over:
            self.client_gone()

    def readers(self, more: int) -> None:
        """Note that so many tasks more, or less, wait for the request's body."""
        self.reading += more

    def change(self) -> Signal:
        """Return ``changed``, made if need be."""
        if self.changed is None:
            self.changed = self.exchange.connection.runtime.signal()
        return self.changed

    # What the app calls ------------------------------------------------------------

    def _takes(self, event: Event) -> bool:
        """Take an event if that can be done without waiting; tell whether that is all.

        If not, ``_took`` tells whether it was: then others are to have their turn.
        """
        taken = self._took = _take(self, event)
        return taken and self._checkpoint is None

    def _ready(self) -> Event | None:
        """Return the request's body where there is none, as usual; ``None``: wait."""
        if self._read or self.stage == "complete":
            return None
        if not self._request_body.exhausted:
            return None
        self._read = True
        return _NO_BODY.copy()

    def _hand_over(self, data: bytes) -> None:
        """Pass on a response with its body, to who sends it."""
        raise NotImplementedError

    def _pass_end(self, trailers: Headers | None) -> None:
        """End a response that was passed on in parts."""
        raise NotImplementedError

    def _may_hint(self) -> bool:
        return self._kinds is KINDS and self.stage in {"start", "body"}

    def _hint(self, event: Event) -> None:
        """Send an early hint (RFC 8297), which is dropped if it is of no use any more.

        That is so once the head has been passed on, or where the client does not read.
        """
        links = checked_fields([(b"link", link) for link in event["links"]])
        exchange = self.exchange
        late = self._begun or exchange.head_sent or exchange.request.is_websocket
        if not late and exchange.writable:
            exchange.send_headers(103, links)
            exchange.flush()

    def _trailers(self, event: Event) -> None:
        fields = checked_fields(of_event(event, "headers", ()))
        # ASGI: they are for clients that say so (RFC 9110 §6.5.1)
        te = self.exchange.request.headers.get_all_raw(b"te")
        if self.trailer_fields is not None and has_token(te, b"trailers"):
            self.trailer_fields.raw += fields
        if not of_event(event, "more_trailers"):
            self._end()

    def _end(self) -> None:
        enter(self, "complete")
        self._pass_end(self.trailer_fields)
        completed(self)

    # What the client does ----------------------------------------------------------

    @property
    def left(self) -> bool:
        """The client will send nothing more; it may still read."""
        return self.gone or self._request_body.left

    def client_left(self) -> None:
        """Look again: ``left`` has become true."""
        self.wake()

    def client_gone(self) -> None:
        """Nothing can be sent any more."""
        self.gone = True
        self.wake()

    def wake(self) -> None:
        """Look again at what is waited for."""
        if self.changed is not None:
            self.changed.set()


# Functions, not methods: each call of a method would look for one of a subclass


def _take(self: ResponseSteps, event: Event) -> bool:
    """Take an event if that can be done without waiting; tell whether it was.

    If not, it is a part of a body or, where *complete* was entered, all of one.
    """
    if self.gone:
        msg = "the client is gone"
        raise ClientDisconnectedError(msg)
    stage = self.stage
    due = self._kinds.due(stage)
    if event["type"] != due:
        if event["type"] == _HINT and self._may_hint():
            self._hint(event)
            return True
        if stage == "body" and self._kinds is KINDS and is_file(event):
            return False
        raise unexpected(event, due or "nothing more")
    if stage == "start":
        _start(self, event)
    elif stage == "trailers":
        self._trailers(event)
    elif self._begun or self.in_parts or of_event(event, "more_body"):
        return False
    else:
        enter(self, "complete")
        data = data_of(event)
        if self._at_once:
            if not send_whole(self.exchange, self.status, self.fields, data):
                return False
            settle(self, complete=True)
        else:
            self._hand_over(data)
        completed(self)
    return True


def _start(self: ResponseSteps, event: Event) -> None:
    status = event["status"]
    if not isinstance(status, int) or not 200 <= status <= 999:
        # RFC 9110 §15.2: an interim response is no answer; above, three digits
        msg = f"{status!r} is no status of a response: it is from 200 to 999"
        raise EventError(msg)
    self.fields = checked_fields(of_event(event, "headers", ()))
    self.status = status
    if of_event(event, "trailers"):
        self.trailer_fields = Headers()
        self.in_parts = True
    self.stage = "body"


def enter(steps: ResponseSteps, stage: Stage) -> None:
    """Go to the next stage, and tell those that wait for it."""
    steps.stage = stage
    if steps.changed is not None:  # a call less for nearly every answer
        steps.changed.set()


def completed(steps: ResponseSteps) -> None:
    """Wake what reads the request's body: the answer is complete."""
    if steps.reading:
        # The engine does not deliver the rest of a body that is not needed.
        steps.exchange.body.deliver_eof(Disconnected())


def settle(steps: ResponseSteps, *, complete: bool) -> None:
    """End the exchange, now that its answer has ended."""
    steps.settled = True
    exchange = steps.exchange
    try:
        call_back(exchange, steps.status, complete)
    finally:
        exchange.connection.answered(exchange)


def of_event(event: Event, key: str, default: Any = None) -> Any:
    """Return what an event has for ``key``; most are plain dictionaries."""
    if isinstance(event, dict):
        return event.get(key, default)
    return event.get(key, default)


def data_of(event: Event) -> bytes:
    """Return the bytes of a part of a body."""
    data = of_event(event, "body", b"")
    return data if type(data) is bytes else bytes(data or b"")
