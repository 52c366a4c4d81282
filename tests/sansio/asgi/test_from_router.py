"""``from_router`` without a server: what needs tako's own is refused, or left out."""

import logging
from typing import TYPE_CHECKING, Any

import pytest

import tako
from tako import Next, Request, Response, Router, TakoWs, WebSocket
from tako.asgi import from_router
from tako.core.upgrade import upgrade_of
from tako.topics import Topics, close
from tako.ws.upgrade import WebSocketUpgrade
from tests.support.server import Gate


if TYPE_CHECKING:
    from collections.abc import Callable


SCOPE = {
    "type": "websocket",
    "path": "/ws",
    "headers": [(b"host", b"a.test")],
    "http_version": "1.1",
    "scheme": "ws",
    "query_string": b"",
}


class Shouting(WebSocket):
    """What a middleware may put in a socket's place."""


@pytest.fixture(params=["asyncio", "trio"])
def runtime(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    name: str = request.param
    return name


def echo_router(*middleware: Any) -> Router:
    router = Router()
    for each in middleware:
        router.middleware(each)

    async def echo(ws: WebSocket) -> None:
        async for message in ws:
            if isinstance(message, str):
                await ws.send(message)

    async def handler(request: Request) -> TakoWs:
        return TakoWs(request, echo)

    router.get("/ws", handler)
    return router


def converse(runtime: str, router: Router, **more: Any) -> list[str]:
    """Return what a client gets that says hello and leaves."""
    sent: list[str] = []
    events: list[dict[str, Any]] = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "hello"},
        {"type": "websocket.disconnect", "code": 1000},
    ]

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    async def send(event: Any) -> None:
        sent.append(" ".join([event["type"], *map(str, _facts(event))]))

    app = from_router(router)
    tako.run(app, {**SCOPE, **more}, receive, send, runtime=runtime)
    return sent


def _facts(event: dict[str, Any]) -> list[Any]:
    return [event[key] for key in ("status", "text", "body") if key in event]


async def shout(request: Request, call_next: Next) -> Response:
    response = await call_next(request)
    upgrade = upgrade_of(response)
    assert isinstance(upgrade, WebSocketUpgrade)
    upgrade.make_socket = Shouting
    return response


def test_a_socket_of_a_middleware_is_refused(
    runtime: str, caplog: pytest.LogCaptureFixture
) -> None:
    with_denial: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
    assert converse(runtime, echo_router(shout), **with_denial) == [
        "websocket.http.response.start 500",
        "websocket.http.response.body b'Internal Server Error'",
    ]
    assert converse(runtime, echo_router(shout)) == ["websocket.close"]
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [each.message for each in errors] == [
        "/ws: make_socket needs tako's own server"
    ] * 2


def test_an_access_log_changes_nothing_and_says_nothing(
    runtime: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tako.access")
    assert converse(runtime, echo_router(tako.access_log())) == [
        "websocket.accept",
        "websocket.send hello",
    ]
    assert not caplog.records


def ask(
    runtime: str,
    router: Router,
    events: list[dict[str, Any]],
    *,
    left: Gate | None = None,
) -> list[str]:
    """Return what a client gets whose events these are; ``left``: then it leaves."""
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        if not events and left is not None:
            await left.wait()
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        sent.append(" ".join([event["type"], *map(str, _facts(event))]))

    scope = {**SCOPE, "type": "http", "method": "POST", "path": "/", "scheme": "http"}
    tako.run(from_router(router), scope, receive, send, runtime=runtime)
    return sent


def pieces(*bodies: bytes) -> list[dict[str, Any]]:
    event = {"type": "http.request", "more_body": True}
    events = [{**event, "body": body} for body in bodies]
    events[-1]["more_body"] = False
    return events


@pytest.mark.parametrize("first", ["the body", "nothing"])
def test_a_handler_can_wait_until_its_client_has_left(runtime: str, first: str) -> None:
    left, router, seen = Gate(), Router(), list[object]()

    async def handler(request: Request) -> str:
        seen.append(request.disconnected)
        if first == "the body":
            seen.append(await request.body())
        left.open()
        if first == "nothing":
            seen.append(await request.body())
        await request.wait_disconnected()
        seen.append(request.disconnected)
        return "for nobody"

    router.post("/", handler)
    sent = ask(runtime, router, pieces(b"one ", b"two ", b"three"), left=left)
    assert seen == [False, b"one two three", True]
    assert sent == ["http.response.start 200", "http.response.body b'for nobody'"]


def test_a_handler_can_look_again_and_again(runtime: str) -> None:
    left, router = Gate(), Router()

    async def handler(request: Request) -> str:
        await request.body()
        looks = 0
        while not request.disconnected:
            looks += 1
            left.open()
            await tako.sleep(0.001)
        return f"{looks > 0}"

    router.post("/", handler)
    assert ask(runtime, router, pieces(b""), left=left)[-1].endswith("b'True'")


def test_a_body_that_is_cut_short_ends_in_both_ways(runtime: str) -> None:
    router, seen = Router(), list[object]()

    async def handler(request: Request) -> str:
        try:
            await request.body()
        except tako.Disconnected:
            seen.append(request.disconnected)
        await request.wait_disconnected()
        return "for nobody"

    router.post("/", handler)
    events = pieces(b"one", b"two")[:1]
    ask(runtime, router, events)
    assert seen == [True]


def test_a_session_can_look_without_missing_a_message(runtime: str) -> None:
    router, seen = Router(), list[object]()

    async def session(ws: WebSocket) -> None:
        seen.append(ws.request.disconnected)
        async for message in ws:
            seen.append(message)
        await ws.request.wait_disconnected()
        seen.append(ws.request.disconnected)

    async def handler(request: Request) -> TakoWs:
        return TakoWs(request, session)

    router.get("/ws", handler)
    assert converse(runtime, router)[0] == "websocket.accept"
    assert seen[:2] == [False, "hello"]
    assert seen[-1] is True


@pytest.mark.parametrize("status", [100, 103])
def test_an_interim_response_is_no_answer(
    runtime: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    router.post("/", lambda: Response(status))
    assert ask(runtime, router, pieces(b""))[0] == "http.response.start 500"
    assert "no answer" in caplog.text


class Host:
    """A host whose client sends what the test says, when the test says so."""

    def __init__(self, session: Any) -> None:
        router = Router()
        router.get("/ws", lambda request: TakoWs(request, session))
        self.app = from_router(router)
        self.sent: list[Any] = []
        self.events: list[dict[str, Any]] = [{"type": "websocket.connect"}]
        self.takes: Callable[[Any], bool] = lambda _: True
        self.after: dict[object, dict[str, Any]] = {}  # what comes behind what was sent

    async def receive(self) -> dict[str, Any]:
        for _ in range(10_000):
            if self.events:
                return self.events.pop(0)
            await tako.sleep(0.001)
        msg = f"nothing more happens after {self.sent}"
        raise AssertionError(msg)

    async def send(self, event: Any) -> None:
        for _ in range(10_000):
            if event["type"] == "websocket.accept" or self.takes(event):
                break
            await tako.sleep(0.001)
        sent = event.get("text", event.get("bytes", event.get("code")))
        self.sent.append(sent)
        if sent in self.after:
            self.events.append(self.after.pop(sent))

    def run(self, runtime: str) -> list[Any]:
        tako.run(self.app, SCOPE, self.receive, self.send, runtime=runtime)
        return self.sent[1:]


LEAVE = {"type": "websocket.disconnect", "code": 1000}


def test_a_feed_is_relayed_beside_the_reading(runtime: str) -> None:
    topics = Topics()

    async def session(ws: WebSocket) -> None:
        async with topics, topics.subscribe("a") as feed, ws.relay(feed):
            await topics.publish("a", b"first")
            async for message in ws:
                if isinstance(message, str):
                    for number in range(3):
                        await topics.publish("a", f"{message} {number}")

    host = Host(session)
    host.after = {
        b"first": {"type": "websocket.receive", "text": "say"},
        "say 2": LEAVE,
    }
    assert host.run(runtime) == [b"first", "say 0", "say 1", "say 2"]


def test_a_relay_drops_what_comes_and_ends_with_the_socket(runtime: str) -> None:
    topics = Topics()

    async def session(ws: WebSocket) -> None:
        async with topics, topics.subscribe("a") as feed:
            await topics.publish("a", "first")
            await ws.relay(feed)
            await topics.publish("a", "too late")

    host = Host(session)
    host.events.append({"type": "websocket.receive", "text": "chatter"})
    host.after = {"first": LEAVE}
    assert host.run(runtime) == ["first"]


def test_a_relay_ends_with_the_feed(runtime: str) -> None:
    topics = Topics()

    async def session(ws: WebSocket) -> None:
        async with topics.subscribe("a") as feed:
            await topics.aclose()
            await ws.relay(feed)

    assert Host(session).run(runtime) == [1000]


def test_a_policy_closes_the_socket_of_another_server(runtime: str) -> None:
    topics = Topics()

    async def session(ws: WebSocket) -> None:
        feed = topics.subscribe("a", bound=1, policy=close(1013))
        async with topics, feed, ws.relay(feed):
            for number in range(4):
                await topics.publish("a", str(number))
            async for _ in ws:
                pass

    host = Host(session)
    host.takes = lambda event: "code" in event or bool(topics.counts.dropped)
    host.after = {1013: {"type": "websocket.disconnect", "code": 1013}}
    sent = host.run(runtime)
    assert sent[-1] == 1013
