"""The PROXY protocol: which peers' headers tako trusts, and what is in them.

``tako.serve(..., proxy=ProxyPolicy(["10.0.0.0/8"]))`` reads them, and a request's
``extensions`` have its ``ProxyHeader``.
"""

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
    "ProxyHeader",
    "ProxyPolicy",
    "ProxyTlsInfo",
    "ProxyTlv",
    "ProxyTransport",
    "ProxyVersion",
    "parse_proxy_header",
    "read_proxy_protocol",
]
