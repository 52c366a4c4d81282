"""Files that an app names: what becomes of each event, on both wires."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tako.asgi.protocol import ClientDisconnectedError, EventError
from tako.core.error_code import ErrorCode
from tako.errors import LocalProtocolError
from tako.h2.frames import RST_STREAM
from tests.sansio.asgi.test_answers import BODY, START, Served
from tests.support.asgi_apps import App, Receive, Scope, Send
from tests.support.h2wire import parse
from tests.support.in_memory import MemoryWire
from tests.support.wire import Cancelled


KIB = 1 << 10
CONTENT = os.urandom(200 * KIB)
PATHSEND, ZEROCOPYSEND = "http.response.pathsend", "http.response.zerocopysend"

PLACES = pytest.mark.parametrize("place", ["whole", "behind a middleware"])
WAITING = pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("whole", PATHSEND),
        ("whole", ZEROCOPYSEND),
        ("behind a middleware", ZEROCOPYSEND),  # the other has returned
    ],
)
KINDS = pytest.mark.parametrize("kind", [PATHSEND, ZEROCOPYSEND])


@pytest.fixture(params=["http/1.1", "h2"])
def wire(request: pytest.FixtureRequest) -> MemoryWire:
    name: MemoryWire = request.param
    return name


class File:
    """A file, and a descriptor of it."""

    def __init__(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.path = path
        self.fd = os.open(path, os.O_RDONLY)

    def event(self, kind: str, **more: Any) -> dict[str, Any]:
        named = {"path": str(self.path)} if kind == PATHSEND else {"file": self.fd}
        return {"type": kind, **named, **more}

    def opened(self) -> int:
        """Return how many descriptors of it this process has."""
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return sum(
            os.path.lexists(link) and os.readlink(link) == str(self.path)
            for link in links
        )


@pytest.fixture
def large(tmp_path: Path) -> Iterator[File]:
    file = File(tmp_path / "large", CONTENT)
    yield file
    assert file.opened() == 1
    os.close(file.fd)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[File]:
    file = File(tmp_path / "small", b"content")
    yield file
    assert file.opened() == 1
    os.close(file.fd)


def sending(*events: dict[str, Any], errors: list[BaseException], **start: Any) -> App:
    """Return an app that sends these, and notes what that raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({**START, **start})
            for event in events:
                await send(event)
        except BaseException as error:
            errors.append(error)
            raise

    return app


@PLACES
@KINDS
def test_a_whole_body(
    wire: MemoryWire, place: str, kind: str, small: File, large: File
) -> None:
    for file, content in ((small, b"content"), (large, CONTENT)):
        errors: list[BaseException] = []
        served = Served(wire, sending(file.event(kind), errors=errors), place)
        served.ask()
        served.go_on()
        assert (served.body(), errors) == (content, [])


@PLACES
def test_parts(wire: MemoryWire, place: str, small: File, large: File) -> None:
    errors: list[BaseException] = []
    app = sending(
        large.event(ZEROCOPYSEND, offset=1, more_body=True),
        {"type": BODY, "body": b"-", "more_body": True},
        small.event(ZEROCOPYSEND, more_body=True),
        large.event(ZEROCOPYSEND, offset=2, count=100 * KIB),
        errors=errors,
    )
    served = Served(wire, app, place)
    served.ask()
    served.go_on()
    expected = CONTENT[1:] + b"-content" + CONTENT[2 : 2 + 100 * KIB]
    assert (served.body(), errors) == (expected, [])


@PLACES
@KINDS
def test_to_head_and_with_304_nothing_is_opened(
    wire: MemoryWire, place: str, kind: str
) -> None:
    for method, status in (("HEAD", 200), ("GET", 304)):
        errors: list[BaseException] = []
        app = sending({"type": kind}, errors=errors, status=status)
        served = Served(wire, app, place)
        served.ask(method=method)
        served.runtime.advance(0)
        assert (served.body(), errors) == (b"", [])


@PLACES
@pytest.mark.parametrize("length", [7, 100 * KIB, len(CONTENT)])
def test_of_a_grown_file_what_was_promised(
    wire: MemoryWire, place: str, length: int, large: File
) -> None:
    errors: list[BaseException] = []
    headers = [(b"x-a", b"b"), (b"content-length", b"%d" % length)]
    app = sending(large.event(PATHSEND), errors=errors, headers=headers)
    served = Served(wire, app, place)
    served.ask()
    served.go_on()
    assert (served.body(), errors) == (CONTENT[:length], [])


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"type": PATHSEND, "path": "/not/there"}, "No such file"),
        ({"type": PATHSEND, "path": b"/bytes"}, "'path' of an event is str"),
        ({"type": ZEROCOPYSEND, "file": -1}, "cannot send -1: "),
        ({"type": ZEROCOPYSEND, "file": 0, "offset": "1"}, "'offset' of an event"),
        ({"type": ZEROCOPYSEND, "file": 0, "count": False}, "'count' of an event"),
    ],
)
def test_what_cannot_be_sent(
    wire: MemoryWire, event: dict[str, Any], message: str
) -> None:
    errors: list[BaseException] = []
    served = Served(wire, sending(event, errors=errors))
    served.ask()
    (error,) = errors
    assert isinstance(error, EventError)
    assert message in str(error)
    assert served.body() == b"Internal Server Error"


def test_a_path_is_alone(wire: MemoryWire, small: File) -> None:
    errors: list[BaseException] = []
    first = {"type": BODY, "body": b"a", "more_body": True}
    Served(wire, sending(first, small.event(PATHSEND), errors=errors)).ask()
    assert isinstance(errors[0], EventError)


def test_nothing_comes_behind_it(wire: MemoryWire, small: File) -> None:
    errors: list[BaseException] = []
    event = small.event(PATHSEND)
    served = Served(wire, sending(event, event, errors=errors))
    served.ask()
    assert served.body() == b"content"
    assert isinstance(errors[0], EventError)


@PLACES
def test_a_file_that_is_cut_cuts_the_answer(
    wire: MemoryWire, place: str, large: File, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[BaseException] = []
    part = large.event(ZEROCOPYSEND, more_body=True)
    served = Served(wire, sending(part, errors=errors), place)
    served.runtime.takes = 64 * KIB
    served.stall()
    served.ask()
    os.truncate(large.path, 65 * KIB)
    served.go_on()
    assert isinstance(errors[0], LocalProtocolError)
    assert "it was cut" in caplog.text
    assert is_reset(served, ErrorCode.INTERNAL_ERROR)


@WAITING
def test_a_cancelled_send_cuts_the_answer(
    wire: MemoryWire, place: str, kind: str, large: File
) -> None:
    errors: list[BaseException] = []
    served = Served(wire, sending(large.event(kind), errors=errors), place)
    served.stall()
    served.ask()
    served.runtime.tasks[-1].cancel()
    served.runtime.advance(0)
    assert isinstance(errors[0], Cancelled)
    assert is_reset(served, ErrorCode.CANCEL)
    served.client.connection.connection_lost(None)
    served.runtime.advance(0)
    assert all(task.done for task in served.runtime.tasks)


@WAITING
def test_a_client_that_leaves(
    wire: MemoryWire, place: str, kind: str, large: File
) -> None:
    errors: list[BaseException] = []
    served = Served(wire, sending(large.event(kind), errors=errors), place)
    served.stall()
    served.ask()
    assert not errors
    served.client.connection.connection_lost(None)
    served.runtime.advance(0)
    assert isinstance(errors[0], ClientDisconnectedError)


def is_reset(served: Served, code: ErrorCode) -> bool:
    if served.wire != "h2":
        transport = served.client.transport
        return transport.aborted if code is ErrorCode.CANCEL else transport.eof
    frames = parse(served.client.take())
    return [f.number for f in frames if f.kind == RST_STREAM] == [code]
