"""Sockets from systemd: spec section 12, T-FD-01.

Descriptors 3 and up belong to pytest here, so what is passed is tested in a child
process with descriptors that are set up as systemd does it.
"""

import fcntl
import json
import os
import socket
import sys
import textwrap
from pathlib import Path

import pytest

from tako import ConfigError
from tako.server.systemd import descriptors, inherited
from tests.support.children import run_child


ROOT = Path(__file__).parents[3]

PREAMBLE = """
import json, os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
import tako

async def both(*addresses):
    return [await tako.bind(each) for each in addresses]
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
            {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:web"},
            {"LISTEN_PID": "ours", "LISTEN_FDNAMES": "web"},
            {"LISTEN_PID": "other", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:b"},
            {"LISTEN_PID": "ours", "LISTEN_FDS": "0", "LISTEN_FDNAMES": "web"},
            {"LISTEN_PID": "ours", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a:web"},
            {"LISTEN_PID": "ours", "LISTEN_FDS": "1"},
        ],
    )
    def test_what_is_not_for_us_has_no_name(
        self, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pids = {"ours": str(os.getpid()), "other": str(os.getpid() + 1)}
        for name, value in env.items():
            monkeypatch.setenv(name, pids.get(value, value))
        with pytest.raises(OSError, match="cannot listen on fd://web: systemd has"):
            inherited("web")

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
    def test_nonsense_is_refused(
        self, pid: str, count: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LISTEN_PID", pid)
        monkeypatch.setenv("LISTEN_FDS", count)
        with pytest.raises(ConfigError, match="is no number that can be"):
            inherited("web")

    def test_each_descriptor_has_its_number_and_may_share_its_name(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "3")
        monkeypatch.setenv("LISTEN_FDNAMES", "web:local:web")
        assert descriptors("web") == [3, 5]
        assert descriptors("local") == [4]
        assert descriptors("7") == [7]

    @pytest.mark.parametrize(
        ("which", "error", "why"),
        [
            ("", ValueError, "as in fd://3"),
            ("9" * 30, ConfigError, "is no number that can be"),
            ("4000000", OSError, "cannot listen on fd://4000000: 4000000 is no open"),
        ],
    )
    def test_what_is_no_descriptor_is_refused(
        self, which: str, error: type[Exception], why: str
    ) -> None:
        with pytest.raises(error, match=why):
            inherited(which)


class TestDescriptors:
    def test_each_is_taken_as_what_it_is(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.sock")
        with (
            socket.create_server(("127.0.0.1", 0)) as tcp,
            socket.socket(socket.AF_UNIX) as unix,
            socket.create_server(("::1", 0), family=socket.AF_INET6) as tcp6,
        ):
            unix.bind(path)
            unix.listen()
            found = child(
                """
                web, local = tako.run(both, "fd://web", "fd://4")
                print(json.dumps({
                    "web": [str(each) for each in web.addresses],
                    "local": [str(each) for each in local.addresses],
                    "blocking": [each.getblocking() for each in web.sockets],
                    "inheritable": [os.get_inheritable(fd) for fd in (3, 4, 5)],
                }))
                local.close()
                """,
                tcp.fileno(),
                unix.fileno(),
                tcp6.fileno(),
                LISTEN_FDS="3",
                LISTEN_FDNAMES="web:local:web",
            )
            assert found == {
                "web": [
                    f"127.0.0.1:{tcp.getsockname()[1]}",
                    f"[::1]:{tcp6.getsockname()[1]}",
                ],
                "local": [path],
                "blocking": [False, False],
                "inheritable": [False, False, False],
            }
            assert Path(path).is_socket()  # the supervisor's

    def test_another_type_is_refused_and_stays(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET) as idle,
            open(os.devnull) as file,
        ):
            found = child(
                """
                errors, taken = [], []
                for which in ("fd://3", "fd://4", "fd://5", "fd://6", "fd://web"):
                    try:
                        taken.append(tako.run(tako.bind, which))
                        errors.append(None)
                    except OSError as error:
                        errors.append(error.strerror)
                for fd in (3, 4, 5, 6):
                    os.fstat(fd)
                print(json.dumps(errors))
                taken[0].close()
                """,
                tcp.fileno(),
                udp.fileno(),
                idle.fileno(),
                file.fileno(),
                LISTEN_FDS="4",
                LISTEN_FDNAMES="web:web:web:web",
            )
        start = "cannot listen on fd://"
        no_listener = "{}: {} is no socket that listens for streams"
        assert isinstance(found, list)
        assert found.pop(0) is None
        assert found == [
            start + no_listener.format(4, 4),
            start + no_listener.format(5, 5),
            start + "6: 6 is no open socket",
            start + no_listener.format("web", 4),
        ]

    def test_a_server_serves_it(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as tcp:
            found = child(
                """
                import http.client

                async def main():
                    router = tako.Router()
                    router.get("/", lambda: "activated")

                    def ask(address):
                        client = http.client.HTTPConnection(str(address))
                        client.request("GET", "/")
                        answers.append(client.getresponse().read().decode())
                        client.close()

                    async with tako.serve("fd://web", router) as server:
                        await asyncio.to_thread(ask, server.addresses[0])

                import asyncio
                answers = []
                tako.run(main)
                print(json.dumps(answers))
                """,
                tcp.fileno(),
                LISTEN_FDS="1",
                LISTEN_FDNAMES="web",
            )
        assert found == ["activated"]
