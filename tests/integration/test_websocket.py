"""WebSocket conversations: the same handler objects on every wire and runtime.

Spec section 24: T-WS-01, 02, 08, 09, 10, 15, 16, 18.
"""

import pytest

import tako
from tako import Message, Router, ServerConfig, WebSocket, WsKeepAlive
from tako.testing import Serve
from tako.testing.peer.websocket import (
    Close,
    Opcode,
    PeerWebSocket,
    Ping,
    Pong,
    encode_frame,
)
from tests.support.apps import (
    Session,
    echo_router,
    echo_session,
    giving_up_after,
    read_session,
    reference_session,
    reporting,
    together,
    ws_router,
)
from tests.support.patience import PATIENCE
from tests.support.server import Gate, Reports


MIB = 1 << 20
QUICK = ServerConfig(ws_close_timeout=0.5 * PATIENCE)


class TestMessages:
    """T-WS-01."""

    @pytest.mark.parametrize(
        "message",
        ["hello", "", b"", b"\x00\xff", "\N{OCTOPUS} und Größe", b"x" * 125, "y" * 126],
    )
    def test_a_message_comes_back_as_it_was(
        self, tako_serve: Serve, message: str | bytes
    ) -> None:
        with tako_serve(echo_router()).connection() as connection:
            connection.websocket("/ws").echo(message)

    @pytest.mark.parametrize("size", [65_535, 65_536, MIB])
    def test_large_messages_go_both_ways(self, tako_serve: Serve, size: int) -> None:
        with tako_serve(echo_router()).connection() as connection:
            ws = connection.websocket("/ws")
            ws.echo(bytes(range(256)) * (size // 256) + b"!" * (size % 256))
            ws.echo("Ä" * (size // 2))

    def test_fragments_arrive_as_one_message(self, tako_serve: Serve) -> None:
        with tako_serve(echo_router()).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send_fragments(["one ", "", "two ", "three"])
            ws.expect("one two three")
            ws.send_fragments([b"a" * 70_000, b"b", b""])
            ws.expect(b"a" * 70_000 + b"b")

    def test_a_character_may_be_split_between_fragments(
        self, tako_serve: Serve
    ) -> None:
        octopus = "\N{OCTOPUS}".encode()
        with tako_serve(echo_router()).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send_frame(Opcode.TEXT, octopus[:2], fin=False)
            ws.send_frame(Opcode.CONTINUATION, octopus[2:])
            ws.expect("\N{OCTOPUS}")

    def test_a_ping_between_fragments_is_answered_at_once(
        self, tako_serve: Serve
    ) -> None:
        with tako_serve(echo_router()).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send_frame(Opcode.TEXT, b"he", fin=False)
            ws.ping(b"now")
            ws.expect(Pong(b"now"))
            ws.send_frame(Opcode.CONTINUATION, b"llo")
            ws.expect("hello")

    def test_500_pipelined_messages_come_back_in_order(self, tako_serve: Serve) -> None:
        messages = [f"message {number}" for number in range(500)]
        with tako_serve(echo_router()).connection() as connection:
            ws = connection.websocket("/ws")
            frames = [encode_frame(Opcode.TEXT, text.encode()) for text in messages]
            ws.pipe.send(b"".join(frames))
            ws.expect(*messages)

    def test_a_frame_may_arrive_byte_by_byte(self, tako_serve: Serve) -> None:
        with tako_serve(echo_router()).connection() as connection:
            ws = connection.websocket("/ws")
            for byte in encode_frame(Opcode.TEXT, b"slow"):
                ws.pipe.send(bytes([byte]))
            ws.expect("slow")


class TestReferenceHandlers:
    """T-WS-01 and 02: the two styles of the documentation, and a mixture."""

    @pytest.mark.parametrize("session", [reference_session, read_session])
    def test_the_documented_handler(self, tako_serve: Serve, session: Session) -> None:
        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.expect("Welcome to Tako WS!")
            ws.send("hello")
            ws.expect("Echo: hello")
            ws.echo(b"\x00\x01")
            ws.ping(b"are you there")
            ws.send("after")
            ws.expect(Pong(b"are you there"), "Echo: after")
            ws.close(1000, "bye")
            assert ws.expect_close() == (1000, "")
            ws.expect_end()

    def test_iteration_and_read_may_be_mixed(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.send(f"read {await ws.read()!r}")
            async for message in ws:
                await ws.send(f"iterated {message!r}")
                break
            await ws.send(f"read {await ws.read()!r}")

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            for message in ("a", "b", "c"):
                ws.send(message)
            ws.expect("read 'a'", "iterated 'b'", "read 'c'")
            assert ws.expect_close() == (1000, "")

    def test_facts_about_the_conversation_are_on_the_object(
        self, tako_serve: Serve, wire: str
    ) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            request = ws.request
            reports.put((ws.http_version, request.method, request.is_websocket))
            reports.put((request.protocol, request.path, request.query, ws.closed))

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws?a=1")
            assert ws.expect_close() == (1000, "")
        version = "2" if wire in {"h2", "h2c"} else "1.1"
        assert reports.get() == (version, "GET", True)
        assert reports.get() == ("websocket", "/ws", "a=1", False)

    def test_a_dict_cannot_be_sent(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            try:
                await ws.send({"a": 1})  # type: ignore[arg-type]
            except TypeError as error:
                await ws.send(str(error))

        with tako_serve(ws_router(session)).connection() as connection:
            assert "dict" in str(connection.websocket("/ws").receive())


class TestPings:
    """T-WS-10 and T-WS-15."""

    @pytest.mark.parametrize("session", [echo_session, reference_session])
    def test_exactly_one_pong_for_each_ping(
        self, tako_serve: Serve, session: Session
    ) -> None:
        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            for payload in (b"1", b"", b"x" * 125):
                ws.ping(payload)
                assert _next_control(ws) == Pong(payload)
            ws.close(1000)
            ws.expect_close()
            pongs = [f for f in ws.frames if f.opcode == Opcode.PONG]
            assert len(pongs) == 3

    def test_a_session_that_never_reads_answers_pings(self, tako_serve: Serve) -> None:
        gate = Gate()

        async def session(ws: WebSocket) -> None:
            await gate.wait()

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send("this is not read")
            ws.ping(b"?")
            ws.expect(Pong(b"?"))
            gate.open()
            assert ws.expect_close() == (1000, "")

    def test_an_unasked_pong_is_sent(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.send(Message.Pong(b"unasked"))
            await ws.ping(b"and a ping")
            assert await ws.read() == Message.Pong(b"and a ping")

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.expect(Pong(b"unasked"), Ping(b"and a ping"))
            assert ws.expect_close() == (1000, "")

    def test_keep_alive_is_a_hint_that_the_session_sees(
        self, tako_serve: Serve
    ) -> None:
        async def session(ws: WebSocket) -> None:
            assert ws.keep_alive == hint
            with pytest.raises(TimeoutError):
                await ws.read(timeout=0.2)

        hint = WsKeepAlive(ping_interval=0.02, pong_timeout=5)
        with tako_serve(ws_router(session, keep_alive=hint)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.expect(Close(1000, ""))  # and no Ping before it

    def test_automatic_keep_alive_measures_the_round_trip(
        self, tako_serve: Serve
    ) -> None:
        async def session(ws: WebSocket) -> None:
            async for message in ws:
                if isinstance(message, Message.Pong):
                    await ws.send(f"{ws.latency is not None}")

        keep_alive = WsKeepAlive(ping_interval=0.05, pong_timeout=10, auto=True)
        router = ws_router(session, keep_alive=keep_alive)
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws")
            while isinstance(got := ws.receive(), Ping):
                pass  # the client answers it
            assert got == "True"

    def test_automatic_keep_alive_gives_up_a_silent_peer(
        self, tako_serve: Serve
    ) -> None:
        reports = Reports()
        keep_alive = WsKeepAlive(ping_interval=0.05, pong_timeout=0.1, auto=True)
        router = ws_router(reporting(echo_session, reports), keep_alive=keep_alive)
        with tako_serve(router, config=QUICK).connection() as connection:
            ws = connection.websocket("/ws")  # does not read, so it does not answer
            assert reports.get()[0] == 1006
            assert isinstance(ws.receive(), Ping)
            ws.expect(Close(1011, "keepalive timeout"))


class TestReadingAndWriting:
    """T-WS-16."""

    def test_a_cancelled_read_loses_nothing(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            received = cancelled = 0
            while received < 300:
                try:
                    message = await ws.read(timeout=0.0002)
                except TimeoutError:
                    cancelled += 1
                else:
                    assert message == str(received)
                    received += 1
            while cancelled < 1000:
                async with giving_up_after(0.0001):
                    await ws.read()
                cancelled += 1
            await ws.send("all of them")
            await ws.send(await ws.read())

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            for number in range(300):
                ws.send(str(number))
            ws.expect("all of them")
            ws.echo("and one more")

    def test_a_second_reader_is_refused(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            async def read() -> None:
                try:
                    reports.put(await ws.read())
                except RuntimeError as error:
                    reports.put(str(error))
                    await ws.send("refused")

            await together(read, read)

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.expect("refused")
            ws.send("for the first")
            assert reports.get() == "another task is already reading"
            assert reports.get() == "for the first"
            assert ws.expect_close() == (1000, "")

    def test_concurrent_senders_do_not_interleave(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            async def sender(byte: int) -> None:
                for _ in range(10):
                    await ws.send(bytes([byte]) * 100_000)

            await together(*[lambda b=byte: sender(b) for byte in b"abc"])

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            counts = dict.fromkeys(b"abc", 0)
            for _ in range(30):
                message = ws.receive()
                assert isinstance(message, bytes)
                assert message == message[:1] * 100_000
                counts[message[0]] += 1
            assert counts == dict.fromkeys(b"abc", 10)
            assert ws.expect_close() == (1000, "")

    def test_the_context_manager_closes(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            async with ws:
                await ws.send("inside")

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.expect("inside", Close(1000, ""))


class TestEarlyData:
    """T-WS-18: what comes behind the handshake is WebSocket data."""

    def test_it_is_the_first_message(self, tako_serve: Serve) -> None:
        early = encode_frame(Opcode.TEXT, b"early") + encode_frame(Opcode.PING, b"p")
        with tako_serve(echo_router()).connection() as connection:
            ws = connection.websocket("/ws", early_data=early)
            assert {ws.receive(), ws.receive()} == {"early", Pong(b"p")}
            ws.echo("later")

    def test_a_frame_may_begin_early_and_end_later(self, tako_serve: Serve) -> None:
        frame = encode_frame(Opcode.TEXT, b"in two parts")
        with tako_serve(echo_router()).connection() as connection:
            ws = connection.websocket("/ws", early_data=frame[:5])
            ws.pipe.send(frame[5:])
            ws.expect("in two parts")

    def test_it_waits_for_a_slow_handler(self, tako_serve: Serve) -> None:
        entered, gate, router = Reports(), Gate(), Router()

        async def handler(request: tako.Request) -> tako.TakoWs:
            entered.put(request.path)
            await gate.wait()
            return tako.TakoWs(request, echo_session)

        def meanwhile() -> None:
            assert entered.get() == "/ws"
            gate.open()

        router.get("/ws", handler)
        early = b"".join(encode_frame(Opcode.BINARY, b"x" * 900) for _ in range(60))
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws", early_data=early, meanwhile=meanwhile)
            ws.expect(*[b"x" * 900] * 60)


def _next_control(ws: PeerWebSocket) -> object:
    while isinstance(got := ws.receive(), str | bytes):
        pass
    return got
