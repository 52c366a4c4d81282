"""``contained``: the task of one exchange."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from tako.core.error_code import ErrorCode
from tako.core.loop import Task
from tako.core.seams import Exchange
from tako.errors import consists_of


_logger = logging.getLogger("tako.server")

Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]


async def contained(
    handler: Handler, exchange: Exchange, running: dict[Exchange, Task]
) -> None:
    """Run ``handler``; if it raises, that ends ``exchange`` only.

    The pipeline answers exceptions of handlers; what arrives here is a cancellation or
    a bug of tako.

    Args:
        handler: answers the exchange.
        exchange: is reset if it fails.
        running: holds the exchange until it is answered.
    """
    try:
        await handler(exchange)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        cancelled = consists_of(error, exchange.connection.runtime.cancelled)
        if exchange in running:  # else it is answered
            exchange.reset(ErrorCode.CANCEL if cancelled else ErrorCode.INTERNAL_ERROR)
        if cancelled:
            raise
        _logger.exception("handler of %s failed", exchange.request.path)
    finally:
        exchange.connection.answered(exchange)
