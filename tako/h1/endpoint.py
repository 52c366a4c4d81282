"""``H1Endpoint`` and ``H1Pipe``: what a connection, and its tunnel, are in either role.

What received bytes mean is for the subclasses: of the endpoint, ``H1Engine`` answers
requests and ``H1Client`` sends one; of the pipe, ``H1Tunnel`` and ``H1ClientTunnel``.
"""

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from tako.core.seams import PIECE, Engine
from tako.core.views import Place
from tako.h1.backpressure import ReadGate


if TYPE_CHECKING:
    from tako.core.seams import ServerConnection, Sink, Watched
    from tako.native.loops import Inbox


_PART: Final = 16 * 1024  # bytes of a large piece that go with what is before it


class H1Endpoint(Engine):
    """One end of an HTTP/1.1 connection.

    Attributes:
        connection: the connection.
        watched: the end of the tunnel, if its peer is to be asked when it is silent.
    """

    __slots__ = (
        "_gate",
        "_inbox",
        "_out",
        "_sink",
        "connection",
        "watched",
    )

    _gate: ReadGate

    def __init__(self, connection: "ServerConnection") -> None:
        """Begin without a request; the subclass makes the gate."""
        super().__init__()
        self.connection: ServerConnection = connection
        self.watched: Watched | None = None
        self._out: list[bytes | memoryview] = []
        self._sink: Sink | None = None  # of the tunnel
        self._inbox: Inbox | None = None  # of the tunnel

    def data_to_send(self) -> bytes | memoryview:
        """Return what is queued; see ``seams.Engine``."""
        engine: Engine = self
        out = self._out
        if len(out) > 1:
            data = self._join_small(out)
        elif out:
            data = out.pop()
        else:
            data = b""
        engine.unsent = bool(out)
        return data

    def _join_small(self, out: list[bytes | memoryview]) -> bytes | memoryview:
        """Return the pieces of ``out`` before a large one, which is not copied.

        But for a part: with a small piece alone a record of TLS would be wasted.
        """
        size = count = 0
        for piece in out:
            if len(piece) > PIECE:
                break
            size += len(piece)
            count += 1
        if not count:
            return out.pop(0)
        if count < len(out) and size < _PART:
            view, part = memoryview(out[count]), _PART - size
            out[count : count + 1] = [view[:part], view[part:]]
            count += 1
        joined = b"".join(out[:count])
        del out[:count]
        return joined

    def peer_silent(self) -> bool:
        """Ask the peer of a watched tunnel for a sign of life; tell whether."""
        if self.watched is None:
            return False
        self.watched.ask()
        return True

    def peer_dead(self) -> None:
        """Give up the peer of a watched tunnel; see ``seams.Engine``."""
        if self.watched is not None:
            self.watched.lose()

    def place(self) -> Place:
        """Return that nothing is known of bytes that are held: a tunnel knows more."""
        return Place()

    def sink_of(self, stream: int) -> "Sink | None":
        """Return what takes the bytes of the tunnel; see ``seams.Engine``."""
        return self._sink

    def _forget_tunnel(self) -> None:
        """Let go of what the tunnel delivered to: nothing more is."""
        self._sink = self._inbox = self.watched = None

    def consumed(self, size: int) -> None:
        """Count ``size`` bytes that the application has taken of body or tunnel."""
        gate = self._gate
        gate.unread -= size
        if gate.body_shut:
            gate.settle()


E = TypeVar("E", bound=H1Endpoint)


class H1Pipe(Generic[E]):
    """A byte pipe behind 101: what a tunnel is in either role.

    Attributes:
        connection: the connection that carries it.
        over: nothing can be sent any more.
    """

    __slots__ = ("_engine", "_out", "connection", "over")

    def __init__(self, engine: E, out: list[bytes | memoryview], *, over: bool) -> None:
        """Make the tunnel of a connection; ``out`` is where output is queued."""
        self._engine = engine
        self.connection: ServerConnection = engine.connection
        self._out = out
        self.over: bool = over

    @property
    def writable(self) -> bool:
        """Whether more output is welcome."""
        return self.connection.writable

    @property
    def listening(self) -> bool:
        """Whether the peer can send: we read."""
        return self.connection.reading

    def watch(self, watched: "Watched") -> None:
        """Have ``watched`` told when the peer is silent; see ``seams.Tunnel``."""
        if not self.over:
            self._engine.watched = watched

    def consumed(self, size: int) -> None:
        """Give credit for ``size`` bytes; see ``seams.Tunnel``."""
        if not self.over:
            self._engine.consumed(size)

    def flush(self, *, soon: bool = False) -> None:
        """Write what is queued; see ``seams.Tunnel``."""
        self.connection.flush(soon=soon)
