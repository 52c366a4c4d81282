"""The lifespan protocol: an app's startup and shutdown, around a server's life.

Theory of operation. The app is called once, in a task of its own, with a scope of type
``lifespan``: *starting* -> *running* or *unsupported* or *failed*; *running* ->
*stopping* -> *stopped*. Many apps know nothing of it and raise; in mode ``auto`` the
server then goes on without. The task lives in a runtime of its own, because the drain
of the server waits for all tasks of its runtime.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tako import runtime
from tako.asgi.protocol import LIFESPAN_VERSIONS, App, Event, unexpected
from tako.errors import ConfigError, TakoError


if TYPE_CHECKING:
    from tako.core.loop import Signal

# a logger of its own: what an app says of itself may have several lines
_logger = logging.getLogger("tako.asgi.apps.lifespan")

Mode: TypeAlias = Literal["auto", "on", "off"]


class LifespanError(TakoError):
    """The app's startup failed; the text is what the app says."""


def checked_mode(mode: str) -> Mode:
    """Return ``mode``.

    Raises:
        ConfigError: there is no such mode.
    """
    known: tuple[Mode, ...] = ("auto", "on", "off")
    for each in known:
        if mode == each:
            return each
    msg = f'lifespan is "auto", "on" or "off", not {mode!r}'
    raise ConfigError(msg)


class Lifespan:
    """One call of an app with the lifespan scope."""

    def __init__(self, app: App, mode: Mode, state: dict[str, Any]) -> None:
        self._app = app
        self._mode = mode
        self._state = state
        self._events: list[Event] = []
        self._changed: Signal = runtime.current().signal()
        self._awaited = ""  # the phase that the app is to complete
        self._failure: str | None = None
        self._ended = False

    async def run(self) -> None:
        """Call the app; never raises an ``Exception``."""
        asgi = LIFESPAN_VERSIONS.copy()
        scope = {"type": "lifespan", "asgi": asgi, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:
            self._app_failed(error)
        finally:
            self._ended = True
            self._changed.set()

    async def startup(self) -> None:
        """Tell the app to start, and wait until it has.

        Raises:
            LifespanError: it failed.

        Cancel safety: not safe; the app may have started in part.
        """
        await self._phase("startup")
        if self._failure is None and self._awaited and self._mode == "on":
            self._failure = "the app does not support lifespan"
        if self._failure is not None:
            raise LifespanError(self._failure)

    async def shutdown(self) -> None:
        """Tell the app to stop, and wait until it has; a failure is logged.

        Cancel safety: not safe; the app may have stopped in part.
        """
        await self._phase("shutdown")
        if self._failure is not None:
            _logger.error("lifespan shutdown failed: %s", self._failure)

    async def _phase(self, name: str) -> None:
        if self._ended:
            return
        self._awaited = name
        self._events.append({"type": f"lifespan.{name}"})
        self._changed.set()
        while self._awaited and not self._ended:
            await self._changed.wait()

    async def _receive(self) -> Event:
        while not self._events:
            await self._changed.wait()
        return self._events.pop(0)

    async def _send(self, event: Event) -> None:
        phase = self._awaited
        if not phase or event["type"] not in {
            f"lifespan.{phase}.complete",
            f"lifespan.{phase}.failed",
        }:
            raise unexpected(event, f"lifespan.{phase or '*'}.complete")
        if event["type"].endswith(".failed"):
            self._failure = str(event.get("message") or f"{phase} failed")
        self._awaited = ""
        self._changed.set()

    def _app_failed(self, error: Exception) -> None:
        if self._failure is not None:
            return  # it has said so already
        if self._awaited == "startup":
            if self._mode == "on":
                self._failure = f"{type(error).__name__}: {error}"
            else:
                _logger.debug("the app does not support lifespan: %r", error)
        else:
            _logger.error("the app's lifespan failed", exc_info=error)


@asynccontextmanager
async def lifespan(
    app: App, mode: Mode, state: dict[str, Any]
) -> AsyncGenerator[None, None]:
    """Have ``app`` start before the block, and stop after it.

    If the block is cancelled the app is cancelled too, and not asked to stop.

    Raises:
        LifespanError: startup failed; the block is not entered.

    Cancel safety: as said.
    """
    failed: LifespanError | None = None
    async with runtime.current().open_runtime() as own:
        conversation = Lifespan(app, mode, state)
        own.spawn(conversation.run)
        try:
            await conversation.startup()
        except LifespanError as error:
            failed = error  # raised below: a nursery would put it into a group
        if failed is None:
            try:
                yield
            except Exception:
                await conversation.shutdown()
                raise
            await conversation.shutdown()
    if failed is not None:
        raise failed
