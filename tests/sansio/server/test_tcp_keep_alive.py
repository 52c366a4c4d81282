"""TCP keepalive: what an accepted socket inherits."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tako.config import ServerConfig
from tako.errors import ConfigError
from tako.server.tcp_keep_alive import keep_alive


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening TCP socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def accepted(listener: socket.socket) -> tuple[int, ...]:
    """Return the options of a socket that ``listener`` accepts."""
    with (
        socket.create_connection(listener.getsockname(), timeout=10),
        listener.accept()[0] as sock,
    ):
        return (
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            *(
                sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
                if hasattr(socket, name)
            ),
        )


@pytest.mark.skipif(sys.platform != "linux", reason="figures of Linux")
class TestKeepAlive:
    def test_by_default_a_host_is_lost_after_two_minutes(
        self, listener: socket.socket
    ) -> None:
        keep_alive(listener, listener.family, ServerConfig())
        assert accepted(listener) == (1, 60, 10, 6)

    def test_the_figures_can_be_chosen(self, listener: socket.socket) -> None:
        config = ServerConfig(
            tcp_keep_alive_idle=7, tcp_keep_alive_interval=3, tcp_keep_alive_count=2
        )
        keep_alive(listener, listener.family, config)
        assert accepted(listener) == (1, 7, 3, 2)

    def test_a_socket_that_was_connected_earlier_gets_it_as_well(
        self, listener: socket.socket
    ) -> None:
        with socket.create_connection(listener.getsockname(), timeout=10):
            keep_alive(listener, listener.family, ServerConfig())
            sock, _ = listener.accept()
            with sock:
                assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                keep_alive(sock, sock.family, ServerConfig(), accepted=True)
                idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                assert idle == 60

    def test_it_can_be_left_to_the_system(self, listener: socket.socket) -> None:
        before = accepted(listener)
        keep_alive(listener, listener.family, ServerConfig(tcp_keep_alive_idle=None))
        assert accepted(listener) == before


def test_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        keep_alive(sock, sock.family, ServerConfig())
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("missing", ["TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"])
def test_what_the_platform_lacks_is_left_out(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delattr(socket, missing, raising=False)
    keep_alive(listener, listener.family, ServerConfig())
    assert accepted(listener)[0] == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tcp_keep_alive_idle", 0),
        ("tcp_keep_alive_interval", 32_768),
        ("tcp_keep_alive_count", 128),
    ],
)
def test_what_no_kernel_takes_is_refused_early(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be from 1 to"):
        ServerConfig(**{name: value})  # type: ignore[arg-type]
