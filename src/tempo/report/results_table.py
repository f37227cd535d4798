"""Tables of a report: settings, runs and results.csv. To add a column, add a line to its list of columns."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tempo.config.schema import SMOKE
from tempo.report.grouping import Setting, value_of
from tempo.report.load_runs import Run
from tempo.report.number_format import (
    ABSENT,
    amount,
    head_of,
    human,
    mean_and_sd,
    short_keys,
    shown_path,
)
from tempo.report.statistics import Statistics, Summary, describe, known_metrics, statistics

Row = TypeVar("Row")
SPLIT_ORDER = ("val", "test", "train")
_FORMULA = re.compile(
    r"(^|[;\t\r\n])(?=[\s\x00-\x1f\u200b-\u200f\u202a-\u202e\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20])"
)
NOT_COMPLETED = ("pruned", "diverged", "failed", "interrupted", "running")


@dataclass(frozen=True)
class Cell:
    """Text of a cell, and its sort key: a number, text, or None for an empty cell (always last)."""

    text: str
    sort: float | str | None = None
    folder: Path | None = None
    """The folder that the cell links to."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under their heads; `best` is the index of the row to highlight."""

    head: tuple[str, ...]
    rows: list[list[Cell]]
    best: int | None = None


Columns = list[tuple[str, Callable[[Row], Cell]]]
"""Head and cell of each column."""


def table_of(columns: Columns[Row], rows: Iterable[Row], best: int | None = None) -> Table:
    """Return the table with these columns and one row per item."""
    return Table(
        tuple(head for head, _ in columns), [[cell(row) for _, cell in columns] for row in rows], best
    )


def settings_table(summary: Summary) -> Table:
    """Return one row per setting: mean ± sd of every metric over the seeds, and the cost."""
    metric = summary.metric
    columns: Columns[Setting] = [
        *setting_columns(summary),
        ("seeds", lambda setting: count_cell(statistics(setting, metric).n)),
        *(
            (head_of(name), lambda setting, name=name: _mean_cell(statistics(setting, name), name))
            for name in ordered_metrics(summary)
        ),
        ("lowest to highest", lambda setting: _range_cell(statistics(setting, metric), metric)),
        ("not completed", _not_completed_cell),
        ("training seconds", lambda setting: seconds_cell(_mean(setting, lambda run: run.train_seconds))),
        ("images/s", lambda setting: _speed_cell(_mean(setting, lambda run: run.record.images_per_second))),
    ]
    if has_joules(summary.runs):
        columns.append(
            (joules_name(summary.runs), lambda setting: _joules_cell(_mean(setting, lambda run: run.joules)))
        )
    best = summary.ranked[0] if len(summary.settings) > 1 else None
    has_best = best is not None and statistics(best, metric).n > 0
    return table_of(columns, summary.settings, summary.settings.index(best) if best and has_best else None)


def write_csv(summary: Summary, path: Path) -> None:
    """Write results.csv: one row per run, raw numbers, accuracies in [0, 1], empty if there is no value."""
    columns: list[tuple[str, Callable[[Run], Any]]] = [
        *((key, lambda run, key=key: value_of(run, key)) for key in summary.keys),
        ("seed", lambda run: run.record.seed),
        ("status", lambda run: run.record.status),
        ("scale", lambda run: run.record.config.get("scale") or ""),
        *((name, lambda run, name=name: run.metric(name)) for name in sorted(known_metrics(summary.runs))),
        ("steps", lambda run: run.record.steps),
        ("epochs", lambda run: run.record.epochs),
        ("startup_seconds", lambda run: run.record.seconds.get("startup", "")),
        ("train_seconds", lambda run: run.record.seconds.get("train", "")),
        ("test_seconds", lambda run: run.record.seconds.get("test", "")),
        ("total_seconds", lambda run: run.record.seconds.get("total", "")),
        ("images_per_second", lambda run: run.record.images_per_second),
        ("joules", lambda run: run.joules),
        ("world_size", lambda run: run.record.world_size),
        ("reason", lambda run: run.record.reason),
        ("folder", lambda run: shown_path(run.folder)),
    ]
    rows = ([_raw(value(run)) for _, value in columns] for run in summary.runs)
    write_rows([head for head, _ in columns], rows, path)


def write_rows(heads: Sequence[str], rows: Iterable[Sequence[Any]], path: Path) -> None:
    """Write a CSV file for spreadsheets, in which no text, heads included, is evaluated as a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(
        [no_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in (heads, *rows)
    )
    path.write_text(text.getvalue(), encoding="utf-8")


def setting_columns(summary: Summary) -> Columns[Setting]:
    """Return the columns that name a setting: one per key, or its label; the first marks smoke settings."""

    def column(at: int, name: str) -> tuple[str, Callable[[Setting], Cell]]:
        def cell(setting: Setting) -> Cell:
            plain = text_cell(setting.label)
            if setting.values:
                plain = Cell(setting.texts[at], value_cell(setting.values[at]).sort)
            return Cell(f"{plain.text} [{SMOKE}]", plain.sort) if setting.smoke and at == 0 else plain

        return name, cell

    return [column(at, name) for at, name in enumerate(short_keys(summary.keys) or ("setting",))]


def value_cell(value: Any) -> Cell:
    """Return a value of a configuration as a cell; numbers sort as numbers."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Cell(human(value), float(value))
    return Cell(human(value), None if value is None or value == ABSENT else human(value))


def number_cell(value: float, text: str) -> Cell:
    """Return a number as a cell, or an empty cell for NaN."""
    return Cell(ABSENT) if math.isnan(value) else Cell(text, value)


def count_cell(value: int) -> Cell:
    """Return a whole number as a cell."""
    return Cell(str(value), value)


def text_cell(text: str, folder: Path | None = None) -> Cell:
    """Return text as a cell that sorts by it and links to `folder`."""
    return Cell(text, text, folder)


def seconds_cell(value: float) -> Cell:
    """Return seconds as a cell, with one decimal."""
    return number_cell(value, f"{value:.1f}")


def has_joules(runs: Sequence[Run]) -> bool:
    """Whether any run recorded its energy."""
    return any(math.isfinite(run.joules) for run in runs)


def joules_name(runs: Sequence[Run]) -> str:
    """Return `joules of training`, and whether any of them is an estimate."""
    estimated = any("estimated" in str(run.record.energy.get("source", "")) for run in runs)
    return "joules of training" + (" (estimated)" if estimated else "")


def no_formula(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would evaluate as a formula.

    A spreadsheet may skip blanks before it, read full-width signs, and split a line at semicolons and tabs.
    """
    return _FORMULA.sub(r"\1'", text)


def ordered_metrics(summary: Summary) -> list[str]:
    """Return all metrics, the ranking one first, then validation, test, training."""

    def place(metric: str) -> tuple[bool, int, str]:
        split, _, leaf = metric.partition("/")
        at = SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER)
        return (metric != summary.metric, at, leaf)

    return sorted(known_metrics(summary.runs), key=place)


def _mean_cell(found: Statistics, metric: str) -> Cell:
    return number_cell(found.mean, mean_and_sd(found.mean, found.sd, metric))


def _range_cell(found: Statistics, metric: str) -> Cell:
    text = f"{amount(found.low, metric)} to {amount(found.high, metric)}" if found.n > 1 else ABSENT
    return number_cell(found.low, text)


def _not_completed_cell(setting: Setting) -> Cell:
    counts = {status: len(setting.with_status(status)) for status in NOT_COMPLETED}
    text = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return Cell(text or "0", float(sum(counts.values())))


def _mean(setting: Setting, measure: Callable[[Run], float]) -> float:
    return describe([value for run in setting.completed if math.isfinite(value := measure(run))]).mean


def _speed_cell(value: float) -> Cell:
    return number_cell(value, f"{value:.0f}")


def _joules_cell(value: float) -> Cell:
    return number_cell(value, f"{value:.0f}" if value >= 100 else f"{value:.3g}")


def _raw(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return ""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number else human(value)
