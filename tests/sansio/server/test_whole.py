"""``send_whole``: what a large body costs on its way to the transport."""

import pytest

from tako import Request, Response, Router
from tako.core.exchange_of import exchange_of
from tests.support.in_memory import MemoryClient, MemoryWire
from tests.support.wire import FakeRuntime


BODY = bytes(1 << 20)


def client_of(
    runtime: FakeRuntime, wire: MemoryWire, body: bytes, seen: list[int]
) -> MemoryClient:
    async def root(request: Request) -> Response:
        exchange = exchange_of(request)
        assert exchange is not None
        seen.append(exchange.at_once)
        return Response(200, body=body)

    router = Router()
    router.get("/", root)
    return MemoryClient(runtime, router, wire)


def test_a_megabyte_reaches_the_transport_uncopied_behind_its_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime, writes = FakeRuntime(), list[bytes | memoryview]()
    client = client_of(runtime, "http/1.1", BODY, [])
    monkeypatch.setattr(client.transport, "write", writes.append)
    client.request()
    runtime.run_ready()
    first, rest = writes
    _, start = bytes(first).split(b"\r\n\r\n")
    assert len(first) == 16_384  # a record of TLS
    assert isinstance(rest, memoryview)
    assert rest.obj is BODY
    assert start + rest == BODY


def test_what_the_wire_copies_is_sent_in_pieces() -> None:
    seen: list[int] = []
    wires: tuple[MemoryWire, ...] = ("http/1.1", "h2")
    for wire in wires:
        runtime = FakeRuntime()
        client = client_of(runtime, wire, b"", seen)
        client.request()
        runtime.run_ready()
    assert seen == [1 << 20, 64 << 10]
