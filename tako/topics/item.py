"""What a feed yields: items, and gaps where items may be missing."""

import enum
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from tako.ws.shared import Shared


Data: TypeAlias = str | bytes
Encode: TypeAlias = Callable[["Item"], Data]

_ENCODINGS: Final = 8  # that an item remembers
_POSITION: Final = re.compile(r"([0-9a-f]{16})\.(0|[1-9][0-9]{0,18})")


class Position:
    """A place in the history of a topic: the client sends it back to resume.

    Its text form is ``epoch.offset``. The epoch is new whenever offsets begin again: a
    process without a hub, a hub, or the key of a stream was born.

    Attributes:
        epoch: 16 hexadecimal digits.
        offset: 1 for the first item of an epoch.
    """

    __slots__ = ("epoch", "offset")

    def __init__(self, epoch: str, offset: int) -> None:
        self.epoch: Final = epoch
        self.offset: Final = offset

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """Read what ``str`` made; ``None``: it is something else.

        The text comes from clients, so any text is allowed.
        """
        found = _POSITION.fullmatch(text) if len(text) <= 64 else None
        return cls(found[1], int(found[2])) if found else None

    def __str__(self) -> str:
        return f"{self.epoch}.{self.offset}"

    def __repr__(self) -> str:
        return f"Position({self})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Position):
            return NotImplemented
        return self.epoch == other.epoch and self.offset == other.offset

    def __hash__(self) -> int:
        return hash((self.epoch, self.offset))


OLDEST: Final = Position("0" * 16, 0)
"""``since=OLDEST``: begin with everything that the history has."""


class Item:
    """A message that was published to a topic.

    Attributes:
        topic: its name.
        data: ``str`` or ``bytes``, as it was published.
        position: its place; ``None``: the engine numbers nothing without history.
    """

    __slots__ = ("_encoded", "data", "plain", "position", "topic")

    def __init__(self, topic: str, data: Data, position: Position | None) -> None:
        self.topic: Final = topic
        self.data: Final = data
        self.position: Final = position
        self.plain: Shared | None = None
        """``data`` for many WebSockets, once it was ``shared``."""
        self._encoded: dict[Encode, Shared] | None = None

    def shared(self, encode: Encode | None = None) -> Shared:
        """Return what WebSockets send: made once for each ``encode``."""
        if encode is None:
            if self.plain is None:
                self.plain = Shared(self.data)
            return self.plain
        if self._encoded is None:
            self._encoded = {}
        found = self._encoded.get(encode)
        if found is None:
            found = Shared(encode(self))
            if len(self._encoded) < _ENCODINGS:
                self._encoded[encode] = found
        return found

    def forget(self) -> None:
        """Free what was made for WebSockets: the item is kept for others."""
        self.plain = self._encoded = None

    def __repr__(self) -> str:
        data = f"{type(self.data).__name__} of {len(self.data)}"
        return f"Item({self.topic!r}, {data}, {self.position})"


class Cause(enum.Enum):
    """Why items may be missing."""

    SLOW = "the subscriber did not keep up with its bound"
    HUB = "the hub of this machine was started anew"
    ENGINE = "the connection to the engine was lost"
    HISTORY = "the position is older than the history, or of another epoch"


class Gap:
    """Items of a topic may be missing here.

    Attributes:
        topic: its name.
        cause: why.
        missed: how many, where that is known.
        recoverable: the items are still in the history: subscribe again with ``since``.
    """

    __slots__ = ("cause", "missed", "recoverable", "topic")

    def __init__(
        self,
        topic: str,
        cause: Cause,
        *,
        missed: int | None = None,
        recoverable: bool = False,
    ) -> None:
        self.topic: Final = topic
        self.cause: Final = cause
        self.missed: Final = missed
        self.recoverable: Final = recoverable

    def __repr__(self) -> str:
        return f"Gap({self.topic!r}, {self.cause.name}, missed={self.missed})"
