"""What a handshake may settle: subprotocol, origin, and what middleware adds.

Spec sections 3.5, 3.6 and 3.13; T-WS-06, 07 and 19.
"""

import pytest
from wsproto.extensions import PerMessageDeflate

import tako
from tako import Request, Response, Router, TakoWs
from tako.testing import Serve
from tako.testing.peer.websocket import HandshakeRefusedError, Opcode, encode_frame
from tests.support.apps import echo_router, echo_session, ws_router
from tests.support.server import Reports


class TestSubprotocols:
    """T-WS-06."""

    @pytest.mark.parametrize(
        ("offers", "chosen"),
        [
            ([b"superchat, chat"], "chat"),
            ([b"superchat"], "superchat"),
            ([b"superchat\t, \tchat"], "chat"),
            ([b"other", b"superchat"], "superchat"),
            ([b"CHAT"], None),
            ([b"other"], None),
            ([], None),
        ],
    )
    def test_the_servers_preference_wins(
        self, tako_serve: Serve, offers: list[bytes], chosen: str | None
    ) -> None:
        reports = Reports()

        async def session(ws: tako.WebSocket) -> None:
            reports.put(ws.subprotocol)

        headers = [("Sec-WebSocket-Protocol", offer) for offer in offers]
        router = ws_router(session, protocols=["chat", "superchat"])
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws", headers=headers)
            assert ws.subprotocol == chosen
            assert reports.get() == chosen
            assert ws.expect_close() == (1000, "")

    def test_without_a_list_nothing_is_negotiated(self, tako_serve: Serve) -> None:
        with tako_serve(echo_router()).connection() as connection:
            ws = connection.websocket("/ws", subprotocols=["chat"])
            assert ws.subprotocol is None

    def test_extensions_are_not_echoed(self, tako_serve: Serve) -> None:
        with tako_serve(echo_router()).connection() as connection:
            ws = connection.websocket("/ws", extensions=[PerMessageDeflate()])
            assert ws.response.header("sec-websocket-extensions") is None
            ws.echo("plain")


class TestOrigins:
    """T-WS-07, end to end."""

    @pytest.mark.parametrize(
        ("origins", "status"),
        [
            (["https://app.example"], 0),
            (["HTTPS://App.Example:443"], 0),
            (["https://[::1]:8443"], 0),
            (["https://app.example:8443"], 403),
            (["http://app.example"], 403),
            (["https://app.example.evil"], 403),
            (["https://user@app.example"], 403),
            (["null"], 403),
            ([], 403),
            (["https://app.example", "https://app.example"], 403),
        ],
    )
    def test_the_allow_list(
        self, tako_serve: Serve, origins: list[str], status: int
    ) -> None:
        allowed = ["https://app.example", "https://[::1]:8443"]
        router = ws_router(echo_session, allowed_origins=allowed)
        headers = [("Origin", origin) for origin in origins]
        with tako_serve(router).connection() as connection:
            if not status:
                connection.websocket("/ws", headers=headers).echo("welcome")
                return
            with pytest.raises(HandshakeRefusedError) as refused:
                connection.websocket("/ws", headers=headers)
            assert refused.value.response.status == status
            assert refused.value.response.body == b"origin not allowed"

    def test_an_empty_list_refuses_every_origin(self, tako_serve: Serve) -> None:
        router = ws_router(echo_session, allowed_origins=[])
        headers = [("Origin", "https://app.example")]
        with tako_serve(router).connection() as connection:
            with pytest.raises(HandshakeRefusedError) as refused:
                connection.websocket("/ws", headers=headers)
            assert refused.value.response.status == 403


class TestMiddleware:
    """T-WS-19."""

    def test_it_sees_and_edits_the_answer(self, tako_serve: Serve, wire: str) -> None:
        reports, router = Reports(), echo_router()

        async def middleware(request: Request, call_next: tako.Next) -> Response:
            response = tako.into_response(await call_next(request))
            reports.put(response.status)
            response.headers.add("x-from", "middleware")
            return response

        router.middleware(middleware)
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws")
            assert ws.response.header("x-from") == "middleware"
            assert reports.get() == (200 if wire in {"h2", "h2c"} else 101)
            ws.echo("open")

    def test_another_answer_prevents_the_session(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def session(ws: tako.WebSocket) -> None:
            reports.put("never")

        async def middleware(request: Request, call_next: tako.Next) -> Response:
            await call_next(request)
            return Response(401, body="log in first")

        router = ws_router(session)
        router.middleware(middleware)
        with tako_serve(router).connection() as connection:
            with pytest.raises(HandshakeRefusedError) as refused:
                connection.websocket("/ws")
            assert refused.value.response.status == 401
            assert refused.value.response.body == b"log in first"
        assert reports.empty

    def test_a_route_timeout_does_not_end_the_session(self, tako_serve: Serve) -> None:
        router = Router()

        async def session(ws: tako.WebSocket) -> None:
            await tako.sleep(0.4)
            await ws.send("later than the timeout")
            await echo_session(ws)

        async def handler(request: Request) -> TakoWs:
            return TakoWs(request, session)

        router.get("/ws", handler).timeout(0.1)
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws")
            ws.expect("later than the timeout")
            ws.echo("and still here")


class TestRefusalsKeepTheConnection:
    def test_a_socket_opens_after_a_refusal(self, tako_serve: Serve) -> None:
        router = ws_router(echo_session, allowed_origins=["https://app.example"])
        with tako_serve(router).connection() as connection:
            with pytest.raises(HandshakeRefusedError):
                connection.websocket("/ws")
            headers = [("Origin", "https://app.example")]
            connection.websocket("/ws", headers=headers).echo("second try")

    def test_early_data_of_a_refused_handshake_is_dropped(
        self, tako_serve: Serve, wire: str
    ) -> None:
        router = ws_router(echo_session, allowed_origins=[])
        with tako_serve(router).connection() as connection:
            early = encode_frame(Opcode.TEXT, b"too early")
            response = connection.handshake("/ws", early_data=early)
            assert response.status == 403
            if wire in {"h2", "h2c"}:
                assert connection.request("GET", "/").status == 200
            else:
                connection.expect_closed()
