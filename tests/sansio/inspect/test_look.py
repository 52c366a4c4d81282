"""``Look``: rows and rates of what is open, and how what was open has ended."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from tako.inspect.following import Following
from tako.inspect.look import SAMPLES, Look, Query
from tests.support.looked_at import LookedAt, text


CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"  # 1000, as a client sends it
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture
def served() -> Iterator[LookedAt]:
    made = LookedAt()
    yield made
    made.close()


@pytest.fixture
def look(served: LookedAt) -> Look:
    made = Look(served, Following(served.runtime.time), served.runtime.time)
    served.observer = made
    return made


def seen(look: Look, **query: Any) -> dict[str, Any]:
    """Walk, and return the view of a query."""
    look.refresh()
    return cast("dict[str, Any]", look.view(Query.read(query)))


def test_a_websocket_has_a_row_on_either_wire(served: LookedAt, look: Look) -> None:
    served.websocket(7)
    served.websockets(1, 3)
    served.runtime.advance(5.0)
    view = seen(look)
    assert view["sockets_found"] == 3
    rows = {(it["wire"], it["stream"]): it for it in view["sockets"]}
    assert sorted(rows) == [("HTTP/1.1", 0), ("HTTP/2", 1), ("HTTP/2", 3)]
    row = rows["HTTP/1.1", 0]
    assert (row["route"], row["path"], row["age"]) == ("/ws/{room}", "/ws/7", 5.0)
    assert (row["peer"], row["state"]) == ("127.0.0.1:50001", "open")


def test_a_connection_has_a_row(served: LookedAt, look: Look) -> None:
    served.websockets(1, 3)
    (row,) = seen(look)["connections"]
    assert (row["wire"], row["sockets"], row["streams"]) == ("HTTP/2", 2, 2)
    assert (row["state"], row["reading"], row["unsent"]) == ("SERVING", True, 0)
    assert row["tls"] is None


def test_rates_are_those_since_the_last_walk(served: LookedAt, look: Look) -> None:
    connection = served.websocket()
    seen(look)
    served.runtime.took = 0.5
    for _ in range(4):
        served.receive(connection, text("x" * 98))  # 104 bytes, and 100 back
    served.runtime.advance(2.0)
    view = seen(look)
    (row,) = view["connections"]
    assert (row["receiving"], row["sending"]) == (208, 200)
    assert row["round_trip"] == 0.5
    (socket,) = view["sockets"]
    assert (socket["messages_in"], socket["messages_out"]) == (2.0, 2.0)
    sample = look.samples[-1]
    assert (sample["receiving"], sample["median"], sample["sockets"]) == (208, 0.5, 1)


def test_what_the_kernel_does_not_say_is_not_said(served: LookedAt, look: Look) -> None:
    served.websocket()
    seen(look)
    served.runtime.advance(1.0)
    (row,) = seen(look)["connections"]
    assert row["round_trip"] is None


def test_a_walk_serves_all_pages_for_a_while(served: LookedAt, look: Look) -> None:
    assert look.refresh()
    assert not look.refresh()
    served.runtime.advance(1.0)
    assert look.refresh()


def test_rows_are_bounded_and_can_be_skipped(served: LookedAt, look: Look) -> None:
    for room in range(5):
        served.websocket(room)
        served.runtime.advance(1.0)
    first = seen(look, sort="age", limit=2)
    rest = seen(look, sort="age", limit=2, skip=2)
    assert [it["path"] for it in first["sockets"]] == ["/ws/0", "/ws/1"]
    assert [it["path"] for it in rest["sockets"]] == ["/ws/2", "/ws/3"]
    assert first["sockets_found"] == first["found"] == 5


def test_rows_are_found_by_what_is_in_them(served: LookedAt, look: Look) -> None:
    served.websocket(1)
    served.websocket(22)
    served.websockets(1)
    assert seen(look, find="WS/22")["sockets_found"] == 1
    assert seen(look, find="http/2")["sockets_found"] == 1
    assert seen(look, find="http/2")["found"] == 1
    assert seen(look, find="50002")["found"] == 1
    assert seen(look, find="nowhere")["sockets"] == []


@pytest.mark.parametrize("sort", ["rate", "latency", "backlog", "age"])
def test_rows_can_be_sorted(served: LookedAt, look: Look, sort: str) -> None:
    served.websocket(1)
    served.websockets(1, 3)
    assert len(seen(look, sort=sort)["sockets"]) == 3


def test_what_makes_no_sense_is_as_it_is_by_default() -> None:
    told = {
        "find": 7,
        "sort": "colour",
        "limit": "many",
        "skip": True,
        "connection": None,
    }
    assert Query.read(told) == Query()
    assert Query.read({"limit": 10_000}).limit == 100
    assert Query.read({"skip": -5}).skip == 0
    assert len(Query.read({"find": "x" * 1000}).find) == 100


def test_one_connection_is_shown_in_full(served: LookedAt, look: Look) -> None:
    served.websocket()
    served.websockets(1, 3)
    rows = seen(look)["connections"]
    (number,) = [it["number"] for it in rows if it["wire"] == "HTTP/2"]
    shown = seen(look, connection=number)["shown"]
    assert [it["stream"] for it in shown["exchanges"]] == [1, 3]
    assert [it["method"] for it in shown["exchanges"]] == ["WebSocket"] * 2
    assert shown["send_window"] > 0
    assert shown["exchanges"][0]["receive_window"] > 0
    assert seen(look, connection=number + 1)["shown"] is None


def test_a_connection_keeps_its_number(served: LookedAt, look: Look) -> None:
    connection = served.websocket()
    (before,) = seen(look)["connections"]
    look.forget()
    (after,) = seen(look)["connections"]
    assert before["number"] == after["number"]
    assert look.connection(before["number"]) is connection


# -- what has ended ------------------------------------------------------------------


def test_a_websocket_that_its_client_closes_is_noted(
    served: LookedAt, look: Look
) -> None:
    connection = served.websocket(3)
    served.runtime.advance(4.0)
    served.receive(connection, CLOSE)
    (row,) = seen(look)["closed"]
    assert (row["what"], row["code"], row["why"]) == (
        "websocket",
        1000,
        "by the client",
    )
    assert (row["path"], row["age"]) == ("/ws/{room}", 4.0)
    assert seen(look)["sockets"] == []


def test_a_websocket_that_is_lost_is_noted_with_its_connection(
    served: LookedAt, look: Look
) -> None:
    connection = served.websocket()
    connection.connection_lost(ConnectionResetError("reset by peer"))
    served.runtime.run_ready()
    ended = {it["what"]: it for it in seen(look)["closed"]}
    assert ended["websocket"]["code"] == 1006
    assert ended["websocket"]["why"] == "without a Close"
    assert ended["connection"]["why"] == "lost: reset by peer"
    assert look._seen == {}


def test_a_handshake_that_is_refused_is_noted(served: LookedAt, look: Look) -> None:
    connection = served.connect()
    request = (
        b"GET /nowhere HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n"
        b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    served.receive(connection, request)
    (row,) = seen(look)["closed"]
    assert (row["what"], row["path"]) == ("handshake", "/nowhere")
    assert row["why"] == "refused with 404"


def test_how_a_connection_ends_is_said_in_words(served: LookedAt, look: Look) -> None:
    idle = served.connect()
    served.receive(idle, GET)
    idle.eof_received()
    idle.connection_lost(None)
    cut = served.connect()
    cut.abort()
    cut.connection_lost(None)
    assert [it["why"] for it in seen(look)["closed"]] == [
        "closed in order (CLOSING)",
        "cut off by us",
    ]


def test_what_has_ended_is_remembered_for_a_while(served: LookedAt, look: Look) -> None:
    for _ in range(150):
        served.connect().connection_lost(None)
    assert len(seen(look)["closed"]) == 100


def test_samples_are_those_of_minutes(served: LookedAt, look: Look) -> None:
    for _ in range(SAMPLES + 10):
        served.runtime.advance(1.0)
        assert look.refresh(0.25)
    assert len(look.samples) == SAMPLES
    assert look.samples[-1]["lag"] == 0.25
    look.forget()
    assert len(look.samples) == 0
