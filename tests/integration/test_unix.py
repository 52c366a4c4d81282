"""Unix sockets: spec section 11, T-UX-01."""

import errno
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tako
import tako.runtime
from tako import Carrier, ConnInfo, IpPeer, Request, Router, UnixPeer
from tako.proxy import ProxyPolicy
from tako.tcp.address import address_of
from tako.testing.peer import Wire
from tako.testing.peer.io import Address
from tests.sansio.proxy.test_header import V1
from tests.support.apps import echo_router
from tests.support.listeners import ListeningServer, Serve, connect_to
from tests.support.patience import TIMEOUT
from tests.support.server import Credentials, RuntimeName, serving


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="abstract names")


async def whoami(request: Request) -> str:
    info = request.extensions[ConnInfo]
    assert info.transport is Carrier.UNIX
    peer = request.extensions.get(UnixPeer)
    return f"{info.peer} {info.local} {peer == info.peer}"


def router() -> Router:
    made = echo_router()
    made.get("/whoami", whoami)
    return made


Start = Callable[..., ListeningServer]


@pytest.fixture
def start(runtime: RuntimeName, credentials: Credentials) -> Iterator[Start]:
    """Start servers on Unix sockets; stop and check them afterwards."""
    servers = []

    def start(path: str, serve: Serve) -> ListeningServer:
        server = ListeningServer(
            router(),
            serve,
            runtime=runtime,
            credentials=credentials,
            bind=lambda: tako.bind(f"unix:{path}"),
        )
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "tako.sock")


def how(wire: Wire, credentials: Credentials) -> Serve:
    return partial(_serve, wire, (credentials.cert, credentials.key))


def _serve(
    wire: Wire,
    tls: tuple[Path, Path],
    listener: tako.Listener,
    router: Router,
    **k: Any,
) -> Awaitable[None]:
    return serving(wire, listener, router, tls, **k)


class TestServing:
    @pytest.mark.parametrize("wire", ["h1", "h1s", "h2", "h2c"])
    def test_requests_and_websockets_on_every_wire(
        self, start: Start, path: str, wire: Wire, credentials: Credentials
    ) -> None:
        server = start(path, how(wire, credentials))
        assert Path(path).is_socket()
        with connect_to(path, wire, credentials.client) as connection:
            response = connection.request("GET", "/whoami")
            assert response.body.decode() == f"unix {path} True"
            ws = connection.websocket("/ws")
            ws.echo("over a file")
            ws.close(1000)
            assert ws.expect_close() == (1000, "")
        server.stop()
        assert not Path(path).exists()

    @LINUX
    def test_an_abstract_name_is_no_file(self, start: Start) -> None:
        name = f"tako-test-{os.getpid()}"
        start(f"@{name}", tako.serve)
        assert not Path(f"@{name}").exists()
        with connect_to(f"\0{name}", "h1") as connection:
            response = connection.request("GET", "/whoami")
            assert response.body.decode() == f"unix @{name} True"

    @LINUX
    def test_a_client_with_a_name_of_its_own(self, start: Start, path: str) -> None:
        start(path, tako.serve)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            sock.bind(b"\0tako-\xff-%d" % os.getpid())
            sock.connect(path)
            sock.sendall(b"GET /whoami HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"@tako-\\xff-%d " % os.getpid() in sock.recv(65536)

    @LINUX
    @pytest.mark.parametrize("where", ["file", "abstract"])
    def test_a_clients_name_forges_no_line_of_a_log(
        self,
        runtime: RuntimeName,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        where: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        name = b'x\n1.2.3.4:5 "GET $admin\x1b[31m \xff'
        logged = router().middleware(tako.access_log())

        def ask(wire: bytes) -> None:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(15)
                sock.bind(name + wire if where == "file" else b"\0" + name + wire)
                sock.connect("sock")
                if wire == b"1":
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    sock.recv(1)
                else:  # no PROXY header, of which a line is logged, too
                    sock.sendall(b"nonsense\r\n")
                    sock.recv(1)

        async def main() -> None:
            policy = ProxyPolicy(["unix"])
            in_thread = tako.runtime.current().to_thread
            for serve, wire in (
                (tako.serve, b"1"),
                (partial(tako.serve, proxy=policy), b"2"),
            ):
                await serve(
                    "unix:sock",
                    logged,
                    shutdown=in_thread(partial(ask, wire)),
                )

        with caplog.at_level(logging.DEBUG, logger="tako"):
            run_on(runtime, main)
        messages = [
            record.getMessage() for record in caplog.records if record.name != "asyncio"
        ]
        about = [each for each in messages if "$admin" in each]
        changes = [each for each in about if " is " in each.rpartition("$admin")[2]]
        assert len(about) - len(changes) == 2, messages  # a request, a refusal
        assert all(each.isprintable() and r"x\n1.2.3.4:5" in each for each in about)

    def test_behind_a_proxy(self, start: Start, path: str) -> None:
        policy = ProxyPolicy(["unix"])
        start(path, partial(tako.serve, proxy=policy))
        with connect_to(path, "h1", first=V1) as connection:
            response = connection.request("GET", "/whoami")
            assert response.body.decode() == f"192.168.1.100:56324 {path} False"

    def test_an_address_will_do(self, runtime: RuntimeName, path: str) -> None:
        answers: list[bytes] = []

        def ask() -> None:
            with connect_to(path, "h1") as connection:
                answers.append(connection.request("GET", "/").body)

        async def ask_in_thread() -> None:  # begins when the server listens
            await tako.runtime.current().to_thread(ask)

        async def main() -> None:
            await tako.serve(f"unix:{path}", router(), shutdown=ask_in_thread)

        run_on(runtime, main)
        assert answers == [b"Hello, World!"]
        assert not Path(path).exists()

    def test_it_is_served_beside_a_port(self, runtime: RuntimeName, path: str) -> None:
        async def main() -> list[bytes]:
            both = ["127.0.0.1:0", f"unix:{path}"]
            async with tako.serve(both, router()) as server:
                tcp, unix = server.addresses
                assert isinstance(tcp, IpPeer)
                assert unix == UnixPeer(path)

                def ask(where: Address | str) -> bytes:
                    with connect_to(where, "h1") as connection:
                        return connection.request("GET", "/").body

                in_thread = tako.runtime.current().to_thread
                addresses: list[Address | str] = [(tcp.host, tcp.port), path]
                return [await in_thread(partial(ask, each)) for each in addresses]

        assert run_on(runtime, main) == [b"Hello, World!"] * 2
        assert not Path(path).exists()


def run_on(runtime: RuntimeName, main: Callable[[], Awaitable[object]]) -> object:
    if runtime == "trio":
        return tako.run(main, runtime="trio")
    return tako.run(main, loop=runtime)


def bound(path: str | Path) -> tako.Listener:
    listener: tako.Listener = tako.run(tako.bind, f"unix:{path}")
    return listener


class TestBinding:
    """What is there already decides."""

    def test_a_socket_of_a_dead_server_is_replaced(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        with bound(path), socket.socket(socket.AF_UNIX) as client:
            client.connect(path)

    def test_a_socket_of_a_live_server_is_not(self, path: str) -> None:
        with bound(path):
            with pytest.raises(OSError, match="is already in use") as caught:
                bound(path)
            assert caught.value.errno == errno.EADDRINUSE
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
        assert not Path(path).exists()

    def test_neither_is_one_that_is_too_busy_to_accept(self, path: str) -> None:
        with socket.socket(socket.AF_UNIX) as busy:
            busy.bind(path)
            busy.listen(0)
            waiting: list[socket.socket] = []
            try:
                while len(waiting) < 10:  # until its backlog is full
                    client = socket.socket(socket.AF_UNIX)
                    waiting.append(client)
                    client.setblocking(False)
                    client.connect(path)
            except BlockingIOError:
                pass
            assert len(waiting) < 10
            with pytest.raises(OSError, match="is already in use"):
                bound(path)
            for client in waiting:
                client.close()

    @pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling"])
    def test_what_is_no_socket_is_not_removed(self, path: str, kind: str) -> None:
        elsewhere = f"{path}.real"
        if kind == "file":
            Path(path).write_text("precious")
        elif kind == "directory":
            Path(path).mkdir()
        else:
            Path(path).symlink_to(elsewhere)
        if kind == "link":
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(elsewhere)
        message = f"{path} exists but is not a unix socket; refusing to remove"
        with pytest.raises(OSError, match=message):
            bound(path)
        assert os.path.lexists(path)
        assert os.path.lexists(elsewhere) == (kind == "link")

    def test_at_the_end_another_servers_file_stays(self, path: str) -> None:
        listener = bound(path)
        os.unlink(path)
        with bound(path):
            listener.close()
            listener.close()
            assert Path(path).is_socket()
        assert not Path(path).exists()

    def test_a_file_that_is_gone_at_the_end_is_no_error(self, path: str) -> None:
        with bound(path):
            os.unlink(path)

    def test_a_listener_there_has_no_port(self, tmp_path: Path) -> None:
        with bound(tmp_path / "a.sock") as listener:
            assert listener.local_addr == UnixPeer(str(tmp_path / "a.sock"))
            with pytest.raises(ValueError, match="has no port"):
                _ = listener.port

    @pytest.mark.parametrize("name", ["x" * 200, "missing/a.sock"])
    def test_what_cannot_be_bound_is_named(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        with pytest.raises(OSError, match=f"cannot listen on {path}: "):
            bound(path)

    def test_no_path_is_no_address(self) -> None:
        with pytest.raises(ValueError, match="unix: takes a path"):
            bound("")

    def test_options_of_tcp_are_refused(self, path: str) -> None:
        for options in ({"reuse_port": True}, {"port_fallback": True}):
            with pytest.raises(ValueError, match=f"are for TCP, not for unix:{path}"):
                tako.run(lambda: tako.bind(f"unix:{path}", **options))  # noqa: B023

    def test_elsewhere_abstract_names_do_not_exist(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(OSError, match="are Linux's") as caught:
            bound("@tako")
        assert caught.value.errno == errno.EOPNOTSUPP


def test_addresses_of_unix_sockets() -> None:
    assert address_of(socket.AF_UNIX, "") == UnixPeer(None)
    assert address_of(socket.AF_UNIX, b"\0a\xff") == UnixPeer("@a\\xff")
    assert address_of(socket.AF_UNIX, "/run/a") == UnixPeer("/run/a")
