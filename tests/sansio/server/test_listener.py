"""Addresses of sockets, and what has none (spec 7.1)."""

import socket

import pytest

from tako.server.listener import Listener, split_address


class TestSplitAddress:
    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            ("127.0.0.1:80", ("127.0.0.1", 80)),
            ("[::1]:443", ("::1", 443)),
            ("localhost:0", ("localhost", 0)),
            (":8080", ("", 8080)),
            ("0.0.0.0:65535", ("0.0.0.0", 65535)),
        ],
    )
    def test_host_and_port(self, address: str, expected: tuple[str, int]) -> None:
        assert split_address(address) == expected

    @pytest.mark.parametrize(
        "address",
        [
            "",
            "localhost",
            "80",
            "::1:80",
            "h:",
            "h:x",
            "h:-1",
            "h:65536",
            "h:１",
            "h: 1",
        ],
    )
    def test_other_forms_are_refused_by_name(self, address: str) -> None:
        with pytest.raises(ValueError, match="host:port") as caught:
            split_address(address)
        assert repr(address) in str(caught.value)


class TestListener:
    def test_a_listener_without_a_port_says_so(self) -> None:
        with (
            socket.socket(socket.AF_UNIX) as sock,
            pytest.raises(ValueError, match="has no port"),
        ):
            _ = Listener([sock]).port
