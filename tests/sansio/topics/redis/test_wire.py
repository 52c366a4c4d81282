"""What tako writes to Redis, and reads from it."""

import pytest
from hypothesis import given, strategies as st

from tako.topics import History, Position
from tako.topics.redis import wire


@pytest.mark.parametrize(
    ("topic", "slot"),
    [("123456789", 12_739), ("foo", 12_182), ("bar", 5_061), ("somekey", 11_058)],
)
def test_slots_are_those_of_the_specification(topic: str, slot: int) -> None:
    assert wire.slot(topic) == slot


def test_a_topic_and_its_keys_are_in_one_slot() -> None:
    names = wire.Names("app:")
    assert names.channel("room/7") == b"app:{room/7}"
    assert names.keys("room/7") == (b"app:{room/7}:meta", b"app:{room/7}:log")


@given(st.text() | st.binary())
def test_a_payload_is_read_as_it_was_written(data: str | bytes) -> None:
    payload = wire.pack(data)
    assert wire.unpack(payload) == (data, None)
    kind, rest = payload[:1], payload[1:]
    position = Position("0123456789abcdef", 17)
    placed = kind + str(position).encode() + rest  # as the script does
    assert wire.unpack(placed) == (data, position)


@given(st.binary())
def test_anything_else_is_a_value_error_or_a_message(payload: bytes) -> None:
    try:
        data, position = wire.unpack(payload)
    except ValueError:
        return
    place = b"" if position is None else str(position).encode()
    packed = wire.pack(data)
    assert payload == packed[:1] + place + packed[1:]


def test_times_of_a_server_have_microseconds() -> None:
    assert wire.age(b"10.999999", b"12.1") == pytest.approx(1.000002)


def test_what_is_kept() -> None:
    assert wire.kept(History(messages=7, size=9)) == (7, 9, 86_400, 86_400_000)
    assert wire.kept(History(seconds=1.5))[3] == 1_500
    assert wire.kept(History(seconds=1e9))[3] == 86_400_000
    assert wire.kept(History(seconds=1e-6))[3] == 1
    assert wire.new_epoch() != wire.new_epoch()
    assert Position.parse(f"{wire.new_epoch()}.1") is not None
