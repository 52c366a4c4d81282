"""How to test both ends of a WebSocket: ``chat.py`` and ``chat_client.py``.

python -m pytest examples/test_chat.py     (with tako-server[testing] and pytest)

A test that takes ``tako_serve`` runs four times: on HTTP/1.1 and HTTP/2, plain and TLS.
"""

import pytest

import tako
from examples.chat import router
from examples.chat_client import Lines, talk
from tako.testing import HandshakeRefusedError, PeerWebSocket, Serve


def test_members_hear_each_other(tako_serve: Serve) -> None:
    server = tako_serve(router)
    with server.connect("/ws/chat?name=Ada") as ada:
        ada.expect("* Ada joined")
        with server.connect("/ws/chat?name=Grace") as grace:
            grace.expect("* Grace joined")
            ada.expect("* Grace joined")
            ada.send("hello")
            ada.expect("Ada: hello")
            grace.expect("Ada: hello")
        ada.expect("* Grace left")


@pytest.mark.parametrize("tako_wire", ["h2"])
def test_members_on_two_wires_are_in_one_room(tako_serve: Serve) -> None:
    server = tako_serve(router)
    with (
        server.connect("/ws/chat?name=Ada") as ada,
        server.connect("/ws/chat?name=Grace", wire="h1s") as grace,
    ):
        ada.expect("* Ada joined", "* Grace joined")
        grace.expect("* Grace joined")
        grace.send("hello")
        ada.expect("Grace: hello")


def test_bytes_are_not_passed_on(tako_serve: Serve) -> None:
    with tako_serve(router).connect("/ws/chat") as ws:
        ws.send(b"not for people")
        ws.send("hello")
        ws.expect("* anonymous joined", "anonymous: hello")


def test_rooms_are_apart(tako_serve: Serve) -> None:
    server = tako_serve(router)
    with (
        server.connect("/ws/chat?name=Ada&room=7") as ada,
        server.connect("/ws/chat?name=Grace&room=8") as grace,
    ):
        ada.expect("* Ada joined")
        grace.expect("* Grace joined")
        ada.send("hello")
        ada.expect("Ada: hello")
        grace.send("is anybody here?")
        grace.expect("Grace: is anybody here?")


def test_a_page_gets_what_was_said_and_resumes(tako_serve: Serve) -> None:
    server = tako_serve(router)

    def next_line(ws: PeerWebSocket) -> tuple[str, str]:
        position, _, text = str(ws.receive()).partition(" ")
        return position, text

    with server.connect("/ws/chat?name=Ada") as ada:
        ada.send("hello")
        ada.expect("* Ada joined", "Ada: hello")
        page = server.connect("/ws/chat?name=Page&since=")
        assert next_line(page)[1] == "* Ada joined"
        assert next_line(page)[1] == "Ada: hello"
        position, text = next_line(page)
        assert text == "* Page joined"
        page.abort()
        ada.expect("* Page joined", "* Page left")
        ada.send("you missed this")
        ada.expect("Ada: you missed this")
        with server.connect(f"/ws/chat?name=Page&since={position}") as page:
            lines = [next_line(page)[1] for _ in range(3)]
            assert lines == ["* Page left", "Ada: you missed this", "* Page joined"]
        with server.connect("/ws/chat?name=Page&since=long-ago") as page:
            assert page.receive() == " * some messages are missing"


@pytest.mark.parametrize("room", ["", "..", "a/b", "x" * 33])
def test_other_rooms_are_not_made(tako_serve: Serve, room: str) -> None:
    with pytest.raises(HandshakeRefusedError, match="404"):
        tako_serve(router).connect(f"/ws/chat?room={room}")


# -- what goes wrong -------------------------------------------------------------------


def test_a_member_that_is_cut_off_has_left(tako_serve: Serve) -> None:
    server = tako_serve(router)
    with server.connect("/ws/chat?name=Ada") as ada:
        ada.expect("* Ada joined")
        grace = server.connect("/ws/chat?name=Grace")
        ada.expect("* Grace joined")
        grace.abort()  # a TCP reset
        ada.expect("* Grace left")


def test_a_member_that_vanished_is_found(tako_serve: Serve) -> None:
    server = tako_serve(router)
    grace = server.connect("/ws/chat?name=Grace")
    grace.expect("* Grace joined")
    grace.ignore_pings()
    server.clock.advance(45)  # asked after 20 s of silence, given up 20 s later
    with server.connect("/ws/chat?name=Ada") as ada:
        ada.expect("* Ada joined")
        ada.send("alone")
        ada.expect("Ada: alone")


def test_the_room_does_not_wait_for_a_slow_member(tako_serve: Serve) -> None:
    server = tako_serve(router, config=tako.ServerConfig(ws_close_timeout=0.1))
    slow = server.connect("/ws/chat?name=Slow", receive_buffer=4096, stream_window=4096)
    slow.stall_reads()
    with server.connect("/ws/chat?name=Ada") as ada:
        ada.expect("* Ada joined")
        ada.send("are you there?")
        while ada.receive() != "* Slow left":
            ada.send("x" * 100_000)


def test_a_member_who_does_not_answer_close_has_left(tako_serve: Serve) -> None:
    server = tako_serve(router, config=tako.ServerConfig(ws_close_timeout=0.1))
    ada = server.connect("/ws/chat?name=Ada")
    ada.expect("* Ada joined")
    ada.ignore_close()
    server.stop()  # as SIGTERM does
    assert ada.expect_close(1001).reason == "server shutting down"


def test_elsewhere_there_is_no_room(tako_serve: Serve) -> None:
    with pytest.raises(HandshakeRefusedError, match="404"):
        tako_serve(router).connect("/ws/nowhere")


# -- the client ------------------------------------------------------------------------


@pytest.mark.parametrize("tako_wire", ["h1", "h2"])  # what tako.connect finds by itself
def test_the_client_says_what_is_typed(tako_serve: Serve) -> None:
    server = tako_serve(router)
    shown: list[str] = []

    async def bob() -> None:
        lines = Lines()
        for line in ("hello", "bye"):
            lines.put_nowait(line)

        def show(text: str) -> None:
            shown.append(text)
            if text == "Bob: bye":
                lines.put_nowait(None)

        await talk(f"{server.ws_url}/ws/chat?name=Bob", lines, show, ssl=server.ssl)

    with server.connect("/ws/chat?name=Ada") as ada:
        ada.expect("* Ada joined")
        tako.run(bob)
        ada.expect("* Bob joined", "Bob: hello", "Bob: bye", "* Bob left")
    assert shown == ["* Bob joined", "Bob: hello", "Bob: bye"]


@pytest.mark.parametrize("tako_wire", ["h1", "h2"])
def test_the_client_comes_back_when_its_connection_was_dropped(
    tako_serve: Serve,
) -> None:
    server = tako_serve(router)
    proxy = server.proxy()
    joined = 0

    async def bob() -> None:
        lines = Lines()

        def show(text: str) -> None:
            nonlocal joined
            joined += text == "* Bob joined"
            if joined == 1:
                proxy.drop()
            else:
                lines.put_nowait(None)

        await talk(f"{proxy.ws_url}/ws/chat?name=Bob", lines, show, ssl=server.ssl)

    tako.run(bob)
    assert joined == 2
