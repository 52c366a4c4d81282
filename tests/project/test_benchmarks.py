"""The benchmarks run: what they import, compile, measure and print."""

import importlib
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from struct import pack
from typing import NamedTuple

import pytest
from hpack import Decoder

from tests.benchmarks import clients, measure, report, router, runner, tools
from tests.benchmarks.measure import Bench, Figures, MeasurementError
from tests.benchmarks.rows import ROWS, Row
from tests.benchmarks.servers import SERVERS, Running, Server, missing
from tests.support.children import run_child
from tests.support.patience import TIMEOUT


BENCHMARKS = Path(tools.__file__).parent
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
PEERS = sorted((BENCHMARKS / "peers").glob("*.py"))
TAKO = next(server for server in SERVERS if server.name == "tako")
ASGI = next(server for server in SERVERS if server.name == "tako-asgi")

Answer = tuple[bytes, ...]
Play = Callable[[socket.socket, Answer], None]


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


REQUESTS = [row for row in ROWS if row.http]


class Servers:
    """Servers that are started when the first row wants them, and then kept.

    What is measured is short; a machine that is too busy for that gets longer.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._kept = ExitStack()
        self._running: dict[tuple[str, bool, str], Running] = {}

    def measure(self, row: Row, server: Server) -> Figures:
        app = "" if server.native else row.app
        key = (server.name, row.tls, app)
        if key not in self._running:
            serving = self._bench.serving(row, server)
            self._running[key] = self._kept.enter_context(serving)
        for seconds in (0.05, 1.0):
            self._bench.seconds = seconds
            with suppress(MeasurementError):
                return self._bench.loaded(row, self._running[key])
        self._bench.seconds = 20.0
        return self._bench.loaded(row, self._running[key])

    def close(self) -> None:
        self._kept.close()


@pytest.fixture(scope="module")
def servers(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    hasty = Bench(tmp_path_factory.mktemp("hasty"), seconds=0.05, settle=0)
    with closing(Servers(hasty)) as kept:
        yield kept


@pytest.mark.parametrize("row", REQUESTS, ids=lambda row: row.name)
def test_requests_are_counted_and_timed(servers: Servers, row: Row) -> None:
    if missing([row.framework] if row.framework else []):
        pytest.skip(f"no {row.framework}")
    figures = servers.measure(row, ASGI if row.framework else TAKO)
    assert figures.per_cpu_second is not None
    assert figures.per_cpu_second > 0
    assert figures.p99_us is not None
    assert figures.p99_us > 0


@pytest.mark.parametrize("name", ["http-h1s", "http-h2-var", "upload-h2", "page-h1s"])
def test_an_asgi_server_serves_the_same_rows(servers: Servers, name: str) -> None:
    assert servers.measure(_row(name), ASGI).main > 0


def test_only_asgi_servers_have_a_place_for_the_app() -> None:
    asgi = {server.name for server in SERVERS if not server.native}
    assert asgi == {
        "tako-asgi", "h2corn", "granian", "uvicorn", "uvicorn-zttp", "hypercorn"
    }  # fmt: skip


def test_rows_that_a_server_fails_are_rows() -> None:
    names = {row.name for row in ROWS}
    assert all(server.fails[0] <= names for server in SERVERS)


@pytest.mark.usefixtures("load")
def test_the_generator_compiles_without_a_warning(tmp_path: Path) -> None:
    tools.build_load(tmp_path, "-Wall", "-Wextra", "-Wshadow", "-Werror")


def _frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    return pack(">I", len(payload))[1:] + pack(">BBI", kind, flags, stream) + payload


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
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n"
WRONG_RESPONSES: dict[str, tuple[Answer, str]] = {
    "another status": ((b"HTTP/1.1 500 x\r\ncontent-length: 8\r\n\r\n",), "1.1 500"),
    "another size": ((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",), "size: 9"),
    "no status": ((b'HTTP/1.1\t"\\\r\n\r\n',), "but HTTP/1.1????"),
    "no size": ((b"HTTP/1.1 200 OK\r\n\r\n",), "no Content-Length"),
    "a goodbye": ((OK, b"Connection: close\r\n\r\n"), "wants to close"),
    "a second response": ((OK, b"\r\n", bytes(9)), "more bytes"),
    "half a body": ((OK, b"\r\n", bytes(4)), "closed a connection"),
}
WRONG_FRAMES: dict[str, tuple[Answer, str]] = {
    "another status": ((_frame(1, 4, b"\x8d"),), "not answered with 200"),
    "no body": ((_frame(1, 5, b"\x88"),), "too short"),
    "a longer body": ((_frame(1, 4, b"\x88"), _frame(0, 1, bytes(9))), "too long"),
    "a shorter body": ((_frame(1, 4, b"\x88"), _frame(0, 1, bytes(7))), "too short"),
    "a body alone": ((_frame(0, 1, bytes(8)),), "without a head"),
    "two heads": ((_frame(1, 4, b"\x88"), _frame(1, 4, b"\x88")), "second response"),
    "a reset": ((_frame(3, 0, bytes(4)),), "reset a stream: 0"),
    "a goodbye": ((_frame(7, 0, bytes(8), 0),), "GOAWAY: 0"),
    "another stream": ((_frame(1, 4, b"\x88", 3),), "stream 3?"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_generator_accepts_nothing_but_the_echo(load: Path, case: str) -> None:
    answer, complaint = WRONG[case]
    assert complaint in _complaint(load, ["--size", str(SIZE)], _play, answer)


@pytest.mark.parametrize("case", WRONG_RESPONSES)
def test_the_generator_accepts_no_other_response(load: Path, case: str) -> None:
    answer, complaint = WRONG_RESPONSES[case]
    assert complaint in _complaint(load, ["--get", "/=8"], _respond, answer)


@pytest.mark.parametrize("case", WRONG_FRAMES)
def test_the_generator_accepts_no_other_frames(load: Path, case: str) -> None:
    answer, complaint = WRONG_FRAMES[case]
    words = ["--get", "/=8", "--h2"]
    assert complaint in _complaint(
        load, words, _respond, (_frame(4, 0, b"", 0), *answer)
    )


def test_an_upload_is_counted_by_the_server(load: Path) -> None:
    answer = (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n7",)
    words = ["--post", "/", "--size", "8"]
    assert "other bytes" in _complaint(load, words, _respond, answer)


def _complaint(load: Path, words: list[str], play: Play, answer: Answer) -> str:
    """Return what the generator says of a server that answers wrongly."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT)
        thread = threading.Thread(target=play, args=(server, answer), daemon=True)
        thread.start()
        done = run_child([str(load), *words, str(server.getsockname()[1])])
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert done.returncode == 1
    return str(json.loads(done.stdout)["error"])


def _respond(server: socket.socket, answer: Answer) -> None:
    """Send ``answer`` to one client that has sent something."""
    connection, _ = server.accept()
    connection.settimeout(TIMEOUT)
    with connection:
        connection.recv(65536)
        connection.sendall(b"".join(answer))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


SHOWN = 40
BROWSER, LIBRARY, SIMPLE = range(3)
Head = list[tuple[bytes, bytes]]


class Taken(NamedTuple):
    """What the generator sent on one connection: blocks, and what they say."""

    blocks: list[bytes]
    heads: list[Head]


@pytest.mark.parametrize("table", [4096, 200])
def test_varied_requests_are_what_clients_send(load: Path, table: int) -> None:
    taken = _take(load, table)
    for each in taken:
        heads = [dict(head) for head in each.heads]
        for name in (b":path", b"x-request-id", b"cookie"):
            assert len({head[name] for head in heads}) == SHOWN
        assert len({head[b"user-agent"] for head in heads}) == 1
        assert heads[0][b":method"] == b"GET"
        assert heads[0][b"accept-encoding"] == b"gzip, deflate, br, zstd"
    crumbs = [[name for name, _ in each.heads[0]].count(b"cookie") for each in taken]
    assert crumbs == [2, 1, 1]
    if table == 4096:
        browser, library, simple = (len(each.blocks[-1]) for each in taken)
        assert 2 * max(browser, library) < simple
        assert b"Mozilla" in taken[SIMPLE].blocks[-1]
        assert b"Mozilla" not in taken[BROWSER].blocks[0]  # Huffman's code


def _take(load: Path, table: int) -> list[Taken]:
    """Answer the generator as three servers with such a table, one for each client."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        ThreadPoolExecutor(3) as pool,
    ):
        server.settimeout(TIMEOUT)
        port = str(server.getsockname()[1])
        words = ["--h2", "--vary", "--get", "/items/*=0", "--connections", "3", port]
        process = subprocess.Popen([str(load), *words], stdout=subprocess.DEVNULL)
        try:
            peers = [server.accept()[0] for _ in range(3)]
            taken = list(pool.map(_answer, peers, [table] * 3))
            for peer in peers:
                peer.close()
        finally:
            process.kill()
            process.wait(TIMEOUT)
    # the number of a connection, which chooses the client, ends its paths
    return sorted(taken, key=lambda each: dict(each.heads[0])[b":path"][-1])


def _answer(connection: socket.socket, table: int) -> Taken:
    decoder = Decoder()
    decoder.max_allowed_table_size = table
    taken = Taken([], [])
    connection.settimeout(TIMEOUT)
    connection.sendall(_frame(4, 0, pack(">HI", 1, table), 0))
    with connection.makefile("rb") as stream:
        stream.read(24)
        while len(taken.heads) < SHOWN:
            head = stream.read(9)
            payload = stream.read(int.from_bytes(head[:3]))
            if head[3] == 1:
                number = int.from_bytes(head[5:])
                taken.blocks.append(payload)
                taken.heads.append(list(decoder.decode(payload, raw=True)))
                connection.sendall(_frame(1, 5, b"\x88", number))
    return taken


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
    monkeypatch.setattr(measure, "build_load", lambda _directory: bench.load)


@pytest.mark.usefixtures("one_round")
def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--only=tako", "--rows=h2-small,h2-idle", "--rounds=1"]
    assert runner.main(None, words) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    tako = ["tako", "(native)"]
    assert [*tako, "1,000", "1.00", "x", "2,000", "3.00", "4.00"] in lines
    assert [*tako, "7.5", "KiB", "1.00", "x"] in lines
    assert "OpenSSL" in lines[0]
    assert "Python" in lines[0]


@pytest.mark.usefixtures("one_round")
def test_the_command_prints_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--only=tako", "--rounds=2", "--rows=h2-small", "--markdown"]
    assert runner.main("echo", words) == 0
    assert "| h2-small | **1,000** (4.0) |" in capsys.readouterr().out


@pytest.mark.usefixtures("one_round")
def test_the_command_writes_json(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    words = ["--only=tako", "--rows=h2-small", f"--json={path}"]
    assert runner.main("echo", words) == 0
    (cell,) = json.loads(path.read_text())["cells"]
    assert cell["median"]["per_cpu_second"] == 1000
    assert cell["native"]
    assert cell["ratios"] == [1.0, 1.0, 1.0]
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


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    row = _row("http-h1")
    mine = report.Cell(
        row, "tako", [Figures(10), Figures(100), Figures(20)], native=True
    )
    other = report.Cell(row, "h2corn", [Figures(20), Figures(100), Figures(50)])
    assert other.ratios(mine) == [2, 1, 2.5]
    assert other.ratio(mine) == 2
    lines = report.row_lines([mine, other], "h2corn").splitlines()
    assert lines[0] == "http-h1: requests (ratio: to h2corn)"
    assert "0.50 x" in lines[1]


def test_the_report_says_where_tako_is_not_first() -> None:
    http, idle = _row("http-h1"), _row("h1-idle")
    cells = [
        report.Cell(http, "tako", [Figures(30)], native=True),
        report.Cell(http, "tako-asgi", [Figures(10)]),
        report.Cell(http, "h2corn", [Figures(20)]),
        report.Cell(idle, "tako", [Figures(kib_per_socket=8)], native=True),
        report.Cell(idle, "h2corn", [Figures(kib_per_socket=4)]),
    ]
    assert report.not_first(cells) == [
        "tako is not first: h1-idle (h2corn 0.50 x)",
        "tako-asgi is not first: http-h1 (h2corn 2.00 x)",
    ]
    sockets, requests = report.markdown_tables(cells).split("\n\n")
    assert "| h1-idle | 8.0 KiB | **4.0 KiB** |" in sockets
    assert "| http-h1 | **30** () | 10 () | 20 () |" in requests


@pytest.mark.usefixtures("one_round")
def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = TAKO._replace(name="absent", modules=("no_such_module",))
    monkeypatch.setattr(runner, "SERVERS", (TAKO, absent))
    assert runner.main("http", ["--rows=http-h1", "--rounds=1"]) == 0
    text = capsys.readouterr().out
    assert "absent: skipped: not installed: no_such_module" in text


@pytest.mark.usefixtures("one_round")
def test_what_a_server_is_known_to_fail_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = TAKO._replace(
        name="broken", fails=(frozenset({"http-h1"}), "it is broken")
    )
    monkeypatch.setattr(runner, "SERVERS", (TAKO, broken))
    assert runner.main("http", ["--rows=http-h1", "--rounds=1"]) == 0
    assert "http-h1 broken: skipped: it is broken" in capsys.readouterr().out


def test_dispatches_are_timed() -> None:
    assert router.dispatching("parameter", requests=10) > 0


def _row(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


# -- The clients' table ----------------------------------------------------------------


def test_a_client_is_measured(tmp_path: Path) -> None:
    rows = [row for row in clients.ROWS if row.name in {"h1-small", "h1-idle"}]
    (client,) = (each for each in clients.CLIENTS if each.name == "tako")
    bench = clients.Bench(tmp_path, 0.1)
    with ExitStack() as stack:
        bench.serve(stack, tls=False)
        for row in rows:
            assert bench.measure(row._replace(sockets=5), client) > 0
        broken = client._replace(module="play_nothing")
        with pytest.raises(ValueError, match="play_nothing"):
            bench.measure(rows[0], broken)


def test_clients_are_compared_round_by_round() -> None:
    results = clients.Results()
    row = next(each for each in clients.ROWS if each.name == "h1-small")
    idle = next(each for each in clients.ROWS if each.name == "h1-idle")
    mine, its = (
        next(each for each in clients.CLIENTS if each.name == name)
        for name in ("tako", "websockets")
    )
    for figure in (300.0, 600.0, 100.0):
        results.add(row, mine, figure)
        results.add(row, its, figure / 4)
    results.add(idle, mine, 10.0)
    results.add(idle, its, 25.0)
    lines = clients.table([row, idle], [mine, its], results)
    assert lines[2:] == [
        "| h1-small | 300 | 75 (4.00) |",
        "| h1-idle | 10.0 KiB | 25.0 KiB (2.50) |",
    ]
    (line,) = clients.targets(results)
    assert line == (
        "h1-small over websockets on h1-small: 4.00 (4.00 to 4.00), asked 3.00: reached"
    )
    results.add(row, its, None)
    results.add(row, mine, 1.0)
    assert len(results.ratios(("h1-small", "tako"), ("h1-small", "websockets"))) == 3
