"""Application state by type."""

import pytest

from tako.http.request import Extensions, Request
from tako.http.request_facts import matched
from tako.http.state import MissingState, TypeMap, find_state


class Pool:
    pass


class SmallPool(Pool):
    pass


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


def test_the_nearest_map_wins() -> None:
    near, far = TypeMap(), TypeMap()
    with pytest.raises(MissingState):
        find_state((near, far), str)
    far.insert("far")
    assert find_state((near, far), str) == "far"
    near.insert("near")
    assert find_state((near, far), str) == "near"


def test_false_values_are_values() -> None:
    near, far = TypeMap(), TypeMap()
    near.insert(0)
    far.insert(5)
    assert find_state((near, far), int) == 0


def test_missing_state_is_a_500_that_names_the_type_to_the_developer_only() -> None:
    with pytest.raises(MissingState, match="no state of type Pool") as caught:
        Request.build().state(Pool)
    assert caught.value.status == 500
    assert caught.value.detail == "missing application state"
    assert isinstance(caught.value, LookupError)


def test_a_request_takes_a_default_even_if_it_is_none() -> None:
    request = Request.build()
    assert request.state(Pool, default=None) is None
    state = TypeMap()
    state.insert("x")
    matched(request, "/", {}, (state,))
    assert request.state(str) == "x"
    assert request.state(str, default="y") == "x"
