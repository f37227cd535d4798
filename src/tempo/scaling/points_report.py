"""Report of a benchmark: terminal table, CSV, figures, Markdown and one page; does not import torch."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tempo.config.schema import SMOKE
from tempo.errors import UserError, printable
from tempo.report.figures import Drawn
from tempo.report.html_page import page_of
from tempo.report.markdown import markdown_of
from tempo.report.number_format import ABSENT
from tempo.report.results_table import Cell, Columns, Table, count_cell, table_of, text_cell, write_rows
from tempo.report.sections import Block, Section, Text
from tempo.report.write_report import prepare, terminal_console, terminal_table
from tempo.scaling.figures import draw
from tempo.scaling.measured_point import METHODS, SOURCES, ScalingPoint, read_points, with_single
from tempo.scaling.model_table import ModelSize, models_table, read_sizes

NOTE = "note"
"""Column that is left out on a terminal, which is too narrow for it."""
SHARED = "workers share cores: contention, not a network"
EXPLAINED = {
    "measured": "measured: the network trained on the hardware named below",
    "emulated": "emulated: real messages over limited links, part of the machine replaced (see the notes)",
    "predicted": "predicted: the cost model of docs/scaling.md, from numbers of one machine",
}
_MOST_EFFICIENCY = 1.05
"""Efficiency above which a point needs a remark: workers cannot be faster together than alone."""
MODELS_NOTE = (
    "Operations of a forward pass over one image: convolutions and matrix products, a multiplication and an "
    "addition as two, counted by torch.utils.flop_counter. The paper names no image size for its own."
)


@dataclass(frozen=True)
class ScalingReport:
    """Points of all sources, sizes of networks, and one line per failed point."""

    title: str
    points: Sequence[ScalingPoint]
    sizes: Sequence[ModelSize] = ()
    failures: Sequence[str] = ()
    smoke: bool = False

    @property
    def outcome(self) -> str:
        """Number of points of each source, in words."""
        counts = Counter(point.source for point in self.points)
        parts = [f"{counts[source]} {source}" for source in SOURCES if counts[source]]
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{len(self.points)} points: {', '.join(parts)}{failed}."

    @property
    def notes(self) -> list[str]:
        """Remarks that a reader needs to interpret the numbers."""
        present = {point.source for point in self.points}
        lines = [f"{EXPLAINED[source]}." for source in SOURCES if source in present]
        if crowded := [point for point in self.points if point.share_cores]:
            counts = ", ".join(map(str, sorted({point.cores for point in crowded})))
            lines.append(f"{SHARED}: {len(crowded)} points, on {counts} cores.")
        if above := [share for point in self.points if (share := point.efficiency or 0) > _MOST_EFFICIENCY]:
            lines.append(
                f"scaling above {100 * _MOST_EFFICIENCY:.0f} %: {len(above)} points, up to "
                f"{100 * max(above):.1f} % of n times one worker. The method does not gain this: with few "
                "steps it is noise, often a slow measurement of the worker alone; or each worker's part fits "
                "a cache; or the machine did other work. Measure again with more scaling.steps."
            )
        return lines

    def sections(self, figures: Sequence[Drawn]) -> list[Section]:
        """Sections of the page and of report.md, without empty ones."""
        networks: list[Block] = [models_table(self.sizes), Text(MODELS_NOTE, "note")]
        found = [
            Section("notes", "How to read these numbers", [Text(note, "item") for note in self.notes]),
            Section("points", "Points", [points_table(self.points)]),
            Section("figures", "Figures", figures),
            Section("networks", "Networks", networks if self.sizes else []),
            Section("failures", "Failed points", [Text(failure, "item") for failure in self.failures]),
            Section("environment", "Where it was measured", [surroundings(self.points)]),
        ]
        return [section for section in found if section.blocks]


def write_scaling_report(report: ScalingReport, out: Path) -> Path:
    """Write `scaling.csv`, `figures/`, `report.md` and `report.html` into `out`; return the path of the page.

    Raises:
        UserError: `out` has files and is not a report.
    """
    page = prepare(out)
    write_csv(report.points, out / "scaling.csv")
    shown = report.sections(draw(report.points, out / "figures", smoke=report.smoke))
    text = markdown_of(report.title, report.outcome, shown, out, smoke=report.smoke)
    (out / "report.md").write_text(text, encoding="utf-8")
    head = f"<p>{escape(report.outcome)}</p>"
    page.write_text(page_of(report.title, head, shown, page, smoke=report.smoke), encoding="utf-8")
    return page


def report_folders(folders: Sequence[Path], out: Path) -> str:
    """Write the report of all points in the folders; return its text for the terminal.

    Raises:
        UserError: no point can be read, or an error of `write_scaling_report`.
    """
    points, refused = read_points(folders)
    if not points:
        raise UserError(f"none of the {len(refused)} points can be read; the first: {refused[0]}")
    names = [folder.resolve().name for folder in folders]
    report = ScalingReport(
        title=f"Scaling: {', '.join(names)}",
        points=with_single(points),
        sizes=read_sizes(folders),
        failures=refused,
        smoke=any(name.endswith("_smoke") for name in names),
    )
    page = write_scaling_report(report, out)
    return f"{text_of(report)}\n{page}\n"


def points_table(points: Sequence[ScalingPoint]) -> Table:
    """Return a table with one row per point; bytes are those of the busiest worker."""
    columns: Columns[ScalingPoint] = [
        ("network", lambda point: text_cell(point.model)),
        ("method", lambda point: text_cell(point.label)),
        ("workers", lambda point: count_cell(point.workers)),
        ("source", lambda point: text_cell(point.source)),
        ("images/s", lambda point: _number(point.images_per_second, "{:.4g}")),
        ("scaling, %", lambda point: _number(point.efficiency, "{:.1f}", 100)),
        ("step, ms", lambda point: _number(point.step_seconds, "{:.4g}" + _spread(point), 1e3)),
        ("exchange adds, ms", lambda point: _number(point.exposed_seconds, "{:.3g}", 1e3)),
        ("sent, MB per step", lambda point: _megabytes(point, point.sent_bytes_by_rank)),
        ("received", lambda point: _megabytes(point, point.received_bytes_by_rank)),
        ("stale by", lambda point: _number(point.staleness, "{:.2f}")),
        ("dropped", _dropped),
        ("cores", lambda point: text_cell("shared" if point.share_cores else "")),
        (NOTE, lambda point: text_cell("; ".join(filter(None, [point.link, point.note])))),
    ]
    return table_of(columns, ordered(points))


def ordered(points: Sequence[ScalingPoint]) -> list[ScalingPoint]:
    """Sort by network in the given order, then by method, source and number of workers."""
    models = list(dict.fromkeys(point.model for point in points))

    def key(point: ScalingPoint) -> tuple[int, ...]:
        method, source = METHODS.index(point.method), SOURCES.index(point.source)
        return models.index(point.model), method, point.servers, source, point.workers

    return sorted(points, key=key)


def _spread(point: ScalingPoint) -> str:
    quartiles = [f"{1e3 * seconds:.4g}" for seconds in point.step_seconds_quartiles]
    return f" ({quartiles[0]} to {quartiles[1]})" if quartiles else ""


def _megabytes(point: ScalingPoint, of_ranks: Sequence[float]) -> Cell:
    most = max(of_ranks, default=None)
    mark = " (computed)" if most and point.bytes_are != "counted" else ""
    return _number(most, "{:.3g}" + mark, 1e-6)


def _dropped(point: ScalingPoint) -> Cell:
    dropped, sent = point.dropped_gradients, point.sent_gradients
    return Cell(f"{dropped} of {sent}", dropped) if dropped else Cell("")


def _number(value: float | None, form: str, factor: float = 1) -> Cell:
    return Cell(ABSENT) if value is None else Cell(form.format(factor * value), factor * value)


def text_of(report: ScalingReport) -> str:
    """Return the text for the terminal: points, networks, notes and failures."""
    banner = f"*** {SMOKE} ***\n" if report.smoke else ""
    tables = _as_text(points_table(report.points), report.outcome)
    tables += _as_text(models_table(report.sizes), "networks") if report.sizes else ""
    return banner + tables + "\n".join([*report.notes, *report.failures])


def _as_text(table: Table, title: str) -> str:
    """Draw a table for the terminal, without notes and empty columns."""
    columns = [(at, head, [row[at] for row in table.rows]) for at, head in enumerate(table.head)]
    shown = [
        at
        for at, head, cells in columns
        if head != NOTE and any(cell.text not in ("", ABSENT) for cell in cells)
    ]
    left = [at for at, _, cells in columns if any(isinstance(cell.sort, str) for cell in cells)]
    output = io.StringIO()
    console = terminal_console(output)
    least = [at for at in reversed(shown) if at not in left]
    console.print(terminal_table(table, console, shown, left, least, title))
    return "".join(f"{printable(line)}\n" for line in output.getvalue().splitlines())


def write_csv(points: Sequence[ScalingPoint], path: Path) -> None:
    """Write one row per point with all its fields in plain numbers; lists and mappings are JSON."""
    rows = [json.loads(point.to_json()) for point in ordered(points)]
    plain = [[json.dumps(v) if isinstance(v, (list, dict)) else v for v in row.values()] for row in rows]
    write_rows(list(rows[0]) if rows else [], plain, path)


def surroundings(points: Sequence[ScalingPoint]) -> Table:
    """Return hardware, versions and commands, with the number of points for each value."""
    found = {
        "device": [f"{point.device}, {point.cores} cores" for point in points if point.device],
        "threads per worker": [str(point.threads) for point in points if point.threads],
        "backend": [point.backend for point in points],
        "precision": [point.precision for point in points],
        "link": [point.link for point in points],
        "steps, of which warm-up": [f"{p.steps}, {p.warmup_steps}" for p in points if p.steps],
        "versions": [" ".join(f"{name} {text}" for name, text in p.versions.items()) for p in points],
        "command": [point.command for point in points],
    }
    counts = {name: Counter(filter(None, values)) for name, values in found.items()}
    rows = [
        [text_cell(name), text_cell(value), count_cell(count)]
        for name, values in counts.items()
        for value, count in values.items()
    ]
    return Table(("item", "value", "points"), rows)
