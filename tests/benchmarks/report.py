"""Medians of rounds, as a table, as Markdown or as JSON."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.benchmarks.measure import Figures
from tests.benchmarks.rows import Row


_SUBJECT = "tako"
_COLUMNS = "{:<14} {:<13} {:>12} {:>9} {:>12} {:>10} {:>10}"


class Cell(NamedTuple):
    """The rounds of one server in one row."""

    row: Row
    server: str
    rounds: Sequence[Figures]

    @property
    def median(self) -> Figures:
        """The median of each figure by itself."""
        return Figures(
            *(
                statistics.median(values) if None not in values else None
                for values in zip(*map(dataclasses.astuple, self.rounds), strict=True)
            )
        )

    @property
    def main(self) -> float:
        """The figure that servers are compared by."""
        median = self.median
        figure = median.per_cpu_second or median.kib_per_socket
        assert figure is not None, f"{self.row.name} has no figure"
        return figure


def heading() -> str:
    """Return the line above all ``row_lines``."""
    return _COLUMNS.format(
        "row", "server", "per CPU s", "tako is", "per second", "p50 ms", "p99 ms"
    )


def row_lines(cells: Sequence[Cell]) -> str:
    """Return the lines of one row: one for each server."""
    subject = next((cell.main for cell in cells if cell.server == _SUBJECT), None)
    row = cells[0].row
    lines = [f"{row.name}: {row.unit}", *(_line(cell, subject) for cell in cells)]
    return "\n".join(lines)


def _line(cell: Cell, subject: float | None) -> str:
    median = cell.median
    compared = "" if subject is None else f"{subject / cell.main:.2f} x"
    if median.kib_per_socket is not None:
        # here less is better: how much of the peer's memory tako needs
        return _COLUMNS.format(
            "", cell.server, f"{median.kib_per_socket:.1f} KiB", compared, "", "", ""
        ).rstrip()
    return _COLUMNS.format(
        "",
        cell.server,
        f"{cell.main:,.0f}",
        compared,
        _number(median.per_second, 1, 0),
        _number(median.p50_us, 1000, 2),
        _number(median.p99_us, 1000, 2),
    )


def markdown_table(cells: Sequence[Cell]) -> str:
    """Return a table with a column for each server; p99 in brackets."""
    servers = list(dict.fromkeys(cell.server for cell in cells))
    lines = [
        f"| | {' | '.join(servers)} |",
        f"|---|{'--:|' * len(servers)}",
    ]
    for row in _rows(cells):
        found = {cell.server: cell for cell in cells if cell.row is row}
        columns = (
            _markdown(found[server]) if server in found else "–" for server in servers
        )
        lines.append(f"| {row.name} | {' | '.join(columns)} |")
    return "\n".join(lines)


def _markdown(cell: Cell) -> str:
    if cell.median.kib_per_socket is not None:
        return f"{cell.main:.1f} KiB"
    return f"{cell.main:,.0f} ({_number(cell.median.p99_us, 1000, 1)})"


def as_json(cells: Iterable[Cell]) -> list[dict[str, object]]:
    """Return what ``json.dumps`` takes: medians, and the rounds behind them."""
    return [
        {
            "row": cell.row.name,
            "unit": cell.row.unit,
            "server": cell.server,
            "median": dataclasses.asdict(cell.median),
            "rounds": [dataclasses.asdict(figures) for figures in cell.rounds],
        }
        for cell in cells
    ]


def _rows(cells: Iterable[Cell]) -> list[Row]:
    return list(dict.fromkeys(cell.row for cell in cells))


def _number(value: float | None, unit: int, digits: int) -> str:
    return "" if value is None else f"{value / unit:,.{digits}f}"
