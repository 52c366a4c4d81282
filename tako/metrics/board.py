"""``Board``: the snapshots of all workers of a machine, in memory that they share.

Theory of operation. One region for each worker, and region 0 for the supervisor. A
region has two buffers and a number: an odd one says that the second buffer holds, an
even one the first. So a writer fills the other buffer and then counts; one that is
killed meanwhile has changed nothing. Readers check a sum, since processors may reorder
what they see of each other.

Region 0 has what workers that are gone have counted, and which regions are alive. When
a worker ends the supervisor adds its last snapshot to that, gauges apart, and takes the
region off the list, in one step; only then another worker may have it. A reader that
finds region 0 changed at its end begins again. So no counter goes backwards, whichever
worker is asked, and none counts twice. What a worker counts in its last second is lost
if it is killed.

Invariant: a region has one writer: its worker, or, where no worker has it, the
supervisor.
"""

import json
import mmap
import struct
import zlib
from typing import Final

from tako.metrics.families import Labels
from tako.metrics.snapshot import Snapshot, add, decoded, encoded, without_gauges
from tako.runtime.shared_memory import shared_memory


_REGIONS: Final = 2048  # as many as ``cli.pulse`` has slots
_BUFFER: Final = 1 << 17  # bytes, of which a page is real once it was written to
_REGION: Final = 2 * _BUFFER
_NUMBERS: Final = 8 * _REGIONS
_SIZE: Final = _NUMBERS + _REGIONS * _REGION
_HEAD: Final = struct.Struct("<II")  # size and sum of what follows
_LOOKS: Final = 1000  # at a region that changes

_BASE: Final = 0


class Board:
    """The snapshots of all workers."""

    __slots__ = ("_gone", "_live", "_memory", "_numbers", "_view")

    def __init__(self, descriptor: int) -> None:
        """Use the memory that ``descriptor`` is, which need not stay open."""
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._view = memoryview(self._memory)
        self._numbers = self._view[:_NUMBERS].cast("Q")
        self._gone: Snapshot = {}
        self._live: dict[int, int] = {}

    def close(self) -> None:
        """Release the memory."""
        self._numbers.release()
        self._view.release()
        self._memory.close()

    # What the supervisor does --------------------------------------------------------

    def begin(self, slot: int, place: int) -> None:
        """Let a new worker, of a place, have a region; 0 is none."""
        if slot != _BASE:
            self._numbers[slot] = 0
            self._live[slot] = place
            self._publish()

    def end(self, slot: int) -> None:
        """Add what a worker has counted that is gone; nothing writes there any more."""
        if self._live.pop(slot, None) is not None:
            add(self._gone, without_gauges(self.read(slot)))
            self._publish()

    def note(self, name: str, labels: Labels, value: float) -> None:
        """Take note of what the supervisor itself counts."""
        self._gone.setdefault(name, {})[labels] = value
        self._publish()

    def _publish(self) -> None:
        live = json.dumps(list(self._live.items())).encode()
        self._write(_BASE, live + b"\n" + encoded(self._gone))

    # What a worker does --------------------------------------------------------------

    def write(self, slot: int, snapshot: Snapshot) -> None:
        """Publish the snapshot of a worker.

        Raises:
            ValueError: it is too large.
        """
        if slot != _BASE:
            self._write(slot, encoded(snapshot))

    def read(self, slot: int) -> Snapshot:
        """Return the last snapshot of a worker; an empty one if there is none."""
        data = self._read(slot)[1]
        return decoded(data) if data else {}

    def total(self) -> Snapshot:
        """Return the sum over all workers, those that are gone, too.

        Raises:
            RuntimeError: the memory is not what it should be.
        """
        for _ in range(_LOOKS):
            number, data = self._read(_BASE)
            live, _, gone = data.partition(b"\n")
            total = decoded(gone) if gone else {}
            for slot, place in json.loads(live or b"[]"):
                add(total, self.read(slot), str(place))
            if self._numbers[_BASE] == number:
                return total
        raise _changed()

    # Inside --------------------------------------------------------------------------

    def _write(self, region: int, data: bytes) -> None:
        data = zlib.compress(data, 1)
        if len(data) > _BUFFER - _HEAD.size:
            msg = f"a snapshot of {len(data)} bytes is too large to be shared"
            raise ValueError(msg)
        number = self._numbers[region] + 1
        at = _at(region, number)
        self._view[at + _HEAD.size : at + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._view, at, len(data), zlib.crc32(data))
        self._numbers[region] = number

    def _read(self, region: int) -> tuple[int, bytes]:
        """Return the number of a region, and what is there; ``b""`` if nothing is."""
        for _ in range(_LOOKS):
            number = self._numbers[region]
            if not number:
                return 0, b""
            at = _at(region, number)
            size, sum_ = _HEAD.unpack_from(self._view, at)
            at += _HEAD.size
            data = bytes(self._view[at : at + min(size, _BUFFER - _HEAD.size)])
            if len(data) == size and zlib.crc32(data) == sum_:
                return number, zlib.decompress(data)
        raise _changed()


def new_memory() -> int:
    """Return a descriptor of memory for a ``Board``, all of it 0."""
    return shared_memory("tako-metrics", _SIZE)


def _at(region: int, number: int) -> int:
    return _NUMBERS + region * _REGION + (number & 1) * _BUFFER


def _changed() -> RuntimeError:
    return RuntimeError("the metrics of the workers cannot be read")
