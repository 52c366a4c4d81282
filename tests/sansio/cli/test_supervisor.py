"""When the supervisor ends a worker that does not end by itself."""

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest


pytest.importorskip("click")

from tako.cli import supervisor
from tako.cli.plan import Plan
from tako.cli.supervisor import Child, Supervisor
from tako.config import ServerConfig
from tako.server.listener import Listener


if TYPE_CHECKING:
    import subprocess


PLAN = Plan(
    target="app:app",
    binds=(),
    wire="plain",
    certs=(),
    dev_cert=False,
    password=None,
    client_auth=None,
    proxy=None,
    config=ServerConfig(drain_timeout=10.0),
    workers=1,
    reload_folders=(),
    app_folder=Path(),
    runtime="asyncio",
    loop="asyncio",
    backlog=1024,
    unix_mode=None,
    access_log=False,
    log_config=None,
    log_level="info",
    verbose=False,
    asgi={},
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Process:
    """A process that takes signals and does not end."""

    def __init__(self) -> None:
        self.kills = 0

    def send_signal(self, number: int) -> None:
        pass

    def kill(self) -> None:
        self.kills += 1


@contextmanager
def supervising(plan: Plan) -> Iterator[Supervisor]:
    """Make a supervisor that is not run."""
    made = Supervisor(plan, Listener([]))
    try:
        yield made
    finally:
        for thing in (made._selector, made._woken, made._wake):
            thing.close()
        for number in (made._life, made._life_read):
            os.close(number)


@pytest.mark.parametrize(("delay", "limit"), [(None, 15.0), (20.0, 35.0)])
def test_a_worker_that_hangs_is_killed_once_when_its_drain_must_be_over(
    delay: float | None,
    limit: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock, process = Clock(), Process()
    monkeypatch.setattr(supervisor, "time", clock)
    config = ServerConfig(drain_timeout=10.0, drain_delay=delay)
    plan = dataclasses.replace(PLAN, config=config)
    assert plan.stop_limit == limit
    child = Child(1, cast("subprocess.Popen[bytes]", cast("Any", process)), -1, 0.0)
    with supervising(plan) as made:
        made._children.append(child)
        made._stop(child)
        assert made._timeout() == limit
        clock.now += limit - 1
        made._look_at_clock()
        assert (process.kills, made._timeout()) == (0, 1.0)
        clock.now += 1
        for _ in range(3):
            made._look_at_clock()
        assert process.kills == 1
        assert made._timeout() is None  # SIGCHLD says when it has ended
    assert capsys.readouterr().err.count("killed") == 1
