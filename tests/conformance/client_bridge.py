"""``bridge`` turned round: HTTP/2 extended CONNECT in front, HTTP/1.1 ``101`` behind.

    python -m tests.conformance.client_bridge --upstream 127.0.0.1:9001 --tls CERT KEY

No Autobahn server speaks RFC 8441. This bridge lets the one there is test a client over
HTTP/2: each stream becomes one TCP connection. Bytes and ends pass as in ``bridge``.
"""

import argparse
import asyncio
import base64
import contextlib
import os
import ssl

import h2.events
from h2.settings import SettingCodes

from tests.conformance.bridge import AGREED, Carrier, Reset, Stream, copy, parse


class Front(Carrier):
    """An HTTP/2 connection of a client."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        host: str,
        port: int,
    ) -> None:
        super().__init__(
            reader,
            writer,
            client=False,
            setting=SettingCodes.ENABLE_CONNECT_PROTOCOL,
            value=1,
        )
        self._host, self._port = host, port
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, event: h2.events.Event) -> None:
        """Connect for each request; the rest is of streams."""
        if not isinstance(event, h2.events.RequestReceived):
            super().take(event)
            return
        fields = [(str(name), str(value)) for name, value in event.headers]
        stream = self.begin(event.stream_id)
        task = asyncio.create_task(self._serve(stream, fields))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: Stream, fields: list[tuple[str, str]]) -> None:
        """Serve one stream to its end."""
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            writer.write(_request(f"{self._host}:{self._port}", fields))
            status, answer = parse(await reader.readuntil(b"\r\n\r\n"))
            opened = status == "101"
            head = [(":status", "200" if opened else status)]
            head += [(name, value) for name, value in answer if name in AGREED]
            self.engine.send_headers(stream.id, head, end_stream=not opened)
            await self.flush()
            if opened:
                await copy(stream, reader, writer)
        except (Reset, OSError, asyncio.IncompleteReadError):
            await stream.cancel()
        finally:
            self.forget(stream)
            if writer is not None:
                writer.close()


def _request(host: str, fields: list[tuple[str, str]]) -> bytes:
    """Return the handshake of HTTP/1.1 that asks ``host`` for what a CONNECT does."""
    pseudo = dict(fields)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {pseudo[':path']} HTTP/1.1",
        f"Host: {host}",  # Autobahn insists on its own
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        *[f"{name}: {value}" for name, value in fields if not name.startswith(":")],
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def main() -> None:
    """Run until cancelled; prints the port once it listens."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--upstream", required=True, metavar="HOST:PORT")
    parser.add_argument("--tls", required=True, nargs=2, metavar=("CERT", "KEY"))
    args = parser.parse_args()
    host, _, port = args.upstream.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*args.tls)
    context.set_alpn_protocols(["h2"])

    async def accepted(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        front = Front(reader, writer, host, int(port))
        await front.start()
        await front.read()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
