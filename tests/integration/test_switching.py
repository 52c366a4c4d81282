"""The tables of docs/how-to/moving.md: from uvicorn and from hypercorn.

Each row is here with options that its right side names, which the command takes as they
are written, and with a test that shows what they do.
"""

import re
import tomllib
from pathlib import Path

import pytest
import trustme

from tests.integration.test_cli import run
from tests.support.hosts import ROOT
from tests.support.named_tests import named_tests
from tests.support.server import Credentials


pytest.importorskip("click")

MOVING = (ROOT / "docs" / "how-to" / "moving.md").read_text()

Row = tuple[str, str]
"""Arguments of the command, and the test of what they do."""

CLI = "integration/test_cli.py::"
PROXIES = "integration/test_real_proxies.py::"
LOGS = "integration/test_logs.py::"
WORKERS = "integration/test_workers.py::"

UVICORN: dict[str, Row] = {
    "`main:app`, `--factory`": ("--plain", CLI + "test_an_app_or_a_factory"),
    "`--host H --port P`": (
        "--bind 127.0.0.1:0",
        CLI + "test_a_router_on_both_wires",
    ),
    "`--uds PATH`, `--fd N`": (
        "--plain --bind unix:sock --bind fd://5",
        CLI + "test_unix_sockets",
    ),
    "`--ssl-certfile`, `--ssl-keyfile`": (
        "--cert cert.pem --key key.pem",
        CLI + "test_a_router_on_both_wires",
    ),
    "`--ssl-keyfile-password`, `--ssl-ca-certs`, `--ssl-cert-reqs`": (
        "--key-password-file password --client-ca ca.pem --client-cert optional",
        CLI + "test_clients_show_certificates",
    ),
    "`--http2`": ("--h2c", CLI + "test_trio_and_h2c"),
    "`--reload`, `--reload-dir`, `--reload-include`, `--reload-exclude`": (
        "--reload --reload-dir . --reload-include *.html --reload-exclude generated/*",
        WORKERS + "test_a_changed_file_starts_again",
    ),
    "`--workers N`": (
        "--workers 2",
        WORKERS + "test_kill_9_costs_one_worker_for_a_moment",
    ),
    "`--loop uvloop`": ("--loop uvloop", CLI + "test_at_the_start"),
    "`--lifespan`, `--root-path`, `--app-dir`": (
        "--lifespan off --root-path /behind --app-dir .",
        CLI + "test_an_app_or_a_factory",
    ),
    "`--interface wsgi`": ("", CLI + "test_what_cannot_be_served"),
    "`--ws`, `--ws none`": (
        "--no-websockets",
        "integration/test_asgi.py::test_an_app_without_websockets_gets_a_request",
    ),
    "`--ws-max-size`": (
        "--ws-max-message-size 100",
        CLI + "test_messages_and_heads_have_limits",
    ),
    "`--ws-max-queue`": (
        "",
        "integration/test_asgi.py::test_an_app_that_does_not_receive_stalls_only_its_stream",
    ),
    "`--ws-ping-interval`, `--ws-ping-timeout`": (
        "--ws-ping-interval 5 --ws-ping-timeout none",
        CLI + "test_a_client_that_vanishes_is_lost",
    ),
    "`--ws-per-message-deflate`": (
        "--compression",
        CLI + "test_messages_are_compressed_for_clients_that_offer_it",
    ),
    "`--access-log`": (
        "--no-access-log --access-log-format combined",
        LOGS + "test_access_lines_are_what_their_format_says",
    ),
    "`--log-config`, `--log-level`": (
        "--log-config logs.toml --log-level error --log-format json",
        CLI + "test_a_logging_configuration_that_cannot_be_used",
    ),
    "`--use-colors`": ("", LOGS + "test_requests_are_logged_and_levels_coloured"),
    "`--limit-concurrency N`": (
        "--max-connections 10",
        CLI + "test_connections_beyond_the_limit_wait",
    ),
    "`--limit-max-requests N`, `--limit-max-requests-jitter N`": (
        "--max-requests 1000 --max-requests-jitter 100",
        WORKERS + "test_max_requests_replaces_workers_and_loses_no_request",
    ),
    "`--timeout-worker-healthcheck S`": (
        "--worker-timeout 5",
        WORKERS + "test_a_worker_that_blocks_is_replaced_and_says_where",
    ),
    "`--timeout-keep-alive S`": (
        "--keep-alive-timeout 5",
        CLI + "test_idle_and_slow_clients_are_ended",
    ),
    "`--timeout-graceful-shutdown S`": (
        "--drain-timeout 5 --drain-delay 1 --drain-websockets end --health-path /up",
        CLI + "test_readiness_fails_first_and_a_second_signal_ends_at_once",
    ),
    "`--h11-max-incomplete-event-size`": (
        "--max-header-bytes 4096",
        CLI + "test_messages_and_heads_have_limits",
    ),
    "`--proxy-headers`, `--forwarded-allow-ips`": (
        "--forwarded-allow-ips 10.0.0.0/8 --proxy-protocol unix",
        PROXIES + "test_nginx_behind_haproxy_with_a_proxy_header_in_front_of_us",
    ),
    "`--header`, `--server-header`, `--date-header`": (
        "--header server:none",
        LOGS + "test_each_has_those_that_it_lacks_on_both_wires",
    ),
    "`--env-file`": ("", CLI + "test_options_come_from_the_environment"),
}

HYPERCORN: dict[str, Row] = {
    "`--bind A` (repeatable)": (
        "--bind 127.0.0.1:0 --bind unix:sock",
        CLI + "test_unix_sockets",
    ),
    "`--insecure-bind A`": (
        "--bind-plain 127.0.0.1:0 --redirect-http",
        CLI + "test_a_plain_address_beside_tls",
    ),
    "`--certfile`, `--keyfile`": (
        "--cert cert.pem --key key.pem",
        CLI + "test_the_names_in_them_decide",
    ),
    "`--keyfile-password`, `--ca-certs`, `--verify-mode`": (
        "--key-password-file password --client-ca ca.pem --client-cert required",
        CLI + "test_a_key_may_be_encrypted",
    ),
    "`--workers N`, `--reload`": (
        "--workers 2",
        WORKERS + "test_sighup_rolls_the_workers_without_refusing_a_client",
    ),
    "`--worker-class uvloop`, `trio`": (
        "--runtime trio",
        CLI + "test_trio_and_h2c",
    ),
    "`--graceful-timeout S`": (
        "--drain-timeout 5 --drain-delay 1 --drain-websockets now --health-path /up",
        CLI + "test_sigterm_drains_and_a_second_one_ends",
    ),
    "`--keep-alive S`": (
        "--keep-alive-timeout 5",
        CLI + "test_idle_and_slow_clients_are_ended",
    ),
    "`--read-timeout S`": (
        "--header-read-timeout 5 --min-rate 100",
        CLI + "test_idle_and_slow_clients_are_ended",
    ),
    "`--max-requests N`, `--max-requests-jitter N`": (
        "--max-requests 1000 --max-requests-jitter 100",
        WORKERS + "test_a_websocket_counts_as_one_request_and_its_worker_serves_on",
    ),
    "`ssl_handshake_timeout`": (
        "--tls-handshake-timeout 5",
        CLI + "test_idle_and_slow_clients_are_ended",
    ),
    "`h2_max_concurrent_streams`": (
        "--h2-max-concurrent-streams 1000",
        CLI + "test_streams_and_header_lists_have_limits",
    ),
    "`h2_max_header_list_size`": (
        "--h2-max-header-list-size 4096",
        CLI + "test_streams_and_header_lists_have_limits",
    ),
    "`h11_max_incomplete_size`": (
        "--max-header-bytes 4096",
        CLI + "test_messages_and_heads_have_limits",
    ),
    "`websocket_max_message_size`": (
        "--ws-max-message-size 100",
        CLI + "test_messages_and_heads_have_limits",
    ),
    "`--websocket-ping-interval`": (
        "--ws-ping-interval 5 --ws-ping-timeout 5",
        CLI + "test_a_client_that_vanishes_is_lost",
    ),
    "`alpn_protocols`": (
        "--alpn h2",
        CLI + "test_alpn_offers_what_is_listed",
    ),
    "`--root-path`, `--log-config`, `--log-level`": (
        "--root-path /behind --log-config logs.toml --log-level error",
        CLI + "test_an_app_or_a_factory",
    ),
    "`--access-logfile F`, `--access-logformat`": (
        "--access-log --access-log-format common",
        LOGS + "test_access_lines_are_what_their_format_says",
    ),
    "`ProxyFixMiddleware`": (
        "--forwarded-allow-ips 10.0.0.1 --forwarded-host",
        PROXIES + "test_nginx_terminates_tls",
    ),
    "`--server-name H`": (
        "--allowed-hosts example.com,*.example.com",
        CLI + "test_only_hosts_that_are_named_are_served",
    ),
    "`--user`, `--group`, `--umask`, `--pid`, `--daemon`": (
        "--plain --bind fd://5",
        "sansio/server/test_systemd.py::test_a_server_serves_it",
    ),
    "`--config FILE`": ("--config tako.toml", CLI + "test_serves_what_the_file_says"),
    "`--quic-bind`": ("", CLI + "test_a_router_on_both_wires"),
}

TABLES = {"From uvicorn": UVICORN, "From hypercorn": HYPERCORN}


def rows(title: str) -> dict[str, str]:
    """Return a table of the page: its left side, and its right side."""
    section = MOVING.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    found = (line.strip("| ").split(" | ", 1) for line in lines)
    return {left: right for left, right in found}  # noqa: C416 - pairs, as mypy sees them


@pytest.mark.parametrize("title", TABLES)
def test_every_row_is_here(title: str) -> None:
    assert list(rows(title)) == list(TABLES[title])


@pytest.mark.parametrize("title", TABLES)
def test_nothing_is_missing_but_what_others_do_better(title: str) -> None:
    missing = [left for left, right in rows(title).items() if right.startswith("none")]
    assert set(missing) <= {"`--interface wsgi`", "`--quic-bind`"}


@pytest.mark.parametrize(
    "test", sorted({test for table in TABLES.values() for _, test in table.values()})
)
def test_what_shows_the_effect_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert name in named_tests(ROOT / "tests" / path)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, credentials: Credentials, ca: trustme.CA
) -> Path:
    """A folder with an app, its certificate, and what options name."""
    made = tmp_path_factory.mktemp("switching")
    (made / "main.py").write_text("async def app(scope, receive, send):\n    pass\n")
    certs = made / "certs"
    certs.mkdir()
    for place in (made, certs):
        (place / "cert.pem").write_bytes(credentials.cert.read_bytes())
        (place / "key.pem").write_bytes(credentials.key.read_bytes())
    ca.cert_pem.write_to_path(made / "ca.pem")
    (made / "password").write_text("for a key that is encrypted\n")
    (made / "logs.toml").write_text("version = 1\n")
    (made / "tako.toml").write_text("backlog = 100\n")
    return made


@pytest.mark.parametrize(
    ("title", "left"), [(title, left) for title in TABLES for left in TABLES[title]]
)
def test_the_command_takes_the_options(folder: Path, title: str, left: str) -> None:
    given, _ = TABLES[title][left]
    done = run(folder, "serve", "main:app", *given.split(), "--check", "--print-config")
    assert done.returncode == 0, done.stderr
    assert "main:app (ASGI app) can be served" in done.stderr
    assert tomllib.loads(done.stdout)
    right = rows(title)[left]
    said = re.findall(r"^([a-z0-9-]+) = .*# command line$", done.stdout, re.MULTILINE)
    for option in re.findall(r"--([a-z0-9-]+)", given):
        assert option.removeprefix("no-") in said or option == "config"
        named = f"--{option}" in right or "the same" in right or option in left
        assert named or option in {"bind", "plain"}, option  # what needs them
