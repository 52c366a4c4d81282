"""When ``async for ws in connect(...)`` tries again, and when it waits before that."""

import random
import ssl
from typing import Any

import pytest

from tako.client import reconnect as module
from tako.client.reconnect import Reconnect, process_exception
from tako.errors import (
    ConnectError,
    ConnectTimeout,
    DialError,
    HandshakeInvalid,
    HandshakeRejected,
    Http2Unavailable,
    TlsError,
)


def error(kind: type[ConnectError], **attributes: object) -> ConnectError:
    made = kind("no", step="handshake", origin="ws://a")
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    "worth_it",
    [
        error(DialError),
        error(ConnectTimeout),
        error(HandshakeRejected, status=503),
        error(HandshakeRejected, status=500),
        error(HandshakeInvalid, temporary=True),
        error(TlsError),
    ],
)
def test_what_may_get_better_is_tried_again(worth_it: ConnectError) -> None:
    assert process_exception(worth_it) is None


@pytest.mark.parametrize(
    "final",
    [
        error(HandshakeRejected, status=401),
        error(HandshakeRejected, status=403),
        error(HandshakeRejected, status=404),
        error(HandshakeRejected, status=302),
        error(HandshakeInvalid),
        error(Http2Unavailable),
        error(TlsError, __cause__=ssl.SSLCertVerificationError()),
        KeyError(),
    ],
)
def test_what_cannot_is_raised(final: Exception) -> None:
    assert process_exception(final) is final


class Script:
    """Stands in for ``Connect``, the clock and the event loop."""

    def __init__(self, *outcomes: Exception | float) -> None:
        """Open sockets that live for so many seconds, or fail."""
        self.outcomes = list(outcomes)
        self.attempt = None
        self.now = 1000.0
        self.lives = 0.0
        self.slept: list[float] = []

    async def open(self) -> str:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        self.lives = outcome
        return "ws"

    async def __aexit__(self, *_: object) -> None:
        """Close the socket before: it has lived."""

    async def sleep(self, delay: float) -> None:
        self.slept.append(delay)
        self.now += delay


def run(monkeypatch: pytest.MonkeyPatch, script: Script, sockets: int) -> list[float]:
    """Iterate so often; return the delays."""
    monkeypatch.setattr(module, "monotonic", lambda: script.now)
    monkeypatch.setattr(module, "current", lambda: script)
    monkeypatch.setattr(random, "random", lambda: 0.5)
    stand_in: Any = script
    loop = Reconnect(stand_in, process_exception)

    async def main() -> None:
        for _ in range(sockets):
            await anext(loop)
            script.now += script.lives

    with pytest.raises(StopIteration):
        main().send(None)
    return script.slept


def test_a_socket_that_has_lived_is_followed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(monkeypatch, Script(10, 10, 10), 3) == []


def test_failures_are_followed_by_growing_delays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = [error(DialError) for _ in range(12)]
    slept = run(monkeypatch, Script(*failures, 200.0, error(DialError), 1.0), 2)
    assert slept[0] == 2.5
    assert slept[1:4] == pytest.approx([5.02, 8.12, 13.13], abs=0.01)
    assert slept[11] == 90.0
    assert slept[12] == 2.5  # the long life in between


def test_sockets_that_end_at_once_are_not_opened_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept = run(monkeypatch, Script(0.0, 0.0, 0.0, 0.0), 4)
    assert len(slept) == 2


def test_what_is_final_ends_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HandshakeRejected):
        run(monkeypatch, Script(0.0, error(HandshakeRejected, status=403)), 2)


def test_the_users_own_judgement_counts() -> None:
    def never(problem: Exception) -> Exception:
        return ValueError(str(problem))

    stand_in: Any = Script(error(DialError))
    with pytest.raises(ValueError, match="no") as caught:
        anext(Reconnect(stand_in, never)).send(None)
    assert isinstance(caught.value.__cause__, DialError)
