"""Certificates in all their forms, and TLS: what ``tls=`` takes.

A pair of files needs nothing of this: ``tako.serve_tls(address, router, cert, key)``.
"""

from tako.tls.acme import LETS_ENCRYPT, LETS_ENCRYPT_STAGING, Acme
from tako.tls.certificates import (
    ClientAuth,
    ReloadableResolver,
    TlsCert,
    build_ssl_context,
    load_certs,
    load_key,
)


__all__ = [
    "LETS_ENCRYPT",
    "LETS_ENCRYPT_STAGING",
    "Acme",
    "ClientAuth",
    "ReloadableResolver",
    "TlsCert",
    "build_ssl_context",
    "load_certs",
    "load_key",
]
