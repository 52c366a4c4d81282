"""Fixtures of the HTTP/2 tests: an engine with the express lane and one without."""

import pytest

from tests.support.h2wire import Make, Peer


@pytest.fixture(params=[True, False], ids=["lane", "engine"])
def make(request: pytest.FixtureRequest) -> Make:
    """Make peers, with the options of ``Peer``, of which ``lane`` is chosen here."""

    def make_peer(**options: object) -> Peer:
        return Peer(lane=request.param, **options)  # type: ignore[arg-type]

    return make_peer


@pytest.fixture
def peer(make: Make) -> Peer:
    """A peer that has greeted."""
    return make()
