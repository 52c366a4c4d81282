"""Checks of a request before the router has it, on listeners that need them.

Each guard is bound with ``functools.partial`` to what it needs and to what comes after
it; a listener without a guard does not pay for it.
"""

from tako.core.seams import Exchange
from tako.http.request import Request
from tako.http.response import Response
from tako.proxy.header import ProxyHeader
from tako.proxy.policy import adopt_header
from tako.server.contained import Handler
from tako.server.pipeline import Dispatch
from tako.tls.certificates import TlsSettings


async def refuse_misdirected(
    tls: TlsSettings, dispatch: Dispatch, request: Request
) -> Response:
    """Dispatch, unless the request is for a host with another certificate."""
    info = None if request.conn_info is None else request.conn_info.tls
    if tls.authority_allowed(info, request.authority):
        return await dispatch(request)
    # RFC 9110 §15.5.20: the client is to try again on a connection of its own
    return Response(421, body="Misdirected Request")


async def redirect_insecure(
    redirect: Dispatch, dispatch: Dispatch, request: Request
) -> Response:
    """Dispatch what came over TLS, to us or to our proxy; redirect the rest."""
    info = request.conn_info
    if info is not None and info.tls is not None:
        return await dispatch(request)
    header = request.extensions.get(ProxyHeader)
    if header is not None and header.tls is not None and header.tls.encrypted:
        return await dispatch(request)
    return await redirect(request)


async def adopt_client(
    header: ProxyHeader | None, handler: Handler, exchange: Exchange
) -> None:
    """Run an exchange as one with the client that the proxy named."""
    adopt_header(exchange.request, header)
    await handler(exchange)
