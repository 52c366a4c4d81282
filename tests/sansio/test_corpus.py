"""Every row of the corpus, and more, against a server in memory.

Each is sent whole, beside other traffic and, where it is short, in pieces and cut in
two at every byte; what is HTTP/2 with the express lane and without. The rows, the ways
to send them and the verdicts are those of ``tests/security``, which attacks servers.
"""

from typing import NamedTuple

import pytest

from tako.testing.peer import Wire
from tests.security.corpus import (
    SPLIT_UP_TO,
    Delivery,
    Pieces,
    Row,
    config_for,
    corpus,
    deliveries,
    every_cut,
)
from tests.security.more import more_rows
from tests.security.verdicts import judge
from tests.support.attack import Attacker
from tests.support.memory_victim import MemoryLink, MemoryVictim


_CUT_UP_TO = 256  # bytes; longer rows are cut in a few places only


class Attack(NamedTuple):
    """A row on one of its wires."""

    row: Row
    wire: Wire
    lane: bool = True

    @property
    def name(self) -> str:
        return f"{self.wire}{'' if self.lane else '-no-lane'}-{self.row.id}"

    def judge(self, ways: list[Delivery]) -> None:
        with MemoryVictim(config_for(self.row), lane=self.lane) as victim:
            for delivery in ways:
                judge(self.row, victim, self.wire, delivery)


def _attacks(rows: list[Row]) -> list[Attack]:
    return [
        Attack(row, wire, lane)
        for row in rows
        for wire in row.wires(encrypted=False)
        for lane in ((True, False) if wire == "h2c" else (True,))
    ]


_CORPUS, _MORE = _attacks(corpus()), _attacks(more_rows())


def _of(attacks: list[Attack], size: int, *, slow: bool = False) -> list[object]:
    """Return the attacks with up to ``size`` bytes."""
    return [
        pytest.param(attack, id=attack.name, marks=[pytest.mark.slow] * slow)
        for attack in attacks
        if len(attack.row.data) <= size
    ]


@pytest.mark.parametrize("attack", _of(_CORPUS + _MORE, 1 << 30))
def test_row(attack: Attack) -> None:
    attack.judge(deliveries(attack.row))


@pytest.mark.parametrize("attack", _of(_CORPUS + _MORE, SPLIT_UP_TO))
def test_row_in_pieces(attack: Attack) -> None:
    sizes = (1, 2, 3, 7, 64) if attack.wire == "h1" else (1,)
    attack.judge([Pieces(size) for size in sizes])


@pytest.mark.parametrize(
    "attack", _of(_CORPUS, _CUT_UP_TO) + _of(_MORE, _CUT_UP_TO, slow=True)
)
def test_row_cut_in_two_anywhere(attack: Attack) -> None:
    attack.judge(every_cut(attack.row))


@pytest.mark.parametrize(
    "attack", _of([a for a in _CORPUS if a.row.proto == "h1"], 1 << 30)
)
def test_nothing_is_served_behind_the_end(attack: Attack) -> None:
    with MemoryVictim() as victim:
        link = MemoryLink(victim, "h1")
        peer = Attacker(link)
        peer.send(attack.row.data)
        peer.pump(lambda: False, 0)
        taken = len(peer.received)
        link.send(b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n")
        served = "/after" in [entry.request.path for entry in victim.ledger.entries]
        assert served == (peer.ending is None)
        peer.pump(lambda: False, 0)
        assert served == (len(peer.received) > taken)
