"""Application state, found by type: per router, and one store for the whole process."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast, overload

from tako.errors import HttpError


T = TypeVar("T")
D = TypeVar("D")


class MissingState(HttpError, LookupError):  # noqa: N818 - a name of the API
    """No state of the type asked for was set: answered with 500."""

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


_PROCESS = TypeMap()
_LOCK = threading.Lock()


def set_state(value: object, *, key: type | None = None) -> None:
    """Store ``value`` for the whole process, under ``key`` or its own type."""
    with _LOCK:
        _PROCESS.insert(value, key=key)


def get_state(key: type[T]) -> T | None:
    """Return the process-wide value of that type, or ``None``."""
    return _PROCESS.get(key)


def get_or_init_state(key: type[T], init: Callable[[], T]) -> T:
    """Return the process-wide value of that type, made by ``init()`` if there is none.

    Atomic: of several threads one calls ``init``, which must not use this module.
    """
    with _LOCK:
        if key not in _PROCESS:
            _PROCESS.insert(init(), key=key)
        return _PROCESS[key]


def find_state(maps: tuple[TypeMap, ...], key: type[T]) -> T:
    """Return the value of that type from the first map that has one, or process-wide.

    Raises:
        MissingState: nobody has one.
    """
    for candidate in (*maps, _PROCESS):
        if key in candidate:
            return candidate[key]
    raise MissingState(key)


def clear_state(key: type[Any] | None = None) -> None:
    """Forget the process-wide value of that type, or all of them; for tests."""
    with _LOCK:
        for each in list(_PROCESS) if key is None else [key]:
            _PROCESS.remove(each)
