"""Sockets from systemd: spec section 12, T-FD-01.

Descriptors 3 and up belong to pytest here, so what is passed is tested in a child
process whose descriptors are set up as systemd does it.
"""

import fcntl
import json
import os
import socket
import sys
import textwrap
from pathlib import Path

import pytest

from tako import ConfigError, ListenFds
from tests.support.children import run_child


ROOT = Path(__file__).parents[3]

PREAMBLE = """
import json, os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from tako import ListenFds
"""


def child(program: str, *fds: int, **env: str) -> object:
    """Run ``program`` with ``fds`` as descriptors 3 and up; return what it prints."""
    # The shell puts them where they belong; first they are moved out of the way.
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
    redirections = " ".join(f"{3 + i}<&{fd}" for i, fd in enumerate(moved))
    script = PREAMBLE + textwrap.dedent(program)
    try:
        done = run_child(
            ["bash", "-c", f'exec "$0" -c "$1" {redirections}', sys.executable, script],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
            pass_fds=moved,
        )
    finally:
        for fd in moved:
            os.close(fd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class TestEnvironment:
    @pytest.mark.parametrize(
        "env",
        [
            {},
            {"LISTEN_FDS": "2"},
            {"LISTEN_PID": str(os.getpid())},
            {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "2"},
            {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0", "LISTEN_FDNAMES": ""},
        ],
    )
    def test_what_is_not_for_us_is_nothing_and_is_consumed(
        self, env: dict[str, str]
    ) -> None:
        environ = env | {"PATH": "/bin"}
        fds = ListenFds.from_env(environ)
        assert (len(fds), fds.is_empty(), fds.names) == (0, True, ())
        assert fds.tcp_listener(0) is None
        assert fds.unix_listener(0) is None
        assert environ == {"PATH": "/bin"}

    @pytest.mark.parametrize(
        ("pid", "count"),
        [
            ("x", "1"),
            ("-1", "1"),
            (str(os.getpid()), "-1"),
            (str(os.getpid()), "1.5"),
            (str(os.getpid()), "9" * 30),
            (str(os.getpid()), "²"),
        ],
    )
    def test_nonsense_is_refused_and_consumed(self, pid: str, count: str) -> None:
        environ = {"LISTEN_PID": pid, "LISTEN_FDS": count}
        with pytest.raises(ConfigError, match="is no number that can be"):
            ListenFds.from_env(environ)
        assert environ == {}

    def test_descriptors_that_are_not_open_are_refused(self) -> None:
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "4000000"}
        with pytest.raises(ConfigError, match="is not open"):
            ListenFds.from_env(environ)


class TestDescriptors:
    def test_each_is_taken_once_as_what_it_is(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.sock")
        with (
            socket.create_server(("127.0.0.1", 0)) as tcp,
            socket.create_server(("::1", 0), family=socket.AF_INET6) as tcp6,
            socket.socket(socket.AF_UNIX) as unix,
        ):
            unix.bind(path)
            unix.listen()
            found = child(
                """
                fds = ListenFds.from_env()
                tcp, unix, tcp6 = (
                    fds.tcp_listener(0), fds.unix_listener(1), fds.tcp_listener(2)
                )
                print(json.dumps({
                    "left": sorted(k for k in os.environ if k.startswith("LISTEN_")),
                    "len": len(fds), "empty": fds.is_empty(), "names": fds.names,
                    "addresses": [str(each.local_addr) for each in (tcp, unix, tcp6)],
                    "blocking": [each.sockets[0].getblocking() for each in (tcp, unix)],
                    "inheritable": [os.get_inheritable(fd) for fd in (3, 4, 5)],
                    "again": [fds.tcp_listener(0), fds.unix_listener(1)],
                    "outside": [fds.tcp_listener(3), fds.tcp_listener(-1)],
                }))
                """,
                tcp.fileno(),
                unix.fileno(),
                tcp6.fileno(),
                LISTEN_FDS="3",
                LISTEN_FDNAMES="web:local:web6",
            )
            assert found == {
                "left": [],
                "len": 3,
                "empty": False,
                "names": ["web", "local", "web6"],
                "addresses": [
                    f"127.0.0.1:{tcp.getsockname()[1]}",
                    path,
                    f"[::1]:{tcp6.getsockname()[1]}",
                ],
                "blocking": [False, False],
                "inheritable": [False, False, False],
                "again": [None, None],
                "outside": [None, None],
            }

    def test_another_type_is_none_and_stays(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET) as idle,
            open(os.devnull) as file,
        ):
            found = child(
                """
                fds = ListenFds.from_env()
                print(json.dumps([
                    [fds.unix_listener(i) is None for i in range(4)],
                    [fds.tcp_listener(i) is None for i in range(4)],
                ]))
                """,
                tcp.fileno(),
                udp.fileno(),
                idle.fileno(),
                file.fileno(),
                LISTEN_FDS="4",
            )
        assert found == [[True] * 4, [False, True, True, True]]

    def test_a_server_serves_it(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as tcp:
            found = child(
                """
                import http.client, tako

                async def main():
                    listener = ListenFds.from_env().tcp_listener(0)
                    router = tako.Router()
                    router.get("/", lambda: "activated")

                    def ask():
                        client = http.client.HTTPConnection(str(listener.local_addr))
                        client.request("GET", "/")
                        answers.append(client.getresponse().read().decode())
                        client.close()

                    async def asked():
                        await asyncio.to_thread(ask)

                    await tako.serve(listener, router, shutdown=asked)

                import asyncio
                answers = []
                tako.run(main)
                print(json.dumps(answers))
                """,
                tcp.fileno(),
                LISTEN_FDS="1",
            )
        assert found == ["activated"]
