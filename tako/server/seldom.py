"""``Seldom``: lets through what anybody can cause at will, once in a while."""

_MOST = 64  # causes that are remembered


class Seldom:
    """Says of each cause whether it is to be told of: the first time in a minute.

    Args:
        every: seconds for which a cause is not told of again.
    """

    __slots__ = ("_every", "_told")

    def __init__(self, every: float = 60.0) -> None:
        self._every = every
        self._told: dict[str, float] = {}  # in the order of the times

    def allows(self, cause: str, now: float) -> bool:
        """Tell whether ``cause`` is news at ``now`` (seconds, never running back)."""
        told = self._told
        last = told.get(cause)
        if last is not None and now < last + self._every:
            return False
        told.pop(cause, None)
        told[cause] = now
        if len(told) > _MOST:
            del told[next(iter(told))]
        return True
