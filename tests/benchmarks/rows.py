"""The rows of the table: what is asked of each server."""

from typing import NamedTuple

from tests.benchmarks.servers import HTTP_H1, HTTP_H2, WS_H1, WS_H2


class Row(NamedTuple):
    """One measurement.

    Attributes:
        name: what the table calls it.
        group: the script that it belongs to.
        wire: what a server has to serve.
        tls: whether over TLS.
        words: options of the load generator, or of h2load for the HTTP rows.
        unit: what is counted.
    """

    name: str
    group: str
    wire: str
    tls: bool
    words: str
    unit: str

    @property
    def h2(self) -> bool:
        """Whether over HTTP/2."""
        return self.wire in {WS_H2, HTTP_H2}


def _on_all_wires(
    name: str, group: str, unit: str, h1: str, h2: str
) -> tuple[Row, Row, Row]:
    return (
        Row(f"h1-{name}", group, WS_H1, False, h1, unit),
        Row(f"h1s-{name}", group, WS_H1, True, h1, unit),
        Row(f"h2-{name}", group, WS_H2, True, h2, unit),
    )


ROWS = (
    *_on_all_wires(
        "small",
        "echo",
        "messages",
        "--connections 100 --size 32",
        "--connections 4 --streams 25 --size 32",
    ),
    *_on_all_wires(
        "pipelined",
        "echo",
        "messages",
        "--connections 10 --depth 32 --size 32",
        "--connections 4 --streams 5 --depth 16 --size 32",
    ),
    *_on_all_wires(
        "64k",
        "large",
        "messages",
        "--connections 4 --depth 2 --size 65536",
        "--connections 1 --streams 4 --depth 2 --size 65536",
    ),
    *_on_all_wires(
        "1m",
        "large",
        "messages",
        "--connections 4 --size 1048576",
        "--connections 1 --streams 4 --size 1048576",
    ),
    *_on_all_wires(
        "open",
        "open",
        "sockets",
        "--connections 1000 --idle",
        "--connections 20 --streams 50 --idle",
    ),
    *_on_all_wires(
        "idle",
        "idle",
        "KiB per socket",
        "--connections 1000 --idle",
        "--connections 20 --streams 100 --idle",
    ),
    *_on_all_wires(
        "fan-out",
        "fan-out",
        "deliveries",
        "--connections 1000 --path /fan-out --fan-out",
        "--connections 20 --streams 50 --path /fan-out --fan-out",
    ),
    Row("http-h1s", "http", HTTP_H1, True, "--h1 -c 8", "requests"),
    Row("http-h2", "http", HTTP_H2, True, "-c 4 -m 25", "requests"),
)
