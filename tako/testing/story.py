"""``Story``: what a WebSocket has received, for the text of an error."""

from collections import deque


_LATEST = 8  # messages that are told


class Story:
    """The latest messages of a WebSocket, in words."""

    def __init__(self) -> None:
        self._latest: deque[str] = deque(maxlen=_LATEST)
        self._came = 0

    def add(self, message: object) -> None:
        """Note what came."""
        self._latest.append(short(message))
        self._came += 1

    def told(self) -> str:
        """Return it: ``before that came: 'one', b'two'``."""
        came = ", ".join(self._latest) or "nothing"
        if self._came > _LATEST:
            came = f"... {came}"
        return f"before that came: {came}"


def short(value: object) -> str:
    """Return how a message is shown: its beginning, and how long it is."""
    text = repr(value)
    return text if len(text) < 100 else f"{text[:60]}... ({len(text)} characters)"
