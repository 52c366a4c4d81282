"""Tables of the documentation that are made from the code, so that they are true.

A line ``<!-- table: NAME -->`` of a page is replaced by what the function ``NAME``
returns.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

import click

import tako
from tako.cli import commands, options
from tako.client import redirect, settings
from tako.config import ServerConfig
from tako.h2 import client as h2_client, flow_control, frames, reader
from tako.http import media_type, multipart
from tako.server import certificate_watch, service
from tako.tcp import linger
from tako.topics import History, Topics, fan_out, publisher, topics
from tako.topics.hub import core as hub
from tako.ws.options import WsOptions


_MARK = re.compile(r"^<!-- table: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put tables where a page asks for them."""
    return _MARK.sub(lambda mark: TABLES[mark[1]](), markdown)


def config() -> str:
    """Return every field of ``ServerConfig``."""
    helps = dict(options.descriptions())
    rows = []
    for field in dataclasses.fields(ServerConfig):
        default = options.shown_default(field.name, None)
        name = f'<span id="{field.name}"></span>`{field.name}`'
        shown = f"`{default}`{options.shown_range(field)}"
        rows.append((name, shown, helps[field.name]))
    return _table(("field", "default, range", "what"), rows)


def _default(function: Callable[..., Any], name: str) -> Any:
    return inspect.signature(function).parameters[name].default


def _route(name: str) -> Any:
    return next(
        each.default for each in dataclasses.fields(WsOptions) if each.name == name
    )


def websocket() -> str:
    """Return the limits of a WebSocket's route."""
    return _limits(
        (
            "max_message_size",
            _size(_route("max_message_size")),
            "a received message, decompressed; more is 1009",
        ),
        (
            "max_frame_size",
            _size(_route("max_frame_size")),
            "a received frame; more is 1009",
        ),
        (
            "upgrade_timeout",
            _route("upgrade_timeout"),
            "until the answer to the handshake is written",
        ),
        (
            "max_lifetime",
            _route("max_lifetime"),
            "of the session, which then ends with 1001",
        ),
        (
            "keep_alive",
            _route("keep_alive"),
            "takes the place of `ws_ping_interval` and `ws_ping_timeout`",
        ),
        ("compression", _route("compression"), "permessage-deflate; `None`: off"),
        (
            "allowed_origins",
            _route("allowed_origins"),
            "whose pages may connect; others get 403",
        ),
    )


def client() -> str:
    """Return the limits of a client."""
    make = tako.Client
    return _limits(
        (
            "open_timeout",
            f"{settings._OPEN_TIMEOUT:g} s",
            "for everything until the WebSocket is open",
        ),
        ("close_timeout", f"{settings._CLOSE_TIMEOUT:g} s", "for the server's Close"),
        (
            "ping_interval",
            f"{settings._PING_INTERVAL:g} s",
            "of silence before the server is asked",
        ),
        ("ping_timeout", f"{settings._PING_TIMEOUT:g} s", "for its answer"),
        ("max_size", _size(settings._MAX_SIZE), "a received message, decompressed"),
        (
            "max_connections",
            _default(make, "max_connections"),
            "`Client`: of HTTP/2, to one origin",
        ),
        (
            "max_streams",
            _default(make, "max_streams"),
            "`Client`: WebSockets on one of them; the server may allow fewer",
        ),
        (
            "idle_timeout",
            f"{_default(make, 'idle_timeout')} s",
            "`Client`: that a connection may carry nothing",
        ),
        ("", redirect.MAX_REDIRECTS, "redirects that are followed"),
        ("", h2_client._MAX_INTERIM, "interim answers (1xx) to one handshake"),
        ("", _size(h2_client._MAX_BODY), "of a refusal's body that is kept"),
    )


def of_topics() -> str:
    """Return the limits of topics."""
    subscribe, kept = Topics.subscribe, History()
    return _limits(
        (
            "bound",
            _default(subscribe, "bound"),
            "items that wait in a feed; then its policy decides",
        ),
        (
            "size",
            _size(_default(subscribe, "size")),
            "that wait in a feed; one item always may",
        ),
        ("History.messages", kept.messages, "of a topic that are kept"),
        (
            "History.seconds",
            kept.seconds,
            "that one is kept; `None`: until others take its place",
        ),
        ("History.size", _size(kept.size), "of a topic that are kept"),
        (
            "History.topics",
            kept.topics,
            "topics that are kept; the least recently used is forgotten",
        ),
        ("", f"{topics._NAME_SIZE} bytes", "the name of a topic, in UTF-8"),
        ("", _size(topics._MESSAGE_SIZE), "a message"),
        ("", topics._TOPICS, "topics of one feed"),
        (
            "",
            f"{publisher._MESSAGES}, {_size(publisher._SIZE)}",
            "messages that wait while the engine is not reached",
        ),
        ("", f"{fan_out._PER_TURN}", "deliveries in a turn of the event loop"),
        ("", _size(hub.MOST_OUTPUT), "that a worker may be behind; more is a `Gap`"),
        ("", _size(hub._MOST_KEPT), "of history that workers share"),
    )


def fixed() -> str:
    """Return what bounds a server and is no option."""
    return _limits(
        (
            "",
            _size(frames.DEFAULT_FRAME_SIZE),
            "the payload of an HTTP/2 frame from a client",
        ),
        (
            "",
            _size(flow_control._CONNECTION_WINDOW),
            "the window of an HTTP/2 connection",
        ),
        (
            "",
            f"{reader._BLOCK_TIMEOUT:g} s",
            "for the rest of a header block, once it has begun",
        ),
        (
            "",
            reader._CONTROL_FRAMES,
            "control frames that a peer may send in advance of its budget",
        ),
        ("", media_type._MAX_FIELDS, "fields of a form that is not multipart"),
        (
            "max_parts",
            _default(tako.Request.multipart, "max_parts"),
            "parts of a multipart form",
        ),
        (
            "",
            f"{multipart._MAX_PART_HEADERS}, {_size(multipart._MAX_PART_HEADER)}",
            "header fields of a part, and their bytes",
        ),
        (
            "",
            _size(linger._MAX_DROPPED),
            "that are read and dropped behind an answer that came early",
        ),
        (
            "",
            f"{service.HANDOVER:g} s",
            "for accepted connections to send a request, in a hand-over",
        ),
        (
            "",
            f"{certificate_watch._EVERY:g} s",
            "between looks at the files of certificates",
        ),
    )


def _size(octets: int) -> str:
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if octets >= unit and octets % unit == 0:
            return f"{octets // unit} {name}"
    return f"{octets} bytes"


def _limits(*rows: tuple[str, object, str]) -> str:
    shown = [(name and f"`{name}`", f"`{value}`", what) for name, value, what in rows]
    return _table(("name", "default", "what"), shown)


def command() -> str:
    """Return every option of every command, in the groups of ``--help``."""
    return "\n".join(_command(commands.root, "tako"))


def _command(which: click.Command, name: str) -> list[str]:
    if isinstance(which, click.Group):
        parts = list[str]()
        for word, each in which.commands.items():
            parts += _command(each, f"{name} {word}")
        return parts
    context = click.Context(which, info_name=name)
    usage = " ".join(which.collect_usage_pieces(context))
    parts = [f"## {name}\n", f"{which.help}\n", f"```sh\n{name} {usage}\n```\n"]
    groups: dict[str, list[click.Option]] = {}
    for each in which.params:
        if isinstance(each, click.Option):
            groups.setdefault(options.group_of(each), []).append(each)
    for title, members in groups.items():
        if len(groups) > 1:
            parts.append(f"### {title}\n" if name == "tako serve" else "")
        rows = [_option(each, context) for each in members]
        parts.append(_table(("option", "variable", "what"), rows) + "\n")
    return parts


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    found = option.get_help_record(context)
    words, text = found or (", ".join(option.opts), "")
    variable = f"`{option.envvar}`" if option.envvar else ""
    return f"`{words}`", variable, text


def _cell(text: str) -> str:
    """Escape bars, but in code, where they need that as little as anything else."""
    parts = re.split(r"(`[^`]*`)", text.replace("\n", " "))
    return "".join(
        part if part.startswith("`") else part.replace("|", "\\|") for part in parts
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = (_cell(text) for text in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


TABLES = {
    "client": client,
    "command": command,
    "config": config,
    "fixed": fixed,
    "topics": of_topics,
    "websocket": websocket,
}
