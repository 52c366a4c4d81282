"""The path table: syntax, priorities, backtracking, conflicts."""

import itertools
import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tako.errors import ConfigError
from tako.routing import path_table
from tako.routing.path_table import PathTable, parse_path
from tests.support.interpreted import interpreted


def table(*paths: str) -> PathTable[str]:
    made: PathTable[str] = PathTable()
    for path in paths:
        pattern = parse_path(path)
        assert made.conflict(pattern) is None
        made.add(pattern, path)
    return made


def find(paths: tuple[str, ...], path: str) -> tuple[str, dict[str, str]] | None:
    found = table(*paths).find(path)
    if found is None:
        return None
    names = parse_path(found[0]).names
    return found[0], dict(zip(names, found[1], strict=True))


# Syntax


@pytest.mark.parametrize(
    ("pattern", "path", "params"),
    [
        ("/", "/", {}),
        ("/a/b", "/a/b", {}),
        ("/a/", "/a/", {}),
        ("/a//b", "/a//b", {}),
        ("/{id}", "/7", {"id": "7"}),
        ("/{id}", "/a.b:c@d%2F", {"id": "a.b:c@d%2F"}),
        ("/u/{id}/posts/{post}", "/u/1/posts/2", {"id": "1", "post": "2"}),
        ("/u/{id}/", "/u/1/", {"id": "1"}),
        ("/img-{id}.png", "/img-7.png", {"id": "7"}),
        ("/img-{id}.png", "/img-.png.png", {"id": ".png"}),
        ("/{name}.json", "/a.b.json", {"name": "a.b"}),
        ("/v{n}", "/v1", {"n": "1"}),
        ("/static/{*rest}", "/static/a", {"rest": "a"}),
        ("/static/{*rest}", "/static/a/b//c/", {"rest": "a/b//c/"}),
        ("/{*all}", "/x/y", {"all": "x/y"}),
        ("/{{a}}", "/{a}", {}),
        ("/{{{a}}}", "/{x}", {"a": "x"}),
        ("/a%20b", "/a%20b", {}),
        ("/{a}/{*b}", "/x/y/z", {"a": "x", "b": "y/z"}),
        ("/{user-id}/{x.y}", "/1/2", {"user-id": "1", "x.y": "2"}),
    ],
)
def test_path_matches(pattern: str, path: str, params: dict[str, str]) -> None:
    assert find((pattern,), path) == (pattern, params)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/", ""),
        ("/", "//"),
        ("/a", "/A"),
        ("/a", "/a/"),
        ("/a/", "/a"),
        ("/a/b", "/a//b"),
        ("/a/b", "/a/./b"),
        ("/a/b", "/a/c/../b"),
        ("/a%20b", "/a+b"),
        ("/a", "/%61"),
        ("/{id}", "/"),
        ("/{id}", "/a/b"),
        ("/{id}/x", "//x"),
        ("/img-{id}.png", "/img-.png"),
        ("/img-{id}.png", "/img-7.PNG"),
        ("/ab{x}bc", "/abc"),
        ("/static/{*rest}", "/static"),
        ("/static/{*rest}", "/static/"),
        ("/static/{*rest}", "/static//etc/passwd"),
        ("/{*all}", "//evil.example"),
        ("/{*all}", "/"),
    ],
)
def test_path_does_not_match(pattern: str, path: str) -> None:
    assert find((pattern,), path) is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "starts with '/'"),
        ("a", "starts with '/'"),
        ("*", "starts with '/'"),
        ("/{a", "single '{'"),
        ("/a}", "single '}'"),
        ("/{a}}", "single '}'"),
        ("/{a{b}}", "single '{'"),
        ("/{}", "cannot be a parameter's name"),
        ("/{*}", "cannot be a parameter's name"),
        ("/{**a}", "cannot be a parameter's name"),
        ("/{id:int}", "cannot be a parameter's name"),
        ("/{a b}", "cannot be a parameter's name"),
        ("/{a}-{b}", "two parameters in one segment"),
        ("/{a}{*b}", "two parameters in one segment"),
        ("/{a}/{a}", "occurs twice"),
        ("/{a}/{*a}", "occurs twice"),
        ("/{*a}/b", "must be the whole last segment"),
        ("/{*a}/", "must be the whole last segment"),
        ("/x{*a}", "must be the whole last segment"),
        ("/{*a}x", "must be the whole last segment"),
        ("/a b", "percent-encoded"),
        ("/ä", "percent-encoded"),
        ("/a?b=c", "percent-encoded"),
        ("/a#b", "percent-encoded"),
        ("/a\nb", "percent-encoded"),
        ("/{x}ä", "percent-encoded"),
    ],
)
def test_a_path_that_cannot_work_is_refused(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_path(path)


# Priorities

PRIORITIES = ("/a/x", "/a/x{p}", "/a/xx{p}", "/a/{p}.z", "/a/{p}", "/{*rest}")


@pytest.mark.parametrize("order", [*itertools.permutations(PRIORITIES)][::13])
def test_priority_does_not_depend_on_the_order_of_registration(
    order: tuple[str, ...],
) -> None:
    expected = {
        "/a/x": "/a/x",
        "/a/xy": "/a/x{p}",
        "/a/xxy": "/a/xx{p}",
        "/a/xxy.z": "/a/xx{p}",  # as long as ".z", and prefixes come first
        "/a/xy.z": "/a/{p}.z",
        "/a/y.z": "/a/{p}.z",
        "/a/y": "/a/{p}",
        "/a/y/z": "/{*rest}",
        "/b": "/{*rest}",
    }
    made = table(*order)
    hits = {path: made.find(path) for path in expected}
    assert {path: hit and hit[0] for path, hit in hits.items()} == expected


def test_a_longer_prefix_and_suffix_wins() -> None:
    paths = ("/a{x}", "/a{x}.b", "/ab{x}.b", "/{x}.b")
    assert find(paths, "/abc.b") == ("/ab{x}.b", {"x": "c"})
    assert find(paths, "/ac.b") == ("/a{x}.b", {"x": "c"})
    assert find(paths, "/c.b") == ("/{x}.b", {"x": "c"})
    assert find(paths, "/ac") == ("/a{x}", {"x": "c"})


def test_lookup_goes_back_from_a_branch_that_leads_nowhere() -> None:
    paths = ("/a/b/c", "/a/{x}/d", "/{y}/b/e", "/{z}/{w}/{*rest}")
    assert find(paths, "/a/b/c") == ("/a/b/c", {})
    assert find(paths, "/a/b/d") == ("/a/{x}/d", {"x": "b"})
    assert find(paths, "/a/b/e") == ("/{y}/b/e", {"y": "a"})
    assert find(paths, "/a/b/f/g") == (
        "/{z}/{w}/{*rest}",
        {"z": "a", "w": "b", "rest": "f/g"},
    )
    assert find(paths, "/a/b") is None


def test_values_of_abandoned_branches_are_forgotten() -> None:
    paths = ("/x{a}/1", "/{b}.y/2", "/{c}/3")
    assert find(paths, "/xo.y/1") == ("/x{a}/1", {"a": "o.y"})
    assert find(paths, "/xo.y/2") == ("/{b}.y/2", {"b": "xo"})
    assert find(paths, "/xo.y/3") == ("/{c}/3", {"c": "xo.y"})
    assert find(paths, "/xo.y/4") is None


@interpreted
def test_a_lookup_visits_no_node_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    depth = 6
    choices = itertools.product((True, False), repeat=depth)
    made = table(
        *(
            "".join("/a" if fixed else f"/{{p{i}}}" for i, fixed in enumerate(choice))
            + f"/z{number}"
            for number, choice in enumerate(choices)
        )
    )
    visited: list[object] = []
    walk = path_table._walk

    def counted(node: Any, *args: Any) -> Any:
        visited.append(node)
        return walk(node, *args)

    monkeypatch.setattr(path_table, "_walk", counted)
    assert made.find("/a" * depth + "/nothing") is None
    assert len(visited) == len(set(map(id, visited))) > 2**depth


def test_a_path_of_thousands_of_segments_is_no_problem() -> None:
    made = table("/{a}/b", "/x/{*rest}")
    assert made.find("/a" * 5000) is None
    assert made.find("/x" + "/a" * 5000) == ("/x/{*rest}", ["a" + "/a" * 4999])


# Against a plain reading of the rules

SEGMENTS = st.sampled_from(["", "a", "b", "{%d}", "a{%d}", "{%d}b", "a{%d}b"])
PATTERNS = st.builds(
    lambda segments, rest: (
        "/" + "/".join(s.replace("%d", f"p{i}") for i, s in enumerate(segments)) + rest
    ),
    st.lists(SEGMENTS, min_size=1, max_size=4),
    st.sampled_from(["", "/{*rest}"]),
)
REQUESTS = st.lists(
    st.sampled_from(["", "a", "b", "ab", "aab", "abb", "c"]), min_size=1, max_size=5
).map(lambda segments: "/" + "/".join(segments))


def as_regex(pattern: str) -> str:
    """Return the pattern as an expression; it has no literals to escape."""
    plain = re.sub(r"\{\*(\w+)\}", r"(?P<\1>[^/].*)", pattern)
    return re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+?)", plain)


@given(st.lists(PATTERNS, min_size=1, max_size=12), REQUESTS)
def test_a_route_is_found_exactly_if_some_pattern_matches(
    patterns: list[str], path: str
) -> None:
    made: PathTable[str] = PathTable()
    added: list[str] = []
    for pattern in patterns:
        parsed = parse_path(pattern)
        if made.conflict(parsed) is None:
            made.add(parsed, pattern)
            added.append(pattern)
    matching = [p for p in added if re.fullmatch(as_regex(p), path)]
    found = made.find(path)
    if found is None:
        assert matching == []
    else:
        route, values = found
        assert route in matching
        if path in matching:
            assert route == path
        match = re.fullmatch(as_regex(route), path)
        assert match is not None
        assert list(match.groupdict().values()) == values
    assert found == table(*reversed(added)).find(path)


# Conflicts


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/{a}", "/{b}"),
        ("/x/{a}/y", "/x/{b}/y"),
        ("/x{a}.y", "/x{b}.y"),
        ("/{*a}", "/{*b}"),
        ("/{{a", "/{{a"),
        ("/{a}", "/{*b}"),
        ("/{a}/x/y", "/{*b}"),
        ("/{a}/x{b}", "/{*c}"),
        ("/{a}/{*b}", "/{*c}"),
        ("/x/{a}/", "/x/{*b}"),
        ("/{a}/{b}/x{c}", "/{*d}"),
        ("/{a}/b{c}/{*d}", "/{*e}"),
    ],
)
def test_paths_that_no_request_could_tell_apart_conflict(
    first: str, second: str
) -> None:
    assert table(first).conflict(parse_path(second)) == first
    assert table(second).conflict(parse_path(first)) == second


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/a", "/a/"),
        ("/a", "/{a}"),
        ("/{a}/x", "/{b}/y"),
        ("/{a}", "/{b}/"),
        ("/x{a}", "/{a}x"),
        ("/x{a}", "/{*b}"),
        ("/a/b", "/{*b}"),
        ("/a/{b}", "/{*c}"),
        ("/{a}", "/x/{*b}"),
        ("/{a}/b", "/{a}/{*b}"),
        ("/{{a}}", "/{a}"),
    ],
)
def test_paths_that_can_be_told_apart_do_not_conflict(first: str, second: str) -> None:
    assert table(first).conflict(parse_path(second)) is None
    assert table(second).conflict(parse_path(first)) is None
