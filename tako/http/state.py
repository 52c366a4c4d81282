"""Values found by their type: facts about a request, the state of a router."""

from collections.abc import Iterator
from typing import TypeVar, cast, overload

from tako.errors import HttpError


T = TypeVar("T")
D = TypeVar("D")


class MissingState(HttpError, LookupError):  # noqa: N818 - a name of the API
    """``Request.state`` found no value of that type: answered with 500."""

    def __init__(self, key: type) -> None:
        super().__init__(500, "missing application state")
        self.key = key

    def __str__(self) -> str:
        return f"no state of type {self.key.__qualname__}; see Router.with_state"


class TypeMap:
    """A map from types to one value each."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[type, object] = {}

    def insert(self, value: object, *, key: type | None = None) -> None:
        """Store ``value`` under ``key``, or under its own type, replacing another."""
        self._values[type(value) if key is None else key] = value

    @overload
    def get(self, key: type[T]) -> T | None: ...
    @overload
    def get(self, key: type[T], default: D) -> T | D: ...
    def get(self, key: type[T], default: D | None = None) -> T | D | None:
        """Return the value stored under ``key``, or ``default``."""
        return cast("T | D | None", self._values.get(key, default))

    def remove(self, key: type[T]) -> T | None:
        """Take the value stored under ``key`` out; ``None`` if there is none."""
        return cast("T | None", self._values.pop(key, None))

    def __getitem__(self, key: type[T]) -> T:
        return cast("T", self._values[key])

    def __contains__(self, key: object) -> bool:
        return isinstance(key, type) and key in self._values

    def __iter__(self) -> Iterator[type]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        names = ", ".join(key.__qualname__ for key in self._values)
        return f"{type(self).__name__}({names})"


def find_state(maps: tuple[TypeMap, ...], key: type[T]) -> T:
    """Return the value of that type from the first map that has one.

    Raises:
        MissingState: none of them has one.
    """
    for candidate in maps:
        if key in candidate:
            return candidate[key]
    raise MissingState(key)
