"""A member of the room of chat.py: python chat_client.py Ada [wss://127.0.0.1:8080].

What is typed is said, and a client whose room restarts comes back. Whom it trusts is up
to SSL_CERT_FILE, which for the certificates of this repository is certs/ca.pem.
"""

import asyncio
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import tako


Lines = asyncio.Queue[str | None]  # None: there are no more


async def talk(
    url: str, lines: Lines, show: Callable[[str], object], **options: Any
) -> None:
    left = asyncio.Event()

    async def say(ws: tako.WebSocket) -> None:
        with suppress(tako.ConnectionClosed):  # the loop below notices, too
            while (line := await lines.get()) is not None:
                await ws.send(line)
            left.set()
            await ws.close()

    async with tako.Client(**options) as client:  # waits for the end of its connections
        async for ws in client.connect(url):
            speaker = asyncio.create_task(say(ws))
            async for message in ws:
                if isinstance(message, str):
                    show(message)
            if left.is_set():
                return
            speaker.cancel()


def read_typed(lines: Lines) -> None:
    loop = asyncio.get_running_loop()

    def read() -> None:  # in a thread, which ends with the program
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line.rstrip("\n"))
        loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()


async def main(name: str, room: str = "wss://127.0.0.1:8080") -> None:
    lines = Lines()
    read_typed(lines)
    url = f"{room}/ws/chat?name={quote(name)}"
    await talk(url, lines, lambda text: print(text, flush=True))


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
