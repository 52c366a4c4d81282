"""What a client sees of the frameworks' examples, on any server.

``connect`` makes a connection of a wire; a check that takes one needs several.
"""

from collections.abc import Callable
from typing import TypeAlias

from tako.testing.peer import PeerConnection


Connect: TypeAlias = Callable[[], PeerConnection]
Check: TypeAlias = Callable[[Connect], None]


def starlette_responses(connect: Connect) -> None:
    """Whole, streamed and stamped ones; bodies that are streamed to the app."""
    with connect() as connection:
        assert connection.request("GET", "/").body == b"Hello, world!"
        numbers = connection.request("GET", "/numbers")
        assert numbers.body.count(b"<li>") == 10
        assert numbers.header("x-stamp") == "stamped"
        sent = connection.request("POST", "/body", body=[b"x" * 9999] * 9)
        assert sent.body == b"89991 bytes at /body"
        sent = connection.request("POST", "/sub/body", body=b"x")
        assert sent.body == b"1 bytes at /sub/body"


def fastapi_responses(connect: Connect) -> None:
    """JSON, and a streamed one."""
    with connect() as connection:
        assert connection.request("GET", "/").body == b'{"message":"Hello World"}'
        assert connection.request("GET", "/video").body.count(b"video") == 10


def quart_responses(connect: Connect) -> None:
    """A whole and a streamed one; a body."""
    with connect() as connection:
        assert connection.request("GET", "/").body == b"hello"
        lines = connection.request("GET", "/numbers").body.split()
        assert lines == [b"%d" % number for number in range(10)]
        sent = connection.request("POST", "/body", body=[b"x" * 9999] * 9)
        assert sent.body == b"89991 bytes"


def django_responses(connect: Connect) -> None:
    """A whole and a streamed one; a body for a view that is not async."""
    with connect() as connection:
        assert connection.request("GET", "/").body == b"hello"
        lines = connection.request("GET", "/numbers").body.split()
        assert lines == [b"%d" % number for number in range(10)]
        sent = connection.request("POST", "/body", body=[b"x" * 9999] * 9)
        assert sent.body.startswith(b"89991 bytes over http")


def litestar_responses(connect: Connect) -> None:
    """JSON, and a streamed one; a body that is streamed to the app."""
    with connect() as connection:
        assert connection.request("GET", "/").body == b'{"message":"hello"}'
        lines = connection.request("GET", "/numbers").body.split()
        assert lines == [b"%d" % number for number in range(10)]
        sent = connection.request("POST", "/body", body=[b"x" * 9999] * 9)
        assert sent.body == b"89991 bytes"


def _echo(connect: Connect, answer: str) -> None:
    with connect() as connection:
        ws = connection.websocket("/ws")
        for number in range(3):
            ws.send(str(number))
            ws.expect(f"{answer}{number}")
        ws.close(1000)
        assert ws.expect_close() == (1000, "")


def starlette_websockets(connect: Connect) -> None:
    """An echo, JSON, an endpoint class; refusals with and without a response."""
    _echo(connect, "Message text was: ")
    with connect() as connection:
        ws = connection.websocket("/json", subprotocols=["v1", "v2"])
        assert ws.subprotocol == "v1"
        assert ws.response.header("x-served-by") == "starlette"
        ws.send('{"a":1}')
        ws.expect('{"got":{"a":1}}')
        assert ws.expect_close() == (4001, "done")
    with connect() as connection:
        response = connection.handshake("/denied")
        assert (response.status, response.body) == (401, b"Not today")
    for path in ("/closed", "/nowhere"):
        with connect() as connection:
            assert connection.handshake(path).status == 403
    with connect() as connection:
        ws = connection.websocket("/endpoint")
        ws.send(b"raw")
        ws.expect(b"Message: raw")
        ws.close(1000)
        assert ws.expect_close() == (1000, "")


def fastapi_websockets(connect: Connect) -> None:
    """The chat, and an endpoint that does not mind that its client may leave."""
    with connect() as connection:
        ws = connection.websocket("/ws/7")
        ws.send("hi")
        ws.expect("You wrote: hi", "Client #7 says: hi")
        ws.close(1000)
        assert ws.expect_close() == (1000, "")
    with connect() as connection:
        ws = connection.websocket("/careless")
        ws.send("x")
        ws.expect("Message text was: x")
        ws.close(1001)
        assert ws.expect_close() == (1001, "")


def quart_websockets(connect: Connect) -> None:
    """An echo; headers on accept, a close code and reason; a denial response."""
    _echo(connect, "echo ")
    with connect() as connection:
        ws = connection.websocket("/closing")
        assert ws.response.header("x-served-by") == "quart"
        ws.send("now")
        assert ws.expect_close() == (4002, "enough")
    with connect() as connection:
        response = connection.handshake("/denied")
        assert (response.status, response.body) == (401, b"No")


def django_websockets(connect: Connect) -> None:
    """An echo; a subprotocol, a close code and a reason; a refusal."""
    _echo(connect, "echo ")
    with connect() as connection:
        ws = connection.websocket("/closing", subprotocols=["v1", "v2"])
        assert ws.subprotocol == "v1"
        ws.send("now")
        assert ws.expect_close() == (4002, "enough")
    with connect() as connection:
        assert connection.handshake("/denied").status == 403


def litestar_websockets(connect: Connect) -> None:
    """An echo; headers on accept, a close code and reason; a refusal."""
    _echo(connect, "echo ")
    with connect() as connection:
        ws = connection.websocket("/closing")
        assert ws.response.header("x-served-by") == "litestar"
        ws.send("now")
        assert ws.expect_close() == (4002, "enough")
    with connect() as connection:
        assert connection.handshake("/denied").status in {401, 403}


RESPONSES: dict[str, Check] = {
    "starlette": starlette_responses,
    "fastapi": fastapi_responses,
    "quart": quart_responses,
    "django": django_responses,
    "litestar": litestar_responses,
}
WEBSOCKETS: dict[str, Check] = {
    "starlette": starlette_websockets,
    "fastapi": fastapi_websockets,
    "quart": quart_websockets,
    "django": django_websockets,
    "litestar": litestar_websockets,
}
