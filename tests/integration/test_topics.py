"""Topics in one process: every runtime and wire, handlers and ASGI apps."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from wsproto.extensions import PerMessageDeflate

import tako
from tako import (
    Deflate,
    Request,
    Router,
    ServerConfig,
    Sse,
    SseEvent,
    TakoWs,
    WebSocket,
)
from tako.asgi import AsgiApp
from tako.testing import RunningServer, serve
from tako.testing.peer import Wire
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.websocket import PeerWebSocket, Pong
from tako.topics import (
    OLDEST,
    Gap,
    History,
    Item,
    Policy,
    Topics,
    close,
    drop_oldest,
    latest,
)
from tests.support.asgi_apps import Receive, Scope, Send, lifespan_only
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.server import RuntimeName


Start = Callable[..., RunningServer]
RSV1 = 4


def slow_socket(server: RunningServer) -> PeerWebSocket:
    """Return a socket whose buffers run full soon while nothing is read."""
    ws = server.connect("/ws", receive_buffer=4096, stream_window=4096)
    ws.expect("ready")
    return ws


@pytest.fixture
def start(wire: Wire, runtime: RuntimeName) -> Start:
    """Return what serves a router or an app on the test's wire and runtime."""

    def start(app: Any, **options: Any) -> RunningServer:
        return serve(app, wire=wire, runtime=runtime, **options)

    return start


@pytest.fixture
def topics() -> Iterator[Topics]:
    """Topics whose feeds are all closed at the end."""
    made = Topics(history=History())
    yield made
    assert made.counts.feeds == 0
    assert made.counts.queued_bytes == 0


def room(topics: Topics, **options: Any) -> Router:
    """Return a router with a chat room, the feed beside the reading."""
    router = Router()

    async def chat(request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            async with topics.subscribe("room") as feed, ws.relay(feed):
                await ws.send("welcome")
                async for message in ws:
                    if isinstance(message, (str, bytes)):
                        await topics.publish("room", message)

        return TakoWs(request, session, **options)

    router.get("/ws", chat)
    return router


def pushed(
    topics: Topics,
    *,
    policy: Policy = drop_oldest,
    bound: int = 256,
    size: int = 1 << 20,
    on_gap: Callable[[Gap], str] | None = None,
) -> Router:
    """Return a router with a socket that is only sent to, and a way to publish."""
    router = Router()

    async def push(request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            feed = topics.subscribe("news", policy=policy, bound=bound, size=size)
            async with feed:
                await ws.send("ready")
                await ws.relay(feed, on_gap=on_gap)

        return TakoWs(request, session)

    async def publish(request: Request) -> str:
        await topics.publish("news", await request.body())
        return str(topics.counts.feeds)

    router.get("/ws", push)
    router.post("/publish", publish)
    return router


def test_members_of_a_room_hear_each_other(start: Start, topics: Topics) -> None:
    with start(room(topics)) as server:
        members = [server.connect("/ws") for _ in range(3)]
        for member in members:
            member.expect("welcome")
        said: list[str | bytes] = ["hello", b"\x00\xff", "\N{OCTOPUS}", "x" * 70_000]
        for member, message in zip([*members, members[0]], said, strict=True):
            member.send(message)
            for other in members:
                other.expect(message)
        for member in members:
            member.close()


def test_a_burst_arrives_in_order(start: Start, topics: Topics) -> None:
    with start(room(topics)) as server:
        members = [server.connect("/ws") for _ in range(2)]
        for member in members:
            member.expect("welcome")
        for number in range(500):
            members[0].send(str(number))
        for member in members:
            member.expect(*map(str, range(500)))
            member.close()


def test_what_is_sent_and_what_is_relayed_keep_their_order(
    start: Start, topics: Topics
) -> None:
    router = Router()

    async def both(request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            async with topics.subscribe("room") as feed, ws.relay(feed):
                async for message in ws:
                    if not isinstance(message, str):
                        continue
                    await ws.send(f"{message}: sent")
                    await ws.send(f"{message}: sent on")
                    await topics.publish("room", f"{message}: relayed")
                    await ws.send(f"{message}: sent again")
                    await topics.publish("room", f"{message}: relayed again")

        return TakoWs(request, session)

    router.get("/ws", both)
    steps = ("sent", "sent on", "relayed", "sent again", "relayed again")
    with start(router) as server, server.connect("/ws") as ws:
        for number in range(20):
            ws.send(str(number))
        ws.expect(*(f"{number}: {step}" for number in range(20) for step in steps))
        ws.send("alone")
        ws.expect(*(f"alone: {step}" for step in steps))


def test_a_socket_that_reads_late_gets_all_that_has_room(
    start: Start, topics: Topics
) -> None:
    with start(pushed(topics, size=8 << 20)) as server:
        ws, client = slow_socket(server), server.client()
        messages = [str(n).encode() * 10_000 for n in range(100, 200)]
        for message in messages:  # each in a turn of its own
            client.post("/publish", content=message)
        ws.expect(*messages)
        assert topics.counts.dropped == {}
        ws.close()


def test_a_relay_reads_on_and_ends_with_the_socket(
    start: Start, topics: Topics
) -> None:
    with start(pushed(topics)) as server:
        with server.connect("/ws") as ws:
            ws.expect("ready")
            for _ in range(3_000):  # more than an inbox takes
                ws.send("chatter")
            server.client().post("/publish", content=b"1")
            ws.expect(b"1")
            ws.ping(b"?")
            assert ws.receive() == Pong(b"?")
        _until(lambda: topics.counts.feeds == 0)


@pytest.mark.parametrize("how", ["abort", "vanish"])
def test_a_socket_that_is_lost_leaves_its_feed(
    start: Start, topics: Topics, how: str
) -> None:
    with start(pushed(topics)) as server:
        lost, other = server.connect("/ws"), server.connect("/ws")
        for ws in (lost, other):
            ws.expect("ready")
        getattr(lost, how)()
        if how == "abort":
            _until(lambda: topics.counts.feeds == 1)
        server.client().post("/publish", content=b"1")
        other.expect(b"1")
        other.close()


def test_a_slow_socket_misses_what_it_is_told_and_others_nothing(
    start: Start, topics: Topics
) -> None:
    router = pushed(topics, bound=5, on_gap=lambda gap: f"missed {gap.missed}")
    with start(router) as server:
        slow = slow_socket(server)
        other = server.connect("/ws")
        other.expect("ready")
        client, count = server.client(), 0
        while not topics.counts.dropped or count < 100:
            message = b"%d:" % count + bytes(30_000)
            client.post("/publish", content=message)
            other.expect(message)
            count += 1
        last = 0
        while last < count:
            received = slow.receive()
            if isinstance(received, str):
                last += int(received.removeprefix("missed "))
            else:
                assert isinstance(received, bytes)
                assert int(received.partition(b":")[0]) == last
                last += 1
        assert list(topics.counts.dropped) == ["drop_oldest"]
        for ws in (slow, other):
            ws.close()


def test_a_slow_socket_is_closed_where_the_policy_says_so(
    start: Start, topics: Topics
) -> None:
    config = ServerConfig(ws_close_timeout=0.1)
    with start(pushed(topics, bound=2, policy=close(1013)), config=config) as server:
        slow_socket(server)
        with server.connect("/ws") as other:
            other.expect("ready")
            client = server.client()
            while topics.counts.feeds == 2:
                client.post("/publish", content=bytes(100_000))
                other.receive()
        assert topics.counts.dropped == {"close(1013)": 1}


def test_of_states_a_slow_socket_gets_the_latest(start: Start, topics: Topics) -> None:
    def key(item: Item) -> bytes:
        assert isinstance(item.data, bytes)
        return item.data[:1]

    with start(pushed(topics, policy=latest(key))) as server:
        slow = slow_socket(server)
        client, count = server.client(), 0
        while topics.counts.replaced < 50:
            count += 1
            for name in (b"a", b"b"):
                client.post("/publish", content=name + b"%d:" % count + bytes(20_000))
        seen = {b"a": 0, b"b": 0}
        while seen != {b"a": count, b"b": count}:
            received = slow.receive()
            assert isinstance(received, bytes)
            number = int(received[1:].partition(b":")[0])
            assert number > seen[received[:1]]
            seen[received[:1]] = number
        assert topics.counts.gaps == {}
        slow.close()


@pytest.mark.parametrize("fresh", [False, True])
def test_with_deflate_a_message_is_compressed_where_it_can_be_shared(
    start: Start, topics: Topics, fresh: bool
) -> None:
    deflate = Deflate(no_context_takeover=fresh, threshold=10)
    with start(room(topics, compression=deflate)) as server:
        connection = server.connection()
        with connection.websocket("/ws", extensions=[PerMessageDeflate()]) as ws:
            ws.expect("welcome")
            ws.send("the same " * 100)
            ws.expect("the same " * 100)
            assert bool(ws.frames[-1].rsv & RSV1) is fresh


class Chat:
    """Sessions that resume where their client has been."""

    def __init__(self, topics: Topics) -> None:
        self.router = Router()
        self.router.get("/ws", self.chat)
        self.topics = topics

    @staticmethod
    def encode(item: Item) -> str:
        return json.dumps({"at": str(item.position), "text": item.data})

    @staticmethod
    def on_gap(gap: Gap) -> str:
        return json.dumps({"gap": gap.cause.name})

    async def chat(self, request: Request) -> TakoWs:
        since = request.query_params.get("since")

        async def session(ws: WebSocket) -> None:
            feed = self.topics.subscribe("room", since=since or OLDEST)
            relay = ws.relay(feed, encode=self.encode, on_gap=self.on_gap)
            async with feed, relay:
                async for message in ws:
                    if isinstance(message, str):
                        await self.topics.publish("room", message)

        return TakoWs(request, session)


def test_a_client_resumes_where_it_was(start: Start, topics: Topics) -> None:
    def text(ws: Any) -> tuple[str, str]:
        found = json.loads(ws.receive())
        return found.get("text") or found["gap"], found.get("at", "")

    with start(Chat(topics).router) as server:
        with server.connect("/ws") as ada, server.connect("/ws") as grace:
            for word in ("one", "two"):
                ada.send(word)
                assert text(ada)[0] == word
                _, position = text(grace)
            grace.abort()
            ada.send("three")
            assert text(ada)[0] == "three"
            with server.connect(f"/ws?since={position}") as again:
                assert text(again)[0] == "three"
                ada.send("four")
                assert [text(each)[0] for each in (ada, again)] == ["four", "four"]
            with server.connect("/ws?since=nonsense") as lost:
                words = [text(lost)[0] for _ in range(5)]
                assert words == ["HISTORY", "one", "two", "three", "four"]
        with server.connect("/ws") as late:
            assert [text(late)[0] for _ in range(2)] == ["one", "two"]


# -- the end of a server -----------------------------------------------------------


class Listening:
    """A session and a response that iterate over a feed, and note their end."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.ended: list[str] = []
        self.router = Router()
        self.router.get("/ws", self.listen)
        self.router.get("/events", self.events)

    async def listen(self, request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            async for text in self.texts():
                await ws.send(text)
            self.ended.append("session")
            await self.topics.publish("news", "the last word")

        return TakoWs(request, session)

    async def events(self, _: Request) -> Sse:
        async def stream() -> AsyncIterator[SseEvent]:
            async for text in self.texts():
                yield SseEvent(text)
            self.ended.append("response")

        return Sse.events(stream())

    async def texts(self) -> AsyncIterator[str]:
        async with self.topics.subscribe("news") as feed:
            yield "ready"
            async for item in feed:
                if isinstance(item, Item):
                    yield str(item.data)


def test_a_drain_ends_feeds_of_sessions_and_of_responses(
    start: Start, topics: Topics
) -> None:
    app = Listening(topics)
    with start(app.router) as server:
        ws, connection = server.connect("/ws"), server.connection()
        ws.expect("ready")
        if isinstance(connection, H1Connection):
            connection.send_request("GET", "/events")
            connection.read_response(body=False)
            receive = connection.read_chunk
        else:
            stream = connection.send_request("GET", "/events")
            stream.head()
            receive = stream.receive
        assert receive() == b"data: ready\n\n"
        server.stop()
        ws.expect_close(1001)
        assert receive() == b""
    assert sorted(app.ended) == ["response", "session"]


def test_sessions_that_may_run_on_keep_their_feeds(
    start: Start, topics: Topics
) -> None:
    config = ServerConfig(drain_websockets="end", drain_timeout=TIMEOUT)
    with start(room(topics), config=config) as server, server.connect("/ws") as ws:
        ws.expect("welcome")
        server.stop()
        for number in range(3):
            ws.send(str(number))
            ws.expect(str(number))


def test_the_next_server_can_use_the_same_topics(start: Start, topics: Topics) -> None:
    for _ in range(2):
        with start(room(topics)) as server, server.connect("/ws") as ws:
            ws.expect("welcome")
            ws.send("hello")
            ws.expect("hello")


def test_two_servers_of_a_loop_end_feeds_with_the_last(runtime: RuntimeName) -> None:
    topics = Topics()

    async def main() -> list[object]:
        seen: list[object] = []
        async with topics.subscribe("a") as feed:
            async with tako.serve("127.0.0.1:0", Router()):
                async with tako.serve("127.0.0.1:0", Router()):
                    await topics.publish("a", "both")
                seen.append(feed.ended)
                await topics.publish("a", "one")
            seen.append(feed.ended)
            async for item in feed:
                assert isinstance(item, Item)
                seen.append(item.data)
        return seen

    assert run_on(runtime, main) == [False, True, "both", "one"]


# -- other places to use them -------------------------------------------------------


def test_an_asgi_app_uses_the_same_object(start: Start, topics: Topics) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan_only(scope, receive, send)
        elif scope["type"] == "http":
            await topics.publish("news", scope["path"])
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await receive()
            await send({"type": "websocket.accept"})
            async with topics.subscribe("news") as feed:
                await send({"type": "websocket.send", "text": "ready"})
                item = await anext(feed)
                assert isinstance(item, Item)
                await send({"type": "websocket.send", "text": str(item.data)})

    with start(AsgiApp(app)) as server, server.connect("/ws") as ws:
        ws.expect("ready")
        assert server.client().get("/hello").status_code == 204
        ws.expect("/hello")


def test_a_client_relays_as_well(
    start: Start, topics: Topics, runtime: RuntimeName, wire: Wire
) -> None:
    router = Router()
    got: list[object] = []

    async def listen(request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            await ws.send("ready")
            got.extend([await ws.read(TIMEOUT) for _ in range(3)])

        return TakoWs(request, session)

    router.get("/ws", listen)
    own = Topics()

    async def main(url: str, **options: Any) -> None:
        async with own, tako.connect(url, **options) as ws:
            assert await ws.read(TIMEOUT) == "ready"
            async with own.subscribe("a") as feed, ws.relay(feed):
                for message in ("hello", b"\x00" * 5_000, "x" * 70_000):
                    await own.publish("a", message)
                async for _ in ws:
                    pass

    with start(router) as server:
        version = "1.1" if wire in {"h1", "h1s"} else "2"
        options: dict[str, Any] = {"ssl": server.ssl, "http_versions": (version,)}
        run_on(runtime, lambda: main(f"{server.ws_url}/ws", **options))
    assert got == ["hello", b"\x00" * 5_000, "x" * 70_000]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
