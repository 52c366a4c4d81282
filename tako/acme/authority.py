"""What is said to an authority: one order (RFC 8555 §7.4), one question (RFC 9773).

The protocol is ``aioacme``'s, on asyncio and trio; ``tako-server[acme]`` brings it.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aioacme
import httpx
from cryptography import x509

from tako.acme import proof
from tako.acme.renewal import Advice, Failure, Held
from tako.acme.store import Store
from tako.tls.acme import Acme


_logger = logging.getLogger("tako.acme")

_POLL_FIRST, _POLL_MOST = 0.25, 10.0  # seconds between two looks at an order
_TEXT = 500  # characters of what an authority says that are logged
_ANSWER_TIME = 30.0  # seconds for an answer of one request

Sleep = Callable[[float], Awaitable[None]]


class RefusedError(Exception):
    """The authority will not issue the certificate, and has said why."""


class _Poll:
    """Pauses between looks at something that the authority works on."""

    def __init__(self, sleep: Sleep) -> None:
        self._sleep = sleep
        self._next = _POLL_FIRST

    async def pause(self) -> None:
        """Wait, each time twice as long. Cancel safety: safe."""
        pause, self._next = self._next, min(self._next * 2, _POLL_MOST)
        await self._sleep(pause)


class Ordering:
    """One order, from its beginning, or where it was left, to the certificate."""

    def __init__(
        self,
        acme: Acme,
        store: Store,
        client: aioacme.Client,
        sleep: Sleep,
        opened: Callable[[str], None],
    ) -> None:
        """Make one for a process that has the lock.

        Args:
            acme: what is wanted.
            store: where its files are.
            client: talks to the authority.
            sleep: waits for some seconds.
            opened: is told the URL of an order that begins.
        """
        self._acme = acme
        self._store = store
        self._client = client
        self._sleep = sleep
        self._opened = opened

    async def run(self, left: str | None) -> Held:
        """Return the certificate, once its files are written.

        Args:
            left: the URL of an order that was left unfinished.

        Raises:
            RefusedError: the authority will not issue it.
            Exception: it was not reached, or not understood; or a file not written.

        Cancel safety: safe; the next order goes on with this one.
        """
        account = await self._client.get_account()
        contact = [f"mailto:{self._acme.email}"]
        if self._acme.email is not None and account.contact != contact:
            await self._client.update_account(contact=contact)
        try:
            order = await self._resumed(left) or await self._begun()
            certificate = await self._completed(order)
        finally:
            self._store.tidy(order=False)
        self._store.tidy(order=True)
        return certificate

    async def _resumed(self, url: str | None) -> aioacme.Order | None:
        """Return the order that was left, if it can still become a certificate."""
        if url is None:
            return None
        try:
            order = await self._client.get_order(url)
        except aioacme.RateLimitedError:
            raise
        except aioacme.AcmeError as error:  # it has expired, or is another account's
            _logger.debug("the order %s is gone: %s", url, said(error.error))
            return None
        names = {each.value.lower() for each in order.identifiers}
        status = order.status.value
        if names != set(self._acme.names) or status == "invalid":
            return None
        if status in {"processing", "valid"} and not self._store.has_order_key():
            return None  # what is issued is for a key that is gone
        _logger.debug("the order %s goes on: it is %s", url, status)
        return order

    async def _begun(self) -> aioacme.Order:
        names = [aioacme.Identifier(name) for name in self._acme.names]
        order = await self._client.new_order(names)
        self._opened(order.uri)
        return order

    async def _completed(self, order: aioacme.Order) -> Held:
        """Bring an order to its end, whatever state it is in (RFC 8555 §7.1.6)."""
        poll, proven = _Poll(self._sleep), False
        while True:
            match order.status.value:
                case "pending" if not proven:
                    for url in order.authorizations:
                        await self._prove(url)
                    proven = True
                case "ready":
                    # kept before it is used: the answer may not reach us
                    key = self._store.order_key(fresh=True)
                    csr = proof.request(key, self._acme.names)
                    await self._client.finalize_order(order.finalize, csr)
                case "valid" if order.certificate is not None:
                    return self._kept(
                        await self._client.get_certificate(order.certificate)
                    )
                case "invalid":
                    raise RefusedError(said(order.error))
                case _:
                    await poll.pause()
            order = await self._client.get_order(order.uri)

    async def _prove(self, url: str) -> None:
        """Let the authority see that a name is ours (RFC 8555 §7.5)."""
        authorization = await self._client.get_authorization(url)
        name = authorization.identifier.value.lower()
        challenge = next(
            (it for it in authorization.challenges if it.type.value == "tls-alpn-01"),
            None,
        )
        if authorization.status.value == "pending":
            if challenge is None:
                msg = f"{name}: the authority offers no TLS-ALPN-01"
                raise RefusedError(msg)
            # what DNS-01 puts into a record is the digest that RFC 8737 §3 wants, too
            text = self._client.get_dns_challenge_validation(challenge.token)
            digest = proof.from_base64url(text)
            self._store.show(name, digest, datetime.now(UTC))
            if challenge.status.value == "pending":
                await self._client.answer_challenge(challenge.url)
        poll = _Poll(self._sleep)
        while authorization.status.value == "pending":
            await poll.pause()
            authorization = await self._client.get_authorization(url)
        if authorization.status.value != "valid":
            errors = [it.error for it in authorization.challenges if it.error]
            status = authorization.status.value
            why = said(errors[0]) if errors else f"the authorization is {status}"
            msg = f"{name}: {why}"
            raise RefusedError(msg)

    def _kept(self, chain: bytes) -> Held:
        """Write a certificate that is what was ordered.

        Raises:
            ValueError: it is not.
            OSError: it cannot be written.
        """
        key = self._store.order_key(fresh=False)
        certificate, held = proof.read_held(chain)
        missing = set(self._acme.names) - held.names
        if missing or not proof.fits(certificate, key):
            what = f"not for {', '.join(sorted(missing))}" if missing else "of no use"
            msg = f"the certificate is {what}"
            raise ValueError(msg)
        self._store.keep(key, chain)
        return held


def said(error: aioacme.Error | None) -> str:
    """Return what an authority says went wrong, on one line."""
    if error is None:
        return "it does not say why"
    parts = [error.detail, *(said(each) for each in error.subproblems or ())]
    return _short("; ".join(parts))


def _short(text: str) -> str:
    return " ".join(text.split())[:_TEXT]


def failure_of(error: Exception, now: datetime) -> Failure:
    """Return what an exception in the middle of an order means."""
    match error:
        case RefusedError():
            return Failure(str(error), refused=True)
        case aioacme.AcmeError():
            # RFC 8555 §6.7: its own fault, or no problem document at all
            down = error.error.type.rpartition(":")[2] in {"serverInternal", "unknown"}
            until = getattr(error, "retry_after", None)  # of RateLimitedError
            if until is None or until.tzinfo is None:  # no date of RFC 9110 §5.6.7
                return Failure(said(error.error), refused=not down)
            wait = (until - now).total_seconds()
            return Failure(said(error.error), refused=not down, retry_after=wait)
        case httpx.HTTPStatusError():
            header = error.response.headers.get("retry-after")
            text = f"it answers {error.response.status_code}"
            return Failure(text, refused=False, retry_after=seconds_of(header, now))
        case TimeoutError() | httpx.TimeoutException():
            return Failure("it does not answer in time", refused=False)
        case httpx.HTTPError() | OSError():
            text = _short(str(error)) or type(error).__name__
            return Failure(text, refused=False)
        case _:
            return Failure(_short(f"its answer is of no use: {error!r}"), refused=False)


def seconds_of(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After asks for (RFC 9110 §10.2.3), if it does."""
    if header is None:
        return None
    if header.isascii() and header.isdigit():
        return float(header[:9])
    try:
        return (parsedate_to_datetime(header) - now).total_seconds()
    except (TypeError, ValueError):  # no date, or one without a time zone
        return None


async def ask(
    acme: Acme, certificate: x509.Certificate, http: httpx.AsyncClient, now: datetime
) -> Advice | None:
    """Ask when to renew a certificate; ``None``: the authority does not say.

    Raises:
        Exception: it was not reached, or not understood.

    Cancel safety: safe.
    """
    name = proof.renewal_id(certificate)
    directory = await http.get(acme.directory)
    directory.raise_for_status()
    url = directory.json().get("renewalInfo")  # RFC 9773 §3
    if url is None or name is None:
        return None
    answer = await http.get(f"{url.rstrip('/')}/{name}")
    answer.raise_for_status()
    window: Any = answer.json()["suggestedWindow"]
    start, end = (datetime.fromisoformat(window[it]) for it in ("start", "end"))
    if start.tzinfo is None or end.tzinfo is None or end < start:
        msg = f"{window!r} is no window of time"
        raise ValueError(msg)
    retry_after = seconds_of(answer.headers.get("retry-after"), now)
    return Advice(start, end, retry_after)


def prepare() -> ssl.SSLContext:
    """Return which authorities of TLS are trusted: those of the system.

    Takes a while: for a thread. OpenSSL's variable ``SSL_CERT_FILE`` names others.
    """
    context = ssl.create_default_context()
    httpx.Client(verify=context).close()  # has it import what the next ones need
    return context


def new_http(context: ssl.SSLContext) -> httpx.AsyncClient:
    """Return a client for ``ask``."""
    return httpx.AsyncClient(verify=context, timeout=_ANSWER_TIME)


def new_client(acme: Acme, store: Store, context: ssl.SSLContext) -> aioacme.Client:
    """Return a client for ``Ordering``.

    Raises:
        OSError: the key of the account cannot be read or written.
        ValueError: its file is broken.
    """
    return aioacme.Client(
        account_key=store.account_key(), directory_url=acme.directory, ssl=context
    )
