"""``UpgradeResponse``: an answer that opens a tunnel, and the session to run in it."""

from collections.abc import Iterable

from tako.core.seams import Upgrade
from tako.http.headers import RawHeader
from tako.http.response import Response
from tako.http.response_facts import fields_of


class UpgradeResponse(Response):
    """A response that opens a tunnel; ``TakoWs`` makes it.

    Attributes:
        upgrade: runs the session in the tunnel.
    """

    __slots__ = ("upgrade",)

    def __init__(
        self, status: int, fields: Iterable[RawHeader], upgrade: Upgrade
    ) -> None:
        """Answer with ``status`` and ``fields`` of our own, then run ``upgrade``."""
        super().__init__(status)
        fields_of(self).extend(fields)
        self.upgrade: Upgrade = upgrade


def upgrade_of(response: Response) -> Upgrade | None:
    """Return the upgrade that ``response`` carries, ``None`` if it carries none."""
    return response.upgrade if isinstance(response, UpgradeResponse) else None
