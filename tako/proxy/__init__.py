"""Proxies in front: which are trusted, and what they say about a client.

``tako.serve(..., proxy=ProxyPolicy(["10.0.0.0/8"]))`` reads them, and a request's
``extensions`` have its ``ProxyHeader``. What proxies write into the fields of a request
is ``request.conn_info.forwarded``; ``ServerConfig.forwarded_allow_ips`` trusts them.
"""

from tako.http.conn_info import Forwarded
from tako.proxy.header import (
    ProxyHeader,
    ProxyTransport,
    ProxyVersion,
    parse_proxy_header,
    read_proxy_protocol,
)
from tako.proxy.policy import ProxyPolicy
from tako.proxy.tlv import ProxyTlsInfo, ProxyTlv


__all__ = [
    "Forwarded",
    "ProxyHeader",
    "ProxyPolicy",
    "ProxyTlsInfo",
    "ProxyTlv",
    "ProxyTransport",
    "ProxyVersion",
    "parse_proxy_header",
    "read_proxy_protocol",
]
