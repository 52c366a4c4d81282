"""Every row of the corpus, and more, against a real server on every runtime and wire.

The quick part sends each row whole, beside other traffic, cut in two places, and from a
client that does not read its answers before the server can do no more (FX-26); the slow
part cuts each short row at every byte, and weighs the server. See runner.py for how a
row is sent, verdicts.py for what its words mean, victim.py for what must hold whatever
was sent.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import cast

import pytest

from tako.testing.peer import Wire
from tests.security.corpus import (
    Row,
    config_for,
    corpus,
    deliveries,
    every_cut,
    waits_for_a_timeout,
)
from tests.security.more import more_rows
from tests.security.runner import deliver
from tests.security.verdicts import judge, verdict
from tests.support.server import Credentials, RuntimeName
from tests.support.victim import Victim, eventually
from tests.support.victim_process import VictimProcess


_CORPUS = corpus()
_MORE = more_rows()
_ROWS = [*_CORPUS, *_MORE]
_SHARED = [row for row in _CORPUS if config_for(row) is None]
_OWN = [row for row in _CORPUS if config_for(row) is not None]

RUNTIMES: tuple[RuntimeName, ...] = ("asyncio", "uvloop", "trio")
_WIRES: tuple[Wire, ...] = ("h1", "h1s", "h2", "h2c")


def _attacks(rows: list[Row], *, all_slow: bool = False) -> list[object]:
    """Return every row on every runtime and on every wire that it makes sense on."""
    return [
        pytest.param(
            runtime,
            wire,
            row,
            id=f"{runtime}-{wire}-{row.id}",
            marks=[] if _quick(runtime, wire, row) and not all_slow else _SLOW,
        )
        for runtime in RUNTIMES
        for wire in _WIRES
        for row in rows
        if wire in row.wires(encrypted=wire in {"h1s", "h2"})
    ]


_SLOW = [pytest.mark.slow]
_NARROW = 16_384  # bytes of output that the kernel takes for a peer that does not read
_HELD = 4 << 20  # bytes that a server may grow by for one: a message, and buffers
_CUTS_BETWEEN = 16  # deliveries between looks at what they left behind
_KEPT = 24 << 20  # bytes for hundreds of them: what is collected now and then


def _quick(runtime: RuntimeName, wire: Wire, row: Row) -> bool:
    """Tell what is run always: the corpus on asyncio, the rest as far as it is TLS."""
    ours = row in _MORE
    if runtime == "asyncio" and not ours:
        return True
    if wire not in {"h1s", "h2"} or len(row.data) > 500_000:
        return False
    return not ours or runtime == "asyncio"


class Victims:
    """Keeps a server as long as the attacks that follow are on the same kind."""

    def __init__(
        self, credentials: Credentials, *, send_buffer: int | None = None
    ) -> None:
        self._credentials = credentials
        self._send_buffer = send_buffer
        self._stack = contextlib.ExitStack()
        self._key: tuple[RuntimeName, Wire] | None = None
        self._victim: Victim | None = None

    def get(self, runtime: RuntimeName, wire: Wire) -> Victim:
        """Return the server for ``wire`` on ``runtime``."""
        lame = self._victim is not None and self._victim.canary.failure is not None
        if lame or self._victim is None or self._key != (runtime, wire):
            self.stop()
            self._key = (runtime, wire)
            # The canary is to measure the server, not collections of pytest's heap
            gc.collect()
            gc.freeze()
            victim = Victim(
                self._credentials, runtime, wire, send_buffer=self._send_buffer
            )
            self._victim = self._stack.enter_context(victim)
        return self._victim

    def stop(self) -> None:
        """Stop the server and look once more at what it has logged."""
        victim, self._victim = self._victim, None
        self._stack.close()
        if victim is not None:
            worst = victim.canary.worst_ever * 1000
            print(f"\n{self._key}: canary p100 {worst:.1f} ms")
            gc.collect()  # "... was never retrieved" is said by destructors
            assert not victim.log.found, victim.log.found[0]


@pytest.fixture(scope="module")
def victims(credentials: Credentials) -> Iterator[Victims]:
    found = Victims(credentials)
    yield found
    gc.unfreeze()
    found.stop()


@pytest.fixture(scope="module")
def narrow_victims(credentials: Credentials) -> Iterator[Victims]:
    """Servers with output that the kernel does not hide."""
    found = Victims(credentials, send_buffer=_NARROW)
    yield found
    gc.unfreeze()
    found.stop()


def test_every_row_has_a_verdict_and_a_wire() -> None:
    assert len(_CORPUS) >= 136
    for row in _ROWS:
        assert callable(verdict(row))
        assert row.wires(encrypted=True)
    ids = [row.id for row in _ROWS]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("runtime", "wire", "row"), _attacks(_SHARED))
def test_row(victims: Victims, runtime: RuntimeName, wire: Wire, row: Row) -> None:
    victim = victims.get(runtime, wire)
    for delivery in deliveries(row, thorough=runtime == "asyncio"):
        judge(row, victim, wire, delivery)


@pytest.mark.parametrize(("runtime", "wire", "row"), _attacks(_MORE))
def test_row_of_ours(
    victims: Victims, runtime: RuntimeName, wire: Wire, row: Row
) -> None:
    victim = victims.get(runtime, wire)
    for delivery in deliveries(row, thorough=runtime != "asyncio"):
        judge(row, victim, wire, delivery)


_SHORT = [row for row in [*_SHARED, *_MORE] if row.splittable]


@pytest.mark.parametrize(("runtime", "wire", "row"), _attacks(_SHORT, all_slow=True))
def test_row_cut_at_every_byte(
    victims: Victims, runtime: RuntimeName, wire: Wire, row: Row
) -> None:
    victim = victims.get(runtime, wire)
    cuts = every_cut(row)
    for number, delivery in enumerate(cuts, 1):
        settle = number % _CUTS_BETWEEN == 0 or number == len(cuts)
        judge(row, victim, wire, delivery, settle=settle)


@pytest.mark.parametrize(("runtime", "wire", "row"), _attacks(_OWN))
def test_row_on_a_server_of_its_own(
    credentials: Credentials, runtime: RuntimeName, wire: Wire, row: Row
) -> None:
    with Victim(credentials, runtime, wire, config_for(row)) as victim:
        for delivery in deliveries(row, thorough=False):
            judge(row, victim, wire, delivery)


_READERS = [row for row in _ROWS if not waits_for_a_timeout(row)]


@pytest.mark.parametrize(("runtime", "wire", "row"), _attacks(_READERS))
def test_fx_26_a_row_whose_sender_does_not_read_gets_the_same_verdict(
    credentials: Credentials,
    narrow_victims: Victims,
    runtime: RuntimeName,
    wire: Wire,
    row: Row,
) -> None:
    config = config_for(row)
    if config is None:
        judge(row, narrow_victims.get(runtime, wire), wire, "unread")
        return
    with Victim(credentials, runtime, wire, config, send_buffer=_NARROW) as victim:
        judge(row, victim, wire, "unread")


@pytest.mark.slow
@pytest.mark.parametrize("wire", _WIRES)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_fx_26_a_row_whose_sender_does_not_read_costs_little_memory(
    credentials: Credentials, runtime: RuntimeName, wire: Wire
) -> None:
    environment = {"VICTIM_SNDBUF": str(_NARROW)}
    rows = [
        row
        for row in _READERS
        if wire in row.wires(encrypted=wire in {"h1s", "h2"}) and not config_for(row)
    ]
    with VictimProcess(credentials, runtime, wire, environment=environment) as process:
        victim = cast("Victim", process)
        fds, start = process.fds, process.rss
        for row in rows + rows:
            before = process.rss
            with deliver(row, victim, wire, "unread").peer:
                growth = process.rss - before
                assert growth < _HELD, f"{row.id} ({row.name}) holds {growth >> 10} KiB"
        assert process.rss - start < _KEPT
        eventually(lambda: process.fds <= fds, "the connections are closed")
