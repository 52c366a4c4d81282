"""``ClientWebSocket``: the WebSocket of ``tako.connect``, with what a test expects."""

from typing import Self

from tako.errors import ConnectionClosed, WsError
from tako.testing.patience import default_timeout
from tako.testing.peer.io import EndOfStreamError, require
from tako.testing.story import Story, short
from tako.ws.message import AnyMessage, Message
from tako.ws.websocket import WebSocket


class ClientWebSocket(WebSocket):
    """A ``tako.WebSocket`` for async tests; made by ``async_connect``.

    Each wait has a limit, and says what came before when nothing comes.
    """

    __slots__ = ("_story",)
    _story: Story

    @classmethod
    def of(cls, ws: WebSocket) -> Self:
        """Return another object for the conversation of ``ws``."""
        made = cls(ws.request, ws._conversation, ws._options, ws.response)
        made._story = Story()
        return made

    async def __anext__(self) -> AnyMessage:
        try:
            return await self.read()
        except WsError:
            raise StopAsyncIteration from None

    async def read(self, timeout: float | None = None) -> AnyMessage:
        """Return the next message, as ``tako.WebSocket.read``.

        Args:
            timeout: seconds; ``None``: ``TAKO_TEST_TIMEOUT``, or 10.

        Raises:
            TimeoutError: nothing came; its text says what came before.
            WsError: the conversation is over, or has failed.

        Cancel safety: safe; no message is lost or returned twice.
        """
        limit = default_timeout() if timeout is None else timeout
        try:
            message = await super().read(limit)
        except TimeoutError:
            msg = f"nothing within {limit:g} s; {self._story.told()}"
            raise TimeoutError(msg) from None
        self._story.add(message)
        return message

    async def expect(self, *messages: AnyMessage, timeout: float | None = None) -> None:
        """Read exactly ``messages``, in this order.

        Args:
            messages: ``str``, ``bytes`` or a ``tako.Message``.
            timeout: seconds for each; see ``read``.

        Raises:
            PeerError: another message came, or the end.
            TimeoutError: nothing came; its text says what came before.
            WsError: the conversation has failed.

        Cancel safety: safe between messages.

        Example::

            await ws.send("hello")
            await ws.expect("hello")
        """
        for wanted in messages:
            try:
                got = await self.read(timeout)
            except ConnectionClosed:
                error = EndOfStreamError(self._ended())
                error.add_note(f"expected: {short(wanted)}")
                raise error from None
            except TimeoutError as error:
                error.add_note(f"expected: {short(wanted)}")
                raise
            require(got == wanted, f"{short(got)} instead of {short(wanted)}")

    async def echo(self, message: str | bytes) -> None:
        """Send ``message`` to an echoing handler and get it back.

        Raises:
            Exception: as ``send`` and ``expect``.

        Cancel safety: as ``send`` and ``expect``.
        """
        await self.send(message)
        await self.expect(message)

    async def expect_close(
        self, code: int | None = None, *, timeout: float | None = None
    ) -> Message.Close:
        """Return the Close of the server, passing over messages.

        That is also the one that answered ``close``, or that was read before.

        Args:
            code: what its code must be; ``None``: any.
            timeout: seconds for each read; see ``read``.

        Raises:
            PeerError: it has another code, or the connection ended without one.
            TimeoutError: nothing came; its text says what came before.
            WsError: the conversation has failed.

        Cancel safety: safe; the Close is there for another call.

        Example::

            await ws.close()
            await ws.expect_close(1000)
        """
        try:
            while not isinstance(got := await self.read(timeout), Message.Close):
                pass
        except ConnectionClosed:
            require(self.close_code != 1006, self._ended())
            # RFC 6455 §7.1.5: 1005 stands for a Close without a code
            closed = None if self.close_code == 1005 else self.close_code
            got = Message.Close(closed, self.close_reason)
        complaint = f"the server closed with {got.code} {got.reason!r}"
        require(code in {None, got.code}, f"{complaint} instead of {code}")
        return got

    def _ended(self) -> str:
        return f"the server ended the conversation; {self._story.told()}"
