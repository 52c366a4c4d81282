"""``bind(port_fallback=...)``, the dialogue of spec section 8.1 (T-SV-02)."""

import errno
import io
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

import tako
from tako.server import bind as binding
from tests.support.ports import hold


Prompt = Callable[[str], str]


@pytest.fixture(params=["asyncio", "trio"])
def on(request: pytest.FixtureRequest) -> Callable[..., tako.Listener]:
    """Bind on either runtime; return the listener."""
    if request.param == "trio":
        pytest.importorskip("trio")

    def on(address: str, prompt: Prompt | None = None) -> tako.Listener:
        async def main() -> tako.Listener:
            return await tako.bind(address, port_fallback=prompt or True)

        found: tako.Listener = tako.run(main, runtime=request.param)
        return found

    return on


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use, below one that is free."""
    while True:
        first = socket.create_server(("127.0.0.1", 0))
        port: int = first.getsockname()[1]
        try:
            after = hold(port + 1)
        except (OSError, OverflowError):  # it is taken, or there is none
            first.close()
        else:
            break
    with first, after:
        yield port


class Answers:
    """Answers questions, and keeps them and the threads that asked."""

    def __init__(self, *answers: str) -> None:
        self.questions: list[str] = []
        self.threads: set[threading.Thread] = set()
        self._answers = list(answers)

    def __call__(self, question: str) -> str:
        self.questions.append(question)
        self.threads.add(threading.current_thread())
        return self._answers.pop(0)


On = Callable[..., tako.Listener]


def test_a_free_port_needs_no_question(
    on: On, capsys: pytest.CaptureFixture[str]
) -> None:
    with on("127.0.0.1:0", Answers()) as found:
        assert found.port
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("answer", ["", "y", "Y", "yes", "YES", " yes "])
def test_yes_takes_the_next_port(
    on: On, taken: int, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = Answers(answer)
    with on(f"127.0.0.1:{taken}", answers) as found:
        assert found.port == taken + 1
    assert answers.questions == [
        f"Port {taken} is already in use. Start on {taken + 1} instead? [Y/n]: "
    ]
    assert capsys.readouterr().out == (
        f"Port {taken} was in use, starting on {taken + 1} instead\n"
    )


def test_the_question_is_asked_off_the_event_loop(on: On, taken: int) -> None:
    answers = Answers("y")
    on(f"127.0.0.1:{taken}", answers).close()
    assert threading.current_thread() not in answers.threads


@pytest.mark.parametrize("answer", ["n", "NO", " No "])
def test_no_raises_the_original_error(on: On, taken: int, answer: str) -> None:
    with pytest.raises(OSError, match=str(taken)) as caught:
        on(f"127.0.0.1:{taken}", Answers(answer))
    assert caught.value.errno == errno.EADDRINUSE


def test_anything_else_is_asked_again(
    on: On, taken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = Answers("maybe", "2", "y")
    on(f"127.0.0.1:{taken}", answers).close()
    assert len(answers.questions) == 3
    assert capsys.readouterr().out.startswith("Please answer 'y' or 'n'.\n" * 2)


def test_without_a_terminal_no_port_is_hopped(
    on: On, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(OSError, match="cannot listen") as caught:
        on(f"127.0.0.1:{taken}")
    assert caught.value.errno == errno.EADDRINUSE


def test_there_is_no_port_after_the_last(
    on: On, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_host: str, port: int, *_: object, **__: object) -> tako.Listener:
        raise OSError(errno.EADDRINUSE, f"{port}")

    monkeypatch.setattr(binding, "bind_tcp", full)
    answers = Answers()
    with pytest.raises(OSError, match="65535"):
        on("127.0.0.1:65535", answers)
    assert answers.questions == []


def test_other_errors_are_raised(on: On) -> None:
    answers = Answers()
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0"):
        on("192.0.2.1:0", answers)
    assert answers.questions == []


@pytest.mark.parametrize(
    "address", ["nowhere", "127.0.0.1:", "127.0.0.1:70000", "::1:1"]
)
def test_what_is_no_address_is_refused(on: On, address: str) -> None:
    with pytest.raises(ValueError, match="an address is"):
        on(address)
