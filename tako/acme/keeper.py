"""``keep``: has a certificate ordered when it is due, for as long as a server runs."""

import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509

from tako import runtime
from tako.acme import authority
from tako.acme.authority import Ordering
from tako.acme.renewal import BUSY, LOOK, Advice, Held, Renewal, RenewalState
from tako.acme.store import Store
from tako.runtime import ServerRuntime
from tako.tls.acme import Acme


_logger = logging.getLogger("tako.acme")

_ORDER_TIME = 600.0  # seconds for all of an order
_ASK_TIME = 60.0  # seconds for all of a question


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(UTC)


async def keep(
    own: ServerRuntime, acme: Acme, clock: Callable[[], datetime] = utc_now
) -> None:
    """Order the certificate, and renew it, when that is due; in the process that can.

    Args:
        own: what the server runs on.
        acme: what is wanted; its folders are there already.
        clock: returns the time.

    Cancel safety: safe, and the only way to end it.
    """
    keeper = Keeper(own, acme, clock)
    while True:
        try:
            pause = await keeper.step()
        except OSError as error:
            _logger.error("certificate for %s: %s", keeper.shown, error)  # noqa: TRY400 - its text says it all
            pause = LOOK
        await own.sleep(pause)


class Keeper:
    """What does what a ``Renewal`` says.

    Attributes:
        shown: the names, for the log.
    """

    def __init__(
        self, own: ServerRuntime, acme: Acme, clock: Callable[[], datetime]
    ) -> None:
        """Make one whose ``step`` is to be called again and again."""
        self._own = own
        self._acme = acme
        self._clock = clock
        self._store = Store(acme.certificate.parent)
        self._renewal = Renewal(acme.names, random.random)
        self.shown: str = ", ".join(acme.names)

    async def step(self) -> float:
        """Do what is to be done now; return the seconds until the next step.

        Raises:
            OSError: a file cannot be read or written.

        Cancel safety: safe; an order goes on in the next process that has the lock.
        """
        self._look()
        renewal = self._renewal
        if renewal.state in {RenewalState.GOOD, RenewalState.RESTING}:
            return renewal.wait
        with self._store.locked() as mine:
            if not mine:
                return BUSY
            certificate = self._look()  # the one before us may have done it
            if renewal.state is RenewalState.DUE:
                await self._order(certificate)
            elif renewal.state is RenewalState.ASKING and certificate is not None:
                await self._ask(certificate)
        return renewal.wait

    def _look(self) -> x509.Certificate | None:
        found = self._store.held()
        held = None if found is None else found[1]
        self._renewal.look(self._clock(), held, self._store.memory())
        return None if found is None else found[0]

    async def _ask(self, certificate: x509.Certificate) -> None:
        advice = None
        try:
            advice = await self._own.run_within(_ASK_TIME, self._asked, certificate)
        except Exception as error:  # without advice it is renewed all the same
            failure = authority.failure_of(error, self._clock())
            text = "%s was not heard on renewals: %s"
            _logger.info(text, self._acme.authority, failure.text)
            _logger.debug("asking failed", exc_info=error)
        self._renewal.advised(self._clock(), advice)
        self._store.remember(self._renewal.memory)

    async def _asked(self, certificate: x509.Certificate) -> Advice | None:
        context = await runtime.current().to_thread(authority.prepare)
        async with authority.new_http(context) as http:
            return await authority.ask(self._acme, certificate, http, self._clock())

    async def _order(self, old: x509.Certificate | None) -> None:
        renewal, store = self._renewal, self._store
        # what cannot be written is found before the authority is troubled
        store.remember(renewal.memory)
        renewal.begin()
        text = "renewing the certificate for %s at %s"
        if old is None:
            text = (
                "ordering a certificate for %s from %s; "
                "until it is there handshakes are refused"
            )
        _logger.info(text, self.shown, self._acme.authority)
        try:
            held = await self._own.run_within(_ORDER_TIME, self._ordered)
        except Exception as error:  # of the network, the authority, the client
            self._failed(error)
        else:
            renewal.ordered(self._clock(), held)
            self._tell(held)
        store.remember(renewal.memory)

    async def _ordered(self) -> Held:
        context = await runtime.current().to_thread(authority.prepare)
        async with authority.new_client(self._acme, self._store, context) as client:
            ordering = Ordering(
                self._acme, self._store, client, self._own.sleep, self._opened
            )
            held: Held = await ordering.run(self._renewal.memory.order)
        return held

    def _opened(self, url: str) -> None:
        self._renewal.opened(url)
        self._store.remember(self._renewal.memory)

    def _failed(self, error: Exception) -> None:
        now = self._clock()
        failure = authority.failure_of(error, now)
        self._renewal.failed(now, failure)
        _logger.error(
            "no certificate for %s: %s %s: %s; the next try is in %s",
            self.shown,
            self._acme.authority,
            "refuses" if failure.refused else "could not be used",
            failure.text,
            _span(self._renewal.memory.pause),
        )
        _logger.debug("the order failed", exc_info=error)

    def _tell(self, held: Held) -> None:
        _logger.info(
            "certificate for %s issued by %s, valid until %s",
            self.shown,
            self._acme.authority,
            _shown(held.expires),
        )
        now = self._clock()
        if self._renewal.clock_is_wrong(now):
            _logger.warning(
                "this machine's clock seems to be wrong: it is %s, and the new "
                "certificate is valid from %s to %s",
                *map(_shown, (now, held.begins, held.expires)),
            )


def _shown(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _span(seconds: float) -> str:
    minutes = max(round(seconds / 60), 1)
    return f"{minutes} min" if minutes < 120 else f"{round(minutes / 60)} h"
