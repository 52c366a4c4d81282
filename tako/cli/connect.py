"""``tako connect``: its options."""

import logging
import ssl
import sys
from typing import Any

import click

from tako import runtime
from tako.cli.console import CliError, RunError
from tako.cli.options import (
    NONE,
    Decorator,
    GroupedCommand,
    group,
    name_and_value,
    seconds_of,
)
from tako.cli.talk import CLOSE_TIMEOUT, Talk
from tako.client import Connect, connect
from tako.client.settings import HttpVersion
from tako.core.log_lines import one_line
from tako.errors import ConfigError, ConnectError, HandshakeRejected, TlsError
from tako.tls.replace import user_folder


_WIRES: dict[str | None, tuple[HttpVersion, ...]] = {"h1": ("1.1",), "h2": ("2",)}
_BODY_SHOWN = 200  # bytes of a refusal


def _option(flag: str, metavar: str, text: str, **more: Any) -> Decorator:
    return click.option(flag, metavar=metavar, help=text, **more)


def _flag(flag: str, text: str, *short: str) -> Decorator:
    return click.option(*short, flag, is_flag=True, help=text)


@click.command(name="connect", cls=GroupedCommand)
@click.argument("url")
@group("Connection")
@click.option(
    "--wire",
    type=click.Choice(("h1", "h2")),
    help="Only HTTP/1.1, or only HTTP/2. [default: HTTP/2 where the server has it]",
)
@_option(
    "--proxy",
    "URL",
    "http://, https://, socks5:// or socks5h://host:port; none: none. "
    "[default: that of the environment]",
)
@_option(
    "--open-timeout",
    "SECONDS",
    "For all until the WebSocket is open; none: no limit.",
    default="10",
    show_default=True,
)
@_flag("--reconnect", "Connect again when the server ends it, or cannot be reached.")
@group("TLS")
@_option(
    "--ca",
    "FILE",
    "Authorities in PEM to trust instead of the system's.",
)
@_flag("--insecure", "Trust every certificate; for tests.", "-k")
@_option("--cert", "FILE", "Certificate to show, in PEM.")
@_option("--key", "FILE", "Its key. [default: in the file of --cert]")
@_option("--server-name", "NAME", "Whose certificate to expect. [default: the host's]")
@group("Handshake")
@click.option(
    "-H",
    "--header",
    metavar="NAME:VALUE",
    multiple=True,
    help="A field of the request; may be repeated.",
)
@_option(
    "--subprotocol", "NAME", "A subprotocol to offer; may be repeated.", multiple=True
)
@_option("--origin", "ORIGIN", "The value of Origin. [default: none]")
@click.option(
    "--compression/--no-compression",
    default=True,
    help="Offer permessage-deflate. [default: on]",
)
@group("Messages")
@_option(
    "--wait",
    "SECONDS",
    "From the end of stdin to the Close; none: until the server closes. "
    "[default: 1, at a terminal 0]",
)
@_option(
    "--max-size",
    "NUMBER",
    "Bytes of the largest message.",
    type=click.IntRange(min=1),
    default=1 << 24,
    show_default=True,
)
@_flag("--quiet", "Say nothing but errors on stderr.", "-q")
@_flag("--verbose", "Say more on stderr.", "-v")
@group("Process")
@click.option(
    "--runtime",
    type=click.Choice(("asyncio", "trio")),
    default="asyncio",
    show_default=True,
    help="The event loop.",
)
def connect_command(**options: Any) -> int:
    """Open a WebSocket: each line of stdin is a message, each message a line of stdout.

    URL begins with wss://, ws:// or ws+unix:. What is said of the connection goes to
    stderr. In a pipe text is as it is, a binary message is data:;base64, and its bytes
    in base64. At a terminal JSON is indented; /ping measures the latency, /close CODE
    REASON closes, Ctrl-D closes with 1000, Ctrl-C with 1001.

    Exit status: 0 if it was closed in order (1000, 1001 or without a code), 1 if not, 2
    for a mistake in the options, 130 after Ctrl-C.
    """
    _set_up_logs(quiet=options["quiet"], verbose=options["verbose"])
    typed = sys.stdin is not None and sys.stdin.isatty()
    shown = sys.stdout is not None and sys.stdout.isatty()
    wait = _wait_of(options["wait"] or ("0" if typed else "1"))
    talk = Talk(
        _connect(options),
        reconnect=options["reconnect"],
        wait=wait,
        typed=typed,
        shown=shown,
    )
    try:
        code: int = runtime.run(talk.run, runtime=options["runtime"])
    except ConnectError as error:
        raise RunError(described(error)) from error
    except RuntimeError as error:  # trio is not installed
        raise CliError(str(error)) from error
    return code


def _connect(options: dict[str, Any]) -> Connect:
    """Return what opens the WebSocket.

    Raises:
        CliError: the options cannot work.
    """
    proxy = options["proxy"]
    try:
        return connect(
            options["url"],
            subprotocols=options["subprotocol"],
            additional_headers=[_field(each) for each in options["header"]],
            origin=options["origin"],
            ssl=_context(options),
            server_hostname=options["server_name"],
            open_timeout=seconds_of("--open-timeout", options["open_timeout"]),
            close_timeout=CLOSE_TIMEOUT,
            max_size=options["max_size"],
            compression="deflate" if options["compression"] else None,
            http_versions=_WIRES.get(options["wire"], ("2", "1.1")),
            proxy=True if proxy is None else None if proxy == NONE else proxy,
            proxy_ssl=tls_context(options, shows=False),
        )
    except ConfigError as error:
        raise CliError(str(error)) from error


def _context(options: dict[str, Any]) -> ssl.SSLContext | None:
    secure = options["url"].lower().startswith("wss")
    return tls_context(options, shows=True) if secure else None


def _field(text: str) -> tuple[str, str]:
    name, value = name_and_value("--header", text)
    return name.strip(), value.strip()


def tls_context(options: dict[str, Any], *, shows: bool) -> ssl.SSLContext | None:
    """Return what TLS needs; ``None``: what is so by default.

    Args:
        options: the options.
        shows: with the certificate of the client.

    Raises:
        CliError: a file cannot be used.
    """
    ca, cert, key = options["ca"], options["cert"] if shows else None, options["key"]
    if options["key"] is not None and options["cert"] is None:
        msg = "--key is that of --cert"
        raise CliError(msg)
    if ca is None and cert is None and not options["insecure"]:
        return None
    flag, file = "--ca", ca
    try:
        context = ssl.create_default_context(cafile=ca)
        if options["insecure"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if cert is not None:
            flag, file = "--cert", cert
            context.load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror if not isinstance(error, ssl.SSLError) else None
        msg = f"{flag} {file}: {reason or error.args[-1]}"
        raise CliError(msg) from error
    return context


def _wait_of(text: str) -> float | None:
    """Return what ``--wait`` says.

    Raises:
        CliError: it is no number of seconds.
    """
    return 0.0 if text == "0" else seconds_of("--wait", text)


def described(error: ConnectError) -> str:
    """Return what to say of a WebSocket that did not open."""
    text = str(error)
    if isinstance(error, HandshakeRejected) and error.body:
        body = error.body[:_BODY_SHOWN].decode("utf-8", "replace")
        text = f"{text}: {body.strip()}"
    own = user_folder() / "ca.pem"
    cause = error.__cause__
    if (
        isinstance(error, TlsError)
        and isinstance(cause, ssl.SSLCertVerificationError)
        and own.exists()
    ):
        text = f"{text}; to trust your own authority: --ca {own}"
    return one_line(text)


def _set_up_logs(*, quiet: bool, verbose: bool) -> None:
    """Have what is said, and what the client logs, go to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("tako: %(message)s"))
    logger = logging.getLogger("tako")
    logger.addHandler(handler)
    logger.setLevel(
        logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    )
