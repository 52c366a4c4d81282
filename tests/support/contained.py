"""``contained``: the whole task of an exchange, as ``run_exchange`` is."""

from collections.abc import Awaitable, Callable

from tako.core.seams import Exchange
from tako.tcp.protocol import Handler


def contained(handler: Callable[[Exchange], Awaitable[None]]) -> Handler:
    """Return what a connection can be made with from what only answers."""

    async def run(exchange: Exchange) -> None:
        try:
            await handler(exchange)
        except BaseException as error:
            if exchange.connection.failed(exchange, error):
                raise
        finally:
            exchange.connection.answered(exchange)

    return run
