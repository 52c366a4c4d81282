"""``Route``: what it is told after it was registered."""

import logging
from typing import Any

import pytest

from tako.errors import ConfigError
from tako.routing.route import Route
from tako.routing.router import Router


def ok() -> str:
    return "ok"


def test_a_route_says_what_it_answers() -> None:
    with (router := Router()).scope("/api"):
        route = router.route("PROPFIND", "/{name}", ok, redirect_slashes=True)
    assert isinstance(route, Route)
    assert (route.method, route.path) == ("PROPFIND", "/api/{name}")
    assert (route.redirect_slashes, route.mount) == (True, False)
    assert (route.http_version, route.seconds) == (None, None)
    assert repr(route) == "<Route PROPFIND /api/{name}>"


def test_the_first_version_and_the_first_timeout_win(
    caplog: pytest.LogCaptureFixture,
) -> None:
    route = Router().get("/x", ok).version("2").version("1.1").timeout(1).timeout(2)
    assert (route.http_version, route.seconds) == ("2", 1.0)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "has a version already" in caplog.text
    assert "has a timeout already" in caplog.text


@pytest.mark.parametrize("version", ["0.9", "3", "", 2])
def test_an_unknown_version_is_refused(version: Any) -> None:
    route = Router().get("/x", ok)
    with pytest.raises(ConfigError, match="version takes"):
        route.version(version)
    assert route.http_version is None
