"""``bind``, what is taken in its place, and the dialogue (spec 7.1, 8.1)."""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tako.http.conn_info import IpPeer, UnixPeer
from tako.server.bind import ListenerLike, as_listener, bind
from tako.server.listener import Listener
from tests.support.patience import TIMEOUT
from tests.support.ports import hold


def bound(address: str | tuple[str, int], *, reuse_port: bool = False) -> Listener:
    return asyncio.run(bind(address, reuse_port=reuse_port))


class TestBind:
    def test_port_0_takes_a_free_one_and_says_which(self) -> None:
        with bound("127.0.0.1:0") as listener:
            assert listener.port > 0
            assert listener.local_addr == IpPeer("127.0.0.1", listener.port)

    def test_it_listens_before_it_returns(self) -> None:
        with bound("127.0.0.1:0") as listener:
            socket.create_connection(
                ("127.0.0.1", listener.port), timeout=TIMEOUT
            ).close()

    def test_its_sockets_do_not_block(self) -> None:
        with bound("127.0.0.1:0") as listener:
            assert not listener.sockets[0].getblocking()

    def test_a_tuple_is_an_address_too(self) -> None:
        with bound(("127.0.0.1", 0)) as listener:
            assert listener.port > 0

    def test_a_name_is_bound_on_all_its_addresses_with_one_port(self) -> None:
        with bound("localhost:0") as listener:
            ports = {sock.getsockname()[1] for sock in listener.sockets}
            assert ports == {listener.port}

    def test_a_port_that_is_taken_is_an_error_that_names_it(self) -> None:
        with bound("127.0.0.1:0") as listener:
            address = f"127.0.0.1:{listener.port}"
            with pytest.raises(OSError, match=f"cannot listen on {address}") as caught:
                bound(address)
            assert caught.value.errno == errno.EADDRINUSE

    def test_reuse_port_shares_it(self) -> None:
        with bound("127.0.0.1:0", reuse_port=True) as first:
            bound(f"127.0.0.1:{first.port}", reuse_port=True).close()

    def test_a_failure_leaves_no_socket_open(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[socket.socket] = []
        create = socket.socket

        def recording(*args: int) -> socket.socket:
            made.append(create(*args))
            return made[-1]

        with bound("127.0.0.1:0") as taken:
            monkeypatch.setattr("tako.server.bind.socket.socket", recording)
            with pytest.raises(OSError, match="cannot listen"):
                asyncio.run(bind(("127.0.0.1", taken.port)))
        assert made
        assert [sock.fileno() for sock in made if sock.family == socket.AF_INET] == [-1]

    def test_closing_again_is_a_no_op(self) -> None:
        listener = bound("127.0.0.1:0")
        listener.close()
        listener.close()


class TestAsListener:
    def test_a_listener_is_one(self) -> None:
        with bound("127.0.0.1:0") as listener:
            assert asyncio.run(as_listener(listener)) is listener

    def test_a_bound_socket_becomes_one(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            listener = asyncio.run(as_listener(sock))
            assert listener.sockets == [sock]
            assert not sock.getblocking()

    @pytest.mark.parametrize("address", ["127.0.0.1:0", ("127.0.0.1", 0)])
    def test_an_address_is_bound(self, address: str | tuple[str, int]) -> None:
        with asyncio.run(as_listener(address)) as listener:
            assert listener.port > 0

    def test_a_list_is_one_listener_of_all(self, tmp_path: Path) -> None:
        path = tmp_path / "a.sock"
        with socket.create_server(("127.0.0.1", 0)) as sock:
            several: list[ListenerLike] = [f"unix:{path}", "127.0.0.1:0", [sock]]
            with asyncio.run(as_listener(several)) as listener:
                assert listener.addresses == [
                    UnixPeer(str(path)),
                    IpPeer("127.0.0.1", listener.sockets[1].getsockname()[1]),
                    IpPeer("127.0.0.1", sock.getsockname()[1]),
                ]
                assert listener.local_addr == listener.addresses[0]
            assert [each.fileno() for each in listener.sockets] == [-1] * 3
        assert not path.exists()

    def test_a_list_of_one_is_that_one(self) -> None:
        with bound("127.0.0.1:0") as listener:
            assert asyncio.run(as_listener([listener])) is listener

    def test_a_list_of_which_one_fails_is_closed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.sock"
        for wrong, error in (("nonsense", ValueError), ("fd://199", OSError)):
            with pytest.raises(error):
                asyncio.run(as_listener([f"unix:{path}", wrong]))
            assert not path.exists()

    def test_anything_else_is_a_type_error(self) -> None:
        for wrong in (8080, b"127.0.0.1:0", [8080], None):
            with pytest.raises(TypeError, match="a listener is"):
                asyncio.run(as_listener(wrong))  # type: ignore[arg-type]

    def test_an_empty_list_is_a_value_error(self) -> None:
        with pytest.raises(ValueError, match="no address in the list"):
            asyncio.run(as_listener([]))


class Taken:
    """A port that is taken, and one after it that is free."""

    def __init__(self) -> None:
        while True:
            self.sock = socket.create_server(("127.0.0.1", 0))
            self.port = int(self.sock.getsockname()[1])
            try:
                self.after = hold(self.port + 1)
            except (OSError, OverflowError):  # it is taken, or there is none
                self.sock.close()
            else:
                return

    @property
    def question(self) -> str:
        nxt = self.port + 1
        return f"Port {self.port} is already in use. Start on {nxt} instead? [Y/n]: "


@pytest.fixture
def taken() -> Iterator[Taken]:
    port = Taken()
    with port.sock, port.after:
        yield port


def answering(asked: list[str], *answers: str) -> Callable[[str], str]:
    """Return a prompt that gives ``answers`` one after the other, then EOF."""
    left = iter(answers)

    def prompt(question: str) -> str:
        asked.append(question)
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return prompt


class TestPortFallback:
    def test_a_free_port_asks_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        asked: list[str] = []
        prompt = answering(asked)
        with asyncio.run(bind("127.0.0.1:0", port_fallback=prompt)):
            assert not asked
            assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("answer", ["", "y", "Y", "yes", "YES", "  yes "])
    def test_yes_takes_the_next_port_and_says_so(
        self, taken: Taken, answer: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked: list[str] = []
        listener = asyncio.run(
            bind(f"127.0.0.1:{taken.port}", port_fallback=answering(asked, answer))
        )
        with listener:
            assert listener.port == taken.port + 1
        assert asked == [taken.question]
        assert capsys.readouterr().out == (
            f"Port {taken.port} was in use, starting on {taken.port + 1} instead\n"
        )

    @pytest.mark.parametrize("answers", [("n",), ("NO",), ()])
    def test_no_and_no_terminal_raise_the_original_error(
        self, taken: Taken, answers: tuple[str, ...]
    ) -> None:
        asked: list[str] = []
        with pytest.raises(OSError, match="cannot listen") as caught:
            asyncio.run(
                bind(
                    f"127.0.0.1:{taken.port}", port_fallback=answering(asked, *answers)
                )
            )
        assert caught.value.errno == errno.EADDRINUSE
        assert asked == [taken.question]

    def test_anything_else_is_asked_again(
        self, taken: Taken, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked: list[str] = []
        prompt = answering(asked, "maybe", "?", "n")
        with pytest.raises(OSError, match="cannot listen"):
            asyncio.run(bind(f"127.0.0.1:{taken.port}", port_fallback=prompt))
        assert asked == [taken.question] * 3
        assert capsys.readouterr().out == "Please answer 'y' or 'n'.\n" * 2

    def test_two_taken_ports_are_two_questions(self, taken: Taken) -> None:
        asked: list[str] = []
        prompt = answering(asked, "y", "n")
        with (
            socket.create_server(("127.0.0.1", taken.port + 1)),
            pytest.raises(OSError, match=str(taken.port + 1)),
        ):
            asyncio.run(bind(f"127.0.0.1:{taken.port}", port_fallback=prompt))
        assert len(asked) == 2

    def test_behind_the_last_port_there_is_none(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def in_use(*_: object, **__: object) -> Listener:
            raise OSError(errno.EADDRINUSE, "in use")

        monkeypatch.setattr("tako.server.bind.bind_tcp", in_use)
        asked: list[str] = []
        with pytest.raises(OSError, match="in use"):
            asyncio.run(bind("127.0.0.1:65535", port_fallback=answering(asked, "y")))
        assert not asked

    def test_other_errors_are_raised_at_once(self) -> None:
        asked: list[str] = []
        with pytest.raises(OSError, match="cannot listen"):
            asyncio.run(bind("192.0.2.1:1", port_fallback=answering(asked, "y")))
        assert not asked

    def test_an_address_of_another_form_is_a_value_error(self) -> None:
        with pytest.raises(ValueError, match="host:port"):
            asyncio.run(bind("8080", port_fallback=True))

    def test_the_question_does_not_block_the_loop(self, taken: Taken) -> None:
        async def main() -> list[str]:
            loop = asyncio.get_running_loop()
            ran = asyncio.Event()

            def prompt(_: str) -> str:
                # answered only once the loop has run something meanwhile
                asyncio.run_coroutine_threadsafe(note(), loop).result(timeout=TIMEOUT)
                return "n"

            async def note() -> None:
                ran.set()

            with pytest.raises(OSError, match="cannot listen"):
                await bind(f"127.0.0.1:{taken.port}", port_fallback=prompt)
            return ["ran"] if ran.is_set() else []

        assert asyncio.run(main()) == ["ran"]
