"""Probes of ``health_path``: what is one, what is answered, and when."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tako.config import ServerConfig
from tako.http.request import Request
from tako.http.response import Response
from tako.server.health import answer_probes
from tako.server.service import Endpoint
from tests.sansio.server.test_service import Running


def answer(method: str, target: str, trouble: str | None = None) -> Response:
    """Return what ``/healthz`` answers; 204 is the app's answer."""

    async def app(_: Request) -> Response:
        return Response(204)

    request = Request.build(method, target)
    coroutine: Any = answer_probes("/healthz", lambda: trouble, app, request)
    try:
        coroutine.send(None)
    except StopIteration as end:
        response: Response = end.value
        return response
    msg = "it waits"
    raise AssertionError(msg)


class TestAnswers:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("target", ["/healthz", "/healthz?", "/healthz?full=1"])
    def test_a_server_that_is_well(self, method: str, target: str) -> None:
        response = answer(method, target)
        assert (response.status, response.body) == (200, b"ok\n")
        assert response.headers.raw == [
            (b"cache-control", b"no-store"),
            (b"content-type", b"text/plain; charset=utf-8"),
        ]

    def test_one_that_is_not_says_why(self) -> None:
        response = answer("GET", "/healthz", "shutting down")
        assert (response.status, response.body) == (503, b"shutting down\n")
        assert response.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("trouble", [None, "shutting down"])
    def test_another_method_is_not_allowed(self, trouble: str | None) -> None:
        response = answer("POST", "/healthz", trouble)
        assert response.status == 405
        assert response.headers["allow"] == "GET, HEAD"

    @pytest.mark.parametrize(
        "target",
        ["/", "//healthz", "/healthz/", "/Healthz", "/%68ealthz", "/a/../healthz", "*"],
    )
    def test_other_forms_are_the_apps(self, target: str) -> None:
        assert answer("GET", target, "shutting down").status == 204


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Running] = []

    def begin(healthy: Callable[[], object] | None = None, **options: Any) -> Running:
        options.setdefault("health_path", "/up")
        config = ServerConfig(**options)
        running.append(Running(config, Endpoint(healthy=healthy)))
        running[-1].connect()
        return running[-1]

    yield begin
    for each in running:
        each.close()


def probe(service: Running) -> str:
    """Return status and text that a new connection gets."""
    service.connect()
    service.request(-1, "/up")
    answer: bytes = service.runtime.transports[-1].take()
    head, _, body = answer.partition(b"\r\n\r\n")
    return f"{head.split()[1].decode()} {body.decode().strip()}"


def _of_the_check(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what was logged of a check, and not by a task that another test left."""
    return [record for record in caplog.records if "healthy" in record.getMessage()]


class TestService:
    def test_without_a_path_the_app_answers(self, start: Start) -> None:
        service = start(health_path=None)
        service.router.gate.set()
        service.request(0, "/up")
        assert service.router.paths == ["/up"]

    def test_the_app_sees_no_probe(self, start: Start) -> None:
        service = start()
        assert probe(service) == "200 ok"
        assert service.router.paths == []
        service.request(0, "/")
        assert service.router.paths == ["/"]

    def test_from_the_beginning_of_a_shutdown_it_is_503(self, start: Start) -> None:
        service = start(drain_delay=10, drain_timeout=100)
        service.request(0, "/slow")
        service.service.stop()
        assert probe(service) == "503 shutting down"
        service.connect()
        service.runtime.advance(10.5)
        assert service.socket.fileno() == -1
        service.request(-1, "/up")  # a first request may still come in the drain
        answer = service.runtime.transports[-1].take()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in answer.lower()
        service.router.gate.set()

    def test_a_handover_is_no_trouble(self, start: Start) -> None:
        service = start(drain_timeout=100)
        service.connect()
        service.service.hand_over()
        service.runtime.advance(0.5)
        service.request(0, "/up")
        assert service.runtime.transports[0].take().startswith(b"HTTP/1.1 200 ")
        service.runtime.advance(0.6)
        service.request(1, "/up")
        assert service.runtime.transports[1].take().startswith(b"HTTP/1.1 503 ")

    @pytest.mark.parametrize("look_first", [False, True])
    def test_what_waited_while_the_loop_stood_still_gets_503(
        self, start: Start, look_first: bool
    ) -> None:
        service = start(health_lag=3)
        service.runtime.advance(2)
        service.runtime.now += 3.4
        assert probe(service) == "200 ok"
        service.runtime.advance(2)
        service.runtime.now += 3.6
        if look_first:
            service.runtime.advance(0)
        assert probe(service) == "503 the event loop stands still"
        service.runtime.advance(0.5)
        assert probe(service) == "200 ok"

    def test_no_lag_matters_without_a_limit(self, start: Start) -> None:
        service = start(health_lag=None)
        service.runtime.now += 1000
        assert probe(service) == "200 ok"

    def test_the_application_has_its_say(self, start: Start) -> None:
        well = [True]
        service = start(lambda: well[0])
        assert probe(service) == "200 ok"
        well[0] = False
        assert probe(service) == "503 not healthy"

    def test_a_check_that_fails_is_logged_once_a_minute(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> bool:
            msg = "no database"
            raise LookupError(msg)

        service = start(fail)
        for _ in range(20):
            assert probe(service) == "503 not healthy"
        (record,) = _of_the_check(caplog)
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        service.runtime.advance(61)
        probe(service)
        assert len(_of_the_check(caplog)) == 2
