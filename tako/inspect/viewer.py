"""``Viewer``: one page, or terminal, that looks on over a WebSocket.

Theory of operation. A task sends a view at intervals; what a page asks for wakes it.
The pause between two views is a hundred times what the last one took, or longer, so
that looking takes at most a hundredth of the process's time however much there is to
see. A second task sends the frames of the one connection that is followed.

What it says, as JSON: ``{"type": "view"}`` with the fields of ``Query``, and
``{"type": "follow", "worker", "connection", "payload"}``, whose connection 0 ends that.
"""

import json
import logging
from typing import TYPE_CHECKING, Any, Final, cast

from tako.errors import WsError
from tako.inspect.look import Query, Row
from tako.runtime import current, monotonic
from tako.ws.websocket import WebSocket


if TYPE_CHECKING:
    from tako.inspect.following import Follower, Following
    from tako.inspect.look import Look
    from tako.tcp.connection import TcpConnection


_logger = logging.getLogger("tako.inspect")

_EVERY: Final = 1.0  # seconds between two views, at least
_SHARE: Final = 100  # pauses are so many times as long as what is between them
_SOONEST: Final = 0.1  # seconds after a view that a page can have another
_FRAMES_EVERY: Final = 0.2  # seconds


class Viewer:
    """One that looks on.

    Args:
        ws: its WebSocket.
        look: what it sees.
        following: how it follows a connection.
        facts: says of each message which worker it is of.
    """

    def __init__(
        self,
        ws: WebSocket,
        look: "Look",
        following: "Following",
        facts: Row,
    ) -> None:
        self._ws = ws
        self._look = look
        self._following = following
        self._facts = facts
        self._query = Query()
        self._asked = current().signal()
        self._follows = current().signal()
        self._waiting = False  # a view was asked for
        self._followed: tuple[int, TcpConnection, Follower] | None = None

    def told(self, text: str) -> str:
        """Take what the page has said; return its type, ``""``: it makes no sense."""
        try:
            said = json.loads(text)
            kind = said["type"]
        except (ValueError, KeyError, TypeError):
            _logger.debug("not understood: %.100r", text)
            return ""
        told = cast("dict[str, Any]", said)
        if kind == "view":
            if told.get("worker") != self._facts["worker"]:
                told.pop("connection", None)  # another has that
            self._query = Query.read(told)
            self._waiting = True
            self._asked.set()
        elif kind == "follow" and told.get("worker") == self._facts["worker"]:
            self._follow(told)
        elif kind == "follow":
            self.leave()
        return str(kind)

    def _follow(self, told: dict[str, Any]) -> None:
        self.leave()
        number = told.get("connection")
        found = self._look.connection(number) if isinstance(number, int) else None
        if found is None or not isinstance(number, int):
            return
        payload = told.get("payload") is True
        follower = self._following.follow(found, payload=payload)
        if follower is not None:
            self._followed = number, found, follower
            self._follows.set()

    def leave(self) -> None:
        """Follow no connection."""
        if self._followed is not None:
            _, connection, follower = self._followed
            self._following.leave(connection, follower)
            self._followed = None

    async def show(self) -> None:
        """Send views until the WebSocket is closed. Cancel safety: safe."""
        lag, last = 0.0, float("-inf")
        while True:
            begun = monotonic()
            self._look.refresh(lag)
            self._waiting = False
            samples = [
                it for it in self._look.samples if cast("float", it["at"]) > last
            ]
            if samples:
                last = cast("float", samples[-1]["at"])
            view = self._look.view(self._query)
            text = json.dumps(
                {"type": "view", **self._facts, **view, "samples": samples}
            )
            spent = monotonic() - begun
            if not await self._sent(text):
                return
            pause = max(_EVERY, spent * _SHARE)
            lag = await self._pause(pause)

    async def _pause(self, pause: float) -> float:
        """Wait for so long, or less if a view is asked for; return how late it is."""
        await current().sleep(_SOONEST)
        begun, left = monotonic(), pause - _SOONEST
        if self._waiting or await self._asked.wait(left):
            return 0.0
        return max(0.0, monotonic() - begun - left)

    async def show_frames(self) -> None:
        """Send frames until the WebSocket is closed. Cancel safety: safe."""
        while True:
            followed = self._followed
            if followed is None:
                await self._follows.wait()
                continue
            number, connection, follower = followed
            frames = follower.take()
            lost, follower.lost = follower.lost, 0
            ended = bool(connection.end)
            if frames or ended:
                told: Row = {"connection": number, "frames": frames, "lost": lost}
                text = json.dumps(
                    {"type": "frames", **self._facts, **told, "ended": connection.end}
                )
                if not await self._sent(text):
                    return
            if ended and followed is self._followed:
                self.leave()
            await current().sleep(_FRAMES_EVERY)

    async def _sent(self, text: str) -> bool:
        try:
            await self._ws.send(text)
        except WsError:
            return False
        return True
