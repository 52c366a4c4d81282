"""``UpgradeResponse``: an answer that opens a tunnel, and the session to run in it."""

from tako.core.seams import Upgrade
from tako.http.headers import HeadersLike
from tako.http.response import Response


class UpgradeResponse(Response):
    """A response that opens a tunnel; ``TakoWs`` makes it.

    Attributes:
        upgrade: runs the session in the tunnel.
    """

    __slots__ = ("upgrade",)

    def __init__(self, status: int, headers: HeadersLike, upgrade: Upgrade) -> None:
        """Answer with ``status`` and ``headers``, then run ``upgrade``."""
        super().__init__(status, headers)
        self.upgrade: Upgrade = upgrade


def upgrade_of(response: Response) -> Upgrade | None:
    """Return the upgrade that ``response`` carries, ``None`` if it carries none."""
    return response.upgrade if isinstance(response, UpgradeResponse) else None
