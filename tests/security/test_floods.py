"""Floods against a server in a process of its own: loop, memory, output (I2, I4).

The figures are those of tests/benchmarks/floods.py, which prints them as a table.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.benchmarks.floods import (
    CANARY_LIMIT,
    FLOODS,
    GROWTH_LIMIT,
    RATIO_LIMIT,
    Cost,
    many_requests,
    measure,
)
from tests.support.server import Credentials, RuntimeName
from tests.support.victim_process import VictimProcess


@pytest.fixture(scope="module", params=["asyncio", "uvloop", "trio"])
def process(
    request: pytest.FixtureRequest, credentials: Credentials
) -> Iterator[VictimProcess]:
    runtime: RuntimeName = request.param
    with VictimProcess(credentials, runtime, "h2") as found:
        yield found


def _least_disturbed(
    process: VictimProcess, flood: Callable[[], bytes], times: int
) -> Cost:
    """Measure up to five times: other programs disturb an echo, never shorten it."""
    costs = []
    for _ in range(5):
        costs.append(measure(process, flood, times=times))
        if costs[-1].work < CANARY_LIMIT:
            break
    return min(costs, key=lambda cost: cost.work)


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_a_flood_is_cheap(process: VictimProcess, flood: Callable[[], bytes]) -> None:
    cost = _least_disturbed(process, flood, 3)
    print(flood.__name__, cost)
    assert cost.work < CANARY_LIMIT
    assert cost.growth < GROWTH_LIMIT
    assert cost.ratio < RATIO_LIMIT


def test_thousands_of_requests_leave_time_for_others(process: VictimProcess) -> None:
    cost = _least_disturbed(process, many_requests, 2)
    assert cost.work < CANARY_LIMIT
    assert cost.growth < GROWTH_LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_a_hundred_floods_leave_nothing_behind(
    process: VictimProcess, flood: Callable[[], bytes]
) -> None:
    measure(process, flood, times=300)  # until the heap has its size
    fds = process.fds
    cost = measure(process, flood, times=100)
    assert cost.growth < 2 << 20
    assert process.fds <= fds
