"""What the command's log lines look like, and what cannot get into them."""

import dataclasses
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


pytest.importorskip("click")

from tako.cli import logs
from tako.cli.console import say, say_failure
from tako.cli.logs import JsonFormatter, Logs, TextFormatter
from tako.routing.access_log import AccessEntry, WebSocketCounts


NASTY = "a\x1b[31mb\u2028c\x00d\u202ee\x85f"
ENTRY = AccessEntry(
    peer="127.0.0.1:5",
    address="127.0.0.1",
    method="GET",
    target="/",
    http_version="1.1",
    status=200,
    bytes_sent=0,
    complete=False,
    seconds=0.5,
    began=1_700_000_000.5,
)
PLAIN = Logs(
    level="info",
    form="text",
    config=None,
    access=False,
    access_format=None,
    request_ids=False,
)


def record(message: object, *args: object, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("app", logging.WARNING, "", 0, message, args, None)
    made.created = 1_700_000_000.25
    for name, value in more.items():
        setattr(made, name, value)
    return made


def failed(text: str) -> logging.LogRecord:
    try:
        raise ValueError(text)
    except ValueError:
        return record("failed", exc_info=sys.exc_info())


class Configured:
    """A process whose logging the command has set up; what it wrote to stderr."""

    def __init__(self) -> None:
        names = ("tako", "tako.access", "tako.server.lifetime")
        self._root = logging.getLogger()
        self._handlers = self._root.handlers[:]  # pytest's
        self._levels = [(each, each.level) for each in map(logging.getLogger, names)]
        self._levels.append((self._root, self._root.level))
        self._stderr, self._written = sys.stderr, io.StringIO()

    def set_up(self, how: Logs) -> None:
        self._root.handlers.clear()
        sys.stderr = self._written
        how.set_up()

    def restore(self) -> None:
        sys.stderr, self._root.handlers[:] = self._stderr, self._handlers
        for logger, level in self._levels:
            logger.setLevel(level)
        for each in logging.root.manager.loggerDict.values():
            if isinstance(each, logging.Logger):
                each.disabled = False

    @property
    def lines(self) -> list[str]:
        return self._written.getvalue().splitlines()


@pytest.fixture
def stderr() -> Iterator[Configured]:
    configured = Configured()
    yield configured
    configured.restore()


class TestText:
    def test_it_is_time_level_logger_and_message(self) -> None:
        line = TextFormatter(coloured=False, bare_access=False).format(
            record("it %d", 1)
        )
        assert re.fullmatch(
            r"2023-11-1\d \d\d:\d\d:\d\d\.250 WARNING  app: it 1", line
        ), line

    def test_the_id_of_a_request_is_at_the_end(self) -> None:
        text = TextFormatter(coloured=False, bare_access=False)
        assert text.format(record("it", request_id="abc")).endswith("app: it id=abc")
        assert text.format(record("it", request_id=None)).endswith("app: it")

    def test_only_the_first_line_of_a_record_is_not_indented(self) -> None:
        text = TextFormatter(coloured=False, bare_access=False)
        for each in (record("one\nforged\r\n%s", NASTY), failed("one\nforged" + NASTY)):
            first, *others = text.format(each).split("\n")
            assert first.startswith("2023-11-1")
            assert len(others) >= 2
            assert all(line.startswith("    ") for line in others)
            assert all(line.isprintable() for line in (first, *others))
            assert r"\x1b[31mb\u2028c\x00d\u202ee\x85f" in others[-1]

    def test_colours_are_around_time_and_level(self) -> None:
        line = TextFormatter(coloured=True, bare_access=False).format(record("it"))
        assert re.fullmatch(
            r"\x1b\[2m[\d :.-]+\x1b\[0m \x1b\[33mWARNING \x1b\[0m app: it", line
        ), line

    def test_a_request_with_a_format_of_its_own_is_only_that(self) -> None:
        text = TextFormatter(coloured=True, bare_access=True)
        assert text.format(record("GET /", access=ENTRY)) == "GET /"
        assert text.format(record("GET /")).endswith("app: GET /")

    @pytest.mark.parametrize(
        ("terminal", "environment", "coloured"),
        [
            (True, {}, True),
            (False, {}, False),
            (True, {"NO_COLOR": "1"}, False),
            (True, {"NO_COLOR": ""}, True),
            (False, {"FORCE_COLOR": "1"}, True),
            (False, {"FORCE_COLOR": ""}, False),
            (True, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
            (True, {"TERM": "dumb"}, False),
        ],
    )
    def test_colours_are_for_terminals_and_those_who_ask(
        self,
        monkeypatch: pytest.MonkeyPatch,
        terminal: bool,
        environment: dict[str, str],
        coloured: bool,
    ) -> None:
        for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda: terminal)
        assert logs._wants_colours(stream) is coloured


class TestJson:
    def test_it_is_an_object_with_the_time_in_utc(self) -> None:
        line = JsonFormatter().format(record("it %d", 1))
        assert json.loads(line) == {
            "time": "2023-11-14T22:13:20.250000Z",
            "level": "WARNING",
            "logger": "app",
            "message": "it 1",
        }

    def test_a_traceback_is_a_text(self) -> None:
        line = JsonFormatter().format(failed("one\ntwo" + NASTY))
        assert line.isascii()
        assert line.isprintable()
        told = json.loads(line)["exception"]
        assert told.startswith("Traceback (most recent call last):\n")
        assert told.endswith("ValueError: one\ntwo" + NASTY)

    def test_a_request_has_its_members(self) -> None:
        counts = WebSocketCounts(close_code=1000, messages_in=3)
        entry = dataclasses.replace(
            ENTRY, request_id="abc", websocket=counts, headers={"user-agent": NASTY}
        )
        for access in (ENTRY, entry):
            made = record("%s", access, access=access, request_id="abc")
            line = JsonFormatter().format(made)
            assert line.isprintable()
            found = json.loads(line)
            assert found["message"] == str(access)
            expected = dataclasses.asdict(access)
            expected["began"] = "2023-11-14T22:13:20.500000Z"
            missing = expected.keys() - found.keys()
            assert {each: found.get(each) for each in expected} == {
                name: None if name in missing else value
                for name, value in expected.items()
            }
            shown = "query" if access is entry else "headers websocket query request_id"
            assert missing == set(shown.split())


class TestSetUp:
    def test_what_is_said_is_a_line_like_all_others(self, stderr: Configured) -> None:
        stderr.set_up(dataclasses.replace(PLAIN, form="json"))
        say("it serves")
        say("it breaks", logging.ERROR)
        say_failure("Traceback:\n  one\ntako: importing failed")
        found = [json.loads(line) for line in stderr.lines]
        assert [each.pop("time")[:2] for each in found] == ["20"] * 3
        assert found == [
            {"level": "INFO", "logger": "tako", "message": "it serves"},
            {"level": "ERROR", "logger": "tako", "message": "it breaks"},
            {
                "level": "ERROR",
                "logger": "tako",
                "message": "importing failed",
                "exception": "Traceback:\n  one",
            },
        ]

    def test_a_higher_level_says_less(self, stderr: Configured) -> None:
        stderr.set_up(dataclasses.replace(PLAIN, level="critical"))
        say("it serves")
        say_failure("tako: importing failed")
        assert stderr.lines == []

    def test_what_the_server_says_of_start_and_end_is_left_out(
        self, stderr: Configured
    ) -> None:
        stderr.set_up(dataclasses.replace(PLAIN, level="debug"))
        logging.getLogger("tako.server.lifetime").info("Tako listening")
        logging.getLogger("tako.server").debug("it runs")
        assert len(stderr.lines) == 1

    @pytest.mark.parametrize("access", [True, False])
    def test_requests_have_a_switch_of_their_own(
        self, stderr: Configured, access: bool
    ) -> None:
        stderr.set_up(dataclasses.replace(PLAIN, level="error", access=access))
        logging.getLogger("tako.access").info("GET /")
        assert bool(stderr.lines) is access

    def test_every_record_has_the_id_of_its_request(
        self, stderr: Configured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "current_request_id", lambda: "abc")
        stderr.set_up(dataclasses.replace(PLAIN, request_ids=True))
        logging.getLogger("app").warning("one")
        logging.getLogger("app").warning("two", extra={"request_id": "own"})
        lines = stderr.lines
        assert [line.rpartition(" ")[2] for line in lines] == ["id=abc", "id=own"]

    @pytest.mark.parametrize("text", ["{}", '{"disable_existing_loggers": true}'])
    def test_a_configuration_silences_no_logger_unless_it_says_so(
        self, stderr: Configured, tmp_path: Path, text: str
    ) -> None:
        path = tmp_path / "log.json"
        path.write_text(json.dumps({"version": 1} | json.loads(text)))
        stderr.set_up(dataclasses.replace(PLAIN, config=path))
        say("it serves")
        assert bool(stderr.lines) is (text == "{}")
