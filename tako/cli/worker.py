"""``Worker``: a worker's end of what it shares with its supervisor.

The *listening sockets* are inherited, so that connections wait in the kernel while
workers come and go. On the *link* (``link.py``) the worker says that it serves, and
hears that it is replaced, or that its supervisor is gone: then it drains, as at a
SIGTERM. Its slot of the *pulse* (``pulse.py``) has the time of its event loop's last
turn. Its *door* (``hub.py``) leads to the hub of topics. Its region of the *board*
(``metrics.board``), if metrics are asked for, has what it has counted. With
``--inspect`` it knows how to find the other workers (``inspecting.py``).
"""

import contextlib
import faulthandler
import itertools
import os
import signal
import socket
import sys
import threading
from logging import WARNING
from typing import TYPE_CHECKING, Self

from tako import runtime
from tako.cli import link
from tako.cli.console import say
from tako.cli.inspecting import Inspection
from tako.cli.listeners import Bound, adopt
from tako.cli.pulse import Pulse
from tako.topics import hub


if TYPE_CHECKING:
    from tako.metrics.board import Board
    from tako.metrics.snapshot import Snapshot

ENVIRONMENT = "TAKO_WORKER"


class Worker:
    """What a worker has inherited.

    Attributes:
        listener: the listening sockets.
        inspection: what the inspectors of all workers have in common, if there are any.
        replaced: a successor is ready, and the signal that follows is due to that.
    """

    __slots__ = (
        "_beating",
        "_board",
        "_link",
        "_pulse",
        "_slot",
        "_told",
        "_too_large",
        "inspection",
        "listener",
        "replaced",
    )

    def __init__(
        self,
        listener: Bound,
        own_link: socket.socket,
        pulse: Pulse,
        slot: int,
        board: "Board | None" = None,
        inspection: Inspection | None = None,
    ) -> None:
        self.listener: Bound = listener
        self.inspection: Inspection | None = inspection
        self.replaced: bool = False
        self._link = own_link
        self._pulse = pulse
        self._slot = slot
        self._board = board
        self._too_large = False  # and that was said
        self._told = self._beating = False

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return what the supervisor has passed on, once; ``None`` without one."""
        value = os.environ.pop(ENVIRONMENT, None)
        if value is None:
            return None
        *parts, inspection = value.split(";", 5)
        own, *listening = ([int(it) for it in part.split(",") if it] for part in parts)
        slot, own_link, door, memory, *shared = own
        pulse = Pulse(memory)
        os.close(memory)
        for number in (own_link, door, *itertools.chain.from_iterable(listening)):
            os.set_inheritable(number, False)  # not for programs that the app starts
        runtime.first_only()  # systemd signals all of a unit's processes, as we do
        if sys.stderr is not None:
            faulthandler.enable()  # the supervisor ends one that hangs by SIGABRT
        hub.adopt(socket.socket(fileno=door))
        end = socket.socket(fileno=own_link)
        board = _board(shared[0]) if shared else None
        listener = adopt(*listening)
        found = Inspection.read(inspection)
        worker = cls(listener, end, pulse, slot, board, found)
        threading.Thread(target=worker.listen, daemon=True).start()
        return worker

    def tell_ready(self, kind: str) -> None:
        """Tell the supervisor that this worker serves ``kind``, and begin to beat."""
        self._told = self._beating = True
        self.beat()
        self._tell(link.line(link.READY, kind))

    def tell_failure(self, text: str) -> bool:
        """Tell the supervisor why this worker cannot start; ``False``: it has."""
        if self._told:
            return False
        self._told = True
        self._tell(link.line(link.FAILED, link.as_text(text)))
        return True

    def ask_for_successor(self, reason: str) -> None:
        """Ask to be replaced; until a successor is ready this worker serves on."""
        self._tell(link.line(link.REPLACE, reason))

    def beat(self) -> None:
        """Note that the event loop turns, while this worker serves."""
        if self._beating:
            self._pulse.beat(self._slot)

    def rest(self) -> None:
        """Beat no more: this worker drains, and may take its time."""
        self._beating = False
        self._pulse.clear(self._slot)

    def publish(self) -> None:
        """Let all workers have what this one has counted, if metrics are asked for."""
        if self._board is not None:
            from tako.metrics.snapshot import taken

            try:
                self._board.write(self._slot, taken())
            except ValueError as error:  # thousands of routes
                if not self._too_large:
                    self._too_large = True
                    say(f"the metrics of this worker stand still: {error}", WARNING)

    def metrics(self) -> "Snapshot":
        """Return what all workers have counted."""
        if self._board is None:
            return {}
        self.publish()
        return self._board.total()

    def siblings_are_well(self, lag: float) -> bool:
        """Tell whether no worker that serves has stood still for ``lag`` seconds.

        That includes this worker. It looks at the beats, and at nothing else: it may be
        called for each request that asks for the health.
        """
        return self._pulse.lag() <= lag

    def listen(self) -> None:
        """Wait for a reason to drain, then do; runs in a thread of its own."""
        lines = link.Lines()
        while not self.replaced:
            try:
                data = self._link.recv(link.PIECE)
            except OSError:  # it had not read all that we said
                data = b""
            if not data:
                break
            self.replaced = any(word == link.REPLACED for word, _ in lines.feed(data))
        os.kill(os.getpid(), signal.SIGTERM)

    def _tell(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # listen() learns that nobody hears it
            self._link.sendall(data)


def _board(descriptor: int) -> "Board":
    from tako.metrics.board import Board

    board = Board(descriptor)
    os.close(descriptor)
    return board


def describe(
    slot: int, passed: tuple[int, ...], bound: Bound, inspection: str = ""
) -> str:
    """Return the value of the environment variable, for the supervisor.

    Args:
        slot: of the pulse.
        passed: descriptors: of the link, of the door, of the pulse, and of the board
            if there is one.
        bound: the listening sockets.
        inspection: for the inspector, ``Inspection.written``; ``""``: there is none.
    """
    each = (bound.main, bound.plain, bound.metrics, bound.inspect)
    sockets = [[] if those is None else those.sockets for those in each]
    parts = [
        [slot, *passed],
        *([it.fileno() for it in those] for those in sockets),
    ]
    numbers = (",".join(map(str, part)) for part in parts)
    return ";".join([*numbers, inspection])
