"""``Lifetime``: a service inside of its router's lifespan, from start to end.

Theory of operation. *starting* (the router's ``lifespan()`` is entered, in a task of
its own) -> *serving* (``Service.run``, its drain included) -> *stopping* (the lifespan
is left) -> *over*. ``stop`` may come at any time:

* A start that is not complete is cancelled: nothing is served, so there is nothing to
  wait for.
* A service goes on for ``drain_delay`` and drains, ``drain_timeout`` seconds at most; a
  lifespan that ends by itself ends the service like that, too, but without the delay.
* Leaving the lifespan may take what is left of ``drain_timeout``, ``_LEAST`` seconds in
  any case; then it is cancelled.

Invariants: the service never runs outside of the lifespan; a lifespan that started well
and was not cancelled is asked to stop.
"""

import inspect
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

from tako import runtime
from tako.config import ServerConfig
from tako.runtime import ServerRuntime, endings
from tako.server.drain_notice import how_to_hurry
from tako.server.listener import Listener
from tako.server.service import Dispatcher, Endpoint, ServerStatistics, Service


_logger = logging.getLogger("tako.server")
_phases = logging.getLogger("tako.server.lifetime")

Shutdown: TypeAlias = Any
"""An awaitable, an async function without arguments, or an event with ``wait()``."""

_LEAST = 1.0  # seconds for a lifespan to end, though the drain has used up all
_MOMENT = 1.0  # seconds of waiting before a line is logged


class Lifetime:
    """Runs one service inside of its router's lifespan."""

    def __init__(
        self,
        listener: Listener,
        router: Dispatcher,
        endpoint: Endpoint,
        config: ServerConfig,
    ) -> None:
        self._listener = listener
        self._router = router
        self._endpoint = endpoint
        self._config = config
        self._changed = runtime.current().signal()
        self._service: Service | None = None
        self._stay: endings.Stay  # once it runs
        self._stopping = self._leaving = False
        self._started = self._ended = False  # the lifespan has
        self._failure: Exception | None = None
        self._limit = math.inf  # seconds for the drain and what is in front of it
        self._ends = math.inf  # when the lifespan must have ended

    @property
    def statistics(self) -> ServerStatistics:
        """What the service is doing at the moment, in numbers."""
        return ServerStatistics() if self._service is None else self._service.statistics

    @property
    def service(self) -> Service | None:
        """What serves; ``None`` while the lifespan starts."""
        return self._service

    def stop(self, *, delay: bool = True) -> None:
        """Begin to stop, with ``drain_delay`` or without.

        Repeats, also after the end, are no-ops.
        """
        self._stopping = True
        if self._service is not None:
            self._service.stop(delay=delay)
        self._changed.set()

    def hand_over(self) -> None:
        """Begin to stop while another process goes on accepting; see ``Service``."""
        self._stopping = True
        if self._service is not None:
            self._service.hand_over()
        self._changed.set()

    def shorten_drain(self, timeout: float) -> None:
        """Give drain and delay ``timeout`` seconds from now; see ``Service``."""
        self._limit = min(timeout, self._limit)
        if self._service is not None:
            self._service.shorten_drain(timeout)
            self._ends = min(self._ends, self._service.time() + max(timeout, _LEAST))
        self._changed.set()

    async def run(
        self, shutdown: Shutdown = None, serving: Callable[[], None] | None = None
    ) -> None:
        """Serve until stopped, then drain.

        Args:
            shutdown: stops it when it completes, or fails.
            serving: called once the start is complete.

        Raises:
            Exception: the lifespan failed, or the service did.

        Cancel safety: cancelling aborts every connection at once, and the lifespan.
        """
        async with endings.server() as stay, runtime.current().open_runtime() as own:
            self._stay = stay
            try:
                await self._run(own, shutdown, serving)
            finally:
                self._stopping = True
        if self._failure is not None:
            raise self._failure

    async def _run(
        self,
        own: ServerRuntime,
        shutdown: Shutdown,
        serving: Callable[[], None] | None,
    ) -> None:
        if shutdown is not None:
            own.spawn(self._wait_for, shutdown)
        lifespan = getattr(self._router, "lifespan", None)
        if lifespan is None:
            await self._serve(serving)
            return
        task = own.spawn(self._live, lifespan())
        while not (self._started or self._ended or self._stopping):
            await self._changed.wait()
        if self._started:
            await self._serve(serving)
            await self._leave(own)
        elif not self._ended:
            _logger.warning("stopped while starting: the start is cancelled")
        task.cancel()

    async def _serve(self, serving: Callable[[], None] | None) -> None:
        try:
            async with runtime.current().open_runtime() as served:
                self._service = service = Service(
                    served,
                    self._listener,
                    self._router,
                    self._endpoint,
                    self._config,
                    on_farewell=self._stay.sessions_end,
                )
                service.shorten_drain(self._limit)
                if self._stopping:
                    service.stop(delay=False)
                if serving is not None:
                    serving()
                await service.run()
        except Exception as error:
            self._failure = self._failure or error

    async def _live(self, lifespan: AbstractAsyncContextManager[object]) -> None:
        try:
            async with lifespan:
                self._started = True
                self._changed.set()
                while not self._leaving:
                    await self._changed.wait()
        except Exception as error:
            self._failure = self._failure or error
        finally:
            self._ended = True
            self.stop(delay=False)

    async def _leave(self, own: ServerRuntime) -> None:
        """Ask the lifespan to end, and wait for it while there is time."""
        left = 0.0 if self._service is None else self._service.drain_left
        begun = own.time()
        self._ends = begun + max(left, _LEAST)
        self._leaving = True
        self._changed.set()
        if self._ends > begun + _MOMENT:
            own.call_at(begun + _MOMENT, self._say_what_is_waited_for)
        while not self._ended and (left := self._ends - own.time()) > 0:
            await self._changed.wait(left)
        if not self._ended:
            _logger.error(
                "the lifespan has not ended within %.1f s; it is cancelled",
                own.time() - begun,
            )

    def _say_what_is_waited_for(self) -> None:
        if not self._ended:
            _logger.warning("waiting for the end of the lifespan%s", how_to_hurry())

    async def _wait_for(self, shutdown: Shutdown) -> None:
        try:
            await _awaitable(shutdown)
        except Exception:
            _logger.exception("the shutdown signal failed; draining anyway")
        finally:  # a cancelled signal is a signal, too
            if not self._stopping:
                self._say_what_comes()
                self.stop()

    def _say_what_comes(self) -> None:
        delay = None if self._service is None else self._config.drain_delay
        first = "" if delay is None else f"accepting for another {delay:g} s, then "
        _phases.info("Shutdown signal received, %sdraining connections...", first)


def _awaitable(shutdown: Shutdown) -> Awaitable[object]:
    """Return what to await for ``shutdown``, which may have any of its forms.

    Raises:
        TypeError: it has none of the forms.
    """
    if inspect.isawaitable(shutdown):
        return shutdown
    wait = getattr(shutdown, "wait", shutdown)
    if callable(wait):
        result = wait()
        if inspect.isawaitable(result):
            return result
    msg = (
        "shutdown takes an awaitable, an async function or an event, "
        f"not {type(shutdown).__name__}"
    )
    raise TypeError(msg)
