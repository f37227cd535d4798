"""The points as a table for the screen, the page and Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tempo.errors import printable
from tempo.report.number_format import ABSENT
from tempo.report.tables import Cell, Table, no_formula
from tempo.report.write_report import TERMINAL_WIDTH
from tempo.scaling.point import METHODS, SOURCES, ScalingPoint

NOTE = "note"
"""The column that a terminal has no room for."""
HEAD = (
    "network",
    "method",
    "workers",
    "source",
    "images/s",
    "scaling, %",
    "step, ms",
    "exchange adds, ms",
    "sent, MB a step",
    "received",
    "stale by",
    "dropped",
    "cores",
    NOTE,
)
SHARED = "workers share cores: contention, not a network"


def ordered(points: Sequence[ScalingPoint]) -> list[ScalingPoint]:
    """By network as they come, then method, source and workers."""
    models = list(dict.fromkeys(each.model for each in points))
    return sorted(
        points,
        key=lambda each: (
            models.index(each.model),
            METHODS.index(each.method),
            each.servers,
            SOURCES.index(each.source),
            each.workers,
        ),
    )


def points_table(points: Sequence[ScalingPoint]) -> Table:
    """A row a point; bytes are those of the busiest worker."""
    return Table(HEAD, [_row(each) for each in ordered(points)])


def _row(point: ScalingPoint) -> list[Cell]:
    efficiency = point.efficiency
    exposed = None if point.exposed_seconds is None else 1e3 * point.exposed_seconds
    mark = "" if point.bytes_are == "counted" else " (computed)"
    note = "; ".join(filter(None, [point.link, point.note]))
    return [
        Cell(point.model, point.model),
        Cell(point.label, point.label),
        Cell(str(point.workers), point.workers),
        Cell(point.source, point.source),
        Cell(f"{point.images_per_second:.4g}", point.images_per_second),
        _number(None if efficiency is None else 100 * efficiency, "{:.1f}"),
        Cell(f"{1e3 * point.step_seconds:.4g}{_spread(point)}", point.step_seconds),
        _number(exposed, "{:.3g}"),
        _megabytes(point.sent_bytes_by_rank, mark),
        _megabytes(point.received_bytes_by_rank, mark),
        _number(point.staleness, "{:.2f}"),
        _dropped(point),
        Cell("shared", "shared") if point.share_cores else Cell(""),
        Cell(note, note),
    ]


def _spread(point: ScalingPoint) -> str:
    if len(point.step_seconds_quartiles) != 2:
        return ""
    first, third = (1e3 * each for each in point.step_seconds_quartiles)
    return f" ({first:.4g} to {third:.4g})"


def _dropped(point: ScalingPoint) -> Cell:
    if not point.dropped_gradients:
        return Cell("")
    return Cell(f"{point.dropped_gradients} of {point.sent_gradients}", point.dropped_gradients)


def _megabytes(of_ranks: Sequence[float], mark: str) -> Cell:
    most = max(of_ranks, default=None)
    return _number(None if most is None else most / 1e6, "{:.3g}" + (mark if most else ""))


def _number(value: float | None, form: str) -> Cell:
    return Cell(ABSENT) if value is None else Cell(form.format(value), value)


def as_text(table: Table, title: str) -> str:
    """For the terminal; the notes, and columns in which every cell is empty, are left out."""
    wanted = [
        at
        for at, head in enumerate(table.head)
        if head != NOTE and any(row[at].text not in ("", ABSENT) for row in table.rows)
    ]
    shown = RichTable(title=title, title_justify="left", highlight=False)
    numbers = {at for at in wanted if all(not isinstance(row[at].sort, str) for row in table.rows)}
    for at in wanted:
        shown.add_column(Text(table.head[at]), justify="right" if at in numbers else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(row[at].text) for at in wanted))
    console = Console(file=io.StringIO(), width=TERMINAL_WIDTH, color_system=None, legacy_windows=False)
    console.print(shown)
    output = console.file
    assert isinstance(output, io.StringIO)
    return "".join(f"{printable(line)}\n" for line in output.getvalue().splitlines())


def write_csv(points: Sequence[ScalingPoint], path: Path) -> None:
    """A row a point with all its fields, in plain numbers; lists and mappings as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = [json.loads(each.to_json()) for each in ordered(points)]
    head = list(rows[0]) if rows else []
    writer.writerow(head)
    for row in rows:
        writer.writerow([_plain(row[key]) for key in head])
    path.write_text(text.getvalue(), encoding="utf-8")


def _plain(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return no_formula(value) if isinstance(value, str) else value
