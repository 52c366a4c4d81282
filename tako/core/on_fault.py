"""``OnFault``: what is told of an exception that a handler did not mean to raise.

An exception becomes an answer, or a Close, at several places, and leaves nothing of it
to see from outside. Middleware that reports faults puts an ``OnFault`` into the
extensions of the request.
"""

from collections.abc import Callable

from tako.http.request import Request


class OnFault:
    """What to call: ``request.extensions[OnFault]``.

    Attributes:
        call: is given the exception, perhaps more than once. What it refers to lives as
            long as the request: to refer to that would be a cycle.
    """

    __slots__ = ("call",)

    def __init__(self, call: Callable[[BaseException], None]) -> None:
        self.call: Callable[[BaseException], None] = call


def tell_of_fault(request: Request, error: BaseException) -> None:
    """Tell of ``error`` whoever asked for it."""
    asked = request.extensions.get(OnFault)
    if asked is not None:
        asked.call(error)
