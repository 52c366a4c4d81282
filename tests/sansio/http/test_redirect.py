"""Redirects (RFC 9110 §15.4)."""

from collections.abc import Callable
from http.cookies import SimpleCookie

import pytest

from tako.http.headers import Headers
from tako.http.redirect import Redirect
from tako.http.response import into_response


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (Redirect.found, 302),
        (Redirect.see_other, 303),
        (Redirect.temporary, 307),
        (Redirect.permanent_moved, 301),
        (Redirect.permanent, 308),
    ],
)
def test_each_redirect_has_its_status(
    make: Callable[[str], Redirect], status: int
) -> None:
    response = into_response(make("/new?x=1"))
    assert (response.status, response.body) == (status, b"")
    assert response.headers.items() == [("location", "/new?x=1")]
    assert repr(make("/x")) == f"Redirect({status}, '/x')"


@pytest.mark.parametrize(
    "make",
    [
        Redirect.found,
        Redirect.see_other,
        Redirect.temporary,
        Redirect.permanent_moved,
        Redirect.permanent,
    ],
)
def test_a_redirect_takes_headers_and_cookies(make: Callable[..., Redirect]) -> None:
    many = [("X-A", "1"), ("x-a", "2"), ("Location", "/other")]
    response = make("/new", headers=many, cookies={"id": "a=b", "q": '"c"'})
    again = make("/new", headers=Headers(many), cookies={"id": "a=b", "q": '"c"'})
    for each in (response, again):
        assert into_response(each).headers.items() == [
            ("location", "/new"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("set-cookie", "id=a=b"),
            ("set-cookie", 'q="c"'),
        ]


def test_a_cookie_has_the_attributes_that_its_morsel_has() -> None:
    cookies: SimpleCookie = SimpleCookie()
    cookies["id"] = "7"
    cookies["id"]["path"] = "/"
    cookies["id"]["httponly"] = True
    cookies["id"]["samesite"] = "Lax"
    response = Redirect.see_other(
        "/", headers={"cache-control": "no-store"}, cookies=cookies
    )
    assert into_response(response).headers.items() == [
        ("location", "/"),
        ("cache-control", "no-store"),
        ("set-cookie", "id=7; HttpOnly; Path=/; SameSite=Lax"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "a; Path=/"),
        ("id", "a b"),
        ("id", "a\r\nx: y"),
        ("id", "ä"),
        ("i d", "a"),
    ],
)
def test_what_is_no_cookie_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="is not a cookie"):
        Redirect.see_other("/", cookies={name: value})


def test_a_header_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        Redirect.see_other("/", headers={"x": "a\r\nb: c"})


@pytest.mark.parametrize("status", [200, 300, 304, 305, 400])
def test_other_statuses_are_no_redirects(status: int) -> None:
    with pytest.raises(ValueError, match="is not a redirect"):
        Redirect(status, "/")


@pytest.mark.parametrize(
    "location", ["/a\r\nset-cookie: x=1", "/a\nb", "/\0", "/ä", "/\x7f", " /x", "/x\t"]
)
def test_a_location_that_no_header_can_hold_is_a_500(location: str) -> None:
    response = Redirect.found(location).into_response()
    assert response.status == 500
    assert response.body == b"redirect location contains invalid header characters"
    assert "location" not in response.headers
