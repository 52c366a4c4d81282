"""What the command tells people: lines on stderr, and errors that are one line."""

import importlib

import click

from tako.tls_files import HINT


def version() -> str:
    """Return tako's version."""
    return str(importlib.import_module("tako").__version__)


class CliError(click.ClickException):
    """A mistake that the person at the keyboard can put right; one line, code 2."""

    exit_code = 2


def say(text: str) -> None:
    """Print a line on stderr."""
    click.echo(text, err=True)


def with_fix(text: str) -> str:
    """Return an error's text with what the command has against it."""
    return text.replace(HINT, "make one with: tako certs make")


def one_line(text: str) -> str:
    """Return ``text`` as one line; of a traceback, the line with the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Traceback"):
        return lines[-1]
    return " ".join(lines)
