"""Every server test ends with nothing left of its server, and that would be seen."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tako import Request, Router, ServerConfig, WebSocket
from tako.testing.peer import Wire
from tests.conftest import Serve
from tests.support.apps import ws_router
from tests.support.server import (
    Credentials,
    Gate,
    Reports,
    RunningServer,
    RuntimeName,
)


CANCELLED = {"CancelledError", "Cancelled"}
QUICK = ServerConfig(ws_close_timeout=0.2, drain_timeout=0.2)


class TestTheCheck:
    """A server is stopped; its check finds what the test has left in it."""

    @pytest.fixture
    def router(self) -> Router:
        return Router()

    @pytest.fixture
    def server(
        self,
        router: Router,
        runtime: RuntimeName,
        wire: Wire,
        credentials: Credentials,
    ) -> Iterator[RunningServer]:
        server = RunningServer(
            router, wire=wire, runtime=runtime, credentials=credentials
        )
        yield server
        assert server.join() >= 0

    def test_a_task(self, server: RunningServer, router: Router) -> None:
        kept: list[object] = []

        async def handler(request: Request) -> str:
            if server.runtime == "trio":
                trio = sys.modules["trio"]
                kept.append(trio.lowlevel.spawn_system_task(trio.sleep_forever))
            else:
                kept.append(asyncio.create_task(asyncio.sleep(3600)))
            return "it goes on"

        router.get("/", handler)
        server.start()
        with server.connect() as connection:
            assert connection.request("GET", "/").status == 200
        with pytest.raises(AssertionError, match=r"tasks left behind: .*sleep"):
            server.stop()

    def test_a_socket(self, server: RunningServer, router: Router) -> None:
        kept: list[socket.socket] = []

        async def handler(request: Request) -> str:
            kept.append(socket.socket())
            return "it is open"

        router.get("/", handler)
        server.start()
        with server.connect() as connection:
            assert connection.request("GET", "/").status == 200
        with pytest.raises(AssertionError, match="sockets left open"):
            server.stop()
        kept.pop().close()

    def test_a_connection(self, server: RunningServer, router: Router) -> None:
        router.get("/", lambda: "here")
        server.start()
        assert not server.connections
        with server.connect() as connection:
            assert connection.request("GET", "/").status == 200
            assert len(server.connections) == 1
        server.shut_down()
        server.join()
        (service,) = server.services
        assert not server.connections
        cast("Any", service)._connections.add("one that is not removed")
        with pytest.raises(AssertionError, match=r"connections left behind: .*one"):
            server.stop()


class TestOneSwallowedCancellation:
    """A session that goes on after it was cancelled is cancelled again, and ends."""

    @staticmethod
    def stubborn(reports: Reports) -> Any:
        async def session(ws: WebSocket) -> None:
            never = Gate()
            reports.put("waiting")
            for _ in range(2):
                try:
                    await never.wait()
                except BaseException as error:
                    reports.put(type(error).__name__)
            reports.put("returned")

        return session

    def test_at_the_end_of_its_life(self, serve: Serve) -> None:
        reports = Reports()
        router = ws_router(self.stubborn(reports), max_lifetime=0.1)
        with serve(router, QUICK).connect() as connection:
            connection.websocket("/ws")
            self.expect_its_end(reports)

    def test_at_the_end_of_a_drain(self, serve: Serve) -> None:
        reports = Reports()
        server = serve(ws_router(self.stubborn(reports)), QUICK)
        with server.connect() as connection:
            connection.websocket("/ws")
            server.shut_down()
            self.expect_its_end(reports)
            server.join()

    def test_when_the_server_is_cancelled(self, serve: Serve) -> None:
        reports = Reports()
        server = serve(ws_router(self.stubborn(reports)))
        with server.connect() as connection:
            connection.websocket("/ws")
            server.cancel()
            self.expect_its_end(reports)
            server.join()

    @staticmethod
    def expect_its_end(reports: Reports) -> None:
        assert reports.get() == "waiting"
        assert {reports.get(), reports.get()} <= CANCELLED
        assert reports.get() == "returned"
