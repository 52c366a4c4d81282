"""The path table: which registered path a request path matches.

Theory of operation. A registered path is parsed into segments, each a literal, a
parameter (perhaps with a literal prefix and suffix) or, at the end, a catch-all. A
catch-all takes an empty rest only where an app is mounted: the app has its index there,
while a file server or a proxy would not expect it. Paths without parameters are found
in one dictionary. The others form a tree with one level for each segment; a lookup
walks it depth first, literals before parameters with a prefix or suffix (longest first)
before plain parameters or the catch-all, and goes back when a branch does not lead to a
route. So the order of registration never matters.

Invariants: a node has a plain parameter or a catch-all, never both; a lookup visits
each node at most once, so it takes no more steps than there are nodes.

Paths are matched as they are received: nothing is decoded and nothing is normalised.
"""

import re
from collections.abc import Sequence
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from tako.errors import ConfigError
from tako.http import grammar


T = TypeVar("T")

_PIECE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


class Segment(NamedTuple):
    """One piece of a path between slashes.

    ``name`` is ``None`` for a literal, whose text is ``prefix``.
    """

    prefix: str
    suffix: str = ""
    name: str | None = None
    catch_all: bool = False


EMPTY: Final = Segment("")
"""The segment behind a slash at the end of a path."""


class Pattern(NamedTuple):
    """A registered path, parsed."""

    path: str
    segments: tuple[Segment, ...]
    names: tuple[str, ...]

    @property
    def literal(self) -> str | None:
        """The one request path that matches, if there is only one."""
        if self.names:
            return None
        return "/".join(segment.prefix for segment in self.segments)


def parse_path(path: str) -> Pattern:
    """Parse ``path``: ``{name}``, ``{*rest}`` at the end, ``{{`` and ``}}`` for braces.

    Raises:
        ConfigError: ``path`` is not such a path.
    """
    if not path.startswith("/"):
        msg = f"a route's path starts with '/', unlike {path!r}"
        raise ConfigError(msg)
    parts = path.split("/")
    segments = tuple(
        _segment(part, path, last=i == len(parts) - 1) for i, part in enumerate(parts)
    )
    names = tuple(segment.name for segment in segments if segment.name is not None)
    if len(set(names)) < len(names):
        msg = f"a parameter's name occurs twice in {path!r}"
        raise ConfigError(msg)
    return Pattern(path, segments, names)


def _segment(text: str, path: str, *, last: bool) -> Segment:
    literals = [""]
    name: str | None = None
    for piece in _PIECE.finditer(text):
        if piece[1] is None:
            literals[-1] += _literal(piece[0], path)
        elif name is not None:
            msg = f"{path!r} has two parameters in one segment"
            raise ConfigError(msg)
        else:
            name = piece[1]
            literals.append("")
    if name is None:
        return Segment(literals[0])
    prefix, suffix = literals
    catch_all = name.startswith("*")
    if catch_all and (not last or prefix or suffix):
        msg = f"{{{name}}} must be the whole last segment of {path!r}"
        raise ConfigError(msg)
    return Segment(prefix, suffix, _checked_name(name, path), catch_all)


def _literal(text: str, path: str) -> str:
    if text in {"{{", "}}"}:
        return text[0]
    if text in {"{", "}"}:
        msg = f"single {text!r} in {path!r}; a literal brace is written twice"
        raise ConfigError(msg)
    if "?" in text or not grammar.is_path(b"/" + text.encode()):
        msg = f"no request path can match {path!r}: write it percent-encoded"
        raise ConfigError(msg)
    return text


def _checked_name(name: str, path: str) -> str:
    name = name.removeprefix("*")
    if not name or not re.fullmatch(r"[\w.-]+", name):
        msg = f"{name!r} in {path!r} cannot be a parameter's name"
        raise ConfigError(msg)
    return name


def join(prefix: str, path: str, *, mount: bool = False) -> str:
    """Return ``path`` below ``prefix``; the bare prefix for ``"/"`` and ``""``.

    The index of what is mounted keeps its slash: links in it are relative to that.
    """
    if prefix and path in {"", "/"}:
        return prefix + "/" if mount else prefix
    if not path.startswith("/"):
        msg = f"a route's path starts with '/', unlike {path!r}"
        raise ConfigError(msg)
    return prefix + path


def normal_prefix(prefix: str) -> str:
    """Return ``prefix`` with a slash at its front and none at its end."""
    bare = prefix.strip("/")
    return f"/{bare}" if bare else ""


class _Node(Generic[T]):
    """The routes that share their first segments."""

    __slots__ = ("affixed", "leaf", "literals", "mounted", "param", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.affixed: list[_Affixed[T]] = []  # longest first
        self.param: _Node[T] | None = None
        self.rest: T | None = None  # the route that ends in a catch-all here
        self.mounted = False  # the catch-all takes an empty rest, too
        self.leaf: T | None = None  # the route that ends here

    def child(self, segment: Segment) -> "_Node[T] | None":
        """Return the node that ``segment`` leads to."""
        if segment.name is None:
            return self.literals.get(segment.prefix)
        if not segment.prefix and not segment.suffix:
            return self.param
        for prefix, suffix, node in self.affixed:
            if (prefix, suffix) == (segment.prefix, segment.suffix):
                return node
        return None

    def add_child(self, segment: Segment) -> "_Node[T]":
        """Return the node that ``segment`` leads to; make it if there is none."""
        node = self.child(segment)
        if node is not None:
            return node
        node = _Node[T]()
        if segment.name is None:
            self.literals[segment.prefix] = node
        elif not segment.prefix and not segment.suffix:
            self.param = node
        else:
            self.affixed.append((segment.prefix, segment.suffix, node))
            self.affixed.sort(key=_longest_first)
        return node

    def any_route(self) -> T | None:
        """Return a route at or below this node."""
        if self.leaf is not None:
            return self.leaf
        children = [*self.literals.values(), *(node for _, _, node in self.affixed)]
        if self.param is not None:
            children.append(self.param)
        for node in children:
            route = node.any_route()
            if route is not None:
                return route
        return self.rest


_Affixed: TypeAlias = tuple[str, str, _Node[T]]  # prefix, suffix, what is below


def _longest_first(entry: _Affixed[T]) -> tuple[int, int, str, str]:
    prefix, suffix, _ = entry
    return (-len(prefix) - len(suffix), -len(prefix), prefix, suffix)


class PathTable(Generic[T]):
    """The routes of one method, by path."""

    __slots__ = ("_literal", "_root")

    def __init__(self) -> None:
        self._literal: dict[str, T] = {}
        self._root: _Node[T] = _Node()

    def conflict(self, pattern: Pattern) -> T | None:
        """Return a route that cannot be in the table together with ``pattern``."""
        literal = pattern.literal
        if literal is not None:
            return self._literal.get(literal)
        node: _Node[T] | None = self._root
        for segment in pattern.segments:
            if node is None:
                return None
            if segment.catch_all:
                if node.rest is None and node.param is not None:
                    return node.param.any_route()
                return node.rest
            plain = segment.name is not None and not segment.prefix + segment.suffix
            if plain and node.rest is not None:
                return node.rest
            node = node.child(segment)
        return None if node is None else node.leaf

    def add(self, pattern: Pattern, route: T, *, mounted: bool = False) -> None:
        """Add a route that has no ``conflict``.

        ``mounted``: a catch-all takes an empty rest, too, unless another route does.
        """
        literal = pattern.literal
        if literal is not None:
            self._literal[literal] = route
            return
        node = self._root
        for segment in pattern.segments:
            if segment.catch_all:
                node.rest, node.mounted = route, mounted
                return
            node = node.add_child(segment)
        node.leaf = route

    def find(self, path: str) -> tuple[T, list[str]] | None:
        """Return the route for ``path`` and the values of its parameters, in order."""
        route = self._literal.get(path)
        if route is not None:
            return route, []
        values: list[str] = []
        route = _walk(self._root, path.split("/"), 0, values)
        return None if route is None else (route, values)


def named(names: Sequence[str], values: list[str]) -> dict[str, str]:
    """Return ``values``, those of a route that was found, by their names."""
    return {names[at]: values[at] for at in range(len(names))}


def _walk(
    node: _Node[T], segments: list[str], depth: int, values: list[str]
) -> T | None:
    """Return the best route below ``node``, its values appended to ``values``."""
    if depth == len(segments):
        return node.leaf
    segment = segments[depth]
    child = node.literals.get(segment)
    route = None if child is None else _walk(child, segments, depth + 1, values)
    if route is None and node.affixed:
        route = _walk_affixed(node, segments, depth, values)
    if route is None and node.mounted and segments[depth:] == [""]:
        values.append("")
        return node.rest
    if route is not None or not segment:
        return route  # no parameter is empty, and no catch-all begins with a slash
    if node.rest is not None:
        values.append("/".join(segments[depth:]))
        return node.rest
    if node.param is not None:
        values.append(segment)
        route = _walk(node.param, segments, depth + 1, values)
        if route is None:
            values.pop()
    return route


def _walk_affixed(
    node: _Node[T], segments: list[str], depth: int, values: list[str]
) -> T | None:
    segment = segments[depth]
    for prefix, suffix, child in node.affixed:
        end = len(segment) - len(suffix)
        if (
            end > len(prefix)
            and segment.startswith(prefix)
            and segment.endswith(suffix)
        ):
            values.append(segment[len(prefix) : end])
            route = _walk(child, segments, depth + 1, values)
            if route is not None:
                return route
            values.pop()
    return None
