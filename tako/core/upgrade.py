"""``UpgradeResponse``: an answer that turns its exchange into a conversation."""

from tako.core.seams import Upgrade
from tako.http.headers import HeadersLike
from tako.http.response import Response


class UpgradeResponse(Response):
    """A response with a conversation to follow; ``TakoWs`` makes it.

    Attributes:
        upgrade: the conversation.
    """

    __slots__ = ("upgrade",)

    def __init__(self, status: int, headers: HeadersLike, upgrade: Upgrade) -> None:
        """Answer with ``status`` and ``headers``, then have the conversation."""
        super().__init__(status, headers)
        self.upgrade: Upgrade = upgrade


def upgrade_of(response: Response) -> Upgrade | None:
    """Return the conversation that ``response`` carries, if it carries one."""
    return response.upgrade if isinstance(response, UpgradeResponse) else None
