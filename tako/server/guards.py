"""Checks of a request before the router has it, on listeners that need them.

Each guard is bound with ``functools.partial`` to what it needs and to what comes after
it; a listener without a guard does not pay for it.
"""

from collections.abc import Awaitable

from tako.core.seams import Exchange
from tako.http.request import Request
from tako.http.response import Response
from tako.proxy.header import ProxyHeader
from tako.proxy.policy import adopt_header
from tako.server.pipeline import Dispatch
from tako.tcp.protocol import Handler
from tako.tls.certificates import TlsSettings


async def refuse_misdirected(
    tls: TlsSettings, dispatch: Dispatch, request: Request
) -> Response:
    """Dispatch, unless the request is for a host with another certificate.

    A proxy that we trust may name another host than the request itself does: then both
    must be hosts of the certificate that answered. The connection decides, and no field
    takes a client past the client authentication of a certificate.
    """
    info = request.conn_info
    negotiated = None if info is None else info.tls
    forwarded = None if info is None else info.forwarded
    if tls.authority_allowed(negotiated, request.authority) and (
        forwarded is None or tls.authority_allowed(negotiated, forwarded.authority)
    ):
        return await dispatch(request)
    # RFC 9110 §15.5.20: the client is to try again on a connection of its own
    return Response(421, body="Misdirected Request")


async def redirect_insecure(
    redirect: Dispatch, dispatch: Dispatch, request: Request
) -> Response:
    """Dispatch what came over TLS, to us or to our proxy; redirect the rest."""
    info = request.conn_info
    forwarded = None if info is None else info.forwarded
    header = request.extensions.get(ProxyHeader)
    if forwarded is not None and forwarded.scheme is not None:
        secure = forwarded.scheme == "https"  # what the client used, not its proxies
    else:
        secure = (info is not None and info.tls is not None) or (
            header is not None and header.tls is not None and header.tls.encrypted
        )
    return await (dispatch if secure else redirect)(request)


def adopt_client(
    header: ProxyHeader | None, handler: Handler, exchange: Exchange
) -> Awaitable[None]:
    """Run an exchange as one with the client that the PROXY header named."""
    adopt_header(exchange.request, header)
    return handler(exchange)
