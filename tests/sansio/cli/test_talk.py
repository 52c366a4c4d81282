"""What ``tako connect`` writes, and how it reads lines."""

import os
import threading
from collections.abc import Iterator

import pytest


pytest.importorskip("click")

from tako.cli.aside import Aside, Lines, Output
from tako.cli.talk import escaped, written
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.server import RuntimeName


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("text", b"text\n"),
        ("", b"\n"),
        ("two\nlines\x1b", b"two\nlines\x1b\n"),
        ('{"a": 1}', b'{"a": 1}\n'),
        ("\N{OCTOPUS}", "\N{OCTOPUS}\n".encode()),
        (b"", b"data:;base64,\n"),
        (b"\x00\x01\xff", b"data:;base64,AAH/\n"),
    ],
)
def test_a_pipe_gets_messages_as_they_are(message: str | bytes, line: bytes) -> None:
    assert written(message, terminal=False) == line


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("text", "< text\n"),
        ("", "< \n"),
        ("two\nlines", "< two\n  lines\n"),
        ('{"b": 1, "a": [2]}', '< {\n    "b": 1,\n    "a": [\n      2\n    ]\n  }\n'),
        ("[]", "< []\n"),
        (" [1]", "< [\n    1\n  ]\n"),
        ("[1", "< [1\n"),
        ("{not JSON}", "< {not JSON}\n"),
        ("12", "< 12\n"),
        ("\x1b[31m\x07", "< \\x1b[31m\\x07\n"),
        ('["\\u001b[31m"]', '< [\n    "\\u001b[31m"\n  ]\n'),
        ('["\\u202e"]', '< [\n    "\\u202e"\n  ]\n'),
        ("[" * 100_000, "< " + "[" * 100_000 + "\n"),
        (b"", "< (0 bytes) \n"),
        (b"\x00\xff", "< (2 bytes) 00 ff\n"),
        (bytes(65), "< (65 bytes) " + " ".join(["00"] * 64) + "...\n"),
    ],
)
def test_a_terminal_shows_messages_to_people(message: str | bytes, shown: str) -> None:
    assert written(message, terminal=True) == shown.encode()


def test_what_does_not_print_is_escaped_but_for_tabs() -> None:
    assert (
        escaped("a\tb\x00\x7f\x9b\u2028\ud800") == "a\tb\\x00\\x7f\\x9b\\u2028\\ud800"
    )


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for each in ends:
        os.close(each)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_lines_are_read_as_they_are_asked_for(
    runtime: RuntimeName, pipe: tuple[int, int]
) -> None:
    async def main() -> list[bytes | None]:
        lines = Lines(pipe[0], 100)
        os.write(pipe[1], b"one\n\ntw")
        found = [await lines.next(), await lines.next()]
        os.write(pipe[1], b"o\r\nthree")
        found.append(await lines.next())
        os.close(pipe[1])
        found += [await lines.next(), await lines.next(), await lines.next()]
        os.dup2(pipe[0], pipe[1])  # for the fixture
        return found

    expected = [b"one", b"", b"two\r", b"three", None, None]
    assert run_on(runtime, main) == expected


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_line_has_a_limit(runtime: RuntimeName, pipe: tuple[int, int]) -> None:
    async def main() -> None:
        lines = Lines(pipe[0], 100)
        os.write(pipe[1], b"x" * 100 + b"\n" + b"x" * 101)
        assert await lines.next() == b"x" * 100
        with pytest.raises(ValueError, match="more than 100 bytes"):
            await lines.next()

    run_on(runtime, main)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_output_is_written_whole(runtime: RuntimeName, pipe: tuple[int, int]) -> None:
    data = bytes(range(256)) * 4096  # more than a pipe holds
    got = bytearray()

    async def main() -> None:
        output = Output(pipe[1])
        await output.write(b"")
        await output.write(data)

    def read() -> None:
        while len(got) < len(data):
            got.extend(os.read(pipe[0], 65_536))

    reader = threading.Thread(target=read)
    reader.start()
    run_on(runtime, main)
    reader.join(TIMEOUT)
    assert got == data


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_what_a_call_raises_is_raised(runtime: RuntimeName) -> None:
    async def main() -> None:
        aside = Aside()
        with pytest.raises(ZeroDivisionError):
            await aside.call(lambda: 1 // 0)
        assert await aside.call(lambda: 7) == 7

    run_on(runtime, main)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_call_that_was_cancelled_is_for_the_next(
    runtime: RuntimeName, pipe: tuple[int, int]
) -> None:
    async def main() -> None:
        lines = Lines(pipe[0], 100)
        if runtime == "trio":
            import trio

            with trio.move_on_after(0.01):
                await lines.next()
        else:
            import asyncio

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(lines.next(), 0.01)
        os.write(pipe[1], b"kept\n")
        assert await lines.next() == b"kept"

    run_on(runtime, main)
