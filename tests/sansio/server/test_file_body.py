"""``FileBody``: which stretches there are, and what becomes of the descriptor."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tako.errors import LocalProtocolError
from tako.http.response import Response
from tako.server.file_body import FileBody
from tests.sansio.server.test_pipeline import answer, length, start
from tests.support.fake_exchange import FakeExchange


KIB = 1024
CONTENT = bytes(range(256)) * 800  # three pieces and a bit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    return file


@pytest.fixture
def fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class TestStretch:
    @pytest.mark.parametrize(
        ("offset", "size", "expected"),
        [
            (0, None, CONTENT),
            (5, None, CONTENT[5:]),
            (5, 7, CONTENT[5:12]),
            (len(CONTENT), None, b""),
            (len(CONTENT), 0, b""),
            (None, None, CONTENT[3:]),
            (None, 2, CONTENT[3:5]),
        ],
    )
    def test_its_bytes_come_in_pieces(
        self, fd: int, offset: int | None, size: int | None, expected: bytes
    ) -> None:
        os.lseek(fd, 3, os.SEEK_SET)
        body = FileBody(fd, offset, size)
        assert body.to_end == (size is None)
        pieces = list(body)
        assert b"".join(pieces) == expected
        assert all(len(piece) <= 64 * KIB for piece in pieces)
        assert not body.size

    @pytest.mark.parametrize(
        ("offset", "size"),
        [(-1, None), (0, -1), (len(CONTENT) + 1, None), (1, len(CONTENT)), (-1, 1)],
    )
    def test_what_the_file_does_not_have_is_refused(
        self, fd: int, offset: int, size: int | None
    ) -> None:
        with pytest.raises(ValueError, match=f"of {len(CONTENT)} bytes"):
            FileBody(fd, offset, size)

    def test_behind_the_end_is_nothing(self, fd: int) -> None:
        os.lseek(fd, len(CONTENT) + 5, os.SEEK_SET)
        assert list(FileBody(fd)) == []
        with pytest.raises(ValueError, match="from 204805 on"):
            FileBody(fd, None, 1)

    def test_a_file_that_was_cut_is_an_error(self, path: Path) -> None:
        body = FileBody.open(str(path))
        os.truncate(path, 64 * KIB)
        assert len(next(body)) == 64 * KIB
        with pytest.raises(LocalProtocolError, match=f"{len(CONTENT) - 64 * KIB} "):
            next(body)
        body.close()

    def test_one_that_cannot_be_read_is_an_error(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(*_: int) -> bytes:
            raise OSError(5, "Input/output error")

        body = FileBody.open(str(path))
        monkeypatch.setattr(os, "pread", failing)
        with pytest.raises(LocalProtocolError, match="Input/output error"):
            next(body)
        body.close()


class TestDescriptor:
    def test_one_of_ours_is_closed_once(self, path: Path) -> None:
        body = FileBody.open(str(path))
        assert body.owned
        body.close()
        assert not is_open(body.fd)
        body.close()

    def test_one_that_is_dropped_is_closed(self, path: Path) -> None:
        body = FileBody.open(str(path))
        fd = body.fd
        assert is_open(fd)
        del body
        assert not is_open(fd)

    def test_a_lent_one_stays_open(self, fd: int) -> None:
        body = FileBody(fd, 0)
        assert not body.owned
        body.close()
        assert is_open(fd)

    @pytest.mark.parametrize("offset", [None, 10])
    def test_its_position_is_moved_where_it_was_used(
        self, fd: int, offset: int | None
    ) -> None:
        os.lseek(fd, 10, os.SEEK_SET)
        body = FileBody(fd, offset)
        body.read(5)
        body.sent(3)  # by the kernel
        body.close()
        assert os.lseek(fd, 0, os.SEEK_CUR) == (18 if offset is None else 10)

    @pytest.mark.parametrize("kind", ["folder", "fifo"])
    def test_what_is_no_file_is_not_left_open(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path
        if kind == "fifo":
            os.mkfifo(path := tmp_path / "fifo")
        before = os.listdir("/proc/self/fd")
        with pytest.raises(ValueError, match="not a regular file"):
            FileBody.open(str(path))
        assert os.listdir("/proc/self/fd") == before


class TestAsABody:
    """What ``pipeline`` makes of it."""

    def test_it_has_its_length(self, path: Path) -> None:
        body = FileBody.open(str(path))
        exchange = answer(Response(200, body=body))
        assert (exchange.status, exchange.take()) == (200, CONTENT)
        assert length(exchange) == b"%d" % len(CONTENT)
        assert (exchange.bytes_sent, exchange.output_ended) == (len(CONTENT), True)
        assert not is_open(body.fd)

    def test_what_the_kernel_takes_is_not_read(self, path: Path) -> None:
        exchange = FakeExchange()
        exchange.takes = 100_000
        answer(Response(200, body=FileBody.open(str(path))), exchange)
        assert exchange.take() == CONTENT
        assert exchange.pieces == [b""]  # the end
        assert exchange.bytes_sent == len(CONTENT)

    @pytest.mark.parametrize("takes", [0, 64 * KIB])
    def test_it_waits_for_room(self, path: Path, takes: int) -> None:
        exchange = FakeExchange()
        exchange.takes, exchange.writable = takes, False
        task = start(Response(200, body=FileBody.open(str(path))), exchange)
        assert exchange.take() == CONTENT[: 64 * KIB]
        assert not task.done
        exchange.writable = True
        exchange.body.wake_writer()
        exchange.connection.runtime.advance(0)
        assert exchange.take() == CONTENT[64 * KIB :]
        assert task.done

    def test_a_peer_that_leaves_ends_it(self, path: Path) -> None:
        exchange, body = FakeExchange(), FileBody.open(str(path))
        exchange.writable = False
        task = start(Response(200, body=body), exchange)
        exchange.gone = True
        exchange.body.wake_writer()
        exchange.connection.runtime.advance(0)
        assert (task.done, task.error) == (True, None)
        assert len(exchange.pieces) == 1
        assert not is_open(body.fd)

    def test_a_wrong_length_is_a_500(self, path: Path) -> None:
        body = FileBody.open(str(path))
        exchange = answer(Response(200, [("content-length", "4")], body))
        assert exchange.status == 500
        assert not is_open(body.fd)

    def test_head_and_304_do_not_read_it(self, path: Path) -> None:
        for status, method in ((200, "HEAD"), (304, "GET")):
            body = FileBody.open(str(path))
            exchange = FakeExchange(method=method)
            answer(Response(status, body=body), exchange)
            assert (exchange.pieces, exchange.output_ended) == ([], True)
            assert not is_open(body.fd)

    def test_a_file_that_was_cut_resets_the_exchange(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        body = FileBody.open(str(path))
        os.truncate(path, 1)
        exchange = answer(Response(200, body=body))
        assert len(exchange.resets) == 1
        assert "it was cut" in caplog.text
        assert not is_open(body.fd)
