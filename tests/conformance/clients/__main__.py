"""Print the table of clients for the conformance README.

    python -m tests.conformance.clients

A cell is the close time that the client measured, in milliseconds, or how it failed.
"""

import ssl
import sys
import tempfile
from pathlib import Path

import trustme

from tako.testing.peer import Wire
from tests.conformance.clients.catalogue import CLIENTS, SCENARIOS, Client, Place
from tests.conformance.clients.scenarios import Ending, scenario_router
from tests.support.server import Credentials, Reports, RunningServer


HEADINGS = {
    "echo": "echo, 1 MiB, client closes 1000",
    "deflate": "the same with permessage-deflate",
    "bye": "server closes 4001",
    "abort": "client vanishes",
}


def credentials(folder: Path) -> tuple[Credentials, Path]:
    """Make a certificate; return it and the authority's file."""
    ca = trustme.CA()
    leaf = ca.issue_cert("localhost", "127.0.0.1")
    cert, key, authority = (folder / name for name in ("cert.pem", "key.pem", "ca.pem"))
    leaf.cert_chain_pems[0].write_to_path(cert)
    leaf.private_key_pem.write_to_path(key)
    ca.cert_pem.write_to_path(authority)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return Credentials(cert, key, client), authority


def cell(client: Client, wire: Wire, scenario: str, folder: Path) -> str:
    """Play one scenario and describe its outcome."""
    if scenario not in client.scenarios:
        return "–"
    endings = Reports()
    keys, authority = credentials(folder)
    server = RunningServer(
        scenario_router(endings), wire=wire, runtime="asyncio", credentials=keys
    )
    server.start()
    try:
        place = Place(server.address, authority)
        if client.front is None:
            outcome = client.play(wire, scenario, place)
        else:
            with client.front(place, folder) as front:
                outcome = client.play(wire, scenario, front)
        ending: Ending = endings.get()
    except (AssertionError, TimeoutError) as error:
        sys.stderr.write(f"{client.name} {wire} {scenario}: {error}\n")
        return "**failed**"
    finally:
        server.stop()
    if scenario == "abort":
        return f"server sees {ending.code}"
    seen = outcome.code if client.shows_code else "hidden"
    milliseconds = round((outcome.seconds or 0) * 1000)
    return f"client {seen}, server {ending.code}, {milliseconds} ms"


def main() -> None:
    """Print one row for each client and wire."""
    columns = [HEADINGS[scenario] for scenario in SCENARIOS]
    print("| client | wire | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for client in CLIENTS:
            if missing := client.missing():
                print(f"| {client.name} | | {missing} |")
                continue
            for wire in client.wires:
                cells = [cell(client, wire, s, Path(folder)) for s in SCENARIOS]
                print(f"| {client.name} | {wire} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
