"""Formats of access logs: what their fields show, and what cannot be a format."""

import dataclasses
import time

import pytest

from tako.errors import ConfigError
from tako.routing.access_format import FIELDS, AccessFormat
from tako.routing.access_log import AccessEntry, WebSocketCounts, access_log


ENTRY = AccessEntry(
    peer="[::1]:50123",
    address="::1",
    method="GET",
    target="/a",
    http_version="2",
    status=200,
    bytes_sent=1234,
    complete=True,
    seconds=0.0125,
    request_id="abc",
    began=1_700_000_000.25,
    query="?q=1",
    headers={"user-agent": "curl/8.0"},
)
COUNTS = WebSocketCounts(
    close_code=4000,
    messages_in=1,
    bytes_in=2,
    messages_out=3,
    bytes_out=4,
    closed_by="client",
)
WEBSOCKET = dataclasses.replace(ENTRY, websocket=COUNTS)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{peer} {address} {method} {target}{query}", "[::1]:50123 ::1 GET /a?q=1"),
        ("{http_version} {status} {bytes_sent}", "2 200 1234"),
        ("{seconds} {seconds:.3f} {seconds:8.2f}|", "0.012500 0.013     0.01|"),
        ("{status:>5}|{method:<5}|", "  200|GET  |"),
        ("{complete} {request_id}", "yes abc"),
        ("{began:%Y %z}", time.strftime("%Y %z", time.localtime(1_700_000_000))),
        ("{header[user-agent]} {header[User-Agent]}", "curl/8.0 curl/8.0"),
        ("{{{status}}}", "{200}"),
    ],
)
def test_fields_are_shown_as_they_are_asked_for(text: str, line: str) -> None:
    assert AccessFormat(text).line(ENTRY) == line


def test_a_websocket_has_its_messages_and_its_close() -> None:
    text = "{close_code} {closed_by} {messages_in}/{bytes_in} {messages_out:d}"
    shown = AccessFormat(text + "/{bytes_out}")
    assert shown.line(WEBSOCKET) == "4000 client 1/2 3/4"


def test_what_there_is_not_is_a_dash() -> None:
    entry = dataclasses.replace(ENTRY, request_id=None, query="", headers={"a": ""})
    text = "{close_code:d} {closed_by} {request_id} {header[a]} {header[b]}"
    assert AccessFormat(text).line(entry) == "- - - - -"
    assert AccessFormat("{target}{query}").line(entry) == "/a"


def test_the_formats_of_apache_have_names() -> None:
    when = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(1_700_000_000))
    common = f'::1 - - [{when}] "GET /a HTTP/2" 200 1234'
    assert AccessFormat("common").line(ENTRY) == common
    combined = AccessFormat("combined")
    assert combined.line(ENTRY) == f'{common} "-" "curl/8.0"'
    assert combined.headers == ("referer", "user-agent")
    assert not combined.query


@pytest.mark.parametrize(
    "sent", ['a"b', "a\nb", "\x1b[31m", "\u2028", "\u202e", "\udcff", "\\", "\x7f", "é"]
)
def test_what_a_client_sent_ends_no_line_and_no_quotes(sent: str) -> None:
    entry = dataclasses.replace(
        ENTRY,
        peer=sent,
        address=sent,
        method=sent,
        target=sent,
        query=sent,
        request_id=sent,
        headers={"x": sent + " "},
    )
    text = "{peer} {address} {method} {target} {query} {request_id}"
    line = AccessFormat(text + ' "{header[x]}"').line(entry)
    assert line.isascii()
    assert line.isprintable()
    assert line.replace('\\"', "").count('"') == 2
    assert len(line.split(" ")) == 8


def test_a_space_is_kept_in_fields_of_requests_only() -> None:
    entry = dataclasses.replace(ENTRY, peer="my socket", headers={"x": "a b"})
    shown = AccessFormat("{peer} {header[x]}").line(entry)
    assert shown == r"my\u0020socket a b"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{stats}", "there is no field 'stats', but peer, .*"),
        ("{}", "there is no field '', but .*"),
        ("{0}", "there is no field '0', but .*"),
        ("{peer.host}", r"there is no field 'peer\.host', .*"),
        ("{header}", "there is no field 'header', .*"),
        ("{header[a b]}", r"there is no field 'header\[a b\]', .*"),
        ("{header[a].x}", r"there is no field 'header\[a\]\.x', .*"),
        ("{status!r}", r"\{status\} has more than a name and a format of its own"),
        ("{status:{peer}}", r"\{status\} has more than a name .*"),
        ("{status:.2}", r"\{status:\.2\}: Precision not allowed .*"),
        ("{peer:d}", r"\{peer:d\}: Unknown format code 'd' .*"),
        ("{peer:\n<40}", r"\{peer:'\\n<40'\} has a character that does not print"),
        ("{status", "'{status': expected '}' before end of string"),
        ("{status}\n", r"'\{status\}\\n' has a character that does not print"),
        ("json", r"'json' names no field, as \{status\} does, nor a format"),
        ("", "'' names no field, .*"),
    ],
)
def test_what_cannot_be_a_format_is_said_at_once(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}$"):
        access_log(format=text)


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_can_be_shown(name: str) -> None:
    for entry in (ENTRY, WEBSOCKET):
        assert AccessFormat(f"{{{name}}}").line(entry).isprintable()
