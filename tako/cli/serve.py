"""Serving in this process: alone, or as one of several workers."""

import dataclasses
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from tako import runtime
from tako.cli import certs, listeners
from tako.cli.console import foundations, say, version, with_fix
from tako.cli.plan import Plan, Wire
from tako.cli.target import Target, load
from tako.cli.worker import Worker
from tako.errors import TlsConfigError
from tako.http.conn_info import UnixPeer
from tako.http.request import Request
from tako.http.response import Response
from tako.routing import access_log as access
from tako.routing.middleware import as_middleware, chain
from tako.routing.router import Router
from tako.server.detect import ListenerProtocol
from tako.server.listener import Listener
from tako.server.serve import serve
from tako.server.service import Dispatcher
from tako.tls.certificates import ReloadableResolver, TlsCert, TlsSettings


_HANDOVER = 1.0  # seconds in which connections accepted before may still send a request

_SPOKEN = {
    "tls": "HTTP/2 and HTTP/1.1",
    "plain": "HTTP/1.1",
    "h2c": "HTTP/2 with prior knowledge",
}

_PROTOCOL: dict[Wire, ListenerProtocol] = {
    "tls": "tls",
    "plain": "http/1.1",
    "h2c": "h2",
}


def serve_here(plan: Plan, worker: Worker | None) -> None:
    """Serve until SIGINT or SIGTERM, then drain.

    Raises:
        CliError: the target cannot be served, or an address not be bound.
        TakoError: the certificate cannot be used, or the app's startup failed.
    """
    plan.set_up_logging()
    if worker is not None and plan.config.drain_delay is None:
        # Another worker takes new connections; this one has accepted some already.
        config = dataclasses.replace(plan.config, drain_delay=_HANDOVER)
        plan = dataclasses.replace(plan, config=config)
    resolvers = plan.resolvers()
    tls = plan.tls(resolvers)
    target = _loaded(plan)
    for number in (signal.SIGHUP, signal.SIGUSR1):  # before clients can be there
        signal.signal(number, partial(_signalled, resolvers))
    listener = (
        listeners.bind_all(plan.binds, plan.backlog, plan.unix_mode)
        if worker is None
        else worker.listener
    )

    def started() -> None:
        if worker is None:
            announce(plan, listener, target.kind)
        else:
            worker.tell_ready(target.kind)

    router = Served(target, started, access_log=plan.access_log)
    try:
        loop = plan.loop if plan.runtime == "asyncio" else "auto"
        runtime.run(
            _serve, plan, listener, router, tls, runtime=plan.runtime, loop=loop
        )
    finally:
        listener.close()


def check(plan: Plan) -> str:
    """Load what would be served, and serve nothing; return what it is.

    Raises:
        CliError: an address, the logging configuration or the target cannot be used.
        TlsConfigError: the certificate cannot be used, or its key.
    """
    plan.set_up_logging()
    listeners.check(plan.binds)
    if tls := plan.tls(plan.resolvers()):
        TlsSettings(tls, plan.config.alpn)
    return _loaded(plan).kind


def _loaded(plan: Plan) -> Target:
    """Import what is to be served; a router finds its mistakes now."""
    target = load(plan.target, plan.app_folder, plan.wrap)
    if isinstance(target.router, Router):
        target.router.prepare()
    return target


async def _serve(
    plan: Plan, listener: Listener, router: Dispatcher, tls: TlsCert | None
) -> None:
    with runtime.current().interrupts() as interrupted:

        async def shutdown() -> None:
            await interrupted()
            _end_in_any_case(plan.stop_limit)

        await serve(
            listener,
            router,
            tls=tls,
            protocol=_PROTOCOL[plan.wire],
            proxy=plan.proxy,
            shutdown=shutdown,
            config=plan.config,
        )


def _end_in_any_case(limit: float) -> None:
    """End the process after ``limit`` seconds, even if a task ignores cancellation."""

    def end() -> None:
        say(f"tako: still running {limit:g} s after the signal; exiting now")
        os._exit(1)

    timer = threading.Timer(limit, end)
    timer.daemon = True
    timer.start()


def _signalled(resolvers: Sequence[ReloadableResolver], *_: object) -> None:
    """Load the certificates again: connections and WebSockets do not notice."""
    for resolver in resolvers:
        try:
            resolver.reload_from_pem()
        except TlsConfigError as error:
            say(f"tako: keeping the old certificate: {with_fix(str(error))}")
        else:
            say("tako: certificate reloaded")


class Served:
    """A router with its lifespan; the server is ready once that has started."""

    __slots__ = ("_access_log", "_lifespan", "_router", "_started")

    def __init__(
        self, target: Target, started: Callable[[], None], *, access_log: bool
    ) -> None:
        self._started = started
        self._router = target.router
        self._lifespan: Any = getattr(target.router, "lifespan", None)
        self._access_log = as_middleware(access.access_log()) if access_log else None

    async def dispatch(self, request: Request, *, timer: Any = None) -> Response:
        """Answer ``request``. Cancel safety: that of the handler."""
        if self._access_log is None:
            return await self._router.dispatch(request, timer=timer)
        call = partial(self._router.dispatch, timer=timer)
        return await chain((self._access_log,), call)(request)

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


def announce(plan: Plan, listener: Listener, kind: str) -> None:
    """Print the addresses, what they speak, and how long the certificate is valid."""
    processes = f", {plan.workers} workers" if plan.workers > 1 else ""
    say(f"tako {version()}: {plan.target} ({kind}) on {plan.runtime}{processes}")
    if plan.verbose:
        say(f"  {foundations()}")
    scheme = "https" if plan.wire == "tls" else "http"
    spoken = _SPOKEN[plan.wire]
    if plan.wire == "tls" and len(plan.config.alpn) == 1:
        spoken = "HTTP/2" if plan.config.alpn[0] == "h2" else "HTTP/1.1"
    if not plan.config.h2_enable_connect_protocol and plan.wire != "plain":
        spoken += ", no WebSockets over HTTP/2"
    for address in listener.addresses:
        shown = f"unix:{address}" if isinstance(address, UnixPeer) else address
        prefix = "" if isinstance(address, UnixPeer) else f"{scheme}://"
        say(f"  listening on {prefix}{shown}: {spoken}")
    for path, _ in plan.certs:
        say(f"  certificate {path}: {certs.facts(path)[0]}")
    if plan.dev_cert:
        authority = certs.data_folder() / "ca.pem"
        say("  to trust it on this machine:")
        say(f"    {certs.trust_line(authority)}")
