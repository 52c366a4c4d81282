"""``tako top``: in a terminal, what the page of an inspector shows."""

import json
import shutil
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import click

from tako import runtime
from tako.cli.connect import described, tls_context
from tako.cli.console import CliError, RunError
from tako.cli.options import GroupedCommand
from tako.client import connect
from tako.errors import ConfigError, ConnectError, HandshakeRejected, WsError
from tako.tls.replace import user_folder


View: TypeAlias = dict[str, Any]

_ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, without a cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"
_LOOKS = 3  # of the first worker before ``--once`` prints: rates need two
_PATIENCE = 60.0  # seconds for a server that is busy
_NONE = "-"


@dataclass(slots=True)
class Screen:
    """What all workers have said last.

    Attributes:
        sort: what comes first.
        views: the last view of each worker.
    """

    sort: str = "rate"
    views: dict[int, View] = field(default_factory=dict[int, View])

    def take(self, text: str) -> int:
        """Take a message of an inspector; return the worker that it is about.

        0: it changes nothing of what is shown.
        """
        told: View = json.loads(text)
        worker: int = told["worker"]
        if told["type"] == "gone":
            self.views.pop(worker, None)
            return worker
        if told["type"] != "view":
            return 0
        last = self.views.get(worker)
        if not told["samples"] and last is not None:
            told["samples"] = last["samples"][-1:]
        self.views[worker] = told
        return worker

    def lines(self, width: int, height: int) -> list[str]:
        """Return what fits into a terminal of that size."""
        views = list(self.views.values())
        rows = max(height - 8, 2)
        ended = min(3, rows // 4)
        half = (rows - ended) // 2
        shown = [self._head(views), ""]
        shown += self._table(_SOCKETS, "WebSockets", "sockets", "sockets_found", half)
        shown.append("")
        shown += self._table(
            _CONNECTIONS, "Connections", "connections", "found", rows - ended - half
        )
        if closed := self._closed(ended):
            shown += ["", *closed]
        return [line[:width] for line in shown[:height]]

    def _head(self, views: list[View]) -> str:
        samples = [view["samples"][-1] for view in views if view["samples"]]

        def total(name: str) -> Any:
            return sum(each[name] for each in samples)

        def worst(name: str) -> Any:
            return max((each[name] or 0.0 for each in samples), default=0.0)

        workers = f"{len(views)} workers  " if len(views) > 1 else ""
        return (
            f"tako  {workers}{total('connections')} connections  "
            f"{total('sockets')} WebSockets  {total('requests')} requests  "
            f"in {_rate(total('receiving'))}  out {_rate(total('sending'))}  "
            f"round trip {_time(worst('median'))}  loop late {_time(worst('lag'))}"
        )

    def _table(
        self, columns: "list[Column]", title: str, name: str, found: str, most: int
    ) -> list[str]:
        rows = [
            {**row, "place": view["place"], "many": len(self.views) > 1}
            for view in self.views.values()
            for row in view[name]
        ]
        rows.sort(key=_KEYS[self.sort], reverse=True)
        total = sum(view[found] for view in self.views.values())
        cells = [[read(row) for _, _, read in columns] for row in rows[:most]]
        names = [heading for heading, _, _ in columns]
        names[0] = title
        widths = [
            max(least, *(len(row[at]) for row in (names, *cells)))
            for at, (_, least, _) in enumerate(columns)
        ]
        lines = [
            " ".join(
                cell.ljust(width) if at < 4 else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (names, *cells)
        ]
        if total > len(cells):
            lines[0] += f"   ({len(cells)} of {total})"
        return lines

    def _closed(self, most: int) -> list[str]:
        ended = [
            (view["now"] - row["at"], row)
            for view in self.views.values()
            for row in view["closed"]
        ]
        ended.sort(key=lambda each: each[0])
        return [
            f"{_age(ago)} ago: {row['what']} of {_plain(row['peer'])} "
            f"{_plain(row.get('path') or '')} {row.get('code') or ''} "
            f"{_plain(row['why'])}"
            for ago, row in ended[:most]
        ]


def _plain(text: str) -> str:
    """Return what a peer has chosen without what a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _scaled(value: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _rate(value: float | None) -> str:
    return _NONE if value is None else f"{_scaled(value)}/s"


def _often(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{seconds * 1000:.2f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def _age(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _number(row: View, name: str) -> str:
    return f"{row['place']}.{row[name]}" if row["many"] else str(row[name])


Column: TypeAlias = tuple[str, int, Callable[[View], str]]
"""The heading of a column, the characters that it has at least, and its value."""

_SOCKETS: list[Column] = [
    ("", 12, lambda row: _number(row, "connection")),
    ("route", 16, lambda row: _plain(row["route"])),
    ("peer", 16, lambda row: _plain(row["peer"])),
    ("wire", 8, lambda row: row["wire"]),
    ("age", 6, lambda row: _age(row["age"])),
    ("in/s", 6, lambda row: _often(row["messages_in"])),
    ("out/s", 6, lambda row: _often(row["messages_out"])),
    ("latency", 8, lambda row: _time(row["latency"] or row["round_trip"])),
    ("unread", 6, lambda row: str(row["waiting"])),
    ("unsent", 6, lambda row: _scaled(row["queued"])),
]
_CONNECTIONS: list[Column] = [
    ("", 12, lambda row: _number(row, "number")),
    ("peer", 16, lambda row: _plain(row["peer"])),
    ("wire", 8, lambda row: row["wire"]),
    ("TLS", 8, lambda row: row["tls"] or _NONE),
    ("age", 6, lambda row: _age(row["age"])),
    ("sockets", 7, lambda row: str(row["sockets"])),
    ("in", 9, lambda row: _rate(row["receiving"])),
    ("out", 9, lambda row: _rate(row["sending"])),
    ("unsent", 6, lambda row: _scaled(row["unsent"])),
    ("trip", 8, lambda row: _time(row["round_trip"])),
]
_KEYS: dict[str, Callable[[View], float]] = {
    "rate": lambda row: row.get(
        "rate", (row.get("receiving") or 0) + row.get("sending", 0)
    ),
    "latency": lambda row: row.get("latency") or row["round_trip"] or 0.0,
    "backlog": lambda row: (
        row.get("weight", 0) + row.get("queued", row.get("unsent", 0))
    ),
    "age": lambda row: row["age"],
}


@click.command(name="top", cls=GroupedCommand)
@click.argument("url")
@click.option("--once", is_flag=True, help="Print it once, for a script, and end.")
@click.option(
    "--sort",
    type=click.Choice(tuple(_KEYS)),
    default="rate",
    show_default=True,
    help="What comes first.",
)
@click.option(
    "--find", metavar="TEXT", default="", help="Only peers, wires and paths like that."
)
@click.option(
    "--ca",
    metavar="FILE",
    help="Authorities in PEM to trust. [default: the system's, and this user's own]",
)
@click.option("-k", "--insecure", is_flag=True, help="Trust every certificate.")
def top_command(
    url: str, *, once: bool, sort: str, find: str, ca: str | None, insecure: bool
) -> int:
    """Show a server live in this terminal: its connections, WebSockets and queues.

    URL is what tako serve --inspect has printed, with the token. Ctrl-C ends it.
    """
    terminal = sys.stdout.isatty() and not once
    options = {"ca": ca, "insecure": insecure, "cert": None, "key": None}
    top = _Top(
        _live(url),
        _trust(url, options),
        Screen(sort),
        {"type": "view", "sort": sort, "find": find, "limit": 50},
    )
    try:
        runtime.run(top.show if terminal else top.print_once, loop="asyncio")
    except ConfigError as error:
        raise CliError(str(error)) from error
    except HandshakeRejected as error:
        if error.status == 403:
            msg = "the token in the URL is not that of the server: it has a new one"
            raise RunError(msg) from error
        raise RunError(described(error)) from error
    except ConnectError as error:
        raise RunError(described(error)) from error
    except KeyboardInterrupt:
        return 0
    return 0


def _live(url: str) -> str:
    """Return the URL of the WebSocket for that of the page.

    Raises:
        CliError: it is no URL of an inspector.
    """
    page, question, query = url.partition("?")
    scheme = page.partition(":")[0].lower()
    if scheme not in {"http", "https", "ws+unix", "wss+unix"} or not question:
        msg = f"{url!r} is no URL of an inspector: http://localhost:8555/?token=..."
        raise CliError(msg)
    if scheme.startswith("http"):
        page = f"ws{page[4:]}"
    return f"{page.rstrip('/')}/live?{query}"


def _trust(url: str, options: dict[str, Any]) -> ssl.SSLContext | None:
    """Return what TLS needs; ``None``: there is none."""
    if not url.lower().startswith(("https", "wss")):
        return None
    context = tls_context(options, shows=False)
    if context is None:
        context = ssl.create_default_context()
        own = user_folder() / "ca.pem"
        if own.exists():
            context.load_verify_locations(own)
    return context


class _Top:
    """What looks on."""

    def __init__(
        self, url: str, context: ssl.SSLContext | None, screen: Screen, asked: View
    ) -> None:
        self._url = url
        self._context = context
        self._screen = screen
        self._asked = asked

    async def show(self) -> None:
        """Draw until Ctrl-C, or until the server ends.

        Raises:
            ConnectError: there is no inspector.
        """
        sys.stdout.write(_ENTER)
        try:
            await self._look(self._draw)
        finally:
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()

    async def print_once(self) -> None:
        """Print what there is, with rates.

        Raises:
            ConnectError: there is no inspector.
        """
        looks = 0

        def look(worker: int) -> bool:
            nonlocal looks
            looks += worker == next(iter(self._screen.views), None)
            return looks < _LOOKS

        await self._look(look)
        for line in self._screen.lines(200, 100):
            click.echo(line)

    async def _look(self, each: Callable[[int], bool]) -> None:
        """Call ``each`` for each view, until it returns ``False``."""
        async with connect(
            self._url, ssl=self._context, open_timeout=_PATIENCE, proxy=None
        ) as ws:
            try:
                await ws.send(json.dumps(self._asked))
                async for message in ws:
                    worker = self._screen.take(str(message))
                    if worker and not each(worker):
                        return
            except WsError:  # the server has ended
                return

    def _draw(self, _: int) -> bool:
        width, height = shutil.get_terminal_size()
        lines = self._screen.lines(width, height)
        sys.stdout.write("\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[K\x1b[J")
        sys.stdout.flush()
        return True
