"""picows under load. Usage: serve_picows.py PORT [CERTIFICATE KEY]."""

import ssl
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server


members: set[WSTransport] = set()


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


class FanOut(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        members.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        members.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, payload)
        elif frame.msg_type == WSMsgType.BINARY:
            for member in list(members):
                member.send(WSMsgType.BINARY, payload)


async def main() -> None:
    port, *files = sys.argv[1:]
    tls = None
    if files:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*files)
    server = await ws_create_server(
        lambda request: FanOut() if request.path == b"/fan-out" else Echo(),
        "127.0.0.1",
        int(port),
        ssl=tls,
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
