"""One log record is one line, whatever a peer has put into it.

What a peer chooses (the name of its Unix socket, a target, a server name) is kept as it
is everywhere, and escaped once, where a line is made of it: in the access log by
``AccessEntry``, elsewhere by a filter on the loggers of tako. Tracebacks, and what an
app says about its own start and end, have lines of their own.
"""

import json
import logging
import re


_LOGGERS = ("acme", "asgi", "router", "server", "tls", "ws")
_MOST = 2000  # characters of a message
_PLAIN = re.compile(r"[!#-\[\]-~]+")  # printable ASCII but space, quote and backslash


def one_word(text: str) -> str:
    """Return ``text`` so that it is one word of a line, whatever a client sent."""
    if _PLAIN.fullmatch(text):
        return text
    return json.dumps(text).replace(" ", r"\u0020")


def one_line(text: str) -> str:
    """Return ``text`` with everything escaped that does not print, cut if very long."""
    if len(text) > _MOST:
        text = f"{text[:_MOST]}... ({len(text)} characters)"
    if text.isprintable():
        return text
    # Controls (also ESC and what turns the direction of writing), line and paragraph
    # separators, and surrogates, which no stream can encode, do not
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )


def _escape(record: logging.LogRecord) -> bool:
    """Make a record's message one line; a filter that lets everything pass."""
    try:
        text = record.getMessage()
    except Exception:  # a bug in the call, which the handler reports
        return True
    shown = one_line(text)
    if shown is not text:
        record.msg, record.args = shown, None
    return True


def escape_in_logs() -> None:
    """Put the filter on the loggers of tako; once, when it is imported."""
    for name in _LOGGERS:
        logging.getLogger(f"tako.{name}").addFilter(_escape)
