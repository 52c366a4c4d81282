"""Frames between a worker and the hub, in whatever pieces they come."""

import struct

import pytest
from hypothesis import given, strategies as st

from tako.topics.hub import wire


KINDS = st.integers(wire.HELLO, wire.DONE)
FRAMES = st.lists(
    st.tuples(
        KINDS,
        st.integers(0, 255),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=50),
    ),
    max_size=8,
)


def encoded(frames: list[wire.Frame]) -> bytes:
    return b"".join(
        wire.frame(kind, payload, flags=flags, number=number, offset=offset)
        for kind, flags, number, offset, payload in frames
    )


def read(frames: wire.Frames) -> list[wire.Frame]:
    found = list[wire.Frame]()
    while (frame := frames.next()) is not None:
        found.append(frame)
    return found


@given(frames=FRAMES)
def test_what_was_written_is_read(frames: list[wire.Frame]) -> None:
    reader = wire.Frames()
    reader.feed(encoded(frames))
    assert read(reader) == frames
    assert not reader.fault


@given(frames=FRAMES, data=st.data())
def test_pieces_make_no_difference(
    frames: list[wire.Frame], data: st.DataObject
) -> None:
    whole = encoded(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    reader, found = wire.Frames(), list[wire.Frame]()
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        reader.feed(whole[begin:end])
        found += read(reader)
    assert found == frames


def test_every_split_in_two_and_single_bytes() -> None:
    frames: list[wire.Frame] = [
        (wire.PUB, wire.TEXT, 1, 7, b"ahello"),
        (wire.MSG, 0, 2, 2**64 - 1, b""),
        (wire.GAP, 0, 2**32 - 1, 9, bytes(8)),
    ]
    whole = encoded(frames)
    for cut in range(len(whole) + 1):
        reader = wire.Frames()
        reader.feed(whole[:cut])
        found = read(reader)
        reader.feed(whole[cut:])
        assert found + read(reader) == frames
    reader, found = wire.Frames(), []
    for byte in whole:
        reader.feed(bytes([byte]))
        found += read(reader)
    assert found == frames


def test_frames_that_are_not_read_yet_stay() -> None:
    frames: list[wire.Frame] = [(wire.SUB, 0, n, 0, b"t") for n in range(3)]
    whole = encoded(frames)
    reader = wire.Frames()
    reader.feed(whole[:40])
    assert reader.next() == frames[0]
    reader.feed(whole[40:])
    assert read(reader) == frames[1:]


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (wire.MOST_DATA + wire.MOST_NAME + 1, wire.PUB),
        (2**32 - 1, wire.MSG),
        (0, 0),
        (1, wire.DONE + 1),
        (1, 255),
    ],
)
def test_what_cannot_be_a_frame_ends_it_before_its_payload(
    size: int, kind: int
) -> None:
    reader = wire.Frames()
    good = wire.frame(wire.SUB, b"t")
    reader.feed(good + struct.pack("!IBBIQ", size, kind, 0, 0, 0))
    assert reader.next() is not None
    assert reader.next() is None
    assert f"kind {kind}" in reader.fault
    reader.feed(good)
    assert reader.next() is None


def test_the_largest_message_is_one() -> None:
    payload = b"n" * wire.MOST_NAME + b"d" * wire.MOST_DATA
    reader = wire.Frames()
    reader.feed(wire.frame(wire.PUB, payload, number=wire.MOST_NAME))
    frame = reader.next()
    assert frame is not None
    assert frame[4] == payload


@given(data=st.binary(max_size=200))
def test_no_input_raises(data: bytes) -> None:
    reader = wire.Frames()
    reader.feed(data)
    read(reader)
