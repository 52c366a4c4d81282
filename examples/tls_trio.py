"""HTTPS on trio, HTTP/1.1 and HTTP/2 by ALPN: https://127.0.0.1:8443/ and /health."""

import sys
from pathlib import Path

import tako
from tako import Method, Router


async def hello() -> str:
    return "Hello, Secure Trio World!"


async def health() -> tuple[int, str]:
    return 200, "OK"


async def main(address: str = "127.0.0.1:8443") -> None:
    certs = Path("certs" if Path("certs/cert.pem").exists() else ".")
    pair = certs / "cert.pem", certs / "key.pem"
    router = Router()
    router.route(Method.GET, "/", hello)
    router.route(Method.GET, "/health", health)
    listener = await tako.bind(address)
    shutdown = tako.ctrl_c()
    print(f"TLS (trio) server running at https://{listener.local_addr}", flush=True)
    await tako.serve_tls(listener, router, *pair, shutdown=shutdown)


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:], runtime="trio")
