"""``ResponseState``: how far a response is, on either wire.

What may follow what differs a little between the wires; each has its own table.
"""

import enum


class ResponseState(enum.IntEnum):
    """How far the response is."""

    NO_HEAD = 0
    """No head was queued, or only interim ones."""
    BODY = 1
    """The head was queued; the body is not complete."""
    SWITCHED = 2
    """101 or 200 was queued; what follows is the tunnel's."""
    ENDED = 3
    """All of it was queued, or the end of the tunnel."""
    CUT_OFF = 4
    """Nothing more is taken: reset, answered by the engine, or the connection lost."""
