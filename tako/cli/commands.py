"""``tako serve`` and ``tako certs``: the commands and their options."""

import logging
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tako.asgi import LifespanError
from tako.cli import certs, config_file
from tako.cli.config_file import ConfigFile
from tako.cli.console import CliError, described, one_line, say, version, with_fix
from tako.cli.listeners import keep_from_children
from tako.cli.options import Decorator, ListOption, config_options, envvar
from tako.cli.plan import Plan, read_plan
from tako.cli.reload import watched
from tako.cli.serve import check, serve_here
from tako.cli.supervisor import supervise
from tako.cli.worker import Worker
from tako.errors import TakoError, TlsConfigError
from tako.tls import dev


_FLAG = re.compile(r"--([a-z0-9-]+)")
_FROM_FILE = ParameterSource.DEFAULT_MAP
_CONTEXT = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}


def run(arguments: list[str]) -> int:
    """Run the command; return its exit code. Errors are one line on stderr."""
    try:
        result = _group.main(arguments, prog_name="tako", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return 2
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "tako"
        text = one_line(error.format_message())
        if error.ctx and isinstance(error, click.BadParameter) and error.param:
            text = _placed(error.ctx, text, (config_file.named(error.param),))
        say(f"tako: {text} (see {path} --help)")
        return 2
    except click.ClickException as error:
        say(described(error))
        return error.exit_code
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0


@click.group(name="tako", context_settings=_CONTEXT)
@click.version_option(version(), message="%(prog)s %(version)s")
def _group() -> None:
    """HTTP/1.1 and HTTP/2 with WebSockets on both, for tako routers and ASGI apps."""


def _choice(flag: str, values: tuple[str, ...], text: str) -> Decorator:
    return click.option(
        flag,
        type=click.Choice(values),
        default=values[0],
        show_default=True,
        envvar=envvar(flag),
        help=text,
    )


def _text(flag: str, metavar: str, text: str, **more: Any) -> Decorator:
    more.setdefault("envvar", envvar(flag))
    return click.option(flag, metavar=metavar, help=text, **more)


def _flag(flag: str, text: str, *short: str) -> Decorator:
    return click.option(*short, flag, is_flag=True, envvar=envvar(flag), help=text)


def _read_file(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Let click look into a file for what is not given otherwise."""
    own = [
        each
        for each in context.command.params
        if each.name not in config_file.NOT_IN_FILES
    ]
    context.obj = config_file.read(path, own)
    if context.obj is not None:
        context.default_map = dict(context.obj.values)


@_group.command(name="serve")
@click.argument("target", metavar="MODULE:ATTR", envvar="TAKO_TARGET")
@_text(
    "--bind",
    "ADDRESS",
    "host:port, unix:/path or fd://number; may be repeated. "
    "[default: 127.0.0.1:8443, with --plain and --h2c 127.0.0.1:8000]",
    multiple=True,
)
@_text(
    "--cert",
    "FILE",
    "Certificate chain in PEM; may be repeated: the names in it decide.",
    multiple=True,
)
@_text("--key", "FILE", "Private key in PEM, one for each --cert.", multiple=True)
@_text(
    "--key-password-file",
    "FILE",
    "Opens keys that are encrypted. [default: the variable TAKO_KEY_PASSWORD]",
)
@_text(
    "--client-ca",
    "FILE",
    "Authorities in PEM that sign clients' certificates; may be repeated.",
    multiple=True,
)
@click.option(
    "--client-cert",
    type=click.Choice(("none", "optional", "required")),
    envvar=envvar("--client-cert"),
    help="Whether clients show one. [default: required with --client-ca, or none]",
)
@_flag("--dev-cert", "Use a certificate of a local authority, made where needed.")
@_flag("--plain", "Serve HTTP/1.1 without TLS.")
@_flag("--h2c", "Serve HTTP/2 without TLS, to clients with prior knowledge.")
@_text("--workers", "NUMBER", "Processes that share the addresses.", type=int)
@_choice("--runtime", ("asyncio", "trio"), "What handlers run on.")
@_choice("--loop", ("auto", "uvloop", "asyncio"), "The event loop of asyncio.")
@_flag("--reload", "Start again when a Python file changes.")
@_text(
    "--reload-dir",
    "FOLDER",
    "Folder to watch; may be repeated. [default: --app-dir]",
    multiple=True,
)
@_text("--app-dir", "FOLDER", "Where modules are looked for first.", default=".")
@_choice(
    "--lifespan", ("auto", "on", "off"), "ASGI: whether to run the app's lifespan."
)
@_text("--root-path", "PREFIX", "ASGI: the prefix that a proxy removes.", default="")
@click.option(
    "--websockets/--no-websockets",
    default=True,
    envvar="TAKO_WEBSOCKETS",
    help="ASGI: whether the app takes WebSockets. [default: on]",
)
@_flag("--compression", "ASGI: compress WebSocket messages (permessage-deflate).")
@_text(
    "--ws-max-message-size",
    "NUMBER",
    "ASGI: largest WebSocket message, in bytes.  [default: 16777216]",
    type=click.IntRange(min=1),
)
@_text(
    "--allowed-origins",
    "LIST",
    "ASGI: origins whose pages may open WebSockets; others get 403. [default: any]",
    cls=ListOption,
)
@_text("--uds-mode", "OCTAL", "Permissions of Unix sockets. [default: the umask's]")
@_text(
    "--backlog",
    "NUMBER",
    "Connections that wait in the kernel, at each address.",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
)
@_text(
    "--proxy-protocol",
    "LIST",
    "Proxies that begin every connection with a PROXY header: addresses, "
    "networks, unix, or * for all peers. Others are refused. [default: none]",
    cls=ListOption,
)
@_flag("--access-log", "Log a line for each request, as tako.access.")
@_text("--log-config", "FILE", "Logging configuration: .json, .toml or .ini.")
@_choice(
    "--log-level", ("warning", "debug", "info", "error", "critical"), "How much to log."
)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar=envvar("--config"),
    is_eager=True,
    expose_value=False,
    callback=_read_file,
    help="Options as TOML. [default: tako.toml, or [tool.tako] in pyproject.toml]",
)
@click.option("--check", is_flag=True, help="See that all can be used; serve nothing.")
@click.option(
    "--print-config",
    is_flag=True,
    help="Print each value, and where it came from; serve nothing.",
)
@_flag("--verbose", "Name the versions of Python and OpenSSL at the start.", "-v")
@config_options
def _serve(**options: Any) -> int:
    """Serve a tako Router, an ASGI app, or what a function without arguments returns.

    Every option can be given as an environment variable, TAKO_ and its name, or in a
    file. The command line comes first, then the environment, then the file.
    """
    context = click.get_current_context()
    to_check, to_print = options.pop("check"), options.pop("print_config")
    with _explained(context):
        plan = read_plan(options)
        if to_print:
            chosen = {
                "bind": plan.binds,
                "cert": tuple(cert for cert, _ in plan.certs),
                "key": tuple(key for _, key in plan.certs),
                "workers": plan.workers,
            }
            click.echo(config_file.written(context, chosen))
        if to_check:
            say(f"tako: {plan.target} ({check(plan)}) can be served")
    if to_check or to_print:
        return 0
    worker = Worker.from_environment()
    if worker is not None:
        return _work(context, plan, worker)
    keep_from_children(plan.binds)
    if plan.workers > 1 or plan.reload_folders:
        return supervise(plan, watched(plan.reload_folders))
    return _serve_here(context, plan, None)


def _work(context: click.Context, plan: Plan, worker: Worker) -> int:
    """Serve as a worker; its supervisor prints what goes wrong at the start."""
    try:
        return _serve_here(context, plan, worker)
    except CliError as error:
        if not worker.tell_failure(described(error)):
            raise
        return error.exit_code


def _serve_here(context: click.Context, plan: Plan, worker: Worker | None) -> int:
    try:
        with _explained(context):
            serve_here(plan, worker)
    except KeyboardInterrupt:
        return 130
    return 0


@contextmanager
def _explained(context: click.Context) -> Generator[None, None, None]:
    """Make what goes wrong at the start one line, with its place in the file."""
    try:
        yield
    except CliError as error:
        text = _placed(context, error.message, _FLAG.findall(error.message))
        raise CliError(text, error.details) from error
    except (TakoError, OSError) as error:
        logging.getLogger("tako.cli").debug("startup failed", exc_info=error)
        reason = getattr(error, "strerror", None) or str(error)
        text = with_fix(one_line(reason))
        if isinstance(error, LifespanError):
            text = f"the startup of {context.params['target']} failed: {text}"
        names = ("cert", "key") if isinstance(error, TlsConfigError) else ()
        raise CliError(_placed(context, text, names)) from error


def _placed(context: click.Context, text: str, options: Iterable[str]) -> str:
    """Put before an error the place in the file of the first option that it has."""
    found = context.obj
    if isinstance(found, ConfigFile):
        for each in context.command.params:
            from_file = context.get_parameter_source(each.name or "") is _FROM_FILE
            if from_file and config_file.named(each) in options:
                return f"{found.place(each.name or '')}: {text}"
    return text


@_group.group(name="certs")
def _certs() -> None:
    """Make and look at certificates."""


@_certs.command(name="make")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--out", default="certs", show_default=True, help="Folder for cert.pem and key.pem."
)
def _certs_make(names: tuple[str, ...], out: str) -> None:
    """Make a certificate for NAMEs (localhost), signed by this user's own authority."""
    authority = certs.make(Path(out), names or dev.NAMES)
    click.echo(f"{Path(out) / 'cert.pem'}: {certs.facts(Path(out) / 'cert.pem')[0]}")
    click.echo(f"{Path(out) / 'key.pem'}: its key; keep it secret")
    click.echo(f"{authority}: the authority; to trust it on this machine:")
    click.echo(f"  {certs.trust_line(authority)}")


@_certs.command(name="show")
@click.argument("file", type=click.Path(path_type=Path))
def _certs_show(file: Path) -> None:
    """Print what is in a PEM file: names, issuer, key, expiry."""
    for number, cert in enumerate(certs.facts(file), 1):
        click.echo(f"{number}. {cert}")
        click.echo(f"   {cert.key} key, signed by {cert.issuer}")
