"""What an authority says of renewals, and what errors mean; no socket is opened."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aioacme
import httpx
import pytest
import trustme
from cryptography import x509

from tako.acme import proof
from tako.acme.authority import RefusedError, ask, failure_of, said, seconds_of
from tako.acme.renewal import Advice, Failure
from tako.tls.acme import Acme


NOW = datetime(2030, 1, 1, tzinfo=UTC)
URL = "https://ca.test/directory"
START, END = "2030-02-03T04:00:00Z", "2030-02-04T04:00:00Z"
WINDOW = {"suggestedWindow": {"start": START, "end": END}}

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def certificate(ca: trustme.CA) -> x509.Certificate:
    pem = ca.issue_cert("a.test").cert_chain_pems[0].bytes()
    return x509.load_pem_x509_certificate(pem)


def answered(certificate: x509.Certificate, handler: Handler) -> Advice | None:
    """Return what becomes of the answers of an authority."""
    acme = Acme("a.test", directory=URL, folder=Path("/none"))

    async def main() -> Advice | None:
        transport = httpx.MockTransport(handler)
        async with httpx.AsyncClient(transport=transport) as http:
            return await ask(acme, certificate, http, NOW)

    return asyncio.run(main())


def with_ari(answer: httpx.Response, asked: list[str] | None = None) -> Handler:
    def handle(request: httpx.Request) -> httpx.Response:
        if str(request.url) == URL:
            return httpx.Response(200, json={"renewalInfo": "https://ca.test/info/"})
        if asked is not None:
            asked.append(str(request.url))
        return answer

    return handle


def test_a_window_is_asked_for_by_the_id_of_the_certificate(
    certificate: x509.Certificate,
) -> None:
    asked: list[str] = []
    answer = httpx.Response(200, json=WINDOW, headers={"retry-after": "21600"})
    advice = answered(certificate, with_ari(answer, asked))
    assert asked == [f"https://ca.test/info/{proof.renewal_id(certificate)}"]
    start = datetime(2030, 2, 3, 4, tzinfo=UTC)
    assert advice == Advice(start, start + timedelta(days=1), 21600.0)


def test_an_authority_without_renewal_info_says_nothing(
    certificate: x509.Certificate,
) -> None:
    assert answered(certificate, lambda _: httpx.Response(200, json={})) is None


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"suggestedWindow": {"start": START}}),
        httpx.Response(200, json={"suggestedWindow": {"start": END, "end": START}}),
        httpx.Response(
            200, json={"suggestedWindow": {"start": START[:-1], "end": END[:-1]}}
        ),
    ],
)
def test_an_answer_of_no_use_is_a_failure_that_can_be_told(
    certificate: x509.Certificate, answer: httpx.Response
) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of any kind
        answered(certificate, with_ari(answer))
    failure = failure_of(caught.value, NOW)
    assert not failure.refused
    assert failure.text


def problem(kind: str, detail: str = "no", *more: aioacme.Error) -> aioacme.Error:
    kind = kind and f"urn:ietf:params:acme:error:{kind}"
    return aioacme.Error(type=kind, detail=detail, subproblems=more)


def status(code: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", URL)
    response = httpx.Response(code, headers=headers, request=request)
    return httpx.HTTPStatusError("", request=request, response=response)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (RefusedError("a.test: no"), Failure("a.test: no", refused=True)),
        (aioacme.AcmeError(problem("dns")), Failure("no", refused=True)),
        (aioacme.AcmeError(problem("serverInternal")), Failure("no", refused=False)),
        (
            aioacme.AcmeError(aioacme.Error(type="unknown", detail="<p>\n 502")),
            Failure("<p> 502", refused=False),
        ),
        (
            aioacme.RateLimitedError(problem("rateLimited")),
            Failure("no", refused=True),
        ),
        (
            aioacme.RateLimitedError(
                problem("rateLimited"), retry_after=NOW + timedelta(hours=3)
            ),
            Failure("no", refused=True, retry_after=10800.0),
        ),
        (
            aioacme.RateLimitedError(
                problem("rateLimited"), retry_after=datetime(2030, 1, 2)
            ),
            Failure("no", refused=True),
        ),
        (status(503), Failure("it answers 503", refused=False)),
        (
            status(503, **{"retry-after": "7"}),
            Failure("it answers 503", refused=False, retry_after=7.0),
        ),
        (TimeoutError(), Failure("it does not answer in time", refused=False)),
        (httpx.ReadTimeout(""), Failure("it does not answer in time", refused=False)),
        (httpx.ConnectError(""), Failure("ConnectError", refused=False)),
        (OSError(28, "No space"), Failure("[Errno 28] No space", refused=False)),
        (
            KeyError("replay-nonce"),
            Failure("its answer is of no use: KeyError('replay-nonce')", refused=False),
        ),
    ],
)
def test_what_an_error_means(error: Exception, failure: Failure) -> None:
    assert failure_of(error, NOW) == failure


def test_what_an_authority_says_is_one_line_and_bounded() -> None:
    error = problem("compound", "two\nnames", problem("dns", "a"), problem("caa", "b"))
    assert said(error) == "two names; a; b"
    assert said(None) == "it does not say why"
    assert len(said(problem("dns", "x" * 10_000))) == 500


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        ("9" * 4000, 999_999_999.0),
        ("Tue, 01 Jan 2030 00:01:00 GMT", 60.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("Tue, 01 Jan 2030 00:01:00", None),
    ],
)
def test_a_time_to_come_back_is_read(header: str | None, seconds: Any) -> None:
    assert seconds_of(header, NOW) == seconds
