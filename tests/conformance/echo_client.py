"""The client that Autobahn tests: it plays every case, and sends each message back.

python -m tests.conformance.echo_client ws://127.0.0.1:9001 [--runtime trio]
python -m tests.conformance.echo_client wss://localhost:9002 --ca CA --wire h2
"""

import argparse
import contextlib
import ssl
from typing import Any

import tako
from tako import Message


AGENT = "tako"
PATIENCE = 600.0  # seconds: some cases take minutes on a busy machine


async def play(url: str, options: dict[str, Any]) -> None:
    """Play all cases of the server at ``url``, then have it write its report."""
    async with tako.connect(f"{url}/getCaseCount", **options) as ws:
        count = await ws.read(PATIENCE)
    assert isinstance(count, str)
    for case in range(1, int(count) + 1):
        query = f"case={case}&agent={AGENT}"
        # a server that has closed takes no more echoes
        with contextlib.suppress(tako.ConnectionClosed):
            async with tako.connect(f"{url}/runCase?{query}", **options) as ws:
                async for message in ws:
                    match message:
                        case Message.Text() | Message.Binary():
                            await ws.send(message)
    async with tako.connect(f"{url}/updateReports?agent={AGENT}", **options) as ws:
        async for _ in ws:
            pass


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--ca", help="PEM file: whom to trust")
    parser.add_argument("--wire", choices=["h1", "h2"], default="h1")
    parser.add_argument("--runtime", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--loop", choices=["auto", "asyncio", "uvloop"], default="auto")
    args = parser.parse_args()
    options: dict[str, Any] = {
        "http_versions": ["2" if args.wire == "h2" else "1.1"],
        "max_size": None,
        "open_timeout": PATIENCE,
    }
    if args.ca is not None:
        options["ssl"] = ssl.create_default_context(cafile=args.ca)
    if args.runtime == "trio":
        tako.run(play, args.url, options, runtime="trio")
    else:
        tako.run(play, args.url, options, loop=args.loop)


if __name__ == "__main__":
    main()
