"""What a report says, worked out once for the page, the Markdown and the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tempo.report.failures import Failure, environment, failures, said_path
from tempo.report.grouping import NOT_A_SETTING, NOT_A_SETTING_BELOW, differing, distinct, shared, value_of
from tempo.report.load_runs import Collection
from tempo.report.number_format import canonical, human
from tempo.report.published_numbers import PaperRow, paper_rows
from tempo.report.search_results import Search, searches_of
from tempo.report.statistics import Comparison, Summary, summarise
from tempo.report.tables import Cell, Table, value_cell
from tempo.report.time_to_target import Target, target_table

ENDS = ("completed", "pruned", "diverged", "failed", "interrupted", "running")
MOST_COLUMNS = 8
MOST_COMPARISONS = 30


@dataclass(frozen=True)
class Content:
    """A collection with its summary; `given` are the folders that the user named."""

    given: tuple[Path, ...]
    found: Collection
    summary: Summary
    paper: list[PaperRow]
    searches: tuple[Search, ...] = ()
    target: Target | None = None

    @property
    def title(self) -> str:
        """The folders' names."""
        return ", ".join(each.resolve().name for each in self.given[:4]) + (
            " …" if len(self.given) > 4 else ""
        )

    @property
    def smoke(self) -> bool:
        """Whether any run is a smoke run."""
        return any(run.smoke for run in self.found.runs)

    @cached_property
    def failures(self) -> list[Failure]:
        """Runs without a result, each with its command."""
        return failures(self.found)

    @cached_property
    def to_target(self) -> Table | None:
        """What each setting took to the target that was asked for."""
        return None if self.target is None else target_table(self.summary, self.target)

    @property
    def lines_to_target(self) -> list[str]:
        """The same for a terminal."""
        if self.target is None or self.to_target is None:
            return []
        lines = [f"to a {self.target.words}:"]
        for row in self.to_target.rows:
            named = zip(self.to_target.head, row, strict=True)
            lines.append("  " + ", ".join(f"{name} {cell.text}" for name, cell in named))
        return lines

    @property
    def outcome(self) -> str:
        """One sentence: how many runs ended how."""
        ends = [run.record.status for run in self.found.runs]
        counts = {status: ends.count(status) for status in ENDS if status in ends}
        if self.found.unreadable:
            counts["not readable"] = len(self.found.unreadable)
        total = sum(counts.values())
        told = ", ".join(f"{count} {status}" for status, count in counts.items())
        settings = len(self.summary.settings)
        return f"{total} run{'s' * (total != 1)} of {settings} setting{'s' * (settings != 1)}: {told}."

    @property
    def legend(self) -> str:
        """How to read the table of settings."""
        return (
            "Mean ± standard deviation (n - 1) over the seeds that completed; runs that repeat a seed count "
            f"as one. A single seed has no spread to tell. {self.summary.ties}"
        ).rstrip()

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The best against the others, the closest first, no more than a person reads."""
        return self.summary.comparisons[:MOST_COMPARISONS]

    @property
    def comparison_note(self) -> str:
        """What the intervals are."""
        left = len(self.summary.comparisons) - len(self.comparisons)
        cut = f" {left} settings further behind are left out." if left else ""
        return (
            "Each interval holds with 95 % for its own comparison (Student's t; seeds that both settings "
            "have are paired, else Welch's). The best of many settings is partly luck: the intervals do not "
            f"correct for having chosen it.{cut}"
        )

    @cached_property
    def differences(self) -> Table:
        """Every key that varies: a column a setting, or its values with their counts where there are many."""
        runs, settings = self.summary.runs, self.summary.settings
        keys = [
            key
            for key in differing(runs)
            if key not in NOT_A_SETTING - {"seed"} and not key.startswith(NOT_A_SETTING_BELOW)
        ]
        if len(settings) <= MOST_COLUMNS:
            labels = tuple(each.label for each in settings)
            rows = [[Cell(key), *(_values(each.runs, key) for each in settings)] for key in keys]
            return Table(("key", *labels), rows)
        rows = [[Cell(key), _counted(runs, key)] for key in keys]
        return Table(("key", "values (runs)"), rows)

    @cached_property
    def shared(self) -> dict[str, Any]:
        """What the configurations have in common."""
        return shared(self.summary.runs)

    @cached_property
    def environment(self) -> list[tuple[str, list[tuple[str, int]]]]:
        """Devices, versions, commits, data."""
        return environment(self.summary.runs)

    @property
    def train_seconds(self) -> float:
        """Of all runs together."""
        times = [run.train_seconds for run in self.found.runs]
        return sum(each for each in times if math.isfinite(each))

    @property
    def commands(self) -> list[str]:
        """The sweeps' command lines."""
        return [" ".join(each.command) for each in self.found.sweeps if each.command]

    @property
    def folders(self) -> list[str]:
        """What was read."""
        return [said_path(each.resolve()) for each in self.given]


def content_of(
    folders: Sequence[Path],
    found: Collection,
    metric: str | None = None,
    paper: str | None = None,
    target: str | None = None,
) -> Content:
    """Summarise what `load` found.

    Raises:
        UserError: a metric that no run has, a paper without experiments, a target that is none.
    """
    aim = None if target is None else Target.parse(target)
    summary = summarise(found.runs, metric)
    searches = tuple(searches_of(found))
    return Content(tuple(folders), found, summary, paper_rows(summary, paper), searches, aim)


def _values(runs: Sequence[Any], key: str) -> Cell:
    values = distinct(value_of(run, key) for run in runs)
    return value_cell(values[0]) if len(values) == 1 else Cell(", ".join(human(each) for each in values))


def _counted(runs: Sequence[Any], key: str) -> Cell:
    of_runs = [value_of(run, key) for run in runs]
    counts: dict[Any, int] = {}
    for each in of_runs:
        counts[canonical(each)] = counts.get(canonical(each), 0) + 1
    return Cell(", ".join(f"{human(each)} ({counts[canonical(each)]})" for each in distinct(of_runs)))
