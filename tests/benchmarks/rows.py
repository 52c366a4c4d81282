"""The rows of the table: what is asked of each server."""

from typing import NamedTuple

from tests.benchmarks.servers import ASGI_APP, HTTP_H1, HTTP_H2, WS_H1, WS_H2


class Row(NamedTuple):
    """One measurement.

    Attributes:
        name: what the table calls it.
        group: the script that it belongs to.
        wire: what a server has to serve.
        tls: whether over TLS.
        words: options of the load generator.
        unit: what is counted.
        framework: what the app of the ASGI servers is written with, if with anything;
            no other server is measured then.
    """

    name: str
    group: str
    wire: str
    tls: bool
    words: str
    unit: str
    framework: str = ""

    @property
    def h2(self) -> bool:
        """Whether over HTTP/2."""
        return self.wire in {WS_H2, HTTP_H2}

    @property
    def http(self) -> bool:
        """Whether requests are counted, and not WebSockets or their messages."""
        return self.wire in {HTTP_H1, HTTP_H2}

    @property
    def app(self) -> str:
        """The module of ``peers`` that ASGI servers serve."""
        return f"{self.framework}_app" if self.framework else ASGI_APP


def _requests(
    name: str, group: str, h1: str, h2: str, unit: str = "requests", framework: str = ""
) -> tuple[Row, Row, Row]:
    """Rows of requests: ``name`` has a place for the wire."""
    return (
        Row(name.format("h1"), group, HTTP_H1, False, h1, unit, framework),
        Row(name.format("h1s"), group, HTTP_H1, True, h1, unit, framework),
        Row(name.format("h2"), group, HTTP_H2, True, h2, unit, framework),
    )


def _on_all_wires(
    name: str, group: str, unit: str, h1: str, h2: str
) -> tuple[Row, Row, Row]:
    return (
        Row(f"h1-{name}", group, WS_H1, False, h1, unit),
        Row(f"h1s-{name}", group, WS_H1, True, h1, unit),
        Row(f"h2-{name}", group, WS_H2, True, h2, unit),
    )


_EIGHT = "--connections 8"
_HUNDRED = "--connections 4 --streams 25"
_UPLOAD = "--post /upload --size 1048576"
_DOWNLOAD = "--get /bytes/1048576=1048576"
# a page of 20 KB, and what it shows: 2 to 100 KB, as style sheets, scripts, images
_PAGE_SIZES = (20, 2, 3, 5, 8, 12, 20, 30, 45, 70, 100)
_PAGE = "--vary " + " ".join(f"--get /bytes/{n}000={n}000" for n in _PAGE_SIZES)

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
    *_requests("http-{}", "http", f"{_EIGHT} --get /=13", f"{_HUNDRED} --get /=13"),
    *_requests(
        "http-{}-var",
        "http",
        f"{_EIGHT} --vary --get /items/*=13",
        f"{_HUNDRED} --vary --get /items/*=13",
    ),
    *_requests(
        "starlette-{}",
        "frameworks",
        f"{_EIGHT} --get /=13",
        f"{_HUNDRED} --get /=13",
        framework="starlette",
    ),
    *_requests(
        "fastapi-{}",
        "frameworks",
        f"{_EIGHT} --get /=27",
        f"{_HUNDRED} --get /=27",
        framework="fastapi",
    ),
    *_requests(
        "upload-{}",
        "transfer",
        f"--connections 4 {_UPLOAD}",
        f"--connections 1 --streams 4 {_UPLOAD}",
    ),
    *_requests(
        "download-{}",
        "transfer",
        f"--connections 4 {_DOWNLOAD}",
        f"--connections 1 --streams 4 {_DOWNLOAD}",
    ),
    *_requests(
        "page-{}",
        "transfer",
        f"--connections 6 {_PAGE}",
        f"--connections 2 --streams 10 {_PAGE}",
        unit="pages",
    ),
)
