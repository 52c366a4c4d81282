"""``FileBody``: a stretch of a regular file, as the body of a response or a part of it.

Reading blocks the loop for as long as the disk takes. No loop reads files in another
way; a thread for each piece costs more than the usual one, which is in memory already.
"""

import os
import stat

from tako.core.seams import PIECE
from tako.errors import LocalProtocolError


class FileBody:
    """What of a file is still to be sent; as an iterable, piece by piece.

    Attributes:
        fd: the descriptor.
        offset: where the stretch begins.
        size: how many bytes it has.
        to_end: it ends where the file did when it was looked at.
    """

    __slots__ = ("_closing", "_moving", "fd", "offset", "size", "to_end")

    def __init__(
        self, fd: int, offset: int | None = None, size: int | None = None
    ) -> None:
        """Take a stretch of an open file, which is not closed.

        Args:
            fd: the descriptor.
            offset: where it begins; ``None``: at the descriptor's position, which is
                behind what was sent once this is closed, as ``sendfile(2)`` has it.
            size: the number of bytes; ``None``: up to the end.

        Raises:
            OSError: the descriptor is not open for reading.
            ValueError: it is no regular file, or has no such stretch.
        """
        self._closing = False
        self._moving = offset is None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):  # reading another may take for ever
            msg = "not a regular file"
            raise ValueError(msg)
        os.pread(fd, 0, 0)  # EBADF where it is open for writing only
        end = status.st_size
        if offset is None:
            offset = os.lseek(fd, 0, os.SEEK_CUR)
            end = max(end, offset)  # there is nothing to read behind the end
        if offset < 0 or offset > end or not 0 <= (size or 0) <= end - offset:
            count = "all" if size is None else size
            msg = f"of {end} bytes there are not {count} from {offset} on"
            raise ValueError(msg)
        self.fd: int = fd
        self.offset: int = offset
        self.size: int = end - offset if size is None else size
        self.to_end: bool = size is None

    @classmethod
    def open(cls, path: str) -> "FileBody":
        """Open a file, all of it; ``close`` closes it.

        Raises:
            OSError: it cannot be opened.
            ValueError: it is no regular file.
        """
        # Opening a FIFO would wait for its writer, without O_NONBLOCK
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            body = cls(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        body._closing = True
        return body

    @property
    def owned(self) -> bool:
        """``close`` closes the descriptor; else it is another's, and only lent."""
        return self._closing

    def read(self, most: int) -> bytes:
        """Read up to ``most`` bytes; the stretch begins behind them then.

        Raises:
            LocalProtocolError: the file has become shorter, or cannot be read.
        """
        try:
            data = os.pread(self.fd, min(most, self.size), self.offset)
        except OSError as error:  # to an ASGI app it would say that its client is gone
            msg = f"the file cannot be read: {error.strerror}"
            raise LocalProtocolError(msg) from error
        if self.size and not data:
            msg = f"the file ends {self.size} bytes before it should: it was cut"
            raise LocalProtocolError(msg)
        self.sent(len(data))
        return data

    def sent(self, size: int) -> None:
        """Begin behind ``size`` bytes: they were sent."""
        self.offset += size
        self.size -= size

    def __iter__(self) -> "FileBody":
        return self

    def __next__(self) -> bytes:
        if not self.size:
            raise StopIteration
        return self.read(PIECE)

    def close(self) -> None:
        """Let go of the descriptor; repeats are no-ops."""
        if self._moving:
            self._moving = False
            os.lseek(self.fd, self.offset, os.SEEK_SET)
        if self._closing:
            self._closing = False
            os.close(self.fd)

    def __del__(self) -> None:
        # A middleware may answer with something else, and close nothing
        if self._closing:
            os.close(self.fd)
