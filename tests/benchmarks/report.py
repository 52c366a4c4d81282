"""Medians of rounds, as a table, as Markdown or as JSON."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from tests.benchmarks.measure import Figures
from tests.benchmarks.rows import Row


SUBJECTS = ("tako", "tako-asgi")  # what the report says of: where it is not first
_COLUMNS = "{:<14} {:<22} {:>12} {:>8} {:>12} {:>10} {:>10}"


class Cell(NamedTuple):
    """The rounds of one server in one row.

    Attributes:
        row: the row.
        server: the server's name.
        rounds: the figures of each round.
        native: whether the server runs handlers of its own kind, and not the ASGI app.
    """

    row: Row
    server: str
    rounds: Sequence[Figures]
    native: bool = False

    @property
    def label(self) -> str:
        """What the tables call the server."""
        return f"{self.server} (native)" if self.native else self.server

    @property
    def median(self) -> Figures:
        """The median of each figure by itself."""
        return Figures(
            *(
                statistics.median(values) if None not in values else None
                for values in zip(*map(dataclasses.astuple, self.rounds), strict=True)
            )
        )

    def ratios(self, reference: "Cell") -> list[float]:
        """Return this server's figure over the reference's, round by round."""
        pairs = zip(self.rounds, reference.rounds, strict=True)
        return [mine.main / its.main for mine, its in pairs]

    def ratio(self, reference: "Cell") -> float:
        """Return the median of ``ratios``: a busy round of the machine hits both."""
        return statistics.median(self.ratios(reference))


def heading() -> str:
    """Return the line above all ``row_lines``."""
    return _COLUMNS.format(
        "row", "server", "per CPU s", "ratio", "per second", "p50 ms", "p99 ms"
    )


def row_lines(cells: Sequence[Cell], reference: str) -> str:
    """Return the lines of one row: one for each server.

    Each is compared with the server ``reference``, or with the first if that is not
    there.
    """
    other = reference_of(cells, reference)
    row = cells[0].row
    lines = [
        f"{row.name}: {row.unit} (ratio: to {other.server})",
        *(_line(cell, other) for cell in cells),
    ]
    return "\n".join(lines)


def reference_of(cells: Sequence[Cell], reference: str) -> Cell:
    """Return the cell of the server ``reference``, or the first."""
    return next((cell for cell in cells if cell.server == reference), cells[0])


def _line(cell: Cell, other: Cell) -> str:
    median, ratio = cell.median, f"{cell.ratio(other):.2f} x"
    if median.kib_per_socket is not None:
        figure = f"{median.main:.1f} KiB"
        return _COLUMNS.format("", cell.label, figure, ratio, "", "", "").rstrip()
    return _COLUMNS.format(
        "",
        cell.label,
        f"{median.main:,.0f}",
        ratio,
        _number(median.per_second, 1, 0),
        _number(median.p50_us, 1000, 2),
        _number(median.p99_us, 1000, 2),
    )


def markdown_tables(cells: Sequence[Cell]) -> str:
    """Return a table of the WebSocket rows and one of the requests.

    A server has a column: its figure, bold where that is the best, and p99 in brackets.
    """
    sides = (
        [cell for cell in cells if cell.row.http is http] for http in (False, True)
    )
    return "\n\n".join(_table(side) for side in sides if side)


def _table(cells: Sequence[Cell]) -> str:
    labels = list(dict.fromkeys(cell.label for cell in cells))
    lines = [
        f"| | {' | '.join(labels)} |",
        f"|---|{'--:|' * len(labels)}",
    ]
    for row, its in _by_row(cells):
        best = _best(its)
        found = {cell.label: _markdown(cell, bold=cell is best) for cell in its}
        columns = (found.get(label, "–") for label in labels)
        lines.append(f"| {row.name} | {' | '.join(columns)} |")
    return "\n".join(lines)


def _markdown(cell: Cell, *, bold: bool) -> str:
    median, mark = cell.median, "**" if bold else ""
    if median.kib_per_socket is not None:
        return f"{mark}{median.main:.1f} KiB{mark}"
    return f"{mark}{median.main:,.0f}{mark} ({_number(median.p99_us, 1000, 1)})"


def not_first(cells: Sequence[Cell]) -> list[str]:
    """Say for each of ``SUBJECTS`` in which rows another server is better."""
    lines: list[str] = []
    for name in SUBJECTS:
        found = [
            f"{row.name} ({best.server} {best.ratio(mine):.2f} x)"
            for row, its in _by_row(cells)
            for mine in its
            if mine.server == name
            and (best := _best([mine, *filter(_is_rival, its)])) is not mine
        ]
        if found:
            lines.append(f"{name} is not first: {', '.join(found)}")
    return lines


def _is_rival(cell: Cell) -> bool:
    return not cell.server.startswith("tako")


def _best(cells: Sequence[Cell]) -> Cell:
    """Return the best by the median of the ratios; of memory, less is better."""
    least = cells[0].median.kib_per_socket is not None
    return (min if least else max)(cells, key=lambda cell: cell.ratio(cells[0]))


def as_json(cells: Sequence[Cell], reference: str) -> list[dict[str, object]]:
    """Return what ``json.dumps`` takes: medians, and the rounds behind them."""
    return [
        {
            "row": cell.row.name,
            "unit": cell.row.unit,
            "server": cell.server,
            "native": cell.native,
            "median": dataclasses.asdict(cell.median),
            "rounds": [dataclasses.asdict(figures) for figures in cell.rounds],
            "reference": other.server,
            "ratios": cell.ratios(other),
        }
        for _row, its in _by_row(cells)
        for other in [reference_of(its, reference)]
        for cell in its
    ]


def _by_row(cells: Sequence[Cell]) -> list[tuple[Row, list[Cell]]]:
    rows = dict.fromkeys(cell.row for cell in cells)
    return [(row, [cell for cell in cells if cell.row is row]) for row in rows]


def _number(value: float | None, unit: int, digits: int) -> str:
    return "" if value is None else f"{value / unit:,.{digits}f}"
