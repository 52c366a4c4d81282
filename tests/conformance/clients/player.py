"""One scenario with one Python WebSocket library, in a process of its own.

    python -m tests.conformance.clients.player wreq h2 echo wss://localhost:8443 ca.pem

Prints the outcome as one line of JSON: the close code and reason that the library
reports, and the seconds from asking for the close until the library knew of it.
``abort`` ends the process in the middle of the conversation.
"""

import json
import os
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from tests.support.patience import TIMEOUT


PATHS = {"echo": "/echo", "deflate": "/deflate", "bye": "/bye", "abort": "/echo"}
MESSAGES: tuple[str | bytes, ...] = (
    "hello \N{OCTOPUS}",
    b"\x00\xff",
    bytes(at % 251 for at in range(1 << 20)),
)


Outcome: TypeAlias = dict[str, Any]


class Player(Protocol):
    """A library, behind the four verbs that the scenarios need."""

    extensions: str | None
    largest: int
    """The largest message, in bytes, that the library sends over this wire."""

    def send(self, message: str | bytes) -> None:
        """Send a message."""

    def receive(self) -> str | bytes:
        """Return the next message."""

    def close(self) -> None:
        """Close with 1000 and wait for the end."""

    def wait_close(self) -> None:
        """Wait until the server has closed."""

    def closed_with(self) -> tuple[int | None, str | None]:
        """Return the code and the reason, ``None`` where the library hides them."""


class WebsocketsPlayer:
    """https://pypi.org/project/websockets, HTTP/1.1."""

    def __init__(self, wire: str, scenario: str, url: str, ca: str) -> None:
        from tests.support.websockets_client import BlockingClient

        assert wire in {"h1", "h1s"}
        context = ssl.create_default_context(cafile=ca) if wire == "h1s" else None
        deflate = "deflate" if scenario == "deflate" else None
        self._ws = BlockingClient(url, ssl=context, compression=deflate, max_size=None)
        self.extensions = self._ws.headers.get("sec-websocket-extensions")
        self.largest = 1 << 20

    def send(self, message: str | bytes) -> None:
        self._ws.send(message)

    def receive(self) -> str | bytes:
        return self._ws.recv()

    def close(self) -> None:
        self._ws.close(1000, "done")

    def wait_close(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            unexpected = self._ws.recv()
        except ConnectionClosed:
            self._ws.close()  # ends its thread
            return
        msg = f"{unexpected!r} instead of the close"
        raise AssertionError(msg)

    def closed_with(self) -> tuple[int | None, str | None]:
        return self._ws.close_code, self._ws.close_reason


class NiquestsPlayer:
    """https://pypi.org/project/niquests, HTTP/1.1 and RFC 8441; shows no code."""

    def __init__(self, wire: str, scenario: str, url: str, ca: str) -> None:
        import niquests

        scheme, _, rest = url.partition("://")
        if wire == "h2":
            scheme += "+rfc8441"
        self._session = niquests.Session()
        response = self._session.get(f"{scheme}://{rest}", verify=ca, timeout=TIMEOUT)
        self._ws: Any = response.extension
        assert self._ws is not None, f"status {response.status_code}"
        version = {"h1": 11, "h1s": 11, "h2": 20}[wire]
        assert response.http_version == version
        self.extensions = response.headers.get("sec-websocket-extensions")
        # over HTTP/2 it puts a message into one DATA frame and never splits it
        self.largest = 16_000 if wire == "h2" else 1 << 20

    def send(self, message: str | bytes) -> None:
        self._ws.send_payload(message)

    def receive(self) -> str | bytes:
        message: str | bytes = self._ws.next_payload()
        return message

    def close(self) -> None:
        self._ws.close()

    def wait_close(self) -> None:
        assert self._ws.next_payload() is None

    def closed_with(self) -> tuple[int | None, str | None]:
        return None, None


class WreqPlayer:
    """https://pypi.org/project/wreq, HTTP/1.1 and RFC 8441."""

    extensions: str | None = None
    largest: int = 1 << 20

    def __init__(self, wire: str, scenario: str, url: str, ca: str) -> None:
        import wreq
        from wreq.blocking import Client

        store = wreq.CertStore.from_pem_certs([Path(ca).read_text()])
        client = Client(tls_verify=store)
        version = wreq.Version.HTTP_2 if wire == "h2" else wreq.Version.HTTP_11
        self._messages = wreq.Message
        self._ws = client.websocket(url, version=version)
        self._closed: tuple[int | None, str | None] = (None, None)

    def send(self, message: str | bytes) -> None:
        kind = self._messages
        text = isinstance(message, str)
        self._ws.send(kind.from_text(message) if text else kind.from_binary(message))

    def receive(self) -> str | bytes:
        message = self._next()
        assert message is not None
        text: str | None = message.text
        return message.binary if text is None else text

    def close(self) -> None:
        self._ws.send(self._messages.from_close(1000, "done"))
        self.wait_close()

    def wait_close(self) -> None:
        while (message := self._next()) is not None:
            if message.close is not None:
                self._closed = message.close

    def closed_with(self) -> tuple[int | None, str | None]:
        code, reason = self._closed
        return (None if code is None else int(code)), reason

    def _next(self) -> Any:
        return self._ws.recv()


PLAYERS: dict[str, Callable[[str, str, str, str], Player]] = {
    "websockets": WebsocketsPlayer,
    "niquests": NiquestsPlayer,
    "wreq": WreqPlayer,
}


def play(player: Player, scenario: str) -> Outcome:
    """Play ``scenario`` and return what there is to say about it."""
    if scenario == "bye":
        asked = time.monotonic()
        player.send("close now")
        player.wait_close()
    else:
        for message in MESSAGES:
            sent = message[: player.largest]
            player.send(sent)
            assert player.receive() == sent
        if scenario == "abort":
            sys.stdout.write(json.dumps({"aborted": True}) + "\n")
            sys.stdout.flush()
            os._exit(0)
        asked = time.monotonic()
        player.close()
    seconds = time.monotonic() - asked
    code, reason = player.closed_with()
    return {
        "code": code,
        "reason": reason,
        "seconds": seconds,
        "extensions": player.extensions,
    }


if __name__ == "__main__":
    name, wire_, scenario_, base, ca_ = sys.argv[1:]
    chosen = PLAYERS[name](wire_, scenario_, base + PATHS[scenario_], ca_)
    sys.stdout.write(json.dumps(play(chosen, scenario_)) + "\n")
