"""Application state by type."""

import threading
from collections.abc import Iterator

import pytest

from tako.http.request import Extensions, Request
from tako.http.state import (
    MissingState,
    TypeMap,
    clear_state,
    find_state,
    get_or_init_state,
    get_state,
    set_state,
)
from tests.support.peer_io import TIMEOUT


class Pool:
    pass


class SmallPool(Pool):
    pass


@pytest.fixture(autouse=True)
def _empty_process_store() -> Iterator[None]:
    clear_state()
    yield
    clear_state()


def test_a_value_is_found_under_its_exact_type_or_its_key() -> None:
    values = TypeMap()
    pool, small = Pool(), SmallPool()
    values.insert(pool)
    values.insert(small, key=Pool)
    assert values[Pool] is small
    assert values.get(SmallPool) is None
    assert values.get(SmallPool, 1) == 1
    assert SmallPool not in values
    assert list(values) == [Pool]
    assert len(values) == 1
    assert repr(values) == "TypeMap(Pool)"


def test_removing_returns_the_value_once() -> None:
    values = Extensions()
    values.insert("x")
    assert values.remove(str) == "x"
    assert values.remove(str) is None
    with pytest.raises(KeyError):
        values[str]


def test_the_process_store_holds_one_value_a_type() -> None:
    set_state("a")
    set_state("b")
    set_state(3, key=float)
    assert get_state(str) == "b"
    assert get_state(float) == 3
    assert get_state(int) is None
    clear_state(str)
    assert get_state(str) is None


def test_initialising_is_atomic() -> None:
    calls: list[Pool] = []
    go = threading.Barrier(4, timeout=TIMEOUT)
    got: list[Pool] = []

    def init() -> Pool:
        calls.append(Pool())
        return calls[-1]

    def work() -> None:
        go.wait()
        got.append(get_or_init_state(Pool, init))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(calls) == 1
    assert got == calls * 4


def test_the_nearest_map_wins_and_the_process_store_is_last() -> None:
    near, far = TypeMap(), TypeMap()
    set_state("process")
    assert find_state((near, far), str) == "process"
    far.insert("far")
    assert find_state((near, far), str) == "far"
    near.insert("near")
    assert find_state((near, far), str) == "near"


def test_false_values_are_values() -> None:
    states = TypeMap()
    states.insert(0)
    set_state(5)
    assert find_state((states,), int) == 0


def test_missing_state_is_a_500_that_names_the_type_to_the_developer_only() -> None:
    with pytest.raises(MissingState, match="no state of type Pool") as caught:
        Request.build().state(Pool)
    assert caught.value.status == 500
    assert caught.value.detail == "missing application state"
    assert isinstance(caught.value, LookupError)


def test_a_request_takes_a_default_even_if_it_is_none() -> None:
    request = Request.build()
    assert request.state(Pool, default=None) is None
    set_state("x")
    assert request.state(str) == "x"
    assert request.state(str, default="y") == "x"
