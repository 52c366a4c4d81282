"""The page on the text of ASGI names tests that exist."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.named_tests import named_tests


TESTS = Path(__file__).parents[1]
PAGE = TESTS / "conformance" / "asgi.md"


def rows() -> Iterator[list[str]]:
    """Yield the cells of each row, without the heads of tables."""
    for line in PAGE.read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| asked for"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def named() -> list[tuple[str, str]]:
    """Return the tests that the page names, each once."""
    tests = {name for *_, cell in rows() for name in cell.split(", ") if name}
    paths = [test.strip("`").partition("::") for test in sorted(tests)]
    return [(path, name) for path, _, name in paths]


@pytest.mark.parametrize(("path", "name"), named())
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in named_tests(TESTS / path)


def test_what_no_test_holds_is_left_out_on_purpose() -> None:
    for _, tako, tests in rows():
        assert tests or "**differs**" in tako or "not announced" in tako
