"""Which connection an attempt gets, who waits, and when another is dialed."""

import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tako.client.attempt import Failure
from tako.client.link import LinkState
from tako.client.pool import Pool
from tako.client.settings import make_config
from tako.errors import ConnectError, DialError


if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED = Failure(DialError, "refused", "dialing", None)
BOTH = ("2", "1.1")


class FakeAttempt:
    """Keeps what it is told."""

    def __init__(self, name: str, place: str = "a", versions: Any = BOTH) -> None:
        self.name = name
        self.place = (place, versions)
        self.versions = versions
        self.link: FakeLink | None = None
        self.failure: Failure | None = None

    def fail(self, failure: Failure) -> None:
        assert self.failure is None
        self.failure = failure

    def __repr__(self) -> str:
        return self.name


class FakeLink:
    """A connection whose server and wire the test plays."""

    def __init__(self, pool: Pool, attempt: FakeAttempt) -> None:
        self.pool: Any = pool
        self.place = attempt.place
        self.wire: str | None = None
        self.shared = pool.shares_at(attempt.place)
        self.origin = "wss://a.test"
        self.state = LinkState.DIALING
        self.step = "dialing"
        self.limit = 0
        self.carried: list[FakeAttempt] = []
        self.ends: list[str] = []

    @property
    def room(self) -> int:
        if self.state is not LinkState.OPEN:
            return 0
        return self.limit - len(self.carried)

    @property
    def empty(self) -> bool:
        return not self.carried

    def open(self, attempt: FakeAttempt) -> None:
        assert self.room > 0
        attempt.link = self
        self.carried.append(attempt)
        if not self.shared:
            self.state = LinkState.LEAVING

    def abandon(self) -> None:
        self.ends.append("abandon")
        self.state = LinkState.LEAVING
        self.pool.changed(self)

    def shut_down(self) -> None:
        self.ends.append("shut_down")

    # What the test does

    def greet(self, limit: int = 100, wire: str = "2") -> None:
        """Let the connection open."""
        self.state, self.wire, self.limit = LinkState.OPEN, wire, limit
        if wire == "1.1":
            self.shared, self.limit = False, 1
        self.pool.changed(self)

    def allow(self, limit: int) -> None:
        self.limit = limit
        self.pool.changed(self)

    def end(self, attempt: FakeAttempt) -> None:
        self.carried.remove(attempt)
        self.pool.changed(self)

    def leave(self) -> None:
        self.state = LinkState.LEAVING
        self.pool.changed(self)

    def fail(self, failure: Failure = REFUSED) -> None:
        self.state = LinkState.LEAVING
        self.pool.failed(self, failure)
        self.lose()

    def lose(self) -> None:
        self.state = LinkState.GONE
        self.pool.changed(self)


class World:
    """A pool, and what it has dialed."""

    def __init__(self, *, shares: bool = True, max_connections: int = 8) -> None:
        self.links: list[FakeLink] = []
        make: Any = self._make
        self.pool: Any = Pool(
            make_config({}),
            shares=shares,
            max_connections=max_connections,
            idle_timeout=30.0,
            make_link=make,
        )
        self._count = 0

    def _make(self, pool: Pool, attempt: FakeAttempt) -> FakeLink:
        link = FakeLink(pool, attempt)
        self.links.append(link)
        return link

    def ask(self, number: int = 1, **options: Any) -> list[FakeAttempt]:
        asked: list[FakeAttempt] = []
        for _ in range(number):
            attempt = FakeAttempt(f"#{self._count}", **options)
            self._count += 1
            self.pool.ask(attempt)
            asked.append(attempt)
        return asked

    @property
    def spread(self) -> list[int]:
        return [len(link.carried) for link in self.links]


@pytest.fixture
def world() -> World:
    return World()


def test_one_dial_serves_all_that_wait(world: World) -> None:
    asked = world.ask(50)
    assert len(world.links) == 1
    world.links[0].greet()
    assert world.links[0].carried == asked
    asked += world.ask(20)
    assert world.links[0].carried == asked
    assert len(world.links) == 1


def test_another_is_dialed_when_all_are_full(world: World) -> None:
    world.ask(250)
    world.links[0].greet(100)
    assert len(world.links) == 2, "one dial at a time"
    world.links[1].greet(100)
    world.links[2].greet(100)
    assert world.spread == [100, 100, 50]


def test_who_waits_is_served_in_order_of_arrival() -> None:
    world = World(max_connections=1)
    first, second = world.ask(2)
    (link,) = world.links
    link.greet(2)
    waiting = world.ask(5)
    assert [world.pool.step(each) for each in waiting] == ["queue"] * 5
    assert len(world.links) == 1
    link.end(second)
    assert link.carried == [first, waiting[0]]
    world.pool.withdraw(waiting[1])
    link.end(first)
    assert link.carried == [waiting[0], waiting[2]]
    link.allow(4)
    assert link.carried == [waiting[0], *waiting[2:]]


def test_the_oldest_is_filled_so_that_the_youngest_runs_empty(world: World) -> None:
    world.ask(4)
    world.links[0].greet(2)
    world.links[1].greet(2)
    for link in world.links:
        link.end(link.carried[0])
    world.ask(1)
    assert world.spread == [2, 1]


def test_a_limit_of_0_opens_nothing_and_dials_once(world: World) -> None:
    asked = world.ask(3)
    (link,) = world.links
    link.greet(0)
    link.allow(0)
    assert len(world.links) == 1, "the server wants nothing"
    assert world.pool.step(asked[0]) == "queue"
    link.allow(2)
    assert world.spread == [2, 0]
    link.allow(0)
    assert link.carried == asked[:2]
    world.links[1].greet(0)
    assert len(world.links) == 2
    world.links[1].lose()
    assert len(world.links) == 3, "while others are full because of what they carry"


def test_a_connection_that_leaves_takes_no_more_and_does_not_count() -> None:
    world = World(max_connections=1)
    world.ask(2)
    world.links[0].greet(100)
    world.links[0].leave()
    (late,) = world.ask()
    assert len(world.links) == 2
    world.links[1].greet(100)
    assert world.links[1].carried == [late]
    world.links[0].lose()
    assert world.pool.links == [world.links[1]]


def test_a_dial_that_fails_fails_all_that_wait_for_it(world: World) -> None:
    asked = world.ask(3)
    (link,) = world.links
    link.fail()
    assert [each.failure for each in asked] == [REFUSED] * 3
    assert [each.link for each in asked] == [link] * 3
    assert len(world.links) == 1
    assert world.pool.links == []
    assert world.pool._places == {}
    world.ask()
    assert len(world.links) == 2


def test_a_failed_dial_leaves_the_open_ones_alone(world: World) -> None:
    world.ask(3)
    world.links[0].greet(2)
    world.links[1].fail()
    assert world.links[0].ends == []
    assert not any(each.failure for each in world.links[0].carried)
    world.links[0].allow(3)
    (late,) = world.ask()
    assert late.link is world.links[0]


def test_http1_is_one_for_each_and_all_at_once_when_that_is_known(
    world: World,
) -> None:
    asked = world.ask(4)
    assert len(world.links) == 1
    world.links[0].greet(wire="1.1")
    assert len(world.links) == 4
    assert [each.link for each in asked] == [world.links[0], None, None, None]
    world.links[2].greet(wire="1.1")
    world.links[1].fail()
    assert asked[1].link is world.links[2]
    assert asked[2].failure is REFUSED
    assert asked[3].failure is None
    world.links[3].greet(wire="1.1")
    assert asked[3].link is world.links[3]
    world.ask(10, versions=("1.1",))
    assert len(world.links) == 14, "and at once where nothing else may be used"


def test_the_limit_of_connections_is_not_for_http1() -> None:
    world = World(max_connections=2)
    world.ask(5, versions=("1.1",))
    assert len(world.links) == 5


def test_an_origin_that_begins_to_speak_http2_is_shared(world: World) -> None:
    asked = world.ask(3)
    world.links[0].greet(wire="1.1")
    world.links[1].greet(wire="2")
    assert world.spread == [1, 2, 0]
    world.links[2].greet(wire="2")
    assert world.links[2].ends == []
    asked += world.ask(1)
    assert asked[-1].link is world.links[1]


def test_a_dial_without_anybody_who_waits_is_dropped(world: World) -> None:
    first, second = world.ask(2)
    world.pool.withdraw(first)
    assert world.links[0].ends == []
    world.pool.withdraw(second)
    assert world.links[0].ends == ["abandon"]
    world.links[0].lose()
    assert world.pool._places == {}


def test_of_dials_for_one_each_the_youngest_is_dropped(world: World) -> None:
    asked = world.ask(3, versions=("1.1",))
    world.pool.withdraw(asked[0])
    assert [link.ends for link in world.links] == [[], [], ["abandon"]]
    world.links[0].greet(wire="1.1")
    assert asked[1].link is world.links[0]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_for_one_is_dropped_with_it(when: str) -> None:
    world = World(shares=False)
    (attempt,) = world.ask()
    (link,) = world.links
    if when == "after":
        link.greet(0)  # the server takes nothing yet
        assert len(world.links) == 1
    world.pool.withdraw(attempt)
    assert link.ends == ["abandon"]


def test_a_connection_that_is_not_shared_takes_one() -> None:
    world = World(shares=False)
    world.ask(2)
    for link in world.links:
        link.greet(100)
    assert world.spread == [1, 1]


def test_where_the_server_cannot_share_each_has_its_own(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.ask(3)
    (link,) = world.links
    link.greet(3)
    world.pool.share_no_more(link)
    assert "wss://a.test: a WebSocket that it has closed costs others" in caplog.text
    link.lose()
    world.ask(3)
    world.ask(2, place="b")
    assert len(world.links) == 5
    for link in world.links[1:]:
        link.greet()
    assert world.spread == [3, 1, 1, 1, 2]


def test_places_share_nothing(world: World) -> None:
    asked: list[FakeAttempt] = []
    for options in ({}, {"place": "b"}, {"versions": ("2",)}):
        asked += world.ask(2, **options)
    assert len(world.links) == 3
    for link in world.links:
        link.greet()
    assert world.spread == [2, 2, 2]


def test_a_closed_pool_opens_nothing_and_ends_what_is_open(world: World) -> None:
    world.ask(2)
    world.links[0].greet(2)
    (waiting,) = world.ask()
    world.links[1].greet(0)
    (dialing,) = world.ask(place="b")
    world.pool.close()
    (late,) = world.ask()
    for each in (waiting, dialing, late):
        assert each.failure is not None
        assert each.failure.kind is ConnectError
        assert "closed" in each.failure.text
    assert [link.ends for link in world.links] == [
        ["shut_down"],
        ["shut_down"],
        ["abandon"],
    ]
    for link in world.links:
        link.lose()
    assert world.pool.links == []


class History:
    """What may happen, in an order of chance; the invariants hold after each step."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.knows_http1 = seed % 3 == 0
        self.world = World(max_connections=3, shares=seed % 4 > 0)
        self.asked: list[FakeAttempt] = []
        self.withdrawn: list[FakeAttempt] = []

    def step(self) -> None:
        self.dice.choice([self.ask, self.withdraw, self.change, self.change])()
        self.check()

    def ask(self) -> None:
        self.asked += self.world.ask(self.dice.randrange(4))

    def withdraw(self) -> None:
        attempt = self.dice.choice([*self.asked, FakeAttempt("stranger")])
        if attempt.link is None and attempt.failure is None:
            self.withdrawn.append(attempt)
        self.world.pool.withdraw(attempt)

    def change(self) -> None:
        links = [x for x in self.world.links if x.state is not LinkState.GONE]
        if links:
            link = self.dice.choice(links)
            self.dice.choice(self.changes(link))()

    def changes(self, link: FakeLink) -> "list[Callable[[], object]]":
        number = self.dice.randrange(5)
        if link.state is LinkState.DIALING:
            wire = "1.1" if self.knows_http1 and number == 0 else "2"
            return [partial(link.greet, number, wire), link.fail]
        if link.state is LinkState.OPEN and link.carried:
            return [partial(link.end, link.carried[0]), partial(link.allow, number)]
        if link.state is LinkState.OPEN:
            return [link.leave, partial(link.allow, number)]
        return [link.lose]

    def check(self) -> None:
        world = self.world
        waiting = [x for place in world.pool._places.values() for x in place.waiting]
        for each in self.asked:
            served = each.link is not None or each.failure is not None
            places = (served, each in waiting, each in self.withdrawn)
            assert places.count(True) == 1
        for link in world.links:
            assert link.room <= 0 or not waiting
        taking = [x for x in world.links if x.state is LinkState.OPEN and x.shared]
        assert len(taking) <= 3 or self.knows_http1
        assert set(world.pool.links) == {
            link for link in world.links if link.state is not LinkState.GONE
        }


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_all_are_served_once_or_wait(seed: int) -> None:
    history = History(seed)
    for _ in range(80):
        history.step()
