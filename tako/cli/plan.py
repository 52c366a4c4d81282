"""``Plan``: what the options of ``tako serve`` ask for, checked."""

import importlib
import importlib.util
import ipaddress
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from tako.asgi import AsgiApp
from tako.cli import certs
from tako.cli.console import CliError, one_line
from tako.cli.logs import Logs
from tako.cli.options import (
    NONE,
    as_option,
    listed,
    make_config,
    name_and_value,
    seconds_of,
)
from tako.config import ServerConfig
from tako.errors import ConfigError, TakoError, TlsConfigError
from tako.http.grammar import is_field_value
from tako.http.headers import Headers
from tako.http.response_fields import OF_THE_SERVER
from tako.inspect.inspector import ADDRESS
from tako.proxy.policy import ProxyPolicy
from tako.routing.access_format import AccessFormat
from tako.routing.allowed_hosts import Hosts
from tako.server.listener import split_address
from tako.server.service import HANDOVER
from tako.tls.acme import LETS_ENCRYPT, LETS_ENCRYPT_STAGING, Acme
from tako.tls.certificates import (
    ClientAuth,
    ReloadableResolver,
    TlsCert,
    TlsLike,
    as_cert,
)
from tako.ws.options import Deflate


Wire: TypeAlias = Literal["tls", "plain", "h2c"]

_NO_CERT = (
    "no certificate: give --cert and --key, or --dev-cert for this machine, "
    "or --acme NAME to order one, or --plain to do without TLS"
)

_OPENS_KEYS = "TAKO_KEY_PASSWORD"
"""A variable, and no option: other users see the command lines of this machine."""

MOST_WORKERS = 512
"""Processes; TTIN stops there, too."""

_LEAST_TIMEOUT = 1.0  # seconds: a worker beats four times in one

_OF_HANDSHAKES = frozenset(
    b"sec-websocket-" + each
    for each in (b"accept", b"extensions", b"key", b"protocol", b"version")
) | {b"host", b"te", b"trailer"}
"""Fields that a server or a client sends where its protocol says so."""

_CANCELLED = 5.0  # seconds for tasks that are cancelled at the end of a drain


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to serve, and how.

    Attributes:
        target: ``module:attribute``.
        binds: addresses.
        plain_binds: addresses for HTTP/1.1 without TLS beside them.
        metrics_binds: addresses at which Prometheus finds the metrics.
        inspect_binds: the address of the inspector; empty: there is none.
        https_redirect: whether every request there is redirected; a number: the port
            to redirect to, if it is not that of the first of ``binds``.
        wire: what is spoken there.
        certs: the files of each certificate and its key; empty without TLS. The first
            is for clients that ask for no name, or for a name that none of them has.
        dev_cert: whether they are from the local authority.
        acme: what is ordered in their place; ``None``: nothing.
        password: opens the keys that are encrypted.
        client_auth: whether clients have to show a certificate.
        config: timeouts and limits.
        proxy: which peers send PROXY headers; ``None``: none does.
        workers: processes.
        worker_timeout: seconds after which a worker that does not answer is replaced;
            ``None``: never.
        max_requests: after how many a worker is replaced; ``None``: never.
        max_requests_jitter: how many more of them at most; each worker draws.
        max_worker_rss: MiB of memory above which a worker is replaced; ``None``: never.
        reload_folders: what to watch for changes; empty: nothing.
        reload_include: patterns of files that count beside Python's.
        reload_exclude: patterns of files that do not count.
        app_folder: where modules are looked for.
        runtime: ``asyncio`` or ``trio``.
        loop: for asyncio.
        backlog: connections that the kernel keeps for each address.
        unix_mode: the permissions of Unix sockets' files; ``None``: the umask's.
        fields: for responses that do not have them.
        allowed_hosts: names of hosts, and wildcards; ``None``: any.
        request_id: the field that carries the id of a request; ``None``: it has none.
        trust_id: whether clients' ids are taken.
        otel: whether there are spans for OpenTelemetry.
        logs: how to log.
        verbose: whether to name the versions of Python and OpenSSL at the start.
        asgi: arguments for ``AsgiApp``.
    """

    target: str
    binds: tuple[str, ...]
    plain_binds: tuple[str, ...]
    metrics_binds: tuple[str, ...]
    inspect_binds: tuple[str, ...]
    https_redirect: bool | int
    wire: Wire
    certs: tuple[tuple[Path, Path], ...]
    dev_cert: bool
    acme: Acme | None
    password: str | None
    client_auth: ClientAuth | None
    config: ServerConfig
    proxy: ProxyPolicy | None
    workers: int
    worker_timeout: float | None
    max_requests: int | None
    max_requests_jitter: int
    max_worker_rss: int | None
    reload_folders: tuple[Path, ...]
    reload_include: tuple[str, ...]
    reload_exclude: tuple[str, ...]
    app_folder: Path
    runtime: str
    loop: str
    backlog: int
    unix_mode: int | None
    fields: Headers
    allowed_hosts: tuple[str, ...] | None
    request_id: str | None
    trust_id: bool
    otel: bool
    logs: Logs
    verbose: bool
    asgi: dict[str, Any]

    @property
    def supervised(self) -> bool:
        """Whether there is a supervisor, which replaces workers."""
        wears_out = self.max_requests is not None or self.max_worker_rss is not None
        return self.workers > 1 or bool(self.reload_folders) or wears_out

    @property
    def stop_limit(self) -> float:
        """Seconds from a signal until a process that still runs is ended by force.

        Those of the drain and of what is in front of it, and some more for tasks that
        are cancelled at its end.
        """
        delay = max(self.config.drain_delay or 0.0, HANDOVER)
        return delay + self.config.drain_timeout + _CANCELLED

    def resolvers(self) -> list[ReloadableResolver]:
        """Load the certificates.

        Raises:
            TlsConfigError: one of them cannot be used.
        """
        return [
            ReloadableResolver.from_pem(*files, password=self.password)
            for files in self.certs
        ]

    def tls(self, resolvers: Sequence[ReloadableResolver]) -> TlsCert | None:
        """Return what serves the certificates; ``None`` without any.

        Of several, the names that are in them now decide.

        Raises:
            CliError: a name is none that a client can ask for.
        """
        if self.acme is not None:
            return as_cert(self.acme)
        auth = self.client_auth
        made = [TlsCert.resolver(each, client_auth=auth) for each in resolvers]
        if len(made) < 2:
            return made[0] if made else None
        names: dict[str, TlsLike] = {}
        for (path, _), cert in zip(self.certs, made, strict=True):
            for name in certs.host_names(path):
                names.setdefault(name, cert)
        try:
            return TlsCert.sni(names, made[0], client_auth=auth)
        except TlsConfigError as error:
            msg = f"--cert: {error}"
            raise CliError(msg) from error

    def wrap(self, app: Any) -> AsgiApp:
        """Return an ASGI app as a handler.

        Raises:
            CliError: an option for it cannot work.
        """
        try:
            return AsgiApp(app, **self.asgi)
        except TakoError as error:
            raise CliError(as_option(str(error), self.asgi)) from error


def read_plan(options: dict[str, Any]) -> Plan:
    """Return what the options ask for; ``options`` is changed.

    Raises:
        CliError: they contradict each other, or a value cannot work.
    """
    if not options["websockets"]:
        options["h2_enable_connect_protocol"] = False
    options["keylog"] = _keylog(options)
    config = make_config(options)
    wire = _wire(options)
    client_auth = _client_auth(options, wire)
    acme = _acme(options, wire, client_auth)
    files = _certs(options, wire)
    default = "127.0.0.1:8443" if wire == "tls" else "127.0.0.1:8000"
    folder = Path(options["app_dir"]).resolve()
    folders = options["reload_dir"] or ((folder,) if options["reload"] else ())
    for patterns in ("reload_include", "reload_exclude"):
        if options[patterns] and not folders:
            msg = f"--{patterns.replace('_', '-')} needs --reload"
            raise CliError(msg)
    workers = 1 if options["workers"] is None else options["workers"]
    if workers < 1:
        msg = f"--workers is at least 1, not {workers}"
        raise CliError(msg)
    if workers > MOST_WORKERS:
        msg = f"--workers is at most {MOST_WORKERS}, not {workers}"
        raise CliError(msg)
    if workers > 1 and folders:
        msg = "--reload is for one process: leave --workers out"
        raise CliError(msg)
    timeout = seconds_of("--worker-timeout", options["worker_timeout"])
    if timeout is not None and timeout < _LEAST_TIMEOUT:
        msg = f"--worker-timeout is at least {_LEAST_TIMEOUT:g} s, not {timeout:g} s"
        raise CliError(msg)
    if options["max_requests_jitter"] and options["max_requests"] is None:
        msg = "--max-requests-jitter goes with --max-requests: give both"
        raise CliError(msg)
    _check_loop(options["runtime"], options["loop"])
    return Plan(
        target=options["target"],
        # the authority looks at port 443 (RFC 8737 §3)
        binds=options["bind"] or (default if acme is None else ":443",),
        plain_binds=options["bind_plain"],
        metrics_binds=_metrics(options),
        inspect_binds=_inspect(options),
        https_redirect=_redirect(options, wire),
        wire=wire,
        certs=files,
        dev_cert=options["dev_cert"],
        acme=acme,
        password=_password(options["key_password_file"]),
        client_auth=client_auth,
        config=config,
        proxy=_proxy(options["proxy_protocol"]),
        workers=workers,
        # a debugger may hold a worker that is being developed
        worker_timeout=None if folders else timeout,
        max_requests=options["max_requests"],
        max_requests_jitter=options["max_requests_jitter"],
        max_worker_rss=_max_worker_rss(options),
        reload_folders=tuple(map(Path, folders)),
        reload_include=options["reload_include"],
        reload_exclude=options["reload_exclude"],
        app_folder=folder,
        runtime=options["runtime"],
        loop=options["loop"],
        backlog=options["backlog"],
        unix_mode=_mode(options["uds_mode"]),
        fields=_fields(options["header"]),
        allowed_hosts=_hosts(options["allowed_hosts"]),
        request_id=_request_id(options),
        trust_id=options["request_id_trust"],
        otel=_otel(options),
        logs=_logs(options, reloads=bool(folders)),
        verbose=options["verbose"],
        asgi={
            "lifespan": options["lifespan"],
            "root_path": options["root_path"],
            "websockets": options["websockets"],
            "compression": Deflate() if options["compression"] else None,
            "max_message_size": options["ws_max_message_size"],
            "allowed_origins": _origins(options["allowed_origins"]),
        },
    )


def _check_loop(runtime: str, loop: str) -> None:
    if runtime == "trio" and loop != "auto":
        msg = f"--loop {loop} is for asyncio; trio brings its own"
        raise CliError(msg)
    for each in {runtime, loop} & {"trio", "uvloop"}:
        if importlib.util.find_spec(each) is None:
            msg = f"{each} is not installed: pip install 'tako-server[{each}]'"
            raise CliError(msg)


def _metrics(options: dict[str, Any]) -> tuple[str, ...]:
    """Return where metrics are served; from then on requests are counted."""
    addresses: tuple[str, ...] = options["metrics_bind"]
    if addresses:
        _import_extra("metrics", "--metrics-bind")
    return addresses


def _otel(options: dict[str, Any]) -> bool:
    """Return whether there are spans for OpenTelemetry."""
    asked: bool = options["otel"]
    if asked:
        _import_extra("otel", "--otel")
    return asked


def _import_extra(name: str, flag: str) -> None:
    """Import the package of tako that an extra of that name is for."""
    try:
        importlib.import_module(f"tako.{name}")
    except ImportError as error:
        msg = f"{flag} needs pip install 'tako-server[{name}]' ({error})"
        raise CliError(msg) from error


def _inspect(options: dict[str, Any]) -> tuple[str, ...]:
    """Return the address of the inspector, if there is to be one."""
    address: str | None = options["inspect_bind"]
    if address is None:
        return (ADDRESS,) if options["inspect"] else ()
    if not address.startswith("unix:"):
        try:
            host = split_address(address)[0]
            near = host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError as error:
            msg = f"--inspect-bind {address}: {error}"
            raise CliError(msg) from error
        if not near:
            msg = (
                f"--inspect-bind {address}: it shows everything, so it takes a "
                "loopback address; from elsewhere go through ssh -L"
            )
            raise CliError(msg)
    return (address,)


def _keylog(options: dict[str, Any]) -> str | None:
    if options["dev_cert"] and options["keylog"] is None:
        # what browsers and curl read; a server in production does not
        return os.environ.get("SSLKEYLOGFILE") or None
    return cast("str | None", options["keylog"])


def _max_worker_rss(options: dict[str, Any]) -> int | None:
    if options["max_worker_rss"] is not None and not Path("/proc/self/statm").exists():
        msg = "--max-worker-rss needs /proc, which this system does not have"
        raise CliError(msg)
    return cast("int | None", options["max_worker_rss"])


def _proxy(value: str | None) -> ProxyPolicy | None:
    """Return which peers send PROXY headers."""
    names = () if value is None else listed(value)
    try:
        return ProxyPolicy(names) if names else None
    except ConfigError as error:
        msg = (
            '--proxy-protocol takes addresses, networks ("10.0.0.0/8"), "unix" and '
            f'"*": {error}'
        )
        raise CliError(msg) from error


def _hosts(value: str | None) -> tuple[str, ...] | None:
    names = () if value is None else listed(value)
    try:
        Hosts(names, "--allowed-hosts")
    except ConfigError as error:
        raise CliError(str(error)) from error
    return names or None


def _fields(given: tuple[str, ...]) -> Headers:
    """Return the fields for responses, each written as ``NAME:VALUE``."""
    fields = Headers()
    for each in given:
        name, value = name_and_value("--header", each)
        try:
            fields.add(name, value)
        except UnicodeEncodeError as error:
            msg = f"--header {each!r}: a field is text in ISO-8859-1"
            raise CliError(msg) from error
        except ValueError as error:
            msg = f"--header {each!r}: {error}"
            raise CliError(msg) from error
        if not is_field_value(fields.raw[-1][1]):
            msg = f"--header {each!r}: a field's value has no control characters"
            raise CliError(msg)
        _check_for_users("--header", name)
    return fields


def _check_for_users(option: str, name: str) -> None:
    """Refuse a field that has its meaning from the protocol.

    Raises:
        CliError: it is one of those.
    """
    field = name.lower()
    if field.encode() in OF_THE_SERVER | _OF_HANDSHAKES:
        msg = f"{option} {name}: the server itself says what this field has"
        raise CliError(msg)


def _request_id(options: dict[str, Any]) -> str | None:
    """Return the field that carries the ids of requests."""
    name: str | None = options["request_id"]
    if name is None or name == NONE:
        if options["request_id_trust"]:
            msg = "--request-id-trust needs the field that has them: --request-id NAME"
            raise CliError(msg)
        return None
    try:
        Headers([(name, "")])
    except ValueError as error:
        msg = f"--request-id takes the name of a field: {error}"
        raise CliError(msg) from error
    _check_for_users("--request-id", name)
    return name


def _logs(options: dict[str, Any], *, reloads: bool) -> Logs:
    """Return how to log; requests while developing, if nothing is said."""
    access, form = options["access_log"], options["access_log_format"]
    if access is None:
        access = reloads or sys.stderr.isatty()
    if form is not None:
        try:
            AccessFormat(form)
        except ConfigError as error:
            msg = f"--access-log-format: {error}"
            raise CliError(msg) from error
    return Logs(
        level=options["log_level"],
        form=options["log_format"],
        config=Path(options["log_config"]) if options["log_config"] else None,
        access=access,
        access_format=form,
        request_ids=_request_id(options) is not None,
    )


def _mode(value: str | None) -> int | None:
    """Return permissions that are written as ``chmod`` has them."""
    if value is None:
        return None
    if not re.fullmatch("0?[0-7]{3}", value):
        msg = f"--uds-mode takes permissions in octal, as in 660, not {value!r}"
        raise CliError(msg)
    return int(value, 8)


def _redirect(options: dict[str, Any], wire: Wire) -> bool | int:
    """Return whether requests without TLS are redirected, and to which port."""
    port: int | None = options["https_port"]
    if options["bind_plain"] and wire != "tls":
        msg = f"--bind-plain is beside TLS, which --{wire} does without: give --bind"
        raise CliError(msg)
    if options["redirect_http"] and not options["bind_plain"]:
        msg = "--redirect-http needs an address that is not TLS's: --bind-plain ADDRESS"
        raise CliError(msg)
    if port is not None and not options["redirect_http"]:
        msg = "--https-port is the port in redirects: it needs --redirect-http"
        raise CliError(msg)
    return options["redirect_http"] and (port or True)


def _origins(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else listed(value)


def _wire(options: dict[str, Any]) -> Wire:
    if options["plain"] and options["h2c"]:
        msg = "--plain is HTTP/1.1 and --h2c is HTTP/2: give one of them"
        raise CliError(msg)
    if options["plain"]:
        return "plain"
    return "h2c" if options["h2c"] else "tls"


def _certs(options: dict[str, Any], wire: Wire) -> tuple[tuple[Path, Path], ...]:
    """Return the files of the certificates and their keys."""
    given, keys = options["cert"], options["key"]
    if options["acme"]:
        return ()
    if wire != "tls":
        if given or keys or options["dev_cert"]:
            msg = f"--{wire} does without TLS: leave the certificate out"
            raise CliError(msg)
        return ()
    if options["dev_cert"]:
        if given or keys:
            msg = "--dev-cert brings its own certificate: leave --cert and --key out"
            raise CliError(msg)
        return (certs.dev_cert(),)
    if len(given) != len(keys):
        msg = "--cert and --key go together: give both, and a key for each certificate"
        raise CliError(msg)
    if given:
        return tuple(zip(map(Path, given), map(Path, keys), strict=True))
    for folder in (Path("certs"), Path()):
        if (folder / "cert.pem").exists() and (folder / "key.pem").exists():
            return ((folder / "cert.pem", folder / "key.pem"),)
    raise CliError(_NO_CERT)


def _acme(
    options: dict[str, Any], wire: Wire, client_auth: ClientAuth | None
) -> Acme | None:
    """Return the certificate that is to be ordered."""
    names, directory = options["acme"], options["acme_directory"]
    if not names:
        for name in ("directory", "dir", "email", "staging"):
            if options[f"acme_{name}"]:
                msg = f"--acme-{name} goes with the names to order for: --acme NAME"
                raise CliError(msg)
        return None
    if wire != "tls":
        msg = f"--acme is for TLS, which --{wire} does without"
        raise CliError(msg)
    for name in ("cert", "key", "dev_cert"):
        if options[name]:
            msg = f"--acme orders the certificate: leave --{name.replace('_', '-')} out"
            raise CliError(msg)
    if options["acme_staging"] and directory is not None:
        msg = "--acme-staging is a directory, too: leave --acme-directory out"
        raise CliError(msg)
    if directory is None:
        directory = LETS_ENCRYPT_STAGING if options["acme_staging"] else LETS_ENCRYPT
    try:
        return Acme(
            *names,
            email=options["acme_email"],
            directory=directory,
            folder=options["acme_dir"],
            client_auth=client_auth,
        )
    except TlsConfigError as error:
        msg = f"--acme: {error}"
        raise CliError(msg) from error


def _password(path: str | None) -> str | None:
    """Return what opens encrypted keys: a file's first line, or the environment's."""
    if path is None:
        return os.environ.get(_OPENS_KEYS)
    try:
        return Path(path).read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"--key-password-file {path}: {one_line(reason)}"
        raise CliError(msg) from error


def _client_auth(options: dict[str, Any], wire: Wire) -> ClientAuth | None:
    roots, mode = options["client_ca"], options["client_cert"]
    if roots and wire != "tls":
        msg = f"--client-ca is for TLS, which --{wire} does without"
        raise CliError(msg)
    if mode in {"optional", "required"} and not roots:
        msg = f"--client-cert {mode} needs the authorities that sign: --client-ca FILE"
        raise CliError(msg)
    if not roots or mode == "none":
        return None
    made = ClientAuth.optional if mode == "optional" else ClientAuth.required
    try:
        return made([Path(each) for each in roots])
    except TlsConfigError as error:
        msg = f"--client-ca {', '.join(roots)}: {error}"
        raise CliError(msg) from error
