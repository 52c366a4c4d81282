"""The benchmarks run: what they import, compile, measure and print."""

import importlib
import json
import socket
import threading
from pathlib import Path

import pytest

from tests.benchmarks import report, router, runner, tools
from tests.benchmarks.measure import Bench, Figures, MeasurementError
from tests.benchmarks.rows import ROWS, Row
from tests.benchmarks.servers import SERVERS
from tests.support.children import run_child
from tests.support.peer_io import TIMEOUT


BENCHMARKS = Path(tools.__file__).parent
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
PEERS = sorted((BENCHMARKS / "peers").glob("*.py"))
TAKO = next(server for server in SERVERS if server.name == "tako")

Answer = tuple[bytes, ...]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    try:
        return Bench(tmp_path_factory.mktemp("bench"), seconds=0.3, settle=0.05)
    except tools.UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def load(bench: Bench) -> Path:
    return bench.load


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_imports_and_does_nothing_by_that(script: str) -> None:
    assert importlib.import_module(f"tests.benchmarks.{script}") is not None


@pytest.mark.parametrize("path", PEERS, ids=lambda path: path.stem)
def test_a_peers_server_compiles(path: Path) -> None:
    compile(path.read_text(), path, "exec", dont_inherit=True)


def test_each_group_of_rows_has_its_script() -> None:
    texts = [(BENCHMARKS / f"{script}.py").read_text() for script in SCRIPTS]
    for group in {row.group for row in ROWS}:
        assert any(f'main("{group}")' in text for text in texts)


def test_row_names_and_server_names_are_unique() -> None:
    for names in ([row.name for row in ROWS], [server.name for server in SERVERS]):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["h1-small", "h1s-pipelined", "h2-small", "h2-64k"])
def test_echoes_are_counted_and_timed(bench: Bench, name: str) -> None:
    figures = bench.measure(_row(name), TAKO)
    assert figures.per_cpu_second is not None
    assert figures.per_cpu_second > 0
    assert figures.per_second is not None
    assert figures.p50_us is not None
    assert figures.p99_us is not None
    assert 0 < figures.p50_us <= figures.p99_us


@pytest.mark.parametrize("name", ["h1-fan-out", "h2-fan-out"])
def test_a_message_reaches_every_socket(bench: Bench, name: str) -> None:
    words = "--connections 5 --path /fan-out --fan-out"
    if name.startswith("h2"):
        words += " --streams 4"
    figures = bench.measure(_row(name)._replace(words=words), TAKO)
    assert figures.per_second is not None
    assert figures.per_second > 0


def test_opening_and_idling_have_figures_of_their_own(bench: Bench) -> None:
    few = "--connections 2 --streams 20 --idle"
    opened = bench.measure(_row("h2-open")._replace(words=few), TAKO)
    assert opened.per_cpu_second is not None
    assert opened.p99_us is not None
    idle = bench.measure(_row("h2-idle")._replace(words=few), TAKO)
    assert idle.kib_per_socket is not None
    assert idle.per_second is None


def test_requests_are_counted_from_the_log_of_h2load(bench: Bench) -> None:
    try:
        figures = bench.measure(_row("http-h2"), TAKO)
    except tools.UnavailableError as error:
        pytest.skip(str(error))
    assert figures.per_cpu_second is not None
    assert figures.per_cpu_second > 0


@pytest.mark.usefixtures("load")
def test_the_generator_compiles_without_a_warning(tmp_path: Path) -> None:
    tools.build_load(tmp_path, "-Wall", "-Wextra", "-Wshadow", "-Werror")


HEAD = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: %s\r\n\r\n"
SIZE = 8
WRONG: dict[str, tuple[Answer, str]] = {
    "another accept": ((b"HTTP/1.1 101 x\r\n\r\n",), "Sec-WebSocket-Accept is wrong"),
    "a refusal": ((b"HTTP/1.1 403 x\r\n\r\n",), "refused to upgrade"),
    "other bytes": ((HEAD, b"\x82\x08", bytes(SIZE)), "has other bytes"),
    "a longer reply": ((HEAD, b"\x82\x09", b"echo", b"x"), "longer"),
    "a shorter reply": ((HEAD, b"\x82\x00"), "shorter"),
    "text": ((HEAD, b"\x81\x08", b"echo"), "another opcode"),
    "a second reply": ((HEAD, b"\x82\x08", b"echo", b"\x82\x08", b"again"), "other"),
    "a masked frame": ((HEAD, b"\x82\x88"), "masked"),
    "a reserved bit": ((HEAD, b"\xc2\x08", b"echo"), "reserved bit"),
    "a Close": ((HEAD, b"\x88\x00"), "closed a WebSocket"),
    "a lone continuation": ((HEAD, b"\x80\x08", b"echo"), "fragmented wrongly"),
    "an end": ((HEAD,), "closed a connection"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_generator_accepts_nothing_but_the_echo(load: Path, case: str) -> None:
    answer, complaint = WRONG[case]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT)
        thread = threading.Thread(target=_play, args=(server, answer), daemon=True)
        thread.start()
        done = run_child([str(load), "--size", str(SIZE), str(server.getsockname()[1])])
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert done.returncode == 1
    assert complaint in json.loads(done.stdout)["error"]


def _play(server: socket.socket, answer: Answer) -> None:
    """Send ``answer`` to one client: ``echo`` is its message, ``again``, too."""
    from tako.ws.handshake import accept_key

    connection, _ = server.accept()
    connection.settimeout(TIMEOUT)
    with connection, connection.makefile("rb") as stream:
        head = b"".join(iter(stream.readline, b"\r\n"))
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        message = b""
        for part in answer:
            if part == HEAD:
                connection.sendall(HEAD % accept_key(key))
                frame = stream.read(2 + 4 + SIZE)
                message = bytes(
                    byte ^ frame[2 + i % 4] for i, byte in enumerate(frame[6:])
                )
            else:
                connection.sendall(message if part in {b"echo", b"again"} else part)


def test_a_server_that_fails_is_reported_with_what_it_said(bench: Bench) -> None:
    broken = TAKO._replace(words="tests.benchmarks.peers.no_such_server {port}")
    with pytest.raises(MeasurementError, match="no_such_server"):
        bench.measure(_row("h1-small"), broken)


@pytest.fixture
def one_round(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def figures(_self: Bench, row: Row, _server: object) -> Figures:
        if row.group == "idle":
            return Figures(kib_per_socket=7.5)
        return Figures(1000.0, 2000.0, 3000.0, 4000.0)

    monkeypatch.setattr(Bench, "measure", figures)


@pytest.mark.usefixtures("one_round")
def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--only=tako", "--rows=h2-small,h2-idle", "--rounds=1"]
    assert runner.main(None, words) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["tako", "1,000", "1.00", "x", "2,000", "3.00", "4.00"] in lines
    assert ["tako", "7.5", "KiB", "1.00", "x"] in lines


@pytest.mark.usefixtures("one_round")
def test_the_command_prints_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--only=tako", "--rounds=2", "--rows=h2-small", "--markdown"]
    assert runner.main("echo", words) == 0
    assert "| h2-small | 1,000 (4.0) |" in capsys.readouterr().out


@pytest.mark.usefixtures("one_round")
def test_the_command_writes_json(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    words = ["--only=tako", "--rows=h2-small", f"--json={path}"]
    assert runner.main("echo", words) == 0
    (cell,) = json.loads(path.read_text())["cells"]
    assert cell["median"]["per_cpu_second"] == 1000
    assert len(cell["rounds"]) == 3


def test_the_command_says_why_it_skips(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert runner.main("echo", ["--only=tako"]) == 77
    assert "skipped: " in capsys.readouterr().out


def test_the_median_is_taken_figure_by_figure() -> None:
    rounds = [Figures(1, 9, 5, 5), Figures(2, 8, 6, 4), Figures(3, 7, 4, 6)]
    cell = report.Cell(_row("h2-small"), "tako", rounds)
    assert cell.median == Figures(2, 8, 5, 5)


def test_dispatches_are_timed() -> None:
    assert router.dispatching("parameter", requests=10) > 0


def _row(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)
