"""What the tests of topics share: a loop that is none, and a session on it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.topics import Bench


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    """Make benches, whose tasks end with the test."""
    benches: list[Bench] = []

    def make(**options: Any) -> Bench:
        benches.append(Bench(**options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.runtime.close()


@pytest.fixture
def local(make: Callable[..., Bench]) -> Bench:
    """Topics without an engine."""
    return make()


@pytest.fixture
def remote(make: Callable[..., Bench]) -> Bench:
    """Topics with an engine."""
    return make(engine=True)
