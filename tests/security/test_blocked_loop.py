"""A handler that blocks the event loop (FX-13): it is logged, and no client pays.

While the loop stands still each client does in time what a deadline asks for. Each
deadline is half as long as the standstill, so all of them are overdue when it ends.
"""

import contextlib
import logging
import threading
import time

import pytest

from tako import Message, Request, Router, ServerConfig, TakoWs, WebSocket
from tako.testing.peer import Wire
from tako.testing.peer.frames import raw_frame
from tako.testing.peer.websocket import PeerWebSocket
from tests.support.attack import (
    HELLO,
    PREFACE,
    SETTINGS,
    SETTINGS_ACK,
    Attacker,
    RawH2,
    literal_block,
    parse_answers,
)
from tests.support.pace import Pace, keeping_pace
from tests.support.patience import NEVER, TIMEOUT
from tests.support.server import Credentials, Reports, RuntimeName
from tests.support.victim import Ledger, Victim, eventually


LIMITS = (1.0, 5.0, 20.0)
"""Seconds; the longer ones for machines that take as long to get there."""


def _config(limit: float) -> ServerConfig:
    return ServerConfig(
        header_read_timeout=limit,
        keep_alive_timeout=NEVER,
        min_rate=10_000,
        min_rate_grace=limit,
        settings_timeout=limit,
        ws_close_timeout=limit,
    )


class _Blocking:
    """Routes: one that blocks, and sessions with deadlines of their own."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.begun = threading.Event()
        self.reports = Reports()

    def add_to(self, router: Router, _: Ledger) -> None:
        """Add the routes."""
        router.get("/block", self._block)
        router.get("/reads", self._websocket)
        router.get("/closes", self._websocket)

    async def _block(self, request: Request) -> str:
        self.begun.set()
        time.sleep(2 * self._limit)  # noqa: ASYNC251 - the attack
        return "unblocked"

    async def _websocket(self, request: Request) -> TakoWs:
        session = self._reads if request.path == "/reads" else self._closes
        return TakoWs(request, session)

    async def _reads(self, ws: WebSocket) -> None:
        await ws.send("ready")
        try:
            self.reports.put(("read", await ws.read(timeout=self._limit)))
        except TimeoutError as error:
            self.reports.put(("read", error))

    async def _closes(self, ws: WebSocket) -> None:
        await ws.close(4000)
        with contextlib.suppress(Exception):
            while not isinstance(await ws.read(), Message.Close):
                pass
        self.reports.put(("closed", ws.close_code))


class _Punctual:
    """A peer that sends the second half of its input while the loop stands still."""

    def __init__(self, victim: Victim, wire: Wire, halves: tuple[bytes, bytes]) -> None:
        self.peer = victim.attacker(wire)
        self._second = halves[1]
        self.peer.send(halves[0])

    def go_on(self) -> None:
        """Send the second half."""
        self.peer.send(self._second)
        self.peer.flush()

    def served(self) -> bool:
        """Tell whether the answer is 200, and nothing else was sent."""
        peer = self.peer
        if isinstance(peer, RawH2):
            peer.pump(lambda: peer.gone(1))
            return peer.statuses.get(1) == [200] and not (peer.goaways or peer.resets)
        peer.pump(lambda: bool(parse_answers(bytes(peer.received)).final))
        return [a.status for a in parse_answers(bytes(peer.received)).final] == [200]


def _halves(wire: Wire) -> list[tuple[bytes, bytes]]:
    """Return what the deadlines of ``wire`` are about, in two parts."""
    if wire in {"h1", "h1s"}:
        head = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n"
        return [
            (b"GET /x HTTP/1.1\r\nHost: ", b"a\r\n\r\n"),
            (head + bytes(1000), bytes(1000)),
        ]
    fields = [(":scheme", "https"), (":authority", "localhost"), (":path", "/x")]
    get = raw_frame(1, 5, 1, literal_block([(":method", "GET"), *fields]))
    post = raw_frame(1, 4, 1, literal_block([(":method", "POST"), *fields]))
    half, rest = raw_frame(0, 0, 1, bytes(1000)), raw_frame(0, 1, 1, bytes(1000))
    return [
        (PREFACE + SETTINGS, SETTINGS_ACK + get),
        (HELLO + post + half, rest),
    ]


def _websocket(
    stack: contextlib.ExitStack, victim: Victim, wire: Wire, path: str
) -> PeerWebSocket:
    client = victim.server.connect(wire)
    stack.enter_context(client)
    socket = client.websocket(path)
    socket.answer_close = False
    return socket


def test_fx_13_a_blocked_loop_is_logged_and_fires_no_timeout_for_what_had_arrived(
    credentials: Credentials,
    runtime: RuntimeName,
    wire: Wire,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "tako.server")

    def attempt(limit: float, pace: Pace) -> None:
        caplog.clear()
        blocking = _Blocking(limit)
        with Victim(
            credentials, runtime, wire, _config(limit), routes=blocking.add_to
        ) as victim:
            pace.act()
            _block_it(victim, wire, blocking, pace)
            eventually(lambda: bool(_said(caplog)), "it is logged")
            assert all("asyncio.to_thread" in text for text in _said(caplog))
            victim.canary.echo()
            victim.canary.forget()  # it has noticed, of course
            victim.settle()

    keeping_pace(attempt, LIMITS)


def _block_it(victim: Victim, wire: Wire, blocking: _Blocking, pace: Pace) -> None:
    """Have something of each kind in time while the loop stands still."""
    with contextlib.ExitStack() as stack:
        blocker = stack.enter_context(victim.attacker(wire))
        if isinstance(blocker, RawH2):
            blocker.send(HELLO)
        reads = _websocket(stack, victim, wire, "/reads")
        closes = _websocket(stack, victim, wire, "/closes")
        punctual = [_Punctual(victim, wire, halves) for halves in _halves(wire)]
        for each in punctual:
            stack.enter_context(each.peer)
        reads.expect("ready")
        assert closes.expect_close() == (4000, "")
        victim.canary.echo()
        blocker.send(_block(blocker))
        assert blocking.begun.wait(TIMEOUT)
        pace.act()
        for each in punctual:
            each.go_on()
        reads.send("in time")
        closes.close(4000)
        pace.act()
        assert dict([blocking.reports.get(), blocking.reports.get()]) == {
            "read": "in time",
            "closed": 4000,
        }
        assert [each.served() for each in punctual] == [True, True]


def _block(blocker: Attacker) -> bytes:
    if not isinstance(blocker, RawH2):
        return b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n"
    fields = [(":scheme", "http"), (":authority", "localhost"), (":path", "/block")]
    return raw_frame(1, 5, 1, literal_block([(":method", "GET"), *fields]))


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.message
        for record in caplog.records
        if record.message.startswith("the event loop was blocked for ")
    ]
