"""The link between a worker and its supervisor: what its lines say.

A pair of sockets, one for each worker. The worker writes:

* ``ready KIND``: it serves;
* ``failed "TEXT"``: it cannot start (in JSON: a traceback has lines of its own);
* ``replace REASON``: it serves on, but wants a successor.

The supervisor writes ``replaced``: the successor is ready, so drain. The end of the
link tells a worker that its supervisor is gone. It tells the supervisor nothing: the
app may have forked, and so hold the link open.
"""

import json


READY, FAILED, REPLACE, REPLACED = b"ready", b"failed", b"replace", b"replaced"

PIECE = 1 << 16
"""Bytes that are read at a time."""

_LONGEST = 1 << 18  # bytes of a line
_TEXT = 1 << 15  # characters of a failure; in JSON none has more than six bytes


class Lines:
    """Puts lines together; one that is too long is none of ours, and dropped."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[bytes, str]]:
        """Return the first word of each line that is complete, and what follows it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            self._rest = b""
        parted = (line.partition(b" ") for line in lines)
        return [(word, rest.decode(errors="replace")) for word, _, rest in parted]


def line(word: bytes, text: str = "") -> bytes:
    """Return a line to write."""
    return word + b" " * bool(text) + text.encode(errors="replace") + b"\n"


def as_text(failure: str) -> str:
    """Return the text of a line that says why a worker cannot start: its end counts."""
    return json.dumps(failure[-_TEXT:])


def as_failure(text: str) -> str:
    """Return what ``as_text`` was given; any other text as it is."""
    try:
        return str(json.loads(text))
    except ValueError:
        return text
