"""The thin matrix leaves out combinations, never a runtime, a wire or a test."""

from itertools import product
from types import SimpleNamespace
from typing import Literal, cast

import pytest

from tests.support.matrix import diagonal, matrix_of, thinned


RUNTIMES = ("asyncio", "uvloop", "trio")


@pytest.mark.parametrize("turn", range(12))
@pytest.mark.parametrize(
    "pairs",
    [
        list(product(RUNTIMES, ("h1", "h1s", "h2", "h2c"))),
        list(product(RUNTIMES, ("h1", "h1s"))),
        list(product(("trio",), ("h1", "h2"))),
        list(product(RUNTIMES, (None,))),
        [("asyncio", "h1"), ("asyncio", "h2"), ("trio", "h2")],
        [(None, None)],
    ],
)
class TestDiagonal:
    def test_every_runtime_and_every_wire_appears(
        self, pairs: list[tuple[str, str]], turn: int
    ) -> None:
        shown = diagonal(pairs, turn)
        assert set(shown) <= set(pairs)
        for axis in (0, 1):
            assert {pair[axis] for pair in shown} == {pair[axis] for pair in pairs}

    def test_three_turns_in_a_row_show_every_pair(
        self, pairs: list[tuple[str, str]], turn: int
    ) -> None:
        shown = {pair for more in range(3) for pair in diagonal(pairs, turn + more)}
        assert shown == set(pairs)


def test_most_of_the_product_is_left_out() -> None:
    assert len(diagonal(list(product(RUNTIMES, range(4))), 0)) == 4


class Item:
    """What ``thinned`` looks at."""

    def __init__(self, name: str, **parameters: object) -> None:
        self.nodeid = f"{name}[...]"
        self.callspec = SimpleNamespace(params=parameters)
        self.pair = parameters.get("runtime"), parameters.get("wire")


def run_of(items: list[Item], matrix: Literal["thin", "once"]) -> list[Item]:
    kept: set[object] = {*thinned(cast("list[pytest.Item]", items), matrix)}
    return [item for item in items if item in kept]


WIRES = ("h1", "h1s", "h2", "h2c")
PRODUCT = list(product(RUNTIMES, WIRES))
TESTS = [f"tests/test_of.py::test_{number}" for number in range(60)]


def test_once_runs_a_test_once_and_tests_together_show_every_pair() -> None:
    seen = set()
    for name in TESTS:
        items = [Item(name, runtime=r, wire=w) for r, w in PRODUCT]
        (item,) = run_of(items, "once")
        seen.add(item.pair)
    assert seen == set(PRODUCT)


@pytest.mark.parametrize("matrix", ["thin", "once"])
def test_no_row_of_a_table_is_left_out(matrix: Literal["thin", "once"]) -> None:
    rows = [object() for _ in range(20)]
    items = [Item("t", runtime=r, wire=w, row=x) for r, w in PRODUCT for x in rows]
    run = run_of(items, matrix)
    assert {item.callspec.params["row"] for item in run} == set(rows)
    assert {item.pair[0] for item in run} == set(RUNTIMES)
    assert {item.pair[1] for item in run} == set(WIRES)
    assert len(run) <= 2 * 12 if matrix == "thin" else len(run) == 20


@pytest.mark.parametrize("matrix", ["thin", "once"])
def test_what_has_no_runtime_and_no_wire_is_run(
    matrix: Literal["thin", "once"],
) -> None:
    items = [Item("t", row=object()) for _ in range(20)]
    assert run_of(items, matrix) == items


def test_the_variable_is_checked() -> None:
    for matrix in ("full", "thin", "once"):
        assert matrix_of(matrix) == matrix
    with pytest.raises(pytest.UsageError, match="full, thin or once, not 'thick'"):
        matrix_of("thick")
