"""What ``tako top`` shows of what inspectors say."""

import json
from typing import Any

import pytest


pytest.importorskip("click")

from tako.cli.console import CliError
from tako.cli.top import Screen, _live


def view(worker: int = 10, place: int = 1, **more: Any) -> dict[str, Any]:
    sample = {
        "at": 1.0,
        "connections": 3,
        "sockets": 2,
        "requests": 1,
        "receiving": 1500,
        "sending": 2_000_000,
        "median": 0.004,
        "lag": 0.0,
    }
    return {
        "type": "view",
        "worker": worker,
        "place": place,
        "now": 100.0,
        "connections": [],
        "found": 0,
        "sockets": [],
        "sockets_found": 0,
        "closed": [],
        "samples": [sample],
        **more,
    }


def socket(number: int, rate: int = 0, route: str = "/ws") -> dict[str, Any]:
    return {
        "connection": number,
        "route": route,
        "peer": "127.0.0.1:5000",
        "wire": "HTTP/2",
        "age": 75.0,
        "messages_in": 2.5,
        "messages_out": None,
        "rate": rate,
        "latency": None,
        "round_trip": 0.012,
        "waiting": 3,
        "weight": 0,
        "queued": 2048,
    }


def shown(*views: dict[str, Any], width: int = 200, height: int = 40) -> list[str]:
    screen = Screen()
    for each in views:
        assert screen.take(json.dumps(each)) == each["worker"]
    return screen.lines(width, height)


def test_the_first_line_is_about_all() -> None:
    assert shown(view())[0] == (
        "tako  3 connections  2 WebSockets  1 requests  in 1.5 KB/s  out 2.0 MB/s  "
        "round trip 4.00 ms  loop late 0.00 ms"
    )


def test_a_websocket_has_a_line() -> None:
    lines = shown(view(sockets=[socket(7)], sockets_found=1))
    (line,) = [it for it in lines if it.startswith("7 ")]
    words = line.split()
    assert words[:7] == ["7", "/ws", "127.0.0.1:5000", "HTTP/2", "1", "min", "2.5"]
    assert words[7:] == ["-", "12", "ms", "3", "2.0", "KB"]


def test_rows_of_several_workers_are_sorted_together() -> None:
    lines = shown(
        view(10, 1, sockets=[socket(7, 5), socket(8, 1)], sockets_found=2),
        view(11, 2, sockets=[socket(7, 3)], sockets_found=1),
    )
    assert "2 workers" in lines[0]
    assert [it.split()[0] for it in lines if "/ws" in it] == ["1.7", "2.7", "1.8"]


def test_it_fits_into_the_terminal() -> None:
    many = [socket(number) for number in range(50)]
    for height in (5, 10, 24, 60):
        lines = shown(view(sockets=many, sockets_found=900), width=40, height=height)
        assert len(lines) <= height
        assert max(map(len, lines)) <= 40


def test_rows_that_are_left_out_are_counted() -> None:
    many = [socket(number) for number in range(50)]
    lines = shown(view(sockets=many, sockets_found=900), height=20)
    assert sum("of 900)" in line for line in lines) == 1


def test_a_worker_that_is_gone_is_not_shown() -> None:
    screen = Screen()
    screen.take(json.dumps(view(10)))
    assert screen.take(json.dumps({"type": "gone", "worker": 10})) == 10
    assert screen.take(json.dumps({"type": "frames", "worker": 10})) == 0
    assert "0 connections" in screen.lines(80, 24)[0]


def test_what_a_peer_has_chosen_does_not_reach_the_terminal() -> None:
    evil = "/\x1b[2J\x9b31m"
    ended = {"at": 98.0, "what": "connection", "peer": evil, "why": evil}
    lines = shown(view(sockets=[socket(1, route=evil)], closed=[ended]))
    assert not [line for line in lines if not line.isprintable()]
    assert any(line.startswith("2 s ago: connection of /?[2J") for line in lines)


@pytest.mark.parametrize(
    ("page", "socket"),
    [
        ("http://127.0.0.1:1/?token=a", "ws://127.0.0.1:1/live?token=a"),
        ("https://localhost:1/?token=a", "wss://localhost:1/live?token=a"),
        ("ws+unix:/run/a.sock:/?token=a", "ws+unix:/run/a.sock:/live?token=a"),
    ],
)
def test_the_websocket_of_a_page_is_beside_it(page: str, socket: str) -> None:
    assert _live(page) == socket


@pytest.mark.parametrize(
    "url", ["localhost:8555", "http://localhost:8555/", "ftp://a/?"]
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(CliError, match="is no URL of an inspector"):
        _live(url)
