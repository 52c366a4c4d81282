"""The console: what the command says, and errors that are one line."""

import importlib
import logging
import platform
import ssl

import click

from tako.tls.files import HINT


def version() -> str:
    """Return tako's version, and what of it runs compiled."""
    tako = importlib.import_module("tako")
    return f"{tako.__version__} ({tako.native.status()})"


def foundations() -> str:
    """Return the versions of what tako stands on: they decide about speed, too."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {ssl.OPENSSL_VERSION}"


_logger = logging.getLogger("tako")


class CliError(click.ClickException):
    """A mistake that the user can correct: one line on stderr, exit code 2.

    Attributes:
        details: lines to print before it: the traceback of what the app raised.
    """

    exit_code = 2

    def __init__(self, message: str, details: str = "") -> None:
        """Make an error with the line ``message``."""
        super().__init__(message)
        self.details = details


class RunError(CliError):
    """What the command was to do failed, by no mistake of the user: exit code 1."""

    exit_code = 1


def say(text: str, level: int = logging.INFO) -> None:
    """Log what the command does, in the format that the user has chosen."""
    _logger.log(level, "%s", text)


def say_failure(text: str) -> None:
    """Log an error as ``described`` has it: its details are the traceback."""
    details, _, line = text.rstrip().rpartition("\n")
    if _logger.isEnabledFor(logging.ERROR):
        message = line.removeprefix("tako: ")
        record = _logger.makeRecord(
            _logger.name, logging.ERROR, __file__, 0, message, (), None
        )
        record.exc_text = details or None
        _logger.handle(record)


def echo(text: str) -> None:
    """Print a line on stderr, before anything is logged."""
    click.echo(text, err=True)


def with_fix(text: str) -> str:
    """Return an error's text with the command that helps instead of the script."""
    return text.replace(HINT, "make one with: tako certs make")


def described(error: click.ClickException) -> str:
    """Return what to print for an error: its details, and its one line."""
    line = f"tako: {one_line(error.format_message())}"
    details = error.details if isinstance(error, CliError) else ""
    return f"{details.rstrip()}\n{line}" if details else line


def one_line(text: str) -> str:
    """Return ``text`` as one line; of a traceback, the line with the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Traceback"):
        return lines[-1]
    return " ".join(lines)
