"""``Plan``: what the options of ``tako serve`` ask for, checked."""

import configparser
import json
import logging
import logging.config
import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tako.asgi import AsgiApp
from tako.cli import certs
from tako.cli.console import CliError, one_line
from tako.cli.options import as_option, listed, make_config
from tako.config import ServerConfig
from tako.errors import ConfigError, TakoError, TlsConfigError
from tako.proxy.policy import ProxyPolicy
from tako.tls.certificates import ClientAuth, ReloadableResolver, TlsCert, TlsLike
from tako.ws.options import Deflate


Wire: TypeAlias = Literal["tls", "plain", "h2c"]

_NO_CERT = (
    "no certificate: give --cert and --key, or --dev-cert for this machine, "
    "or --plain to do without TLS"
)

_OPENS_KEYS = "TAKO_KEY_PASSWORD"
"""A variable, and no option: other users see the command lines of this machine."""

_CANCELLED = 5.0  # seconds for tasks that are cancelled at the end of a drain


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to serve, and how.

    Attributes:
        target: ``module:attribute``.
        binds: addresses.
        wire: what is spoken there.
        certs: the files of each certificate and its key; empty without TLS. The first
            is for clients that ask for no name, or for a name that none of them has.
        dev_cert: whether they are from the local authority.
        password: opens the keys that are encrypted.
        client_auth: whether clients have to show a certificate.
        config: timeouts and limits.
        proxy: which peers send PROXY headers; ``None``: none does.
        workers: processes.
        reload_folders: what to watch for changes; empty: nothing.
        app_folder: where modules are looked for.
        runtime: ``asyncio`` or ``trio``.
        loop: for asyncio.
        backlog: connections that the kernel keeps for each address.
        unix_mode: the permissions of Unix sockets' files; ``None``: the umask's.
        access_log: whether to log requests.
        log_config: a file.
        log_level: of the loggers of tako.
        verbose: whether to name the versions of Python and OpenSSL at the start.
        asgi: arguments for ``AsgiApp``.
    """

    target: str
    binds: tuple[str, ...]
    wire: Wire
    certs: tuple[tuple[Path, Path], ...]
    dev_cert: bool
    password: str | None
    client_auth: ClientAuth | None
    config: ServerConfig
    proxy: ProxyPolicy | None
    workers: int
    reload_folders: tuple[Path, ...]
    app_folder: Path
    runtime: str
    loop: str
    backlog: int
    unix_mode: int | None
    access_log: bool
    log_config: Path | None
    log_level: str
    verbose: bool
    asgi: dict[str, Any]

    @property
    def stop_limit(self) -> float:
        """Seconds from a signal until a process that still runs is ended by force.

        Those of the drain, and some more for tasks that are cancelled at its end.
        """
        delay = self.config.drain_delay or 0.0
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

    def set_up_logging(self) -> None:
        """Configure ``logging``, once in each process.

        Raises:
            CliError: the file cannot be used.
        """
        level = self.log_level.upper()
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("tako").setLevel(level)
        logging.getLogger("tako.access").setLevel(
            logging.INFO if self.access_log else logging.CRITICAL
        )
        if self.log_config is not None:
            _configure_logging(self.log_config)


def read_plan(options: dict[str, Any]) -> Plan:
    """Return what the options ask for; ``options`` is changed.

    Raises:
        CliError: they contradict each other, or a value cannot work.
    """
    if not options["websockets"]:
        options["h2_enable_connect_protocol"] = False
    config = make_config(options)
    wire = _wire(options)
    files = _certs(options, wire)
    default = "127.0.0.1:8443" if wire == "tls" else "127.0.0.1:8000"
    folder = Path(options["app_dir"]).resolve()
    folders = options["reload_dir"] or ((folder,) if options["reload"] else ())
    workers = 1 if options["workers"] is None else options["workers"]
    if workers < 1:
        msg = f"--workers is at least 1, not {workers}"
        raise CliError(msg)
    if workers > 1 and folders:
        msg = "--reload is for one process: leave --workers out"
        raise CliError(msg)
    if options["runtime"] == "trio" and options["loop"] != "auto":
        msg = f"--loop {options['loop']} is for asyncio; trio brings its own"
        raise CliError(msg)
    return Plan(
        target=options["target"],
        binds=options["bind"] or (default,),
        wire=wire,
        certs=files,
        dev_cert=options["dev_cert"],
        password=_password(options["key_password_file"]),
        client_auth=_client_auth(options, wire),
        config=config,
        proxy=_proxy(options["proxy_protocol"]),
        workers=workers,
        reload_folders=tuple(map(Path, folders)),
        app_folder=folder,
        runtime=options["runtime"],
        loop=options["loop"],
        backlog=options["backlog"],
        unix_mode=_mode(options["uds_mode"]),
        access_log=options["access_log"],
        log_config=Path(options["log_config"]) if options["log_config"] else None,
        log_level=options["log_level"],
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


def _mode(value: str | None) -> int | None:
    """Return permissions that are written as ``chmod`` has them."""
    if value is None:
        return None
    if not re.fullmatch("0?[0-7]{3}", value):
        msg = f"--uds-mode takes permissions in octal, as in 660, not {value!r}"
        raise CliError(msg)
    return int(value, 8)


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


def _password(path: str | None) -> str | None:
    """Return what opens encrypted keys: a file's first line, or the environment's."""
    if path is None:
        return os.environ.get(_OPENS_KEYS)
    try:
        return Path(path).read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"--key-password-file {path}: {one_line(_reason(error))}"
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


def _configure_logging(path: Path) -> None:
    try:
        text = path.read_text()  # fileConfig would say that a section is missing
        if path.suffix == ".json":
            logging.config.dictConfig(json.loads(text))
        elif path.suffix == ".toml":
            logging.config.dictConfig(tomllib.loads(text))
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except Exception as error:  # it calls what the file names
        msg = f"--log-config {path}: {one_line(_reason(error))}"
        raise CliError(msg) from error


def _reason(error: BaseException) -> str:
    """Return what is wrong; ``dictConfig`` says only where, and the cause says what."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error)
    if isinstance(error, (KeyError, configparser.Error)):
        text = f"{type(error).__name__}: {text}"
    reason = "" if error.__cause__ is None else _reason(error.__cause__)
    return f"{text}: {reason}" if reason not in text else text
