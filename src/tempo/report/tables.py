"""Tables of settings and of runs, as cells that CSV, Markdown, HTML and the terminal share."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tempo.report.failures import said_path
from tempo.report.grouping import Setting, value_of
from tempo.report.load_runs import Run
from tempo.report.number_format import (
    ABSENT,
    SMOKE,
    amount,
    head_of,
    human,
    mean_and_sd,
    short_keys,
)
from tempo.report.statistics import Summary, describe, statistics

SPLIT_ORDER = ("val", "test", "train")


@dataclass(frozen=True)
class Cell:
    """What is read, and what is sorted by: a number, a text, or None for an empty cell (always last)."""

    text: str
    sort: float | str | None = None
    folder: Path | None = None
    """Of the run that the cell links to."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under their heads."""

    head: tuple[str, ...]
    rows: list[list[Cell]]
    best: int | None = None
    """Index of the row to be made out."""


def known_metrics(runs: Sequence[Run], first: str) -> list[str]:
    """All metrics that any record has; the ranking one, then validation, test, training."""
    known = {f"{split}/{name}" for run in runs for split, of in run.record.metrics.items() for name in of}

    def place(metric: str) -> tuple[bool, int, str]:
        split, _, leaf = metric.partition("/")
        at = SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER)
        return (metric != first, at, leaf)

    return sorted(known, key=place)


def means_table(summary: Summary) -> Table:
    """A row a setting: seeds, mean ± sd of every metric, the range of the ranking one, losses, cost."""
    metrics = known_metrics(summary.runs, summary.metric)
    head = (
        *(short_keys(summary.keys) or ("setting",)),
        "seeds",
        *(head_of(each) for each in metrics),
        "lowest to highest",
        "without result",
        "training seconds",
        "images/s",
        *_joules_head(summary.runs),
    )
    ranked = summary.ranked
    best = (
        summary.settings.index(ranked[0])
        if len(ranked) > 1 and statistics(ranked[0], summary.metric).n
        else None
    )
    return Table(head, [_means_row(each, summary, metrics) for each in summary.settings], best)


def _means_row(setting: Setting, summary: Summary, metrics: Sequence[str]) -> list[Cell]:
    described = [statistics(setting, each) for each in metrics]
    ranking = statistics(setting, summary.metric)
    span = (
        f"{amount(ranking.low, summary.metric)} to {amount(ranking.high, summary.metric)}"
        if ranking.n > 1
        else ABSENT
    )
    seconds = _mean(run.train_seconds for run in setting.completed)
    speed = _mean(run.record.images_per_second for run in setting.completed)
    keys = [value_cell(each) for each in setting.values] or [Cell(setting.label, setting.label)]
    if setting.smoke:
        keys[0] = Cell(f"{keys[0].text} [{SMOKE}]", keys[0].sort)
    return [
        *keys,
        Cell(str(ranking.n), ranking.n),
        *(
            number_cell(each.mean, mean_and_sd(each.mean, each.sd, metric))
            for each, metric in zip(described, metrics, strict=True)
        ),
        number_cell(ranking.low, span),
        _lost(setting),
        number_cell(seconds, f"{seconds:.1f}"),
        number_cell(speed, f"{speed:.0f}"),
        *(_joules(_mean(run.joules for run in setting.completed)) for _ in _joules_head(summary.runs)),
    ]


def runs_table(summary: Summary) -> Table:
    """A row a run: values of the keys, seed, status, metrics, length and cost, folder."""
    metrics = known_metrics(summary.runs, summary.metric)
    head = (
        *short_keys(summary.keys),
        "seed",
        "status",
        *(head_of(each) for each in metrics),
        "steps",
        "epochs",
        "training seconds",
        "images/s",
        *_joules_head(summary.runs),
        "folder",
    )
    asked = bool(_joules_head(summary.runs))
    return Table(head, [_run_row(run, summary.keys, metrics, asked) for run in summary.runs])


def _run_row(run: Run, keys: Sequence[str], metrics: Sequence[str], joules: bool) -> list[Cell]:
    record = run.record
    status = f"{record.status} [{SMOKE}]" if run.smoke else record.status
    seconds = run.train_seconds
    folder = said_path(run.folder)
    return [
        *(value_cell(value_of(run, key)) for key in keys),
        Cell(str(record.seed), record.seed),
        Cell(status, status),
        *(number_cell(run.metric(each), amount(run.metric(each), each)) for each in metrics),
        Cell(str(record.steps), record.steps),
        Cell(f"{record.epochs:g}", record.epochs),
        number_cell(seconds, f"{seconds:.1f}"),
        number_cell(record.images_per_second, f"{record.images_per_second:.0f}"),
        *([_joules(run.joules)] if joules else []),
        Cell(folder, folder, run.folder),
    ]


def write_csv(summary: Summary, path: Path) -> None:
    """`results.csv`: a row a run, raw numbers, accuracies in [0, 1], empty where there is none."""
    metrics = sorted(known_metrics(summary.runs, summary.metric))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    times = ("startup", "train", "test", "total")
    head = ["seed", "status", "scale", *metrics, "steps", "epochs", *(f"{each}_seconds" for each in times)]
    writer.writerow([*summary.keys, *head, "images_per_second", "joules", "world_size", "reason", "folder"])
    for run in summary.runs:
        record = run.record
        writer.writerow(
            [
                *(_raw(value_of(run, key)) for key in summary.keys),
                *(record.seed, record.status, record.config.get("scale") or ""),
                *(_raw(run.metric(each)) for each in metrics),
                *(record.steps, record.epochs),
                *(record.seconds.get(each, "") for each in times),
                *(record.images_per_second, _raw(run.joules), record.world_size, no_formula(record.reason)),
                no_formula(said_path(run.folder)),
            ]
        )
    path.write_text(text.getvalue(), encoding="utf-8")


def markdown(table: Table) -> str:
    """A GitHub table; a bar or a line break in a cell cannot break it."""
    lines = [
        list(table.head),
        ["---"] * len(table.head),
        *([cell.text for cell in row] for row in table.rows),
    ]
    return "\n".join("| " + " | ".join(escaped(each) for each in line) + " |" for line in lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands."""
    for each in "\\`*_<>|[]":
        text = text.replace(each, f"\\{each}")
    return " ".join(text.split())


def value_cell(value: Any) -> Cell:
    """A configuration's value: numbers sort as numbers."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Cell(human(value), float(value))
    return Cell(human(value), None if value is None or value == ABSENT else human(value))


def number_cell(value: float, text: str) -> Cell:
    """A number, or an empty cell where it is NaN."""
    return Cell(ABSENT) if math.isnan(value) else Cell(text, value)


def _raw(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return ""
    return (
        value if isinstance(value, (int, float)) and not isinstance(value, bool) else no_formula(human(value))
    )


def no_formula(text: str) -> str:
    """A spreadsheet computes what begins like a formula: an apostrophe makes it the text that it is."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _joules_head(runs: Sequence[Run]) -> tuple[str, ...]:
    """A column only where a run was asked for its energy."""
    asked = [run for run in runs if math.isfinite(run.joules)]
    return (joules_name(asked),) if asked else ()


def joules_name(runs: Sequence[Run]) -> str:
    """`joules of training`, and whether any of them is an estimate."""
    estimated = any("estimated" in str(run.record.energy.get("source", "")) for run in runs)
    return "joules of training" + (" (estimated)" if estimated else "")


def _joules(value: float) -> Cell:
    return number_cell(value, f"{value:.0f}" if value >= 100 else f"{value:.3g}")


def _mean(values: Any) -> float:
    return describe([each for each in values if math.isfinite(each)]).mean


def _lost(setting: Setting) -> Cell:
    counts = {
        status: len(setting.with_status(status))
        for status in ("pruned", "diverged", "failed", "interrupted", "running")
    }
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return Cell(told or "0", float(sum(counts.values())))
