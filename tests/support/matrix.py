"""Which of the products runtime x wire x parameters are run: all, or a part.

``TAKO_TEST_MATRIX=full``, pytest's default, runs everything. ``thin``, which ``make
test`` sets, runs a test that is about one thing on as many pairs of a runtime and a
wire as show every runtime and every wire once; the rows of a table take turns on those
pairs. Which pairs these are differs from test to test, and from one Python version to
the next: three versions in a row run every such test on every pair. ``once`` runs a
test, and each row of a table, on one pair only; tests side by side are on different
ones; a property tries half the examples. That is for ``make quick``, and for an older
Python beside the newest, which runs ``thin``.
"""

import sys
import zlib
from collections.abc import Sequence
from typing import Literal, get_args

import pytest


Matrix = Literal["full", "thin", "once"]
Pair = tuple[object, object]

_MATRICES: tuple[Matrix, ...] = get_args(Matrix)
_AXES = frozenset({"runtime", "wire"})


def matrix_of(value: str) -> Matrix:
    """Return ``value`` of the variable, checked."""
    for matrix in _MATRICES:
        if value == matrix:
            return matrix
    msg = f"TAKO_TEST_MATRIX is full, thin or once, not {value!r}"
    raise pytest.UsageError(msg)


def thinned(
    items: Sequence[pytest.Item], matrix: Literal["thin", "once"]
) -> set[pytest.Item]:
    """Return those of ``items`` that are run."""
    tests: dict[str, dict[object, list[pytest.Item]]] = {}
    for item in items:
        rows = tests.setdefault(item.nodeid.partition("[")[0], {})
        rows.setdefault(_row(item), []).append(item)
    kept: set[pytest.Item] = set()
    for name, rows in tests.items():
        turn = zlib.crc32(name.encode()) + sys.version_info.minor
        for index, row in enumerate(rows.values()):
            pairs = [_pair(item) for item in row]
            shown = diagonal(pairs, turn)
            chosen = {shown[(index + turn) % len(shown)]}
            if matrix == "thin":  # a table shows together what a test shows alone
                chosen.update(shown[index :: len(rows)])
            kept.update(
                item for item, pair in zip(row, pairs, strict=True) if pair in chosen
            )
    return kept


def diagonal(pairs: Sequence[Pair], turn: int) -> list[Pair]:
    """Return few of ``pairs`` in which everything appears that appears in ``pairs``."""
    runtimes = list(dict.fromkeys(runtime for runtime, _ in pairs))
    wires = list(dict.fromkeys(wire for _, wire in pairs))
    shown = [
        (runtimes[(step + turn) % len(runtimes)], wires[step % len(wires)])
        for step in range(max(len(runtimes), len(wires)))
    ]
    shown = [pair for pair in dict.fromkeys(shown) if pair in pairs]
    for pair in pairs:  # where the product has holes
        if not all(
            any(pair[axis] == other[axis] for other in shown) for axis in (0, 1)
        ):
            shown.append(pair)
    return shown


def _parameters(item: pytest.Item) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else callspec.params


def _pair(item: pytest.Item) -> Pair:
    parameters = _parameters(item)
    return parameters.get("runtime"), parameters.get("wire")


def _row(item: pytest.Item) -> object:
    """Return what tells rows of a table apart: its values, as the objects they are."""
    return tuple(
        (name, id(value))
        for name, value in _parameters(item).items()
        if name not in _AXES
    )
