"""``Seldom``: bounds log lines that any peer can cause, to one a minute per cause."""

_MOST = 64  # causes that are remembered


class Seldom:
    """Tells whether to log a cause: at most once in ``every`` seconds.

    Args:
        every: seconds for which a cause is not logged again.
    """

    __slots__ = ("_every", "_told")

    def __init__(self, every: float = 60.0) -> None:
        self._every = every
        self._told: dict[str, float] = {}  # in the order of the times

    def allows(self, cause: str, now: float) -> bool:
        """Tell whether to log ``cause`` at ``now``, in seconds of a monotonic clock."""
        told = self._told
        last = told.get(cause)
        if last is not None and now < last + self._every:
            return False
        told.pop(cause, None)
        told[cause] = now
        if len(told) > _MOST:
            del told[next(iter(told))]
        return True
