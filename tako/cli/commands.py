"""The commands; ``tako serve`` and ``tako certs`` with their options."""

import logging
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tako.asgi import LifespanError
from tako.cli import certs, config_file, trust
from tako.cli.config_file import ConfigFile
from tako.cli.connect import connect_command
from tako.cli.console import CliError, described, echo, one_line, version, with_fix
from tako.cli.listeners import keep_from_children
from tako.cli.options import (
    Decorator,
    GroupedCommand,
    Lines,
    ListOption,
    SecondsOption,
    config_options,
    envvar,
    group,
)
from tako.cli.plan import Plan, read_plan
from tako.cli.reload import watched
from tako.cli.serve import check, serve_here
from tako.cli.service_manager import ServiceManager
from tako.cli.supervisor import supervise
from tako.cli.top import top_command
from tako.cli.worker import Worker
from tako.errors import TakoError, TlsConfigError
from tako.tls import dev
from tako.tls.acme import default_folder


_FLAG = re.compile(r"--([a-z0-9-]+)")
_FROM_FILE = ParameterSource.DEFAULT_MAP
_CONTEXT = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}


def run(arguments: list[str]) -> int:
    """Run the command; return its exit code. Errors are one line on stderr."""
    try:
        result = root.main(arguments, prog_name="tako", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        echo(error.format_message())
        return 2
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "tako"
        text = one_line(error.format_message())
        if error.ctx and isinstance(error, click.BadParameter) and error.param:
            text = _placed(error.ctx, text, (config_file.named(error.param),))
        echo(f"tako: {text} (see {path} --help)")
        return 2
    except click.ClickException as error:
        echo(described(error))
        return error.exit_code
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0


@click.group(name="tako", context_settings=_CONTEXT)
@click.version_option(version(), message="%(prog)s %(version)s")
def root() -> None:
    """HTTP/1.1 and HTTP/2 with WebSockets on both, for tako routers and ASGI apps."""


root.add_command(connect_command)
root.add_command(top_command)


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


@root.command(name="serve", cls=GroupedCommand)
@click.argument("target", metavar="MODULE:ATTR", envvar="TAKO_TARGET")
@group("Addresses and certificates")
@_text(
    "--bind",
    "ADDRESS",
    "host:port, unix:/path or fd://number; may be repeated. "
    "[default: 127.0.0.1:8443, with --acme :443, with --plain and --h2c "
    "127.0.0.1:8000]",
    multiple=True,
)
@_text(
    "--bind-plain",
    "ADDRESS",
    "Address for HTTP/1.1 without TLS, beside those of --bind; may be repeated.",
    multiple=True,
)
@_text(
    "--metrics-bind",
    "ADDRESS",
    "Address at which Prometheus finds the metrics, as /metrics, without TLS; may be "
    "repeated.",
    multiple=True,
)
@_flag("--redirect-http", "Redirect every request to --bind-plain to https.")
@_text(
    "--https-port",
    "NUMBER",
    "The port in redirects. [default: that of the first --bind]",
    type=click.IntRange(1, 65535),
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
@_text(
    "--acme",
    "NAME",
    "Order a certificate for this name, and renew it; may be repeated, for one "
    "certificate. By this you agree to the authority's terms.",
    multiple=True,
)
@_text("--acme-email", "ADDRESS", "Where the authority may write to.")
@_text(
    "--acme-directory",
    "URL",
    "The authority's directory. [default: that of Let's Encrypt]",
)
@_flag("--acme-staging", "Let's Encrypt's authority for attempts: try it first.")
@_text(
    "--acme-dir",
    "FOLDER",
    "Where keys and certificates are kept. [default: acme in systemd's state "
    "directory, or in this user's folder for tako]",
)
@_flag("--plain", "Serve HTTP/1.1 without TLS.")
@_flag("--h2c", "Serve HTTP/2 without TLS, to clients with prior knowledge.")
@_text("--uds-mode", "OCTAL", "Permissions of Unix sockets. [default: the umask's]")
@_text(
    "--backlog",
    "NUMBER",
    "Connections that wait in the kernel, at each address.",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
)
@group("Processes")
@_text("--workers", "NUMBER", "Processes that share the addresses.", type=int)
@_text(
    "--worker-timeout",
    "SECONDS",
    "Of several workers, replace one that does not answer for so long; none: never.",
    cls=SecondsOption,
    default="30",
    show_default=True,
)
@_text(
    "--max-requests",
    "NUMBER",
    "Replace a worker after so many; a WebSocket counts as one. [default: never]",
    type=click.IntRange(min=1),
)
@_text(
    "--max-requests-jitter",
    "NUMBER",
    "So many more at most, so that workers are not all replaced at once.",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
)
@_text(
    "--max-worker-rss",
    "MIB",
    "Replace a worker that has more memory. [default: never]",
    type=click.IntRange(min=1),
)
@_choice("--runtime", ("asyncio", "trio"), "What handlers run on.")
@_choice("--loop", ("auto", "uvloop", "asyncio"), "The event loop of asyncio.")
@_flag("--reload", "Start again when a Python file changes.")
@_text(
    "--reload-dir",
    "FOLDER",
    "Folder to watch; may be repeated. [default: --app-dir]",
    multiple=True,
)
@_text(
    "--reload-include",
    "PATTERN",
    "Files to watch beside *.py, as in *.html; may be repeated.",
    multiple=True,
)
@_text(
    "--reload-exclude",
    "PATTERN",
    "Files not to watch, as in *_test.py or generated/*; may be repeated.",
    multiple=True,
)
@_text("--app-dir", "FOLDER", "Where modules are looked for first.", default=".")
@group("Inspector")
@_flag("--inspect", "Serve a page that shows the server live, at a URL with a token.")
@_text(
    "--inspect-bind",
    "ADDRESS",
    "Its address, which only this machine can reach; as --inspect. "
    "[default: 127.0.0.1:8555]",
)
@group("ASGI")
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
@group("Behind a proxy")
@_text(
    "--proxy-protocol",
    "LIST",
    "Proxies that begin every connection with a PROXY header: addresses, "
    "networks, unix, or * for all peers. Others are refused. [default: none]",
    cls=ListOption,
)
@group("Requests and responses")
@_text(
    "--header",
    "NAME:VALUE",
    "A field for every response that does not have it; may be repeated. "
    "Variable: one on each line.",
    multiple=True,
    type=Lines(),
)
@_text(
    "--allowed-hosts",
    "LIST",
    "Hosts that are served: names, or *.example.com; others get 421. [default: any]",
    cls=ListOption,
)
@_text(
    "--request-id",
    "NAME",
    "Give each request an id: this field of it and of its response, and in its log "
    "lines. x-request-id is usual. [default: none]",
)
@_flag("--request-id-trust", "Take ids that clients send: a proxy sets the field.")
@_flag("--otel", "OpenTelemetry: a span for each request and WebSocket, and meters.")
@group("Logging")
@click.option(
    "--access-log/--no-access-log",
    default=None,
    envvar=envvar("--access-log"),
    help="Log a line for each request, as tako.access. "
    "[default: on at a terminal and with --reload]",
)
@_text(
    "--access-log-format",
    "FORMAT",
    "What such a line is: '{peer} {method} {target} {status} {seconds:.3f}', say, or "
    "common or combined. The documentation on logs lists the fields.",
)
@_choice("--log-format", ("text", "json"), "What a line looks like.")
@_choice(
    "--log-level", ("info", "debug", "warning", "error", "critical"), "How much to log."
)
@_text("--log-config", "FILE", "Logging configuration: .json, .toml or .ini.")
@_flag("--verbose", "Name the versions of Python and OpenSSL at the start.", "-v")
@group("Configuration")
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
                "access_log": plan.logs.access,
            }
            click.echo(config_file.written(context, chosen))
        if to_check:
            echo(f"tako: {plan.target} ({check(plan)}) can be served")
    if to_check or to_print:
        return 0
    manager = ServiceManager.from_environment()
    worker = Worker.from_environment()
    if worker is not None:
        return _work(context, plan, manager, worker)
    keep_from_children((*plan.binds, *plan.plain_binds, *plan.metrics_binds))
    if plan.supervised:
        watch = watched(plan.reload_folders, plan.reload_include, plan.reload_exclude)
        return supervise(plan, watch, manager)
    return _serve_here(context, plan, manager, None)


def _work(
    context: click.Context, plan: Plan, manager: ServiceManager, worker: Worker
) -> int:
    """Serve as a worker; its supervisor prints what goes wrong at the start."""
    try:
        return _serve_here(context, plan, manager, worker)
    except CliError as error:
        if not worker.tell_failure(described(error)):
            raise
        return error.exit_code


def _serve_here(
    context: click.Context, plan: Plan, manager: ServiceManager, worker: Worker | None
) -> int:
    try:
        with _explained(context):
            serve_here(plan, manager, worker)
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
        logging.getLogger("tako").debug("startup failed", exc_info=error)
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


@root.group(name="certs", invoke_without_command=True)
@_text(
    "--acme-dir",
    "FOLDER",
    "Where certificates are that were ordered. [default: as tako serve has it]",
    type=click.Path(path_type=Path),
)
@click.pass_context
def _certs(context: click.Context, acme_dir: Path | None) -> None:
    """Make, show, renew and trust certificates.

    Alone it shows those that tako keeps: names, expiry, where.
    """
    context.obj = acme_dir or default_folder()
    if context.invoked_subcommand is None:
        _show_kept(context.obj)


def _show_kept(acme_folder: Path) -> None:
    authority = certs.authority()
    if authority is not None:
        click.echo(f"{authority}: the local authority; {certs.facts(authority)[0]}")
    found = certs.kept(acme_folder)
    for path in found:
        click.echo(f"{path}: {certs.facts(path)[0]}")
    if not found:
        click.echo("tako keeps no certificates: tako serve --dev-cert makes one")


@_certs.command(name="renew")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.pass_obj
def _certs_renew(acme_folder: Path, names: tuple[str, ...]) -> None:
    """Renew the certificate for this machine, or those ordered for NAMEs.

    The server that keeps an ordered one does so within a minute; what failed before is
    forgotten, so that it is tried at once. NAME is the first of a certificate's names.
    """
    if not names:
        certs.renew_dev_cert()
        path = certs.kept(acme_folder)[0]
        click.echo(f"{path}: {certs.facts(path)[0]}")
    for name in names:
        path = certs.renew_ordered(acme_folder, name)
        click.echo(f"{path}: its server renews it within a minute")


@_certs.command(name="trust")
@click.option(
    "--store",
    type=click.Choice(("browsers", "system")),
    help="Only this kind. [default: both]",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def _certs_trust(store: trust.Store | None, *, yes: bool) -> None:
    """Have this machine and its browsers trust the local authority.

    Says first what it does, and asks. Who has the authority's key can then pretend to
    be any site: it is in this user's folder, and can be read by this user alone.
    """
    authority = certs.authority()
    if authority is None:
        msg = "there is no local authority yet: tako serve --dev-cert makes one"
        raise CliError(msg)
    click.echo(f"{authority} will be trusted by")
    ways = trust.ways(authority, store)
    for way in ways:
        click.echo(f"  {way}")
    to_take = [way for way in ways if way.commands]
    if to_take and (yes or click.confirm("Run these commands?")):
        for way in to_take:
            way.take()
            click.echo(f"{way.who}: done; start it anew")


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
    click.echo(f"{authority}: the authority")
    for line in trust.shown(authority):
        click.echo(line)


@_certs.command(name="show")
@click.argument("file", type=click.Path(path_type=Path))
def _certs_show(file: Path) -> None:
    """Print what is in a PEM file: names, issuer, key, expiry."""
    for number, cert in enumerate(certs.facts(file), 1):
        click.echo(f"{number}. {cert}")
        click.echo(f"   {cert.key} key, signed by {cert.issuer}")
