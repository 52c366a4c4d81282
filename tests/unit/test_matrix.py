"""The thin matrix leaves out combinations, never a runtime, a wire or a test."""

from itertools import product

import pytest

from tests.support.matrix import diagonal, matrix_of


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


def test_the_variable_is_checked() -> None:
    assert matrix_of("thin") == "thin"
    with pytest.raises(pytest.UsageError, match="full or thin, not 'thick'"):
        matrix_of("thick")
