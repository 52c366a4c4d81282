"""Ten thousand WebSockets on one connection, and ten thousand connections.

Nothing may be left of them: no stream, no task, no socket, no memory.
"""

import gc

import psutil
import pytest

from tests.conftest import Serve
from tests.support.apps import echo_session, reporting, ws_router
from tests.support.server import Reports


pytestmark = pytest.mark.slow

CYCLES = 10_000
WARM_UP = 500
GROWTH = 3 << 20


def _memory() -> int:
    gc.collect()
    size: int = psutil.Process().memory_info().rss
    return size


@pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)
def test_streams_on_one_connection(serve: Serve) -> None:
    reports = Reports()
    server = serve(ws_router(reporting(echo_session, reports)))
    with server.connect_h2() as connection:
        for cycle in range(CYCLES):
            if cycle == WARM_UP:
                before = _memory()
            ws = connection.websocket("/ws")
            ws.echo("cycle")
            ws.close(1000)
            assert ws.expect_close()[0] == 1000
            ws.expect_end()
            ws.end()
            assert reports.get()[0] == 1000
            connection.streams.clear()
            connection.frames[1:] = []
        assert _memory() - before < GROWTH


@pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
def test_connections(serve: Serve) -> None:
    reports = Reports()
    server = serve(ws_router(reporting(echo_session, reports)))
    for cycle in range(CYCLES):
        if cycle == WARM_UP:
            before = _memory()
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            ws.echo("cycle")
            ws.close(1000)
            assert ws.expect_close()[0] == 1000
            ws.expect_end()
        assert reports.get()[0] == 1000
    assert _memory() - before < GROWTH
