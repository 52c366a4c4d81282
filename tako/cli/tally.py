"""``Tally``: the metrics of all workers, as the supervisor keeps them.

Workers write and read the board (``tako.metrics.board``) themselves. The supervisor
adds what those have counted that are gone, and counts workers. It serves nothing.
"""

import os

from tako.cli.child import ChildState


_REASONS = {
    ChildState.STARTING: "died",
    ChildState.READY: "died",
    ChildState.STOPPING: "stopped",
    ChildState.HUNG: "hung",
    ChildState.KILLED: "killed",
}


class Tally:
    """The metrics of all workers.

    Attributes:
        memory: the descriptor of the board, which each worker inherits.
    """

    __slots__ = ("_board", "_exits", "_serving", "memory")

    def __init__(self) -> None:
        from tako.metrics.board import Board, new_memory

        self.memory: int = new_memory()
        self._board = Board(self.memory)
        self._exits = dict.fromkeys(_REASONS.values(), 0)
        self._serving = 0
        self._board.note("tako_workers", (), 0)
        for reason in self._exits:  # a counter that is there from the start has a rate
            self._board.note("tako_worker_exits", (reason,), 0)

    def close(self) -> None:
        """Release the memory."""
        self._board.close()
        os.close(self.memory)

    def begin(self, slot: int, place: int) -> None:
        """Let a worker that is about to be started have a region of the board."""
        self._board.begin(slot, place)

    def end(self, slot: int) -> None:
        """Keep what a worker has counted that is gone."""
        self._board.end(slot)

    def exited(self, state: ChildState) -> None:
        """Count a worker that has ended; ``state``: how far it was before."""
        reason = _REASONS[state]
        self._exits[reason] += 1
        self._board.note("tako_worker_exits", (reason,), self._exits[reason])

    def serving(self, count: int) -> None:
        """Take note how many workers serve."""
        if count != self._serving:
            self._serving = count
            self._board.note("tako_workers", (), count)
