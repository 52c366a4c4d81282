"""What is held for a peer that sends and never reads is bounded by its credit.

The figures are those of tests/benchmarks/hoards.py, which prints them as a table.
"""

from collections.abc import Callable, Iterator

import pytest

from tako.testing.peer import Wire
from tests.benchmarks.hoards import GROWTH_LIMIT, HOARDS, Pieces, hoard
from tests.support.server import Credentials, RuntimeName
from tests.support.victim_process import VictimProcess


@pytest.fixture(
    params=[
        ("asyncio", "h1"),
        ("asyncio", "h2"),
        ("uvloop", "h1s"),
        ("uvloop", "h2c"),
        ("trio", "h1"),
        ("trio", "h2"),
    ],
    ids="-".join,
)
def process(
    request: pytest.FixtureRequest, credentials: Credentials
) -> Iterator[VictimProcess]:
    runtime: RuntimeName
    wire: Wire
    runtime, wire = request.param
    with VictimProcess(credentials, runtime, wire) as found:
        yield found


@pytest.mark.parametrize("make", HOARDS, ids=lambda make: make.__name__)
def test_what_a_peer_has_held_is_bounded(
    process: VictimProcess, make: Callable[[Wire], Pieces]
) -> None:
    held = hoard(process, process.wire, make)
    print(make.__name__, held)
    assert held.growth < GROWTH_LIMIT
