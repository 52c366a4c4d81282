"""``watch_certificates``: loads certificates again when their files change."""

import logging

from tako.errors import TlsConfigError
from tako.runtime import ServerRuntime
from tako.tls.certificates import TlsSettings


_logger = logging.getLogger("tako.server")

_EVERY = 1.0  # seconds between looks at the files
_TURN = 32  # certificates looked at before others have a turn


async def watch_certificates(runtime: ServerRuntime, tls: TlsSettings) -> None:
    """Load certificates whose files change; a bad file changes nothing.

    Cancel safety: safe, and the only way to end it.
    """
    while True:
        await runtime.sleep(_EVERY)
        for count, certificate in enumerate(tls.reloadables(), start=1):
            if count % _TURN == 0:
                await runtime.sleep(0)
            if certificate.changed():
                try:
                    certificate.reload_from_pem()
                except TlsConfigError as error:
                    _logger.error("keeping the old certificate: %s", error)  # noqa: TRY400 - its text says it all
                else:
                    _logger.info("certificate reloaded")
                await runtime.sleep(0)  # that took milliseconds
