"""The corpus of attacks: its rows, what each needs, and the ways to deliver one.

``corpus.jsonl`` holds the rows that are data, ``more.py`` makes those that are classes
of faults in many spellings. A row is bytes and a verdict in words, which
``verdicts.py`` gives their meaning.
"""

import base64
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from tako import ServerConfig
from tako.testing.peer import Wire


class Pieces(NamedTuple):
    """A delivery in reads of ``size`` bytes."""

    size: int


Protocol: TypeAlias = Literal["h1", "ws-hs", "ws", "ws-pmd", "h2", "h2-ws"]
Delivery: TypeAlias = Literal["whole", "beside", "unread"] | int | Pieces
"""How a row is sent; a number is where it is cut in two: see ``runner.py``."""

SPLIT_UP_TO = 2048

_CORPUS = Path(__file__).with_name("corpus.jsonl")
_HEAVY = 500_000
_BARE = frozenset({"H2-01", "H2-02", "H2-34"})  # the row is all there is, or nearly
_ALONE = _BARE | {"H2-44", "H2-45", "XC-24"}  # a WebSocket beside it cannot be
_WAIT = {"H2-34", "H2-44", "H2-45"}  # for a timeout: cutting them tells nothing
_OVER_H2 = frozenset(  # handshakes that mean the same as an extended CONNECT
    {"WH-01", "WH-17", "WH-18", "WH-19", "WH-20", "WH-21", "WH-22", "WH-23"}
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the corpus."""

    id: str
    proto: Protocol
    name: str
    expect: str
    data: bytes

    @property
    def splittable(self) -> bool:
        return 1 < len(self.data) <= SPLIT_UP_TO

    def wires(self, *, encrypted: bool) -> list[Wire]:
        """Return the wires that the row makes sense on."""
        http1: Wire = "h1s" if encrypted else "h1"
        http2: Wire = "h2" if encrypted else "h2c"
        if self.proto in {"ws", "ws-pmd"}:
            return [http1, http2]
        if self.proto == "ws-hs":
            return [http1, http2] if self.id in _OVER_H2 else [http1]
        return [http1] if self.proto == "h1" else [http2]


def corpus() -> list[Row]:
    """Return every row of the file."""
    found = []
    for line in _CORPUS.read_text().splitlines():
        row = json.loads(line)
        data = zlib.decompress(base64.b64decode(row["zlib"]))
        found.append(Row(row["id"], row["proto"], row["name"], row["expect"], data))
    return found


def config_for(row: Row) -> ServerConfig | None:
    """Return the configuration that a row needs, ``None``: the shared victim's.

    Rows that wait for a timeout get a short one; H2-41 exceeds a window of 65 535.
    """
    if row.id == "XC-24":
        return ServerConfig(h2_enable_connect_protocol=False)
    if row.id == "H2-41":
        return ServerConfig(h2_initial_window_size=65_535)
    if row.id == "H2-34":
        return ServerConfig(settings_timeout=1)
    if row.id == "H2-44":
        return ServerConfig(min_rate_grace=0.2, send_timeout=0.4)
    if row.id == "H2-45":
        return ServerConfig(send_timeout=0.4)
    return None


def deliveries(row: Row, *, thorough: bool = True) -> list[Delivery]:
    """Return the ways to send ``row``: whole, beside others, and cut near its end.

    ``thorough`` adds a cut in its first half, and sends also long rows twice.
    """
    found: list[Delivery] = ["whole"]
    if row.id not in _ALONE and (thorough or len(row.data) < _HEAVY):
        found.append("beside")
    if row.splittable and row.id not in _WAIT:
        size = len(row.data)
        cuts = {max(1, size // 3), size - 1} if thorough else {size - 1}
        found += sorted(cuts)
    return found


def waits_for_a_timeout(row: Row) -> bool:
    """Tell whether ``row`` is about a peer that does nothing."""
    return row.id in _WAIT


def every_cut(row: Row) -> list[Delivery]:
    """Return the ways to cut ``row`` in two."""
    return list(range(1, len(row.data)))
