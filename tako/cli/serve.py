"""Serving in this process: alone, or as one of several workers."""

import logging
import os
import random
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from tako import runtime
from tako.asgi import AsgiApp
from tako.cli import listeners
from tako.cli.banner import announce
from tako.cli.console import say, with_fix
from tako.cli.inspecting import Inspection, alone
from tako.cli.listeners import Bound
from tako.cli.metrics import metrics_service
from tako.cli.plan import Plan, Wire
from tako.cli.pulse import EVERY
from tako.cli.service_manager import ServiceManager
from tako.cli.target import Target, load
from tako.cli.worker import Worker
from tako.errors import TlsConfigError
from tako.http.headers import Headers, RawHeader
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.access_log import access_log
from tako.routing.allowed_hosts import allowed_hosts
from tako.routing.middleware import Middleware, Next, chain
from tako.routing.request_id import request_id
from tako.routing.router import Router
from tako.server.detect import ListenerProtocol
from tako.server.serve import Server, serve
from tako.server.service import Dispatcher
from tako.tls.certificates import ReloadableResolver, TlsCert, TlsSettings


_PUBLISH_EVERY = 1.0  # seconds between snapshots of a worker
_SERVING = "serving"  # what the service manager is told of one process

_PROTOCOL: dict[Wire, ListenerProtocol] = {
    "tls": "tls",
    "plain": "http/1.1",
    "h2c": "h2",
}


def serve_here(plan: Plan, manager: ServiceManager, worker: Worker | None) -> None:
    """Serve until SIGINT or SIGTERM, then drain.

    Raises:
        CliError: the target cannot be served, or an address not be bound.
        TakoError: the certificate cannot be used, or the app's startup failed.
    """
    plan.logs.set_up()
    resolvers = plan.resolvers()
    tls = plan.tls(resolvers)
    target = _loaded(plan)
    for number in (signal.SIGHUP, signal.SIGUSR1):  # before clients can be there
        signal.signal(number, partial(_signalled, resolvers, manager))
    if worker is None:
        for number in (signal.SIGTTIN, signal.SIGTTOU):  # which would stop the process
            signal.signal(number, _one_is_all)
    listener, inspection = _bound(plan, worker)

    def started() -> None:
        if worker is None:
            announce(plan, listener, target.kind, inspection)
            manager.ready(_SERVING)
        else:
            worker.tell_ready(target.kind)

    served = Served(target, started, plan)
    router: Dispatcher = served
    if worker is not None and plan.max_requests is not None:
        more = random.randint(0, plan.max_requests_jitter)  # noqa: S311 - no secret
        router = Counted(served, plan.max_requests + more, worker.ask_for_successor)
    look = partial(inspection.around, plan=plan, bound=listener, resolvers=resolvers)
    try:
        loop = plan.loop if plan.runtime == "asyncio" else "auto"
        runtime.run(
            partial(_serve, plan, manager, worker, listener, router, tls, look=look),
            runtime=plan.runtime,
            loop=loop,
        )
    finally:
        listener.close()
        if worker is not None:
            worker.publish()
    if worker is None:
        say("stopped")


def _bound(plan: Plan, worker: Worker | None) -> tuple[Bound, Inspection]:
    """Return what is listened on, and what looks on.

    Raises:
        CliError: an address cannot be bound.
    """
    if worker is not None:
        return worker.listener, worker.inspection or alone()
    return listeners.bind_plan(plan), alone()


def stopping(plan: Plan) -> str:
    """Return what a shutdown does, and how to hurry."""
    delay, most = plan.config.drain_delay, plan.config.drain_timeout
    first = "" if delay is None else f"accepting for {delay:g} s, then "
    return f"stopping: {first}clients have {most:g} s; a second signal ends at once"


def check(plan: Plan) -> str:
    """Load what would be served, and serve nothing; return what it is.

    Raises:
        CliError: an address, the logging configuration or the target cannot be used.
        TlsConfigError: the certificate cannot be used, or its key.
    """
    plan.logs.set_up()
    listeners.check("--bind", plan.binds)
    listeners.check("--bind-plain", plan.plain_binds)
    listeners.check("--metrics-bind", plan.metrics_binds)
    listeners.check("--inspect-bind", plan.inspect_binds)
    if tls := plan.tls(plan.resolvers()):
        TlsSettings(tls, plan.config.alpn, plan.config.keylog)
    return _loaded(plan).kind


def _loaded(plan: Plan) -> Target:
    """Import what is to be served; a router finds its mistakes now."""
    target = load(plan.target, plan.app_folder, plan.wrap)
    if isinstance(target.router, Router):
        target.router.prepare()
    return target


async def _serve(
    plan: Plan,
    manager: ServiceManager,
    worker: Worker | None,
    listener: Bound,
    router: Dispatcher,
    tls: TlsCert | None,
    *,
    look: Callable[[Server], AbstractAsyncContextManager[None]],
) -> None:
    server: Server | None = None  # while it starts
    current = runtime.current()
    async with current.open_runtime() as own:
        if worker is not None:
            own.spawn(_every, EVERY, worker.beat)
        elif manager.watchdog is not None:
            own.spawn(_every, manager.watchdog, manager.alive)
        if listener.metrics is not None:
            if worker is not None:
                own.spawn(_every, _PUBLISH_EVERY, worker.publish)
            service = metrics_service(own, listener.metrics, worker)
            own.spawn(service.run)
        with current.interrupts() as interrupted:

            async def shutdown() -> None:
                await interrupted()
                if worker is not None:
                    worker.rest()
                else:
                    say(stopping(plan))
                manager.stopping()
                _end_in_any_case(plan.stop_limit)
                if server is not None and worker is not None and worker.replaced:
                    server.hand_over()

            async with (
                serve(
                    listener.main,
                    router,
                    tls=tls,
                    protocol=_PROTOCOL[plan.wire],
                    proxy=plan.proxy,
                    plain=listener.plain,
                    https_redirect=plan.https_redirect,
                    healthy=_siblings(plan, worker),
                    shutdown=shutdown,
                    config=plan.config,
                ) as server,
                look(server),
            ):
                await server.wait_closed()


def _siblings(plan: Plan, worker: Worker | None) -> Callable[[], bool] | None:
    """Return what tells whether all workers turn; of itself a server knows that."""
    lag = plan.config.health_lag
    if worker is None or lag is None:
        return None
    return partial(worker.siblings_are_well, lag)


async def _every(pause: float, call: Callable[[], None]) -> None:
    """Call a function as long as the event loop turns. Cancel safety: safe."""
    while True:
        call()
        await runtime.sleep(pause)


def _end_in_any_case(limit: float) -> None:
    """End the process after ``limit`` seconds, even if a task ignores cancellation."""

    def end() -> None:
        say(f"still running {limit:g} s after the signal; exiting now", logging.ERROR)
        os._exit(1)

    timer = threading.Timer(limit, end)
    timer.daemon = True
    timer.start()


def _signalled(
    resolvers: Sequence[ReloadableResolver], manager: ServiceManager, *_: object
) -> None:
    """Load the certificates again: connections and WebSockets do not notice."""
    manager.reloading()
    for resolver in resolvers:
        try:
            resolver.reload_from_pem()
        except TlsConfigError as error:
            text = f"keeping the old certificate: {with_fix(str(error))}"
            say(text, logging.ERROR)
        else:
            say("certificate reloaded")
    manager.reloaded()


def _one_is_all(*_: object) -> None:
    """Answer the signals that change the number of workers."""
    say("there is one process: the number of workers changes with --workers 2 or more")


class Served:
    """A router with its lifespan; the server is ready once that has started."""

    __slots__ = ("_around", "_chain", "_lifespan", "_router", "_started", "_timed")

    def __init__(self, target: Target, started: Callable[[], None], plan: Plan) -> None:
        self._started = started
        self._router = target.router
        self._lifespan: Any = getattr(target.router, "lifespan", None)
        adds = list[Middleware]()
        if plan.fields.raw:
            adds.append(_adding(plan.fields))
        if plan.request_id is not None:
            adds.append(request_id(plan.request_id, trust=plan.trust_id))
        # What adds to a response has to see it: an app must not write to the wire
        self._timed = not (adds and isinstance(target.router, AsgiApp))
        if adds and isinstance(target.router, Router):
            target.router.middleware(_pass_on)
        logs = plan.logs
        seen = [access_log(format=logs.access_format)] if logs.access else []
        if plan.otel:
            from tako.otel import tracing

            seen.append(tracing())
        hosts = plan.allowed_hosts
        checks = [] if hosts is None else [allowed_hosts(hosts)]
        self._around = tuple(seen + adds + checks)
        self._chain: Next | None = None

    def dispatch(
        self, request: Request, *, timer: Any = None
    ) -> Coroutine[Any, Any, Response]:
        """Answer ``request``. Cancel safety: that of the handler."""
        if not self._around:
            return self._router.dispatch(request, timer=timer)
        if self._chain is None:  # a service gives the same timer each time
            timed = {"timer": timer} if self._timed else {}
            call = partial(self._router.dispatch, **timed)
            self._chain = chain(self._around, call)
        return self._chain(request)

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        """Enter the router's lifespan, if it has one, then report that all is ready."""
        if self._lifespan is None:
            self._started()
            yield
            return
        async with self._lifespan():
            self._started()
            yield


class Counted:
    """A router that says when it was asked so often that its process may go."""

    __slots__ = ("_full", "_left", "_most", "_router", "lifespan")

    def __init__(self, router: Served, most: int, full: Callable[[str], None]) -> None:
        """Make one that calls ``full``, with the reason, at its request ``most``."""
        self._router = router
        self._most = self._left = most
        self._full = full
        self.lifespan: Callable[[], AbstractAsyncContextManager[None]] = router.lifespan

    def dispatch(
        self, request: Request, *, timer: Any = None
    ) -> Coroutine[Any, Any, Response]:
        """Answer ``request``. Cancel safety: that of the handler."""
        self._left -= 1
        if self._left == 0:
            self._full(f"{self._most} requests")
        return self._router.dispatch(request, timer=timer)


def _adding(fields: Headers) -> Middleware:
    """Return a middleware that adds to each response the fields that it lacks."""
    by_name: dict[bytes, list[RawHeader]] = {}
    for each in fields.raw:
        by_name.setdefault(each[0], []).append(each)

    async def add(request: Request, call_next: Next) -> Response:
        response = await call_next(request)
        headers = response.headers
        for name, lines in by_name.items():
            if headers.get_raw(name) is None:
                headers.raw.extend(lines)
        return response

    return add


async def _pass_on(request: Request, call_next: Next) -> Response:
    """Keep a router from having an app answer without a response to look at."""
    return await call_next(request)
