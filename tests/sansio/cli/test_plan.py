"""What the options of ``tako serve`` mean together."""

import sys
from pathlib import Path

import pytest


pytest.importorskip("click")

from tako.cli import commands
from tako.cli.console import CliError
from tako.cli.plan import Plan, read_plan
from tako.tls import LETS_ENCRYPT, LETS_ENCRYPT_STAGING, Acme


def plan(*arguments: str) -> Plan:
    return plan_of("--plain", *arguments)


def plan_of(*arguments: str) -> Plan:
    context = commands._serve.make_context("serve", ["app:app", *arguments])
    for name in ("check", "print_config"):
        del context.params[name]
    return read_plan(context.params)


@pytest.mark.parametrize(
    ("arguments", "supervised"),
    [
        ("", False),
        ("--workers 1", False),
        ("--workers 1 --worker-timeout 5", False),
        ("--workers 2", True),
        ("--reload", True),
        ("--max-requests 5", True),
        ("--workers 1 --max-worker-rss 500", True),
    ],
)
def test_what_replaces_workers_needs_a_supervisor(
    arguments: str, supervised: bool
) -> None:
    assert plan(*arguments.split()).supervised is supervised


@pytest.mark.parametrize(
    ("arguments", "timeout"),
    [
        ("", 30.0),
        ("--worker-timeout 2.5", 2.5),
        ("--worker-timeout none", None),
        ("--reload --worker-timeout 2.5", None),  # a debugger may hold it
    ],
)
def test_how_long_a_worker_may_stand_still(
    arguments: str, timeout: float | None
) -> None:
    assert plan(*arguments.split()).worker_timeout == timeout


def test_without_proc_memory_cannot_be_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: False)
    with pytest.raises(CliError, match=r"^--max-worker-rss needs /proc, which this "):
        plan("--max-worker-rss", "500")
    assert plan().max_worker_rss is None


@pytest.mark.parametrize(
    ("arguments", "missing"), [("--runtime trio", "trio"), ("--loop uvloop", "uvloop")]
)
def test_what_is_not_installed_is_named_before_anything_is_served(
    monkeypatch: pytest.MonkeyPatch, arguments: str, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    fix = rf"^{missing} is not installed: pip install 'tako-server\[{missing}\]'$"
    with pytest.raises(CliError, match=fix):
        plan(*arguments.split())
    plan()  # which asks for neither


ACME = ("--acme", "A.test", "--acme", "b.test")


def test_what_is_to_be_ordered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKO_ACME_EMAIL", "me@a.test")
    made = plan_of(*ACME, "--acme-dir", str(tmp_path))
    assert made.acme == Acme("a.test", "b.test", email="me@a.test", folder=tmp_path)
    assert made.acme.directory == LETS_ENCRYPT
    assert made.binds == (":443",)
    assert made.certs == ()
    tls = made.tls(made.resolvers())
    assert tls is not None
    assert tls.ordered
    staging = plan_of(*ACME, "--acme-staging", "--bind", "127.0.0.1:8443")
    assert staging.acme is not None
    assert staging.acme.directory == LETS_ENCRYPT_STAGING
    assert staging.binds == ("127.0.0.1:8443",)
    private = plan_of(*ACME, "--acme-directory", "https://ca.test/acme")
    assert private.acme is not None
    assert private.acme.directory == "https://ca.test/acme"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((*ACME, "--plain"), "--acme is for TLS, which --plain does without"),
        ((*ACME, "--h2c"), "--acme is for TLS"),
        ((*ACME, "--dev-cert"), "leave --dev-cert out"),
        ((*ACME, "--cert", "c.pem"), "leave --cert out"),
        ((*ACME, "--key", "k.pem"), "leave --key out"),
        (("--acme", "*.a.test"), r"--acme: .*wildcards cannot be ordered"),
        (
            (*ACME, "--acme-staging", "--acme-directory", "https://ca.test/"),
            "--acme-staging is a directory, too",
        ),
        (("--dev-cert", "--acme-email", "a@b"), "--acme-email goes with the names"),
        (("--dev-cert", "--acme-staging"), "--acme-staging goes with the names"),
        (("--dev-cert", "--acme-dir", "x"), "--acme-dir goes with the names"),
        ((*ACME, "--acme-email", "nobody"), "--acme: the email"),
    ],
)
def test_options_that_do_not_go_together(arguments: tuple[str, ...], text: str) -> None:
    with pytest.raises(CliError, match=text):
        plan_of(*arguments)


@pytest.mark.parametrize(
    ("arguments", "binds"),
    [
        ("", ()),
        ("--inspect", ("127.0.0.1:8555",)),
        ("--inspect-bind 127.0.0.1:0", ("127.0.0.1:0",)),
        ("--inspect --inspect-bind [::1]:9000", ("[::1]:9000",)),
        ("--inspect-bind localhost:9000", ("localhost:9000",)),
        ("--inspect-bind unix:/run/inspect", ("unix:/run/inspect",)),
    ],
)
def test_where_the_inspector_listens(arguments: str, binds: tuple[str, ...]) -> None:
    assert plan(*arguments.split()).inspect_binds == binds


@pytest.mark.parametrize("address", ["0.0.0.0:8555", ":8555", "10.1.2.3:1", "[::]:1"])
def test_the_inspector_is_for_this_machine_only(address: str) -> None:
    with pytest.raises(CliError, match=r"^--inspect-bind "):
        plan("--inspect-bind", address)
