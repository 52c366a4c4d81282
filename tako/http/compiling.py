"""``mypyc_attr``: what a compiled class tells mypyc, which needs it by name alone.

mypyc takes the decorator away; where a module is not compiled it does nothing. So there
is no need for mypy's package at run time.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar


__all__ = ["mypyc_attr"]

T = TypeVar("T")

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_: object) -> Callable[[T], T]:
        """Return a decorator that does nothing."""
        return lambda decorated: decorated
