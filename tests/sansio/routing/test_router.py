"""``Router``: registration, composition and dispatch."""

import copy
import functools
import inspect
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from tako.errors import ConfigError, HttpError, RouteConflictError
from tako.http.headers import Headers
from tako.http.method import Method
from tako.http.request import Request
from tako.http.request_head import HttpVersion
from tako.http.response import Response
from tako.routing.middleware import Middleware, Next
from tako.routing.route import Route
from tako.routing.router import Router
from tests.support.wire import FakeRuntime


T = TypeVar("T")

SECRET = "secret"
NO_DATABASE = "no database"


def ask(
    router: Router, method: str, path: str, body: bytes = b"", **kwargs: Any
) -> Response:
    return send(router, Request.build(method, path, body=body), **kwargs)


def send(router: Router, request: Request, **kwargs: Any) -> Response:
    async def main() -> Response:
        return await router.dispatch(request, **kwargs)

    response = FakeRuntime().run(main)
    assert isinstance(response, Response)
    return response


def text(response: Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


def get(router: Router, path: str, **kwargs: Any) -> tuple[int, str]:
    response = ask(router, "GET", path, **kwargs)
    return response.status, text(response)


def ok() -> str:
    return "ok"


def whole_path(request: Request) -> str:
    return request.path


def tracing(steps: list[str], name: str) -> Middleware:
    async def mw(request: Request, call_next: Next) -> Response:
        steps.append(name)
        response = await call_next(request)
        steps.append(f"/{name}")
        return response

    return mw


def appending(mark: str) -> Middleware:
    async def mw(request: Request, call_next: Next) -> Response:
        response = await call_next(request)
        response.headers.add("x-seen", mark)
        return response

    return mw


# Dispatch


def test_a_request_reaches_the_handler_for_its_method_and_path() -> None:
    router = Router()
    router.get("/x", lambda: "get")
    router.post("/x", lambda: "post")
    router.route("PURGE", "/x", lambda: "purge")
    assert get(router, "/x") == (200, "get")
    assert text(ask(router, "POST", "/x")) == "post"
    assert text(ask(router, "PURGE", "/x")) == "purge"


def test_no_route_is_an_empty_404() -> None:
    response = ask(Router(), "GET", "/nothing")
    assert (response.status, response.body) == (404, b"")
    assert not response.headers


@pytest.mark.parametrize("path", ["*", "", "//", "/..", "/%00"])
def test_an_odd_target_is_a_404(path: str) -> None:
    router = Router()
    router.get("/", ok)
    router.get("/{name}/x", ok)
    assert get(router, path) == (404, "")


def test_another_method_is_an_empty_405_with_allow() -> None:
    router = Router()
    router.post("/x", ok)
    response = ask(router, "GET", "/x")
    assert (response.status, response.body) == (405, b"")
    assert response.headers.items() == [("allow", "POST")]


def test_a_method_that_nothing_supports_is_501_where_no_route_has_the_path() -> None:
    router = Router()
    router.get("/x", lambda: "")
    router.route("BREW", "/pot", lambda: "")
    assert ask(router, "BREW", "/pot").status == 200
    assert ask(router, "BREW", "/nothing").status == 404  # supported elsewhere
    assert ask(router, "TRACE", "/nothing").status == 404  # RFC 9110 §9.3.8
    assert ask(router, "brew", "/nothing").status == 501  # RFC 9110 §15.6.2
    assert ask(router, "brew", "/x").headers["allow"] == "GET, HEAD"
    router.fallback(lambda request: request.method)
    assert text(ask(router, "brew", "/nothing")) == "brew"


def test_allow_has_the_fixed_order_and_custom_methods_last() -> None:
    router = Router(auto_head=False)
    for method in ("ZAP", *reversed(Method), "ACL"):
        router.route(method, "/x", ok)
    expected = "GET, POST, PUT, DELETE, PATCH, HEAD, OPTIONS, CONNECT, TRACE, ZAP, ACL"
    assert ask(router, "NONE", "/x").headers["allow"] == expected


def test_allow_names_only_methods_that_match_the_path() -> None:
    router = Router()
    router.get("/{key}", ok)
    router.delete("/x", ok)
    router.put("/x/y", ok)
    assert ask(router, "POST", "/x").headers["allow"] == "GET, DELETE, HEAD"
    assert ask(router, "POST", "/z").headers["allow"] == "GET, HEAD"


def test_head_falls_back_to_get_and_keeps_the_body_for_its_length() -> None:
    router = Router()
    router.get("/x", lambda request: request.method)
    response = ask(router, "HEAD", "/x")
    assert (response.status, response.body) == (200, b"HEAD")


def test_a_head_route_wins_over_the_get_route() -> None:
    router = Router()
    router.get("/x", lambda: "get")
    router.head("/x", lambda: Headers({"x": "head"}))
    assert ask(router, "HEAD", "/x").headers["x"] == "head"


def test_auto_head_can_be_switched_off() -> None:
    router = Router(auto_head=False)
    router.get("/x", ok)
    response = ask(router, "HEAD", "/x")
    assert (response.status, response.headers["allow"]) == (405, "GET")


def test_options_is_not_synthesised() -> None:
    router = Router()
    router.get("/x", ok)
    assert ask(router, "OPTIONS", "/x").status == 405
    router.options("/x", lambda: 204)
    assert ask(router, "OPTIONS", "/x").status == 204


def test_methods_are_case_sensitive() -> None:
    router = Router()
    router.get("/x", ok)
    assert ask(router, "get", "/x").status == 405  # RFC 9110 §9.1


def test_the_request_learns_its_route() -> None:
    router = Router()

    def handler(request: Request) -> list[Any]:
        return [
            request.matched_path,
            dict(request.path_params),
            dict(request.raw_path_params),
        ]

    router.get("/u/{key}/{*rest}", handler)
    expected = (
        '["/u/{key}/{*rest}",{"key":"a/b","rest":"c/d"},{"key":"a%2Fb","rest":"c/d"}]'
    )
    assert get(router, "/u/a%2Fb/c/d") == (200, expected)


def test_a_websocket_request_is_routed_as_the_get_it_is() -> None:
    router = Router()
    router.get("/ws", lambda request: str(request.is_websocket))
    request = Request("GET", "/ws", Headers(), http_version="2", protocol="websocket")
    assert text(send(router, request)) == "True"


def test_state_is_the_routers_where_nothing_matches() -> None:
    router = Router().with_state("here")
    router.fallback(lambda request: request.state(str))
    assert get(router, "/x") == (200, "here")


# Handlers


async def async_none() -> str:
    return "async none"


async def async_request(request: Request) -> str:
    return f"async {request.path}"


def by_name(key: str, rest: str) -> str:
    return f"{key} {rest}"


def mixed(rest: str, request: Request, key: int, more: int = 7) -> str:
    return f"{rest} {request.method} {key + 1} {more}"


def keyword_only(req: Request, *, key: "int") -> str:
    return f"{req.method} {key!r}"


def any_name(r: Request, rest: object) -> str:
    return f"{r.method} {rest}"


def defaulted(key: str = "none") -> str:
    return key


def star(*args: Request, **kwargs: object) -> str:
    return f"{len(args)} {len(kwargs)}"


def optional(flag: bool = False) -> str:
    return str(flag)


def only_keyword(*, what: Request) -> str:
    return what.path


def request_last(flag: bool = False, *, req: Request) -> str:
    return f"{flag} {req.path}"


def unresolved(request: "Missing", key: "int") -> str:  # type: ignore[name-defined]  # noqa: F821
    return f"{request.path} {key + 1}"  # type: ignore[no-any-expr, unused-ignore]


def anything(**kwargs: object) -> str:
    return str(kwargs)


class Handler:
    async def __call__(self, request: Request) -> str:
        return "called"

    def method(self, key: int) -> str:
        return f"method {key}"

    async def later(self, request: Request, rest: str) -> str:
        return f"later {rest}"


def wrapped(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> object:
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (ok, "ok"),
        (async_none, "async none"),
        (async_request, "async /7/a/b"),
        (by_name, "7 a/b"),
        (mixed, "a/b GET 8 7"),
        (keyword_only, "GET 7"),
        (any_name, "GET a/b"),
        (defaulted, "7"),
        (star, "1 0"),
        (optional, "False"),
        (only_keyword, "/7/a/b"),
        (request_last, "False /7/a/b"),
        (unresolved, "/7/a/b 8"),
        (anything, "{}"),
        (str, "<Request GET /7/a/b HTTP/1.1>"),  # a built-in without a signature
        (Handler(), "called"),
        (Handler().method, "method 7"),
        (Handler().later, "later a/b"),
        (wrapped(mixed), "a/b GET 8 7"),
        (functools.partial(mixed, more=1), "a/b GET 8 1"),
        (lambda req, key: f"{req.method} {key}", "GET 7"),
        (lambda r: r.path, "/7/a/b"),
        (lambda *args: args[0].path, "/7/a/b"),
    ],
)
def test_a_handler_gets_what_it_asks_for(
    handler: Callable[..., object], expected: str
) -> None:
    router = Router()
    router.get("/{key}/{*rest}", handler)
    assert get(router, "/7/a/b") == (200, expected)


def test_handlers_are_analysed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router()
    router.get("/{key}/{*rest}", mixed)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(inspect, "signature", fail)
    assert get(router, "/7/a") == (200, "a GET 8 7")


def test_a_parameter_that_is_no_integer_is_a_400() -> None:
    router = Router()
    router.get("/{key}", lambda req, key: key)

    def typed(key: int) -> str:
        return str(key)

    router.get("/n/{key}", typed)
    assert get(router, "/n/-12") == (200, "-12")
    for bad in ("x", "1.0", "1_0", "+1", "%20%31", "--1", "%D9%A3", "9" * 19):
        assert get(router, f"/n/{bad}") == (400, "invalid path parameter"), bad


def test_an_undecodable_parameter_is_a_400() -> None:
    router = Router()
    router.get("/{key}", defaulted)
    assert get(router, "/%FF") == (400, "invalid path parameter encoding")
    router.get("/x/{key}", lambda req: req.path_params["key"])
    assert get(router, "/x/%C3") == (400, "invalid path parameter encoding")


def unknown(req: Request, name: str) -> str:
    return name


def positional_only(key: int, /) -> str:
    return str(key)


def odd_type(key: bytes) -> bytes:
    return key


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (unknown, "unknown takes 'name', which is not a parameter of its path"),
        (positional_only, "takes 'key', which is not a parameter"),
        (odd_type, "path parameter 'key' can be str or int"),
        (lambda req, other: None, "takes 'other'"),
        ("text", "is not a handler"),
        (5, "is not a handler"),
    ],
)
def test_a_handler_that_could_never_be_called_is_refused(
    handler: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Router().get("/{key}", handler)
    with pytest.raises(ConfigError):
        Router().fallback(lambda req, key: None)


def test_an_async_generator_is_a_streaming_handler() -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"x"

    router = Router()
    router.get("/", stream)
    body = ask(router, "GET", "/").body
    assert isinstance(body, AsyncIterator)


def test_a_handler_that_raises_is_a_500_and_the_router_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()

    @router.get("/x")
    async def broken() -> None:
        raise RuntimeError(SECRET)

    router.get("/y", ok)
    assert get(router, "/x") == (500, "Internal Server Error")
    assert get(router, "/y") == (200, "ok")
    assert "GET /x: handler failed" in caplog.text
    assert "RuntimeError: secret" in caplog.text
    assert caplog.records[0].name == "tako.router"


def test_a_handler_may_raise_its_answer() -> None:
    router = Router()

    @router.get("/")
    def teapot() -> None:
        raise HttpError(418, "no coffee", (("x", "y"),))

    response = ask(router, "GET", "/")
    assert (response.status, text(response)) == (418, "no coffee")
    assert response.headers["x"] == "y"


# Registration


def test_without_a_handler_each_verb_is_a_decorator() -> None:
    router = Router()

    for verb in ("get", "post", "put", "delete", "patch", "head", "options"):
        register = getattr(router, verb)
        assert register("/x")(ok) is ok
        assert ask(router, verb.upper(), "/x").status == 200
    assert router.route("TRACE", "/x")(ok) is ok
    assert ask(router, "TRACE", "/x").status == 200


def test_with_a_handler_each_verb_returns_the_route() -> None:
    router = Router()
    for verb in ("get", "post", "put", "delete", "patch", "head", "options"):
        route = getattr(router, verb)("/x", ok)
        assert isinstance(route, Route)
        assert (route.method, route.path, route.redirect_slashes) == (
            verb.upper(),
            "/x",
            False,
        )
    assert [route.method for route in router.routes][:2] == ["GET", "POST"]
    assert repr(router.routes[0]) == "<Route GET /x>"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_is_not_copied(copied: Callable[[object], object]) -> None:
    router = Router()
    router.get("/x", ok)
    with pytest.raises(TypeError, match="merge"):
        copied(router)
    with pytest.raises(TypeError, match="merge"):
        copied(router.routes[0])


@pytest.mark.parametrize("method", ["", "GE T", "GET\n", "ä", "a:b"])
def test_a_method_that_is_no_token_is_refused(method: str) -> None:
    with pytest.raises(ConfigError, match="is not a method"):
        Router().route(method, "/", ok)


def test_a_method_in_the_wrong_case_is_refused() -> None:
    with pytest.raises(ConfigError, match="write 'GET' instead of 'get'"):
        Router().route("get", "/", ok)


def test_a_conflict_names_both_routes() -> None:
    router = Router()
    router.get("/u/{key}", ok)
    with pytest.raises(RouteConflictError) as caught:
        router.get("/u/{name}", ok)
    assert str(caught.value) == (
        "Failed to register route: GET /u/{name} conflicts with GET /u/{key}"
    )
    with pytest.raises(ValueError, match="conflicts with"):
        router.get("/u/{*rest}", ok)
    router.post("/u/{name}", ok)
    router.get("/u/me", ok)


def test_a_refused_route_leaves_nothing_behind() -> None:
    router = Router()
    router.get("/x", lambda: "first")
    with pytest.raises(RouteConflictError):
        router.get("/x", lambda: "second")
    with pytest.raises(ConfigError):
        router.post("/x", lambda req, what: "third")
    assert get(router, "/x") == (200, "first")
    assert len(router.routes) == 1
    assert ask(router, "POST", "/x").headers["allow"] == "GET, HEAD"


# Trailing slashes


@pytest.mark.parametrize(
    ("path", "asked", "location"),
    [
        ("/api", "/api/", "/api"),
        ("/api/", "/api", "/api/"),
        ("/api", "/api///", "/api"),
        ("/u/{key}", "/u/a%2Fb/", "/u/a%2Fb"),
        ("/u/{key}/", "/u/7", "/u/7/"),
        ("/api", "/api/?a=1&b=%20", "/api?a=1&b=%20"),
        ("/s/{*rest}", "/s/a/b/", None),  # the catch-all takes it
    ],
)
def test_a_trailing_slash_too_much_or_too_few_is_redirected(
    path: str, asked: str, location: str | None
) -> None:
    router = Router()
    route = router.route("POST", path, ok, redirect_slashes=True)
    assert route.redirect_slashes
    response = ask(router, "POST", asked)
    if location is None:
        assert response.status == 200
        return
    assert (response.status, response.body) == (308, b"")
    assert response.headers.items() == [("location", location)]


def test_only_routes_registered_so_and_of_the_same_method_redirect() -> None:
    router = Router()
    router.get("/plain", ok)
    router.route("GET", "/slash", redirect_slashes=True)(ok)
    assert get(router, "/plain/") == (404, "")
    assert ask(router, "POST", "/slash/").status == 404
    assert ask(router, "HEAD", "/slash/").status == 308
    assert get(router, "/slash") == (200, "ok")


class Mounted:
    """A handler that answers for all that is below its path."""

    is_mount = True

    def __call__(self, request: Request) -> str:
        return f"{request.matched_path} {dict(request.path_params)}"


@pytest.mark.parametrize("method", ["GET", "PROPFIND"])
@pytest.mark.parametrize(
    ("pattern", "path", "params"),
    [
        ("/api/{*rest}", "/api/", {"rest": ""}),
        ("/api/{*rest}", "/api/a/", {"rest": "a/"}),
        ("/{*rest}", "/", {"rest": ""}),
        ("/t/{name}/{*rest}", "/t/a%20b/", {"name": "a b", "rest": ""}),
    ],
)
def test_a_mount_has_an_index(
    pattern: str, path: str, params: dict[str, str], method: str
) -> None:
    router = Router()
    router.route(method, pattern, Mounted())
    assert text(ask(router, method, path)) == f"{pattern} {params}"


def test_the_path_without_its_slash_is_redirected_to_a_mounts_index() -> None:
    router = Router()
    router.get("/api/{*rest}", Mounted())
    response = ask(router, "GET", "/api?x=1")
    assert response.status == 308
    assert response.headers["location"] == "/api/?x=1"
    assert ask(router, "POST", "/api").status == 404
    assert ask(router, "POST", "/api/").headers["allow"] == "GET, HEAD"
    assert ask(router, "GET", "/api//x").status == 404


def test_a_route_of_its_own_wins_over_a_mounts_index() -> None:
    for first in (True, False):
        router = Router()
        if first:
            router.get("/api/", ok)
        router.get("/api/{*rest}", Mounted())
        if not first:
            router.get("/api/", ok)
        assert get(router, "/api/") == (200, "ok")


def test_an_ordinary_catch_all_still_wants_something() -> None:
    router = Router()
    router.get("/files/{*rest}", whole_path)
    assert ask(router, "GET", "/files/").status == 404
    assert ask(router, "GET", "/files").status == 404


@pytest.mark.parametrize("how", ["scope", "nest", "merge"])
def test_a_mount_in_another_router_keeps_its_index(how: str) -> None:
    router = Router()
    if how == "scope":
        with router.scope("/api"):
            router.get("/", Mounted())
            router.get("/x/{*rest}", Mounted())
    else:
        child = Router()
        prefix = "/api" if how == "merge" else ""
        child.get(prefix + "/", Mounted())
        child.get(prefix + "/x/{*rest}", Mounted())
        if how == "nest":
            router.nest("/api", child)
        else:
            router.merge(child)
    assert get(router, "/api/") == (200, "/api/ {}")
    assert get(router, "/api/x/") == (200, "/api/x/{*rest} {'rest': ''}")
    for bare in ("/api", "/api/x"):
        assert ask(router, "GET", bare).headers["location"] == bare + "/"


def test_each_verb_redirects_slashes_too() -> None:
    router = Router()
    for verb in ("get", "post", "put", "delete", "patch", "head", "options"):
        assert getattr(router, verb)("/x", redirect_slashes=True)(ok) is ok
        route = getattr(router, verb)("/y/", ok, redirect_slashes=True)
        assert route.redirect_slashes
        for asked, location in (("/x/", "/x"), ("/y", "/y/")):
            response = ask(router, verb.upper(), asked)
            assert (response.status, response.headers["location"]) == (308, location)


def test_an_own_route_wins_over_the_redirect() -> None:
    router = Router()
    router.route("GET", "/x", lambda: "bare", redirect_slashes=True)
    router.get("/x/", lambda: "slash")
    assert get(router, "/x/") == (200, "slash")


def test_the_redirect_wins_over_405_and_fallback() -> None:
    router = Router()
    router.route("GET", "/x", ok, redirect_slashes=True)
    router.post("/x/", ok)
    router.fallback(lambda: "fallback")
    assert ask(router, "GET", "/x/").status == 308


def test_the_root_has_no_other_ending() -> None:
    with pytest.raises(ValueError, match="the root path has no other ending"):
        Router().route("GET", "/", ok, redirect_slashes=True)
    with pytest.raises(ConfigError):
        Router().route("GET", "/", redirect_slashes=True)


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        ("//{host}", "//evil.example/"),
        ("//{host}/", "//evil.example"),
        ("/{host}", "/\\evil.example/"),
        ("/{name}", "/a\r\nx: y/"),
        ("/{name}", "/a\tb/"),
        ("/{name}", "/\xe4/"),
        ("/{name}", "/a/?x=\r\ny"),
        ("/{name}", "/a/?\0"),
    ],
)
def test_a_redirect_never_names_another_host_nor_splits_the_response(
    pattern: str, target: str
) -> None:
    router = Router()
    router.route("GET", pattern, ok, redirect_slashes=True)
    assert get(router, target) == (404, "")


# Fallback and errors


def test_the_fallback_answers_where_no_method_matches() -> None:
    router = Router().fallback(lambda request: (404, f"no {request.path}"))
    router.post("/x", ok)
    assert get(router, "/y") == (404, "no /y")
    assert ask(router, "GET", "/x").status == 405


def test_middleware_runs_around_misses_too() -> None:
    router = Router().middleware(appending("1"))
    router.post("/x", ok)
    router.route("GET", "/t", ok, redirect_slashes=True)
    for path, status in (("/x", 405), ("/t/", 308), ("/nothing", 404)):
        response = ask(router, "GET", path)
        assert (response.status, response.headers["x-seen"]) == (status, "1")
    router.fallback(ok)
    assert ask(router, "GET", "/nothing").headers["x-seen"] == "1"


def test_error_handlers_see_their_statuses_only() -> None:
    seen: list[tuple[str, int]] = []

    def client(response: Response) -> Response:
        seen.append(("client", response.status))
        response.headers.set("x", "client")
        return response

    async def server(response: Response) -> Response:
        seen.append(("server", response.status))
        return Response(502, body="changed")

    router = Router().client_error_handler(client).error_handler(server)
    for status in (200, 399, 400, 499, 500, 599, 600):
        router.get(f"/{status}", functools.partial(Response, status))
    answers = {
        status: ask(router, "GET", f"/{status}").status
        for status in (200, 399, 400, 499, 500, 599, 600)
    }
    assert answers == {
        200: 200,
        399: 399,
        400: 400,
        499: 499,
        500: 502,
        599: 502,
        600: 600,
    }
    assert seen == [("client", 400), ("client", 499), ("server", 500), ("server", 599)]


def test_error_handlers_run_last_over_every_answer() -> None:
    def mark(response: Response) -> Response:
        response.headers.add("x-last", str(response.status))
        return response

    async def closed(request: Request, call_next: Next) -> int:
        return 503

    router = Router().client_error_handler(mark).error_handler(mark)
    router.get("/x", ok).version("2")
    router.post("/y", ok)
    router.get("/z", ok).middleware(closed)
    for path, status in (("/x", 505), ("/y", 405), ("/z", 503), ("/nothing", 404)):
        response = ask(router, "GET", path)
        assert response.status == status
        assert response.headers.get_all("x-last") == [str(status)]


def test_an_error_handler_that_fails_is_a_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: Response) -> Response:
        raise KeyError(SECRET)

    router = Router().client_error_handler(broken)
    assert get(router, "/x") == (500, "Internal Server Error")
    assert "KeyError" in caplog.text


def test_use_problem_json_gives_errors_a_document() -> None:
    router = Router().use_problem_json()
    router.post("/x", ok)
    router.get("/fails", lambda: 1 / 0)
    response = ask(router, "GET", "/x")
    assert text(response) == '{"title":"Method Not Allowed","status":405}'
    assert response.headers["allow"] == "POST"
    assert ask(router, "GET", "/fails").headers["content-type"] == (
        "application/problem+json"
    )
    assert text(ask(router, "POST", "/x")) == "ok"


# Version guards


@pytest.mark.parametrize("answered", ["1.0", "1.1", "2"])
def test_a_version_guard_answers_other_versions_with_505(
    answered: HttpVersion,
) -> None:
    steps: list[str] = []
    router = Router().middleware(tracing(steps, "mw"))
    router.get("/x", ok).version(answered)
    for version in ("1.0", "1.1", "2"):
        steps.clear()
        request = Request.build(path="/x", http_version=version)
        response = send(router, request)
        if version == answered:
            assert response.status == 200
        else:
            assert (response.status, response.body) == (505, b"")
            assert steps == []  # before any middleware


# Timeouts


class Clock:
    """A ``TimeLimit`` that lets functions take as long as it was told."""

    def __init__(self, takes: float) -> None:
        self.takes = takes
        self.limits: list[float] = []

    async def run_within(
        self, seconds: float, function: Callable[..., Awaitable[T]], *args: object
    ) -> T:
        self.limits.append(seconds)
        if self.takes > seconds:
            raise TimeoutError
        return await function(*args)


def test_a_handler_in_time_is_answered() -> None:
    router = Router().timeout(timedelta(seconds=5))
    router.get("/x", ok)
    router.get("/y", ok).timeout(2)
    clock = Clock(1)
    assert get(router, "/x", timer=clock) == (200, "ok")
    assert get(router, "/y", timer=clock) == (200, "ok")
    assert get(router, "/z", timer=clock) == (404, "")
    assert clock.limits == [5.0, 2.0, 5.0]


def test_a_handler_out_of_time_is_an_empty_408() -> None:
    router = Router()
    router.get("/x", ok).timeout(2)
    router.get("/y", ok)
    clock = Clock(3)
    assert get(router, "/x", timer=clock) == (408, "")
    assert get(router, "/y", timer=clock) == (200, "ok")
    assert clock.limits == [2.0]


def test_the_timeout_fallback_gets_the_original_request() -> None:
    router = Router().timeout(1)
    router.timeout_fallback(lambda request: (504, f"{request.path} takes too long"))
    router.get("/{key}", ok)
    assert get(router, "/x", timer=Clock(3)) == (504, "/x takes too long")


def test_a_time_out_of_the_handlers_own_is_a_500() -> None:
    def own() -> None:
        raise TimeoutError

    router = Router().timeout(5)
    router.get("/x", own)
    assert get(router, "/x", timer=Clock(1)) == (500, "Internal Server Error")


def test_error_handlers_see_a_408() -> None:
    router = Router().timeout(1).use_problem_json()
    router.get("/x", ok)
    response = ask(router, "GET", "/x", timer=Clock(2))
    assert text(response) == '{"title":"Request Timeout","status":408}'


def test_a_timeout_without_a_timer_says_what_is_missing() -> None:
    router = Router()
    router.get("/x", ok).timeout(1)
    with pytest.raises(RuntimeError, match=r"dispatch\(request, timer=\.\.\.\)"):
        ask(router, "GET", "/x")


@pytest.mark.parametrize("value", [0, -1, "1"])
def test_a_timeout_is_positive(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^timeout"):
        Router().timeout(value)
    with pytest.raises(ConfigError, match=r"^timeout"):
        Router().get("/x", ok).timeout(value)


# Middleware


def test_router_middleware_runs_before_route_middleware() -> None:
    steps: list[str] = []
    router = Router()
    route = router.get("/x", lambda: steps.append("handler"))
    route.middleware(tracing(steps, "route1")).middleware(tracing(steps, "route2"))
    router.middleware(tracing(steps, "a")).middleware(tracing(steps, "b"))
    ask(router, "GET", "/x")
    assert steps == [
        "a", "b", "route1", "route2", "handler", "/route2", "/route1", "/b", "/a",
    ]  # fmt: skip


def test_middleware_added_later_counts_for_requests_after_it() -> None:
    router = Router()
    route = router.get("/x", ok)
    assert ask(router, "GET", "/x").headers.get_all("x-seen") == []
    assert ask(router, "GET", "/y").headers.get_all("x-seen") == []
    router.middleware(appending("router"))
    assert ask(router, "GET", "/x").headers.get_all("x-seen") == ["router"]
    assert ask(router, "GET", "/y").headers.get_all("x-seen") == ["router"]
    route.middleware(appending("route"))
    assert ask(router, "GET", "/x").headers.get_all("x-seen") == ["route", "router"]


def test_the_chain_is_built_once() -> None:
    router = Router().middleware(appending("1"))
    route = router.get("/x", ok)
    ask(router, "GET", "/x")
    first = route.chain(())
    ask(router, "GET", "/x")
    assert route.chain(()) is first


# Scope


def test_a_scope_puts_its_prefix_before_paths() -> None:
    router = Router()

    def build(scoped: Router) -> None:
        scoped.get("/", lambda: "root")
        scoped.get("/users", whole_path)
        scoped.scope("/deep/", lambda deep: deep.get("/{key}", whole_path))

    assert router.scope("/admin", build) is None
    router.get("/after", whole_path)
    assert get(router, "/admin") == (200, "root")
    assert get(router, "/admin/") == (404, "")
    assert get(router, "/admin/users") == (200, "/admin/users")
    assert get(router, "/admin/deep/7") == (200, "/admin/deep/7")
    assert get(router, "/after") == (200, "/after")


def test_a_scope_is_a_context_manager_too() -> None:
    router = Router()
    with router.scope("api") as api, api.scope("/v1"):
        assert api is router
        route = router.get("/x", ok)
        router.get("", ok)
    assert route.path == "/api/v1/x"
    assert get(router, "/api/v1") == (200, "ok")


def test_the_prefix_is_restored_when_a_scope_fails() -> None:
    router = Router()

    def build(_: Router) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        router.scope("/a", build)
    with pytest.raises(LookupError), router.scope("/b"):
        raise LookupError
    assert router.get("/x", ok).path == "/x"


def test_an_empty_scope_adds_nothing() -> None:
    router = Router()
    with router.scope("/"):
        assert router.get("/x", ok).path == "/x"
    with router.scope(""):
        assert router.get("/", ok).path == "/"


def test_a_path_in_a_scope_begins_with_a_slash_too() -> None:
    with Router().scope("/a") as scoped, pytest.raises(ConfigError, match="starts"):
        scoped.get("b", ok)


def test_slashes_are_redirected_to_the_bare_prefix_of_a_scope() -> None:
    router = Router()
    with router.scope("/admin"):
        router.route("GET", "/", ok, redirect_slashes=True)
    assert ask(router, "GET", "/admin/").headers["location"] == "/admin"


# Nest and merge


def test_nesting_copies_routes_below_the_prefix() -> None:
    child = Router()
    child.get("/", lambda: "root")
    child.get("/x/{key}", lambda request, key: f"{request.path} {key}")
    child.route("GET", "/t", ok, redirect_slashes=True)
    child.get("/h2", ok).version("2")
    child.get("/slow", ok).timeout(1)
    router = Router().nest("sub/", child)
    assert get(router, "/sub") == (200, "root")
    assert get(router, "/sub/x/7") == (200, "/sub/x/7 7")
    assert ask(router, "GET", "/sub/t/").headers["location"] == "/sub/t"
    assert get(router, "/sub/h2") == (505, "")
    assert get(router, "/sub/slow", timer=Clock(2)) == (408, "")
    assert get(child, "/x/7") == (200, "/x/7 7")
    assert get(child, "/sub/x/7") == (404, "")


@pytest.mark.parametrize("prefix", ["", "/"])
def test_nesting_without_a_prefix_keeps_paths(prefix: str) -> None:
    child = Router()
    child.get("/", lambda: "root")
    child.get("/x", ok)
    router = Router().nest(prefix, child)
    assert get(router, "/") == (200, "root")
    assert get(router, "/x") == (200, "ok")


def test_a_prefix_may_have_parameters() -> None:
    child = Router()
    child.get("/posts/{post}", lambda request: dict(request.path_params))
    router = Router().nest("/users/{user}", child)
    assert get(router, "/users/1/posts/2") == (200, '{"user":"1","post":"2"}')
    assert router.routes[0].path == "/users/{user}/posts/{post}"


def test_nested_middleware_runs_between_the_routers_and_the_routes() -> None:
    steps: list[str] = []
    child = Router().middleware(tracing(steps, "sub"))
    child.get("/x", lambda: steps.append("handler")).middleware(tracing(steps, "route"))
    router = Router().nest("/a", child).nest("/b", child)
    router.middleware(tracing(steps, "main"))
    expected = ["main", "sub", "route", "handler", "/route", "/sub", "/main"]
    ask(router, "GET", "/a/x")
    assert steps == expected
    steps.clear()
    ask(router, "GET", "/b/x")
    assert steps == expected  # nothing stacks twice
    steps.clear()
    ask(child, "GET", "/x")
    assert steps == expected[1:-1]


def test_nesting_a_router_that_nests() -> None:
    steps: list[str] = []
    inner = Router().middleware(tracing(steps, "inner"))
    inner.get("/x", whole_path)
    middle = Router().middleware(tracing(steps, "middle")).nest("/in", inner)
    outer = Router().middleware(tracing(steps, "outer"))
    with outer.scope("/s"):
        outer.nest("/mid", middle)
    assert get(outer, "/s/mid/in/x") == (200, "/s/mid/in/x")
    assert steps == ["outer", "middle", "inner", "/inner", "/middle", "/outer"]


def test_fallback_error_handlers_and_timeout_of_a_child_stay_behind() -> None:
    child = Router().fallback(lambda: "child").use_problem_json().timeout(1)
    child.get("/x", lambda: 404)
    router = Router().nest("/c", child)
    assert get(router, "/c/nothing") == (404, "")
    assert get(router, "/c/x", timer=Clock(9)) == (404, "")


def test_a_conflict_while_nesting_copies_nothing() -> None:
    child = Router()
    child.get("/new", ok)
    child.get("/{key}", ok)
    router = Router()
    router.get("/c/{name}", lambda: "mine")
    with pytest.raises(
        RouteConflictError, match=r"^Failed to nest route: GET /c/{key} "
    ):
        router.nest("/c", child)
    assert get(router, "/c/new") == (200, "mine")
    assert len(router.routes) == 1


def test_merging_is_nesting_without_a_prefix() -> None:
    steps: list[str] = []
    other = Router().middleware(tracing(steps, "other"))
    other.get("/x", ok)
    router = Router().middleware(tracing(steps, "main"))
    router.merge(other)
    assert get(router, "/x") == (200, "ok")
    assert steps == ["main", "other", "/other", "/main"]


def test_a_conflict_while_merging_raises_and_changes_neither() -> None:
    other = Router().middleware(appending("other"))
    other.post("/y", ok)
    route = other.get("/x", lambda: "other")
    router = Router()
    router.get("/x", lambda: "mine")
    with pytest.raises(RouteConflictError) as caught:
        router.merge(other)
    assert str(caught.value) == (
        "Failed to merge route '/x' (method GET): GET /x conflicts with GET /x"
    )
    assert get(router, "/x") == (200, "mine")
    assert ask(router, "POST", "/y").status == 404
    assert other.routes[1] is route
    assert ask(other, "GET", "/x").headers.get_all("x-seen") == ["other"]


# State


def read_state(request: Request) -> str:
    return request.state(str)


def test_the_state_set_last_is_found() -> None:
    router = Router()
    router.get("/x", read_state)
    assert router.with_state("router") is router
    assert get(router, "/x") == (200, "router")
    router.with_state("newer").with_state(b"x", key=bytes)
    assert get(router, "/x") == (200, "newer")


def test_missing_state_is_a_500_with_its_text(caplog: pytest.LogCaptureFixture) -> None:
    router = Router()
    router.get("/x", read_state)
    assert get(router, "/x") == (500, "missing application state")
    assert "no state of type str" in caplog.text


def test_routers_do_not_see_each_others_state() -> None:
    one, two = Router().with_state("one"), Router().with_state("two")
    for router in (one, two):
        router.get("/x", read_state)
    assert (get(one, "/x"), get(two, "/x")) == ((200, "one"), (200, "two"))


def test_state_of_a_child_travels_with_its_routes() -> None:
    def both(request: Request) -> list[Any]:
        return [request.state(str), request.state(int)]

    one, two, three = Router().with_state("one"), Router().with_state("two"), Router()
    for child in (one, two, three):
        child.get("/x", both)
    router = Router().with_state("main").with_state(7)
    router.nest("/1", one).nest("/2", two).nest("/3", three)
    assert text(ask(router, "GET", "/1/x")) == '["one",7]'
    assert text(ask(router, "GET", "/2/x")) == '["two",7]'
    assert text(ask(router, "GET", "/3/x")) == '["main",7]'
    assert ask(one, "GET", "/x").status == 500


# Plugins


class Stamping:
    name = "stamping"

    def __init__(self, fail: int = 0) -> None:
        self.setups = 0
        self.fail = fail

    def setup(self, router: Router) -> None:
        self.setups += 1
        if self.setups <= self.fail:
            raise LookupError(NO_DATABASE)
        router.middleware(appending("plugin"))


def test_a_plugin_is_set_up_once_before_the_first_request() -> None:
    plugin = Stamping()
    router = Router().plugin(plugin).plugin(plugin)
    router.get("/x", ok).middleware(appending("route"))
    assert plugin.setups == 0
    for _ in range(2):
        seen = ask(router, "GET", "/x").headers.get_all("x-seen")
        assert seen == ["route", "plugin"]
    router.prepare()
    assert router.plugin(plugin) is router
    ask(router, "GET", "/x")
    assert plugin.setups == 1


def test_a_router_never_serves_without_a_plugin_that_failed() -> None:
    router = Router().plugin(Stamping(fail=2))
    router.get("/x", ok)
    with pytest.raises(LookupError, match="no database"):
        router.prepare()
    with pytest.raises(LookupError, match="no database"):
        ask(router, "GET", "/x")
    assert ask(router, "GET", "/x").headers["x-seen"] == "plugin"


def test_two_plugins_of_one_name_are_refused() -> None:
    router = Router().plugin(Stamping())
    with pytest.raises(ConfigError, match="another plugin named 'stamping'"):
        router.plugin(Stamping())


def test_what_a_childs_plugin_adds_is_nested_too() -> None:
    child = Router().plugin(Stamping())
    child.get("/x", ok)
    router = Router().nest("/c", child)
    assert ask(router, "GET", "/c/x").headers["x-seen"] == "plugin"
