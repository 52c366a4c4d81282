"""What a peer chose ends no line of a log, and begins none of its own."""

import logging
from typing import Any

import pytest

from tako import AccessEntry, OtherPeer, UnixPeer, WebSocketCounts
from tako.core.log_lines import one_line


NASTY = [
    "a\nb",
    "a\r\nb",
    "\x1b[2J\x1b[31mred",
    "\x00\x07\x7f",
    "\x85\x9b31m",  # NEL, and CSI in one character
    "a\u2028b\u2029c",
    "\u202egnp.exe",  # turns the direction of writing
    "\udcff\ud800",  # undecodable bytes, lone surrogates
    '" 200 "',
    "back\\slash",
]


@pytest.fixture(params=["server", "ws", "asgi", "tls", "router"])
def logger(request: pytest.FixtureRequest) -> logging.Logger:
    return logging.getLogger(f"tako.{request.param}")


class TestMessages:
    @pytest.mark.parametrize("text", NASTY)
    def test_each_is_one_line_that_any_stream_takes(
        self, logger: logging.Logger, caplog: pytest.LogCaptureFixture, text: str
    ) -> None:
        for value in (text, UnixPeer(text), OtherPeer(text), OSError(text)):
            logger.error("TLS error from %s: %r", value, "end")
        assert len(caplog.records) == 4
        for record in caplog.records:
            message = record.getMessage()
            assert message.isprintable()
            assert message.encode("utf-8")
            assert message.endswith("'end'")

    def test_what_is_harmless_stays_as_it_is(
        self, logger: logging.Logger, caplog: pytest.LogCaptureFixture
    ) -> None:
        logger.error("from %s in %d s", UnixPeer("/run/größe"), 3)
        (record,) = caplog.records
        assert record.getMessage() == "from /run/größe in 3 s"
        assert record.args == (UnixPeer("/run/größe"), 3)

    def test_a_very_long_one_is_cut(
        self, logger: logging.Logger, caplog: pytest.LogCaptureFixture
    ) -> None:
        logger.error("no certificate for %s", "x" * 65_535)
        assert len(caplog.records[0].getMessage()) < 2100
        assert "(65554 characters)" in caplog.text

    def test_a_message_that_cannot_be_made_is_the_handlers_to_report(
        self, logger: logging.Logger, caplog: pytest.LogCaptureFixture
    ) -> None:
        logger.addHandler(handler := _Raw())
        try:
            logger.propagate = False
            logger.error("%d", "no number")
        finally:
            logger.propagate = True
            logger.removeHandler(handler)
        assert handler.messages == ["%d"]

    def test_it_is_escaped_once(self) -> None:
        assert one_line("a\nb") == r"a\nb"
        assert one_line(one_line("\x1b\udcff")) == r"\x1b\udcff"


class _Raw(logging.Handler):
    """Keeps messages as they were given."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.msg)


class TestTheAccessLog:
    @pytest.mark.parametrize("text", [*NASTY, "", "two words", "a=b id=c"])
    @pytest.mark.parametrize("field", ["peer", "method", "target", "request_id"])
    def test_each_field_is_one_word(self, field: str, text: str) -> None:
        fields: dict[str, Any] = {
            "peer": "p",
            "method": "GET",
            "target": "/",
            "request_id": "i",
        }
        fields[field] = text
        for counts in (None, WebSocketCounts()):
            entry = AccessEntry(
                http_version="1.1",
                status=200,
                bytes_sent=1,
                complete=True,
                seconds=0.5,
                websocket=counts,
                **fields,
            )
            line = str(entry)
            assert line.isascii()
            assert line.isprintable()
            words = line.split(" ")
            assert len(words) == (8 if counts is None else 10)
            assert words[3:5] == ["HTTP/1.1", "status=200"]
            assert getattr(entry, field) == text  # kept as it was sent
