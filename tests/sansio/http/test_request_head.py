"""``RequestHead``: what both wires do with the host of a request."""

import pytest

from tako.http.headers import RawHeader
from tako.http.request_head import with_host


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], [(b"host", b"b")]),
        ([(b"x", b"1")], [(b"host", b"b"), (b"x", b"1")]),
        ([(b"x", b"1"), (b"host", b"a")], [(b"x", b"1"), (b"host", b"b")]),
    ],
)
def test_the_host_of_the_target_takes_the_place_of_another(
    fields: list[RawHeader], expected: list[RawHeader]
) -> None:
    assert with_host(fields, b"b") == expected
