"""Scopes, and the small functions around them."""

import ssl
from typing import Any, ClassVar

import pytest
import trustme

from tako import Carrier, ConnInfo, IpPeer, Request, TlsInfo, UnixPeer
from tako.asgi.hosted.request import HostedBody, http_request, websocket_request
from tako.asgi.protocol import ClientDisconnectedError, is_farewell
from tako.asgi.scope import (
    cipher_name,
    decoded,
    http_scope,
    mount_point,
    offered_subprotocols,
    tls_extension,
    tls_version_name,
    websocket_scope,
)
from tako.errors import Disconnected
from tako.http.request_facts import matched


def conn_info(**more: Any) -> ConnInfo:
    peer, local = IpPeer("192.0.2.1", 5000), IpPeer("192.0.2.2", 443)
    return ConnInfo(
        **{"peer": peer, "local": local, "transport": Carrier.HTTP1, **more}
    )


class TestScope:
    def test_addresses(self) -> None:
        request = Request.build(extensions=[conn_info()])
        scope = http_scope(request, "")
        assert scope["client"] == ("192.0.2.1", 5000)
        assert scope["server"] == ("192.0.2.2", 443)

    def test_what_an_app_does_to_a_scope_is_not_in_the_next(self) -> None:
        tls = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")
        request = Request.build(extensions=[conn_info(tls=tls)])
        first = http_scope(request, "")
        expected = http_scope(request, "")
        assert expected["extensions"]["tls"]["tls_version"] == 0x0304
        first["extensions"]["tls"].clear()
        first["extensions"].clear()
        first["asgi"].clear()
        first["headers"].append((b"x-app", b"1"))
        first.clear()
        assert http_scope(request, "") == expected

    def test_requests_of_a_connection_differ_in_what_they_say(self) -> None:
        info = conn_info()
        first = Request.build("POST", "/a?b", extensions=[info], http_version="1.0")
        first.scheme = "https"
        scope = http_scope(first, "")
        said = ("type", "method", "scheme", "http_version", "path", "query_string")
        assert [scope[name] for name in said] == [
            "http",
            "POST",
            "https",
            "1.0",
            "/a",
            b"b",
        ]
        scope = http_scope(Request.build(extensions=[info]), "")
        assert [scope[name] for name in said] == [
            "http",
            "GET",
            "http",
            "1.1",
            "/",
            b"",
        ]
        scope = websocket_scope(Request.build(extensions=[info]), "")
        assert scope["type"] == "websocket"
        assert scope["scheme"] == "ws"
        scope = http_scope(Request.build(extensions=[info]), "")
        assert (scope["type"], scope["method"]) == ("http", "GET")

    def test_unix_sockets_have_a_path_and_no_client(self) -> None:
        info = conn_info(peer=UnixPeer(), local=UnixPeer("/run/app"))
        scope = http_scope(Request.build(extensions=[info]), "")
        assert scope["client"] is None
        assert scope["server"] == ("/run/app", None)

    @pytest.mark.parametrize(
        ("raw", "text"),
        [
            ("/plain", "/plain"),
            ("/caf%C3%A9", "/café"),
            ("/a%2Fb", "/a/b"),
            ("/%ff", "/\N{REPLACEMENT CHARACTER}"),
        ],
    )
    def test_paths_are_decoded(self, raw: str, text: str) -> None:
        scope = http_scope(Request.build(path=raw + "?q=%20"), "")
        assert decoded(raw) == scope["path"] == text
        assert scope["raw_path"] == raw.encode()
        assert scope["query_string"] == b"q=%20"

    def test_the_root_path_is_part_of_the_path(self) -> None:
        scope = http_scope(Request.build(path="/x"), "/app")
        assert (scope["root_path"], scope["path"]) == ("/app", "/app/x")
        assert scope["raw_path"] == b"/app/x"
        scope = http_scope(Request.build(path="/%20"), "/ä b")
        assert (scope["root_path"], scope["path"]) == ("/ä b", "/ä b/ ")
        assert scope["raw_path"] == b"/%C3%A4%20b/%20"

    @pytest.mark.parametrize(
        ("pattern", "params", "path", "prefix"),
        [
            ("/api/{*rest}", {"rest": "a/b"}, "/api/a/b", "/api"),
            ("/api/{*rest}", {"rest": ""}, "/api/", "/api"),
            ("/api/", {}, "/api/", "/api"),
            ("/", {}, "/", ""),
            ("/{*rest}", {"rest": ""}, "/", ""),
            ("/{*rest}", {"rest": "a"}, "/a", ""),
            ("/x/{id}/{*rest}", {"id": "a%20b"}, "/x/a%20b/", "/x/a b"),
            ("/x/{id}/{*rest}", {"id": "a%2F", "rest": "y"}, "/x/a%2F/y", "/x/a/"),
            ("/x/{id}/", {"id": "7"}, "/x/7/", "/x/7"),
            ("/x/{id}/{*rest}", {"id": "7", "rest": "a"}, "/x/7/a", "/x/7"),
            ("/x/{id}", {"id": "7"}, "/x/7", ""),
            ("/exact", {}, "/exact", ""),
            (None, {}, "/exact", ""),
        ],
    )
    def test_mount_points(
        self, pattern: str | None, params: dict[str, str], path: str, prefix: str
    ) -> None:
        request = Request.build(path=path)
        if pattern is not None:
            matched(request, pattern, params, ())
        assert mount_point(request) == prefix

    def test_a_websockets_scope_is_without_its_handshake(self) -> None:
        fields = {
            "Host": "a.test",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "x",
            "Sec-WebSocket-Protocol": "one, two",
        }
        scope = websocket_scope(Request.build(headers=fields), "")
        assert scope["headers"] == [
            (b"host", b"a.test"),
            (b"sec-websocket-protocol", b"one, two"),
        ]
        assert scope["subprotocols"] == ["one", "two"]
        assert "method" not in scope

    def test_subprotocols_of_several_fields(self) -> None:
        fields = [("Sec-WebSocket-Protocol", "a,, b"), ("sec-websocket-protocol", "c")]
        assert offered_subprotocols(Request.build(headers=fields)) == ["a", "b", "c"]


class TestTls:
    def test_versions_and_suites_have_their_registered_numbers(self) -> None:
        facts = tls_extension(TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256"))
        assert (facts["tls_version"], facts["cipher_suite"]) == (0x0304, 0x1301)
        facts = tls_extension(TlsInfo("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"))
        assert (facts["tls_version"], facts["cipher_suite"]) == (0x0303, 0xC02F)
        assert facts["client_cert_chain"] == ()

    def test_a_clients_certificate(self) -> None:
        leaf = trustme.CA().issue_cert("me@a.test", common_name="Me")
        pem = leaf.cert_chain_pems[0].bytes().decode()
        der = ssl.PEM_cert_to_DER_cert(pem)
        facts = tls_extension(TlsInfo("TLSv1.3", "x", peer_cert=der))
        assert facts["client_cert_name"].startswith("CN=Me")
        assert ssl.PEM_cert_to_DER_cert(facts["client_cert_chain"][0]) == der
        assert facts["cipher_suite"] is None

    def test_names_of_numbers(self) -> None:
        assert tls_version_name(0x0304) == "TLSv1.3"
        assert tls_version_name(1) == tls_version_name(None) == ""
        assert cipher_name(0x1301) == "TLS_AES_128_GCM_SHA256"
        assert cipher_name(None) == ""


class TestFarewell:
    def test_our_own_error_and_what_was_raised_from_it(self) -> None:
        ours = ClientDisconnectedError("gone")
        assert is_farewell(ours)
        other = ValueError()
        other.__cause__ = ours
        assert is_farewell(other)
        other = ValueError()
        other.__context__ = ours
        assert is_farewell(ExceptionGroup("", [other, ours]))

    def test_what_starlette_calls_it(self) -> None:
        farewell = type("WebSocketDisconnect", (Exception,), {})()
        assert is_farewell(farewell)

    def test_bugs_are_none(self) -> None:
        assert not is_farewell(ValueError())
        assert not is_farewell(
            ExceptionGroup("", [ClientDisconnectedError(), ValueError()])
        )
        assert not is_farewell(None)

    def test_a_chain_may_be_a_ring(self) -> None:
        one, two = ValueError(), KeyError()
        one.__context__, two.__context__ = two, one
        assert not is_farewell(one)


def run(awaitable: Any) -> Any:
    """Run a coroutine that does not wait."""
    with pytest.raises(StopIteration) as stopped:
        awaitable.send(None)
    return stopped.value.value


def receiving(*events: dict[str, Any]) -> Any:
    waiting = list(events)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    return receive


class TestHostedRequest:
    SCOPE: ClassVar[dict[str, Any]] = {
        "type": "http",
        "method": "POST",
        "http_version": "1.1",
        "scheme": "https",
        "path": "/a b",
        "raw_path": b"/app/a%20b",
        "root_path": "/app",
        "query_string": b"x=1",
        "headers": [[b"Host", b"a.test"]],
        "client": ["192.0.2.1", 5000],
        "server": ["/run/x", None],
        "extensions": {"tls": {"tls_version": 0x0304, "cipher_suite": 0x1301}},
    }

    def test_a_request_is_what_the_scope_says(self) -> None:
        request = http_request(self.SCOPE, HostedBody(receiving()))
        assert (request.method, request.target) == ("POST", "/a%20b?x=1")
        assert request.headers.get("host") == request.host == "a.test"
        assert request.scheme == "https"
        info = request.conn_info
        assert info is not None
        assert (info.peer, info.local) == (
            IpPeer("192.0.2.1", 5000),
            UnixPeer("/run/x"),
        )
        assert info.tls == TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")

    @pytest.mark.parametrize(
        ("root", "raw", "target"),
        [
            ("/app", b"/app/x", "/x"),
            ("/app/", b"/app/x", "/x"),
            ("/a b", b"/a%20b/x%2Fy", "/x%2Fy"),
            ("/~me", b"/%7Eme/", "/"),
            ("/a/b", b"/a%2fb/c/d", "/c/d"),
            ("/app", b"/application/x", "/application/x"),
            ("/app", b"/x/y", "/x/y"),
            ("/app", b"/app", "/app"),
        ],
    )
    def test_the_target_is_below_the_root(
        self, root: str, raw: bytes, target: str
    ) -> None:
        scope = {**self.SCOPE, "root_path": root, "raw_path": raw, "query_string": b""}
        assert http_request(scope, HostedBody(receiving())).target == target

    def test_what_is_optional_may_be_missing(self) -> None:
        scope = {"type": "http", "method": "GET", "path": "/a b", "headers": []}
        request = http_request(scope, HostedBody(receiving()))
        assert (request.target, request.http_version) == ("/a%20b", "1.1")

    @pytest.mark.parametrize("version", ["1.1", "2", "3"])
    def test_a_handshake_is_complete_on_every_wire(self, version: str) -> None:
        offer = (b"sec-websocket-extensions", b"permessage-deflate")
        scope = {**self.SCOPE, "http_version": version, "headers": [offer]}
        request = websocket_request(scope)
        assert request.is_websocket
        assert request.method == "GET"
        assert request.headers.get("sec-websocket-version") == "13"
        assert request.headers.get("sec-websocket-extensions") is None
        assert ("upgrade" in request.headers) is (version == "1.1")

    def test_a_body_comes_in_events(self) -> None:
        body = HostedBody(
            receiving(
                {"type": "http.request", "body": b"one", "more_body": True},
                {"type": "http.request", "body": b"", "more_body": True},
                {"type": "http.request", "body": b"two"},
            )
        )
        chunks = [run(body.next_chunk()) for _ in range(4)]
        assert chunks == [b"one", b"two", b"", b""]

    def test_a_client_that_leaves_is_disconnected(self) -> None:
        body = HostedBody(receiving({"type": "http.disconnect"}))
        with pytest.raises(Disconnected):
            body.next_chunk().send(None)
