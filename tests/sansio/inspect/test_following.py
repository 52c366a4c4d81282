"""Taps on connections: what followers see, and that others pay nothing for it."""

from collections.abc import Iterator

import pytest

from tako.h2.frames import DATA, frame
from tako.inspect.following import Follower, Following
from tako.inspect.frames import Frame, H1Decoder
from tests.support.looked_at import LookedAt, text


@pytest.fixture
def served() -> Iterator[LookedAt]:
    made = LookedAt()
    yield made
    made.close()


@pytest.fixture
def following(served: LookedAt) -> Following:
    return Following(served.runtime.time)


def kinds(follower: Follower) -> list[tuple[object, object, object]]:
    return [(it["received"], it["kind"], it.get("payload")) for it in follower.take()]


def test_frames_of_http1_are_followed(served: LookedAt, following: Following) -> None:
    connection = served.websocket()
    follower = following.follow(connection, payload=True)
    assert follower is not None
    served.receive(connection, text("hello"))
    assert kinds(follower) == [(True, "text", "hello"), (False, "text", "hello")]
    assert kinds(follower) == []


def test_frames_of_http2_are_followed(served: LookedAt, following: Following) -> None:
    connection = served.websockets(1, 3)
    follower = following.follow(connection, payload=True)
    assert follower is not None
    served.receive(connection, frame(DATA, 0, 3, text("three")))
    seen = follower.take()
    assert [(it["stream"], it["kind"], it["payload"]) for it in seen] == [
        (3, "text", "three"),
        (3, "text", "three"),
    ]


@pytest.mark.parametrize("http2", [False, True])
def test_following_begins_in_the_midst_of_a_message(
    served: LookedAt, following: Following, http2: bool
) -> None:
    data, connection = text("in parts" * 1000), served.websocket()
    if http2:
        connection, data = served.websockets(1), frame(DATA, 0, 1, data)
    for cut in (1, 5, 9, 10, 13, 20, 5000):
        served.receive(connection, data[:cut])
        follower = following.follow(connection, payload=True)
        assert follower is not None
        served.receive(connection, data[cut:])
        behind = text("next")
        served.receive(connection, frame(DATA, 0, 1, behind) if http2 else behind)
        seen = kinds(follower)
        assert (True, "text", "next") in seen
        assert seen[-1] == (False, "text", "next")
        assert {kind for _, kind, _ in seen} <= {"text", "DATA", "WINDOW_UPDATE"}
        following.leave(connection, follower)


def test_payloads_are_hidden_unless_they_are_asked_for(
    served: LookedAt, following: Following
) -> None:
    connection = served.websocket()
    hidden = following.follow(connection, payload=False)
    shown = following.follow(connection, payload=True)
    assert hidden is not None
    assert shown is not None
    served.receive(connection, text("secret"))
    assert "secret" not in str(hidden.take())
    assert "secret" in str(shown.take())


def test_who_follows_nothing_leaves_no_tap(
    served: LookedAt, following: Following
) -> None:
    connection = served.websocket()
    first = following.follow(connection, payload=False)
    second = following.follow(connection, payload=False)
    assert first is not None
    assert second is not None
    following.leave(connection, first)
    assert connection._pipe is not None
    following.leave(connection, second)
    assert connection._pipe is None
    following.leave(connection, second)  # once more is nothing


def test_a_connection_that_is_lost_is_not_followed(
    served: LookedAt, following: Following
) -> None:
    connection = served.websocket()
    follower = following.follow(connection, payload=False)
    connection.connection_lost(None)
    assert following.follow(connection, payload=False) is None
    assert follower is not None
    following.leave(connection, follower)
    assert not following._tapped


def test_a_follower_that_is_slow_misses_frames_and_is_told() -> None:
    follower = Follower(payload=False)
    frames = [Frame(True, "text", 1)] * 1500
    follower.put(1.0, frames)
    assert (len(follower.take()), follower.lost) == (1000, 500)


def test_what_cannot_be_read_costs_the_connection_nothing(
    served: LookedAt,
    following: Following,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = served.websocket()
    following.follow(connection, payload=False)
    monkeypatch.setattr(H1Decoder, "feed", None)  # a bug
    assert served.receive(connection, text("goes on")) != b""
    assert "cannot be read" in caplog.text
    assert connection._pipe is None


# -- counting ------------------------------------------------------------------------


def test_messages_are_counted_each_way(served: LookedAt, following: Following) -> None:
    connection = served.websocket()
    following.count([connection])
    for _ in range(10):
        served.receive(connection, text("tick"))
    served.runtime.advance(2.0)
    assert following.rates(connection) == {0: (5.0, 5.0)}


def test_counting_ends_with_its_budget(served: LookedAt, following: Following) -> None:
    one, other = served.websocket(), served.websocket()
    following.count([one, other])
    served.runtime.advance(1.0)
    for _ in range(600):  # in and out
        served.receive(one, text("flood"))
    assert (one._pipe, other._pipe) == (None, None)
    served.runtime.advance(9.0)  # which does not count
    assert following.rates(one) == {0: (500.0, 500.0)}
    assert following.rates(other) == {}
    assert following.counted(other)


def test_only_what_is_shown_is_counted(served: LookedAt, following: Following) -> None:
    one, other = served.websocket(), served.websocket()
    following.count([one])
    following.count([other])
    assert one._pipe is None
    assert not following.counted(one)
    assert other._pipe is not None
    following.close()
    assert other._pipe is None


def test_who_follows_goes_on_when_counting_ends(
    served: LookedAt, following: Following
) -> None:
    connection = served.websocket()
    following.count([connection])
    follower = following.follow(connection, payload=False)
    assert follower is not None
    following.count([])
    served.receive(connection, text("still"))
    assert len(follower.take()) == 2
