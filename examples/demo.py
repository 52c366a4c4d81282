"""``make demo``: one handler on two wires, and a page that shows both side by side.

The first address offers HTTP/2 and HTTP/1.1, the second one HTTP/1.1 alone.
"""

import json
import sys
from pathlib import Path

# the file beside this one: a script has its folder in front of its path
from websocket_http2 import ws_echo, ws_tick  # type: ignore[import-not-found]

import tako
from tako import (
    Redirect,
    Request,
    Response,
    Router,
    ServerConfig,
    TakoWs,
    WebSocket,
)


HERE = Path(__file__)
TYPES = {".html": "text/html", ".py": "text/plain"}
PORTS: dict[str, int] = {}  # what the page cannot know


async def ws_lab(req: Request) -> TakoWs:
    async def session(ws: WebSocket) -> None:
        peer = req.conn_info.peer if req.conn_info else None
        await ws.send(json.dumps({"http": ws.http_version, "connection": str(peer)}))
        async for message in ws:
            if isinstance(message, (str, bytes)):
                await ws.send(message)

    return TakoWs(req, session).max_message_size(4096)


def shown(suffix: str) -> Response:
    fields = {"content-type": f"{TYPES[suffix]}; charset=utf-8"}
    return Response(200, fields, HERE.with_suffix(suffix).read_bytes())


async def page() -> Response:
    return shown(".html")


async def source() -> Response:
    return shown(".py")


async def ports() -> dict[str, int]:
    return PORTS


async def main(address: str = "127.0.0.1:8080", beside: str = "127.0.0.1:0") -> None:
    certs = Path("certs" if Path("certs/cert.pem").exists() else ".")
    pair = certs / "cert.pem", certs / "key.pem"
    try:
        listener, http1 = await tako.bind(address), await tako.bind(beside)
    except OSError as error:
        sys.exit(f"{error.strerror}; choose another: make demo DEMO=127.0.0.1:9443")
    router = Router()
    router.get("/", page)
    router.get("/source", source)
    PORTS["http1"] = http1.port
    router.get("/ports", ports)
    for path, handler in (("echo", ws_echo), ("tick", ws_tick), ("lab", ws_lab)):
        router.get(f"/ws/{path}", handler)

    async def look() -> Redirect:
        return Redirect.see_other(inspector.url)

    router.get("/inspector", look)
    alone = ServerConfig(alpn=("http/1.1",))
    async with (
        tako.serve(http1, router, tls=pair, config=alone),
        tako.serve_tls(listener, router, *pair, shutdown=tako.ctrl_c()) as server,
        tako.inspector(server, "127.0.0.1:0", tls=pair) as inspector,
    ):
        print(f"listening on https://{listener.local_addr}/")
        help_text = HERE.with_suffix(".txt").read_text()
        print(help_text.replace("8443", str(listener.port)), flush=True)
        await server.wait_closed()


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
