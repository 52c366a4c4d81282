"""``Topics``: names and messages that cannot be, engines by URL, and loops."""

import asyncio
import threading
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest
import trio

import tako
from tako.errors import ConfigError
from tako.topics import OLDEST, History, Position, Topics
from tako.topics.topics import engine_for


GOOD = ["a", "room/7", "x" * 255, "\u20ac" * 85, "with space"]
BAD = ["", "x" * 256, "\u20ac" * 86, "a\nb", "a\x00", "\x7f", "\x85", "a{b", "b}"]


@pytest.mark.parametrize("name", GOOD)
def test_a_name_has_255_bytes_at_most(name: str) -> None:
    async def main() -> None:
        async with Topics() as topics, topics.subscribe(name) as feed:
            await topics.publish(name, "1")
            assert (await anext(feed)).topic == name

    asyncio.run(main())


@pytest.mark.parametrize("name", BAD)
def test_other_names_are_refused(name: str) -> None:
    topics = Topics()
    with pytest.raises(ValueError, match="255 bytes of UTF-8"):
        topics.subscribe(name)
    with pytest.raises(ValueError, match="255 bytes of UTF-8"):
        asyncio.run(topics.publish(name, "1"))


def test_a_name_is_a_str() -> None:
    name: Any = b"a"
    with pytest.raises(TypeError, match="bytes"):
        Topics().subscribe(name)


@pytest.mark.parametrize("data", ["x" * ((1 << 20) + 1), bytes((1 << 20) + 1)])
def test_a_message_that_is_too_large_is_refused(data: str | bytes) -> None:
    with pytest.raises(ValueError, match="1048577"):
        asyncio.run(Topics().publish("a", data))


def test_a_message_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        asyncio.run(Topics().publish("a", "\ud800"))


def test_a_message_is_text_or_bytes() -> None:
    data: Any = tako.Message.Ping()
    with pytest.raises(TypeError, match="not Ping"):
        asyncio.run(Topics().publish("a", data))


@pytest.mark.parametrize("names", [[], [str(number) for number in range(101)]])
def test_a_feed_has_1_to_100_topics(names: list[str]) -> None:
    with pytest.raises(ValueError, match="1 to 100 topics"):
        Topics().subscribe(*names)


def test_since_is_for_topics_of_the_feed() -> None:
    topics = Topics()
    with pytest.raises(ValueError, match="a mapping"):
        topics.subscribe("a", "b", since=OLDEST)
    with pytest.raises(ValueError, match="not subscribed"):
        topics.subscribe("a", since={"b": OLDEST})
    with pytest.raises(ValueError, match="at least 1"):
        topics.subscribe("a", bound=0)
    topics.subscribe("a", "a", since="anything")  # twice is once


def test_other_urls_are_refused() -> None:
    with pytest.raises(ConfigError, match="nats:"):
        Topics("nats://localhost")
    assert engine_for(None, None) is None


def test_what_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("tako.topics.topics.import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'tako-server\[redis\]'"):
        Topics("rediss://localhost")


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object]] = []

    def engine(url: str, *, history: object) -> object:
        asked.append((url, history))
        return object()

    found = SimpleNamespace(RedisEngine=engine)
    monkeypatch.setattr("tako.topics.topics.import_module", lambda _: found)
    history = History()
    topics = Topics("redis://user:secret@example.org:6379/0", history=history)
    assert asked == [("redis://user:secret@example.org:6379/0", history)]
    assert repr(topics) == "<Topics redis://example.org>"
    assert repr(Topics()) == "<Topics of this machine>"


def test_an_engine_has_its_own_history() -> None:
    engine: Any = object()
    with pytest.raises(ConfigError, match="to the engine"):
        Topics(engine, history=History())


def test_one_loop_after_the_other_can_use_them() -> None:
    topics = Topics(history=History())
    positions: list[Position | None] = []

    async def once() -> None:  # and never closes
        positions.append(await topics.publish("a", "1"))

    asyncio.run(once())
    trio.run(once)
    asyncio.run(once())
    assert len({position.epoch for position in positions if position}) == 3
    assert topics.counts.published == 3


def test_two_loops_at_once_cannot() -> None:
    topics = Topics()
    entered, over = threading.Event(), threading.Event()

    async def first() -> None:
        async with topics:
            entered.set()
            await asyncio.to_thread(over.wait, 30)

    thread = threading.Thread(target=asyncio.run, args=(first(),))
    thread.start()
    try:
        assert entered.wait(30)

        async def second() -> None:
            await topics.publish("a", "1")

        for runtime in ("asyncio", "trio"):
            with pytest.raises(RuntimeError, match="make a Topics for each"):
                tako.run(second, runtime=runtime)
    finally:
        over.set()
        thread.join(30)
    asyncio.run(second())


def test_without_a_loop_it_says_what_is_missing() -> None:
    publishing = Topics().publish("a", "1")
    with pytest.raises(RuntimeError, match="asyncio or trio"):
        publishing.send(None)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_feeds_end_with_the_block(runtime: str) -> None:
    async def main() -> None:
        async with Topics() as topics:
            feed = await topics.subscribe("a").__aenter__()
            await topics.publish("a", "1")
        assert [item.data async for item in feed] == ["1"]  # type: ignore[union-attr]
        assert topics.counts.feeds == 0

    tako.run(main, runtime=runtime)


def test_many_first_uses_on_asyncio_are_one() -> None:
    async def main() -> None:
        topics = Topics()
        feeds = [topics.subscribe("a") for _ in range(5)]
        async with asyncio.TaskGroup() as group:
            for feed in feeds:
                group.create_task(feed.__aenter__())
        await topics.publish("a", "1")
        assert [(await anext(feed)).topic for feed in feeds] == ["a"] * 5

    asyncio.run(main())


def test_many_first_uses_on_trio_are_one() -> None:
    async def main() -> None:
        topics = Topics()
        feeds = [topics.subscribe("a") for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for feed in feeds:
                nursery.start_soon(feed.__aenter__)
        await topics.publish("a", "1")
        assert [(await anext(feed)).topic for feed in feeds] == ["a"] * 5

    trio.run(main)


@pytest.mark.parametrize(("name", "most"), [("room", 500), ("room/{}", 800)])
def test_a_subscription_takes_as_little_memory_as_is_said(name: str, most: int) -> None:
    count = 2_000

    async def main() -> float:
        async with Topics() as topics, topics.subscribe("room"):
            names = [name.format(number) for number in range(count)]
            tracemalloc.start()
            try:
                feeds = [topics.subscribe(each) for each in names]
                for feed in feeds:
                    await feed.__aenter__()
                held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            return held / count

    assert asyncio.run(main()) < most
