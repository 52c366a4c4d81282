"""``inspector``: serves the page, and the WebSocket that feeds it.

Theory of operation. An inspector is a server of its own, in the same process and on the
same loop, that looks at another by its handle. While nobody has opened a page it does
nothing but note what ends. With several workers each has an inspector, on the one
address that all share and on a Unix socket of its own in a folder that only they know:
the one that a page has reached connects to the others as a client, passes on what
they say, and tells them what the page says. So a page sees all workers, whichever
it has reached.

Who may look: whoever knows the token, and only over a loopback address. The host and
the origin of each request are checked, too: a page elsewhere could have the browser
resolve its own name to this address (DNS rebinding), and a browser would connect any
page's WebSocket.
"""

import base64
import contextlib
import hashlib
import hmac
import ipaddress
import json
import logging
import os
import re
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

from tako.client import connect
from tako.config import ServerConfig
from tako.errors import ConfigError, ConnectError, DialError, WsError
from tako.http.conn_info import IpPeer, PeerAddr, UnixPeer
from tako.http.request import Request
from tako.http.response import Response
from tako.inspect.following import Following
from tako.inspect.look import Look
from tako.inspect.viewer import Viewer
from tako.routing.allowed_hosts import allowed_hosts
from tako.routing.middleware import Next
from tako.routing.router import Router
from tako.runtime import current
from tako.server.bind import ListenerLike, as_listener, bind
from tako.server.listener import Listener
from tako.server.serve import Server, serve, service_of
from tako.server.service import Service
from tako.tls.certificates import TlsLike
from tako.ws.origin import normalize_origin
from tako.ws.responder import TakoWs
from tako.ws.websocket import WebSocket


_logger = logging.getLogger("tako.inspect")

ADDRESS: Final = "127.0.0.1:8555"
"""Where an inspector listens by default."""

_PAGE: Final = Path(__file__).with_name("page.html")
_CONFIG: Final = ServerConfig(drain_timeout=2.0, ws_close_timeout=1.0)
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
_LARGEST: Final = 4096  # bytes of what a page says
_FIND_EVERY: Final = 1.0  # seconds between looks for other workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Among:
    """The inspectors of several workers.

    Attributes:
        folder: has a Unix socket of each; nobody else can enter it.
        place: of those that workers have, from 1 on.
    """

    folder: Path
    place: int


class Inspector:
    """An inspector that runs; made by ``inspector``.

    Attributes:
        url: what to open in a browser, or to give to ``tako top``; with the token.
        token: who has it may look.
    """

    def __init__(
        self, service: Service, url: str, token: str, among: Among | None
    ) -> None:
        """Not for applications: use ``inspector``."""
        self.url: str = url
        self.token: str = token
        self._token = token.encode()
        self._among = among
        self._following = Following(service.time)
        self.look: Final = Look(service, self._following, service.time)
        self._viewers = 0
        place = 1 if among is None else among.place
        self._facts: dict[str, object] = {"worker": os.getpid(), "place": place}

    def router(self, hosts: list[str]) -> Router:
        """Return what answers; ``hosts``: names by which it may be asked for."""
        router = Router()
        router.middleware(_hardened)
        router.middleware(allowed_hosts(hosts))
        router.middleware(self._check)
        router.get("/", self._page)
        router.get("/live", self._live)
        router.get("/own", self._own)
        return router

    async def _check(self, request: Request, call_next: Next) -> Response:
        """Refuse who does not know the token, and pages of other origins."""
        given = request.query_params.get("token", "").encode()
        if not hmac.compare_digest(given, self._token):
            return Response(403, body="the token is missing, or is not the one\n")
        for origin in request.headers.get_all("origin"):
            own = normalize_origin(f"{request.scheme}://{request.host}")
            if own is None or normalize_origin(origin) != own:
                return Response(403, body="not from this origin\n")
        return await call_next(request)

    async def _page(self) -> Response:
        page, policy = _read_page()
        return Response(
            200,
            {
                "content-type": "text/html; charset=utf-8",
                "content-security-policy": policy,
            },
            page,
        )

    async def _live(self, request: Request) -> TakoWs:
        return TakoWs(
            request, partial(self._session, others=True), max_message_size=_LARGEST
        )

    async def _own(self, request: Request) -> TakoWs:
        return TakoWs(
            request, partial(self._session, others=False), max_message_size=_LARGEST
        )

    async def _session(self, ws: WebSocket, *, others: bool) -> None:
        """Show this worker on ``ws``, and with ``others`` all."""
        viewer = Viewer(ws, self.look, self._following, self._facts)
        self._viewers += 1
        try:
            async with current().open_runtime() as own:
                own.spawn(viewer.show)
                own.spawn(viewer.show_frames)
                siblings: _Siblings | None = None
                if others and self._among is not None:
                    siblings = _Siblings(ws, self._among, self.token)
                    own.spawn(siblings.find, own.spawn)
                async for message in ws:
                    if isinstance(message, str):
                        kind = viewer.told(message)
                        if siblings is not None and kind:
                            await siblings.tell(kind, message)
        finally:
            viewer.leave()
            self._viewers -= 1
            if not self._viewers:
                self.look.forget()

    def close(self) -> None:
        """Look no longer."""
        self._following.close()


class _Siblings:
    """The inspectors of other workers, for one page."""

    def __init__(self, ws: WebSocket, among: Among, token: str) -> None:
        self._ws = ws
        self._among = among
        self._token = token
        self._open: dict[Path, WebSocket | None] = {}  # ``None``: it is being opened
        self._view = ""  # what the page has asked to see

    async def find(self, spawn: Callable[..., object]) -> None:
        """Connect to all, also to those that come later. Cancel safety: safe."""
        own = _socket_of(self._among)
        while True:
            for path in sorted(self._among.folder.glob("*.sock")):
                if path != own and path not in self._open:
                    self._open[path] = None
                    spawn(self._relay, path)
            await current().sleep(_FIND_EVERY)

    async def tell(self, kind: str, text: str) -> None:
        """Tell all what the page says. Cancel safety: safe."""
        if kind == "view":
            self._view = text
        for ws in list(self._open.values()):
            if ws is not None:
                with contextlib.suppress(WsError):
                    await ws.send(text)

    async def _relay(self, path: Path) -> None:
        worker = int(path.stem)
        try:
            async with connect(
                f"ws+unix:{path}:/own?token={self._token}", compression=None
            ) as ws:
                self._open[path] = ws
                if self._view:
                    await ws.send(self._view)
                async for message in ws:
                    if isinstance(message, str):
                        await self._ws.send(message)
        except DialError:
            _forget(path)  # its worker was killed
        except (ConnectError, WsError) as error:
            _logger.debug("the inspector of worker %d: %s", worker, error)
        finally:
            self._open.pop(path, None)
        with contextlib.suppress(WsError):
            await self._ws.send(json.dumps({"type": "gone", "worker": worker}))


def inspector(
    server: Server,
    listener: ListenerLike = ADDRESS,
    *,
    tls: TlsLike | None = None,
    token: str | None = None,
) -> AbstractAsyncContextManager[Inspector]:
    """Show ``server`` live on a page, for the length of a block.

    The page has the connections, WebSockets and queues of the server, its rates and
    latencies, what was closed last and why, and the frames of a connection that one
    chooses. Nothing is counted while no page is open. It is for whoever operates the
    server: it names peers and paths, and shows payloads if asked to.

    Args:
        server: what ``async with tako.serve(...)`` hands out.
        listener: a loopback address or a Unix socket, as for ``serve``.
        tls: certificates, as for ``serve``. Browsers connect over HTTP/2 then, if the
            certificate is for ``localhost``.
        token: who has it may look; ``None``: a random one.

    Raises, when it is entered:
        ConfigError: the address can be reached from elsewhere, or ``token`` is empty.
        Exception: as ``serve``.

    Example::

        async with tako.serve(":8080", router) as server:
            async with tako.inspector(server) as inspector:
                print(inspector.url)
                await server.wait_closed()
    """
    return inspecting(server, listener, tls=tls, token=token)


@asynccontextmanager
async def inspecting(
    server: Server,
    listener: ListenerLike,
    *,
    tls: TlsLike | None,
    token: str | None,
    among: Among | None = None,
) -> AsyncGenerator[Inspector, None]:
    """Do what ``inspector`` does, as one worker of several.

    Cancel safety: as ``serve``.
    """
    service = service_of(server)
    if service is None:
        msg = "the server has not started"
        raise RuntimeError(msg)
    if token is None:
        token = new_token()
    elif not token:
        msg = "token is not to be empty"
        raise ConfigError(msg)
    async with AsyncExitStack() as stack:
        bound = stack.enter_context(await as_listener(listener))
        url = url_of(bound, token, secure=tls is not None)
        made = Inspector(service, url, token, among)
        stack.callback(made.close)
        router = made.router([*_LOOPBACK, *_hosts(bound.addresses)])
        how = partial(serve, app=router, shutdown=_never, config=_CONFIG)
        if among is not None:
            own = await bind(f"unix:{_socket_of(among)}")
            await stack.enter_async_context(how(own))
        await stack.enter_async_context(how(bound, tls=tls))
        service.observe(made.look)
        stack.callback(service.observe, None)
        yield made


def new_token() -> str:
    """Return a random token."""
    return secrets.token_urlsafe(24)


def url_of(listener: Listener, token: str, *, secure: bool) -> str:
    """Return what to open.

    Raises:
        ConfigError: an address can be reached from elsewhere.
    """
    for each in listener.addresses:
        if isinstance(each, UnixPeer):
            continue
        host = each.host.partition("%")[0] if isinstance(each, IpPeer) else ""
        if not host or not ipaddress.ip_address(host).is_loopback:
            msg = (
                f"{each} is no loopback address: an inspector shows everything, so "
                "only this machine may reach it; from elsewhere go through ssh -L"
            )
            raise ConfigError(msg)
    address = listener.local_addr
    if not isinstance(address, IpPeer):
        return f"{'wss' if secure else 'ws'}+unix:{address}:/?token={token}"
    shown = f"localhost:{address.port}" if secure else str(address)
    return f"{'https' if secure else 'http'}://{shown}/?token={token}"


def _hosts(addresses: list[PeerAddr]) -> list[str]:
    found = [it.host for it in addresses if isinstance(it, IpPeer)]
    return [f"[{host}]" if ":" in host else host for host in found]


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


def _socket_of(among: Among) -> Path:
    return among.folder / f"{os.getpid()}.sock"


async def _never() -> None:
    """Wait for ever: an inspector ends with its block. Cancel safety: safe."""
    forever = current().signal()
    while True:
        await forever.wait()


async def _hardened(request: Request, call_next: Next) -> Response:
    """Keep what is shown out of caches, frames and the Referer field."""
    response = await call_next(request)
    response.headers.set("cache-control", "no-store")
    response.headers.set("referrer-policy", "no-referrer")
    response.headers.set("x-content-type-options", "nosniff")
    return response


@cache
def _read_page() -> tuple[bytes, str]:
    """Return the page, and the policy that allows its own script and nothing else."""
    page = _PAGE.read_bytes()
    scripts = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(it).digest()).decode() for it in scripts]
    sources = " ".join(f"'sha256-{each}'" for each in hashes)
    policy = (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return page, policy
