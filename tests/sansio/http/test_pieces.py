"""``keep``: what pieces that wait cost, and that nothing of them is lost."""

import sys
from collections import deque

import pytest
from hypothesis import given, strategies as st

from tako.http.pieces import Piece, keep


def cost(pieces: deque[Piece]) -> int:
    return sys.getsizeof(pieces) + sum(map(sys.getsizeof, pieces))


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=5),
            st.sampled_from([bytes(5000), bytes(4096), bytes(4095)]),
            st.just("take"),
        ),
        max_size=120,
    )
)
def test_the_bytes_come_out_as_they_went_in(steps: list[bytes | str]) -> None:
    pieces: deque[Piece] = deque()
    put = got = b""
    for step in steps:
        if isinstance(step, bytes):
            keep(pieces, step)
            put += step
        elif pieces:
            got += pieces.popleft()
    assert got + b"".join(pieces) == put


@pytest.mark.parametrize("size", [1, 2, 16, 100, 4095, 4096, 10_000])
def test_pieces_of_any_size_cost_about_what_they_count(size: int) -> None:
    pieces: deque[Piece] = deque()
    for _ in range(262_144 // size):
        keep(pieces, bytes(size))
    assert cost(pieces) < 1.25 * 262_144


def test_small_pieces_between_large_ones_cost_little() -> None:
    pieces: deque[Piece] = deque()
    for _ in range(50):
        keep(pieces, bytes(4096))
        keep(pieces, b"x")
    assert cost(pieces) < 1.25 * 50 * 4096


def test_large_pieces_are_not_copied() -> None:
    pieces: deque[Piece] = deque()
    large = bytes(4096)
    for _ in range(50):
        keep(pieces, b"x")
        keep(pieces, large)
    assert sum(piece is large for piece in pieces) == 50


def test_a_few_pieces_stay_as_they_came() -> None:
    pieces: deque[Piece] = deque()
    for _ in range(16):
        keep(pieces, b"x")
    assert list(pieces) == [b"x"] * 16
