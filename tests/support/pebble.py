"""Pebble, an ACME server for tests, and the DNS server that it asks."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import trustme

from tests.support.children import Child
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port


PEBBLE, DNS = shutil.which("pebble"), shutil.which("pebble-challtestsrv")

_LIMIT = 30 * TIMEOUT  # for all the tests that share one

needs_pebble = pytest.mark.skipif(
    PEBBLE is None or DNS is None, reason="pebble is not installed"
)
"""Debian's package ``pebble`` has both."""


class Pebble:
    """An authority on loopback; a context manager.

    Every name is at 127.0.0.1 for it, and port 443 is ``tls_port``. It forgets all
    accounts, orders and its own key when it is stopped.
    """

    def __init__(self, folder: Path, ca: trustme.CA) -> None:
        """Write its files to ``folder``; its own certificate is signed by ``ca``."""
        self.tls_port = free_port()
        self.ca_file = folder / "pebble-ca.pem"
        self._port, self._management, self._dns = free_port(), free_port(), free_port()
        leaf = ca.issue_cert("localhost")
        cert, key = folder / "pebble.pem", folder / "pebble-key.pem"
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        ca.cert_pem.write_to_path(self.ca_file)
        self._context = ssl.create_default_context(cafile=self.ca_file)
        settings = {
            "listenAddress": f"127.0.0.1:{self._port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(cert),
            "privateKey": str(key),
            "httpPort": free_port(),
            "tlsPort": self.tls_port,
        }
        self._settings = folder / "pebble.json"
        self._settings.write_text(json.dumps({"pebble": settings}))
        self._processes = contextlib.ExitStack()
        self._pebble = contextlib.ExitStack()

    @property
    def directory(self) -> str:
        return f"https://localhost:{self._port}/dir"

    def __enter__(self) -> Self:
        assert DNS is not None
        off = [f"-{each}=" for each in ("http01", "https01", "tlsalpn01")]
        at = [f"-dns01=127.0.0.1:{self._dns}", f"-management=127.0.0.1:{free_port()}"]
        self._processes.enter_context(
            Child([DNS, *off, *at, "-defaultIPv6="], limit=_LIMIT, stdout=None)
        )
        try:
            self.start()
            _wait_for_port(self._dns)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._processes.close()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert PEBBLE is not None
        self._pebble.enter_context(
            Child(
                [
                    *(PEBBLE, "-config", str(self._settings)),
                    *("-dnsserver", f"127.0.0.1:{self._dns}"),
                ],
                limit=_LIMIT,
                stdout=None,
                env=os.environ | {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"},
            )
        )
        _wait_for_port(self._port)
        _wait_for_port(self._management)

    def stop(self) -> None:
        """End it at once."""
        self._pebble.close()

    def root(self) -> bytes:
        """Return the certificate that its own begin with, in PEM."""
        url = f"https://localhost:{self._management}/roots/0"
        with urllib.request.urlopen(url, timeout=TIMEOUT, context=self._context) as it:
            data: bytes = it.read()
        return data


def _wait_for_port(port: int) -> None:
    end = time.monotonic() + TIMEOUT
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
            return
        assert time.monotonic() < end
        time.sleep(0.02)  # there is nothing to wait on in another's process
