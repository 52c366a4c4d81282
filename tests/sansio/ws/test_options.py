"""``TakoWs`` and the options of a WebSocket route."""

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tako.core.upgrade import upgrade_of
from tako.errors import ConfigError
from tako.http.request import Request
from tako.http.response import Responder, Response
from tako.ws import responder
from tako.ws.options import (
    Deflate,
    DeflateParams,
    WsKeepAlive,
    WsKeywords,
    WsOptions,
)
from tako.ws.responder import TakoWs
from tako.ws.upgrade import WebSocketUpgrade
from tako.ws.websocket import WebSocket


if TYPE_CHECKING:
    from collections.abc import Callable


HANDSHAKE = {
    "host": "a",
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
}


def request(**headers: str) -> Request:
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request.build("GET", "/ws", HANDSHAKE | extra)


async def session(ws: WebSocket) -> None:
    """Do nothing."""


@pytest.fixture
def upgrades(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return what ``WebSocketUpgrade`` is made from, call by call."""
    made: list[tuple[Any, ...]] = []

    def record(*args: Any) -> WebSocketUpgrade:
        made.append(args)
        return WebSocketUpgrade(*args)

    monkeypatch.setattr(responder, "WebSocketUpgrade", record)
    return made


class TestIntoResponse:
    """The handshake's answer as a ``Response``."""

    def test_tako_ws_is_a_responder(self) -> None:
        assert isinstance(TakoWs(request(), session), Responder)

    def test_an_accepted_handshake_carries_the_session(
        self, upgrades: list[tuple[Any, ...]]
    ) -> None:
        asked = request()
        response = TakoWs(asked, session).into_response()
        assert isinstance(response, Response)
        assert response.status == 101
        assert response.headers.items() == [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ]
        assert response.body == b""
        assert isinstance(upgrade_of(response), WebSocketUpgrade)
        assert upgrades == [(asked, session, WsOptions())]

    def test_over_http2_the_answer_is_200(self) -> None:
        asked = request()
        asked.http_version = "2"
        asked.protocol = "websocket"
        response = TakoWs(asked, session).into_response()
        assert response.status == 200
        assert upgrade_of(response) is not None

    def test_a_refusal_is_an_ordinary_response(self) -> None:
        response = TakoWs(Request.build("GET", "/ws"), session).into_response()
        assert response.status == 426
        assert response.headers.items() == [
            ("content-type", "text/plain; charset=utf-8"),
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
        ]
        assert response.body == b"Expected Upgrade: websocket"
        assert upgrade_of(response) is None

    def test_what_was_agreed_on_reaches_the_session(
        self, upgrades: list[tuple[Any, ...]]
    ) -> None:
        keep_alive = WsKeepAlive(20, 10, auto=True)
        asked = request(
            sec_websocket_protocol="b, a",
            sec_websocket_extensions="permessage-deflate",
            origin="https://a.example",
        )
        answer = TakoWs(
            asked,
            session,
            protocols=["a", "b"],
            max_frame_size=10,
            max_message_size=20,
            allowed_origins={"https://A.example"},
            upgrade_timeout=3,
            max_lifetime=timedelta(minutes=1),
            keep_alive=keep_alive,
            compression=Deflate(threshold=7),
        ).into_response()
        assert answer.headers["sec-websocket-protocol"] == "a"
        assert answer.headers["sec-websocket-extensions"] == "permessage-deflate"
        options = WsOptions(
            protocols=("a", "b"),
            max_frame_size=10,
            max_message_size=20,
            allowed_origins=frozenset({"https://a.example"}),
            upgrade_timeout=3.0,
            max_lifetime=60.0,
            keep_alive=keep_alive,
            compression=Deflate(threshold=7),
            subprotocol="a",
            deflate=DeflateParams(12, 15, mem_level=5, threshold=7),
        )
        assert upgrades == [(asked, session, options)]


class TestBuilder:
    """Methods and keywords are one and the same."""

    def test_methods_return_the_responder_and_the_last_call_wins(
        self, upgrades: list[tuple[Any, ...]]
    ) -> None:
        built = TakoWs(request(origin="https://a.example"), session, max_frame_size=1)
        same = (
            built.protocols(["x"])
            .max_frame_size(2)
            .max_frame_size(3)
            .max_message_size(4)
            .allowed_origins(["https://b.example"])
            .allowed_origins(["https://a.example"])
            .upgrade_timeout(5)
            .max_lifetime(6)
            .keep_alive(WsKeepAlive(7))
            .compression(Deflate())
            .compression(None)
        )
        assert same is built
        assert built.into_response().status == 101
        assert upgrades[0][2] == WsOptions(
            protocols=("x",),
            max_frame_size=3,
            max_message_size=4,
            allowed_origins=frozenset({"https://a.example"}),
            upgrade_timeout=5.0,
            max_lifetime=6.0,
            keep_alive=WsKeepAlive(7),
        )

    def test_setting_one_size_leaves_the_other_at_its_default(
        self, upgrades: list[tuple[Any, ...]]
    ) -> None:
        TakoWs(request(), session, max_frame_size=1).into_response()
        TakoWs(request(), session, max_message_size=1).into_response()
        sizes = [(o.max_frame_size, o.max_message_size) for _, _, o in upgrades]
        assert sizes == [(1, 16 << 20), (16 << 20, 1)]

    def test_an_allow_list_is_enforced(self) -> None:
        listed = TakoWs(request(), session).allowed_origins(["https://a.example"])
        response = listed.into_response()
        assert (response.status, response.body) == (403, b"origin not allowed")
        assert upgrade_of(response) is None

    def test_an_allowed_origin_may_be_in_unicode(self) -> None:
        asked = request(origin="https://xn--bcher-kva.example")
        listed = TakoWs(asked, session, allowed_origins=["https://b\u00fccher.example"])
        assert listed.into_response().status == 101


INVALID: list[tuple[str, Any, type[Exception], str]] = [
    ("protocols", "chat", TypeError, "write ['chat']"),
    ("protocols", b"chat", TypeError, "write [b'chat']"),
    ("protocols", 1, TypeError, "write ['chat']"),
    ("protocols", [b"chat"], TypeError, "not bytes"),
    ("protocols", ["a b"], ConfigError, "'a b' is not a token"),
    ("protocols", ["ok", ""], ConfigError, "'' is not a token"),
    ("protocols", ["\u00fc"], ConfigError, "is not a token"),
    ("protocols", ["\ud800"], ConfigError, "is not a token"),
    ("max_frame_size", 0, ConfigError, "max_frame_size must be from 1"),
    ("max_frame_size", 1.5, ConfigError, "max_frame_size takes an integer"),
    ("max_message_size", -1, ConfigError, "max_message_size must be from 1"),
    ("max_message_size", True, ConfigError, "max_message_size takes an integer"),
    ("allowed_origins", "https://a", TypeError, "write ['https://a']"),
    ("allowed_origins", [None], TypeError, "not NoneType"),
    ("allowed_origins", 5, TypeError, "write ['https://app.example.com']"),
    ("allowed_origins", ["*"], ConfigError, "do not set allowed_origins"),
    ("allowed_origins", ["null"], ConfigError, "cannot be allowed"),
    ("allowed_origins", ["app.example.com"], ConfigError, "write scheme://host"),
    ("allowed_origins", ["https://*.a"], ConfigError, "list every origin"),
    ("upgrade_timeout", 0, ConfigError, "upgrade_timeout must be a positive"),
    ("upgrade_timeout", "5", ConfigError, "upgrade_timeout takes seconds"),
    ("max_lifetime", -1, ConfigError, "max_lifetime must be a positive"),
    ("max_lifetime", float("inf"), ConfigError, "max_lifetime must be a positive"),
    ("max_lifetime", timedelta(0), ConfigError, "max_lifetime must be a positive"),
    ("keep_alive", 20, TypeError, "write WsKeepAlive(ping_interval=20)"),
    ("compression", True, TypeError, "write compression=Deflate()"),
]


@pytest.mark.parametrize(("name", "value", "error", "fix"), INVALID)
def test_a_value_that_cannot_work_is_refused_with_the_fix(
    name: str, value: object, error: type[Exception], fix: str
) -> None:
    keyword: dict[str, Any] = {name: value}
    with pytest.raises(error) as caught:
        TakoWs(request(), session, **keyword)
    assert fix in str(caught.value)
    method: Callable[[object], TakoWs] = getattr(TakoWs(request(), session), name)
    with pytest.raises(error) as caught:
        method(value)
    assert fix in str(caught.value)


OPTIONS = [each.name for each in dataclasses.fields(WsOptions) if each.metadata]


@pytest.mark.parametrize("name", OPTIONS)
class TestEachOption:
    """What holds for every option, also for the next one."""

    def test_a_type_checker_knows_it(self, name: str) -> None:
        assert list(WsKeywords.__annotations__) == OPTIONS
        assert name in WsKeywords.__annotations__

    def test_it_has_a_method_with_a_docstring(self, name: str) -> None:
        assert getattr(TakoWs, name).__doc__

    def test_none_is_its_default(self, name: str) -> None:
        none: dict[str, Any] = {name: None}
        assert WsOptions(**none) == WsOptions().replaced(**none) == WsOptions()

    def test_what_is_none_of_its_values_is_refused_by_name(self, name: str) -> None:
        wrong: dict[str, Any] = {name: object()}
        with pytest.raises((ConfigError, TypeError), match=name):
            WsOptions(**wrong)


class TestWsOptions:
    """``WsOptions`` by itself."""

    def test_it_is_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            WsOptions().max_frame_size = 1  # type: ignore[misc]

    def test_values_read_back_in_their_normal_form(self) -> None:
        options = WsOptions().replaced(
            protocols=["a"],
            allowed_origins=["HTTPS://b\u00fccher.example:443"],
            max_lifetime=timedelta(minutes=1),
        )
        assert options.protocols == ("a",)
        assert options.allowed_origins == frozenset({"https://xn--bcher-kva.example"})
        assert options.max_lifetime == 60.0

    def test_what_was_checked_is_not_checked_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = WsOptions().replaced(allowed_origins=["https://a.example"])
        monkeypatch.delattr("tako.ws.options.normalize_allowed")
        more = options.replaced(max_frame_size=1).agreed("a", None)
        assert more.allowed_origins is options.allowed_origins
        assert (more.max_frame_size, more.subprotocol) == (1, "a")

    def test_a_copy_leaves_the_original_as_it_is(self) -> None:
        options = WsOptions(max_frame_size=1)
        assert options.replaced(max_frame_size=2).max_frame_size == 2
        assert options == WsOptions(max_frame_size=1)

    def test_an_unknown_option_is_refused_with_those_that_exist(self) -> None:
        unknown: dict[str, Any] = {"max_size": 1}
        with pytest.raises(TypeError, match=r"max_size is no option.*max_frame_size"):
            TakoWs(request(), session, **unknown)

    def test_agreeing_on_nothing_makes_no_copy(self) -> None:
        options = WsOptions(max_frame_size=1)
        assert options.agreed(None, None) is options


def test_config_errors_are_value_errors() -> None:
    with pytest.raises(ValueError, match="is not a token"):
        TakoWs(request(), session, protocols=["a b"])


def test_the_session_must_be_a_function() -> None:
    coroutine: Any = "session"
    with pytest.raises(TypeError, match="an async function that takes a WebSocket"):
        TakoWs(request(), coroutine)


class TestKeepAlive:
    """``WsKeepAlive``."""

    def test_nothing_is_set_by_default(self) -> None:
        keep_alive = WsKeepAlive()
        assert keep_alive == WsKeepAlive(None, None)
        assert (keep_alive.ping_interval, keep_alive.pong_timeout) == (None, None)
        assert keep_alive.auto is False

    def test_durations_read_as_seconds(self) -> None:
        keep_alive = WsKeepAlive(timedelta(milliseconds=1500), 2)
        assert keep_alive.ping_interval == 1.5
        assert keep_alive.pong_timeout == 2.0
        assert isinstance(keep_alive.pong_timeout, float)

    def test_it_is_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            WsKeepAlive(1).auto = True  # type: ignore[misc]

    def test_auto_needs_a_period(self) -> None:
        with pytest.raises(ConfigError, match="auto=True needs ping_interval"):
            WsKeepAlive(auto=True)
        assert WsKeepAlive(20, auto=True).auto

    @pytest.mark.parametrize("bad", [0, -1, float("nan"), True, "20"])
    def test_a_duration_is_positive(self, bad: Any) -> None:
        with pytest.raises(ConfigError, match="ping_interval"):
            WsKeepAlive(bad)
        with pytest.raises(ConfigError, match="pong_timeout"):
            WsKeepAlive(1, bad)

    def test_auto_is_a_flag(self) -> None:
        flag: Any = "yes"
        with pytest.raises(ConfigError, match="auto takes True or False"):
            WsKeepAlive(1, auto=flag)


class TestDeflate:
    """``Deflate``."""

    def test_the_defaults_are_small(self) -> None:
        assert Deflate() == Deflate(12, 12, 5, False, 64)

    @pytest.mark.parametrize(
        ("name", "bad"),
        [
            ("server_window_bits", 8),
            ("server_window_bits", 16),
            ("client_window_bits", 8),
            ("client_window_bits", 16),
            ("client_window_bits", "12"),
            ("mem_level", 0),
            ("mem_level", 10),
            ("no_context_takeover", 1),
            ("threshold", -1),
            ("threshold", 1.0),
        ],
    )
    def test_a_value_out_of_range_is_refused_by_name(self, name: str, bad: Any) -> None:
        keyword: dict[str, Any] = {name: bad}
        with pytest.raises(ConfigError, match=name):
            Deflate(**keyword)

    def test_limits_are_included(self) -> None:
        assert Deflate(9, 9, 1, True, 0).threshold == 0
        assert Deflate(15, 15, 9).mem_level == 9
