"""The lines between a worker and its supervisor."""

import pytest

from tako.cli import link


def test_lines_come_in_any_pieces() -> None:
    data = link.line(link.READY, "tako router") + link.line(link.REPLACED)
    data += link.line(link.REPLACE, "1000 requests")
    lines = link.Lines()
    found = [each for byte in data for each in lines.feed(bytes([byte]))]
    assert found == link.Lines().feed(data)
    assert found == [
        (b"ready", "tako router"),
        (b"replaced", ""),
        (b"replace", "1000 requests"),
    ]


@pytest.mark.parametrize(
    "text", ["a\nb\r\n", 'Traceback:\n  File "x"\n', "\udce4\x00", "é" * 50_000, ""]
)
def test_a_failure_is_one_line_whatever_is_in_it(text: str) -> None:
    data = link.line(link.FAILED, link.as_text(text))
    ((word, rest),) = link.Lines().feed(data)
    assert word == link.FAILED
    assert link.as_failure(rest) == text[-(1 << 15) :]


def test_the_longest_failure_is_taken() -> None:
    data = link.line(link.FAILED, link.as_text("\x00" * 100_000))
    lines = link.Lines()
    pieces = [data[n : n + link.PIECE] for n in range(0, len(data), link.PIECE)]
    (*none, found) = map(lines.feed, pieces)
    assert not any(none)
    assert link.as_failure(found[0][1]) == "\x00" * (1 << 15)


def test_what_is_not_in_its_form_is_a_failure_as_it_is() -> None:
    assert link.as_failure("no json") == "no json"


def test_a_line_without_an_end_is_not_kept() -> None:
    lines = link.Lines()
    for _ in range(100):
        assert lines.feed(b"x" * link.PIECE) == []
        assert len(lines._rest) <= 1 << 18
    lines.feed(b"\n")
    assert lines.feed(b"ready yes\n") == [(b"ready", "yes")]
