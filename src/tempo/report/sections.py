"""Content of a report: sections of text, tables and figures, shared by the page and report.md.

A new section is one entry in `sections_of`; `html_page` and `markdown` render its blocks.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from tempo.report.claims import RULE, Judged, claims_table, judged_claims
from tempo.report.figures import Drawn
from tempo.report.grouping import NOT_A_SETTING, NOT_A_SETTING_BELOW, differing, distinct, shared, value_of
from tempo.report.load_runs import Collection, Run, Unreadable
from tempo.report.number_format import (
    canonical,
    counted,
    duration,
    human,
    metric_name,
    shortened,
    shown_path,
)
from tempo.report.published_numbers import PaperRow, paper_rows, paper_table
from tempo.report.results_table import (
    Cell,
    Table,
    count_cell,
    settings_table,
    text_cell,
    value_cell,
)
from tempo.report.search_trials import Search, searches_of, trials_table
from tempo.report.statistics import Summary, summarise
from tempo.report.time_to_target import Target, target_table

ENDS = ("completed", "pruned", "diverged", "failed", "interrupted", "running")
FAILURES = ("failed", "diverged", "interrupted", "running")
MOST_COLUMNS = 8
MOST_COMPARISONS = 30
REASON_LENGTH = 400


@dataclass(frozen=True)
class Text:
    """A paragraph; a `note` explains the block above, and a `faint` list item is an inconclusive result."""

    text: str
    kind: Literal["plain", "note", "item", "faint", "failure", "command"] = "plain"


@dataclass(frozen=True)
class Live:
    """A part of the page that its scripts fill; `name` is its id."""

    name: str
    without_scripts: str


Block = Text | Table | Drawn | Live


CHARTS = Live("explorer", "The charts need JavaScript; the folder figures/ has them as PNG and SVG.")

IMAGES = Live("test-images", "The matrix needs JavaScript; each run's folder has confusion.png.")
RUNS = Live("all-runs", "The table needs JavaScript; results.csv has the same rows.")


@dataclass(frozen=True)
class Failure:
    """A run that did not complete and the command that reruns it, or "" if that is unknown."""

    folder: Path
    status: str
    reason: str
    command: str


@dataclass(frozen=True)
class Section:
    """A titled part of the report; `name` is its anchor on the page."""

    name: str
    title: str
    blocks: Sequence[Block]
    page_only: bool = False


@dataclass(frozen=True)
class Content:
    """Runs with their summary; `given` are the folders that the user named."""

    given: tuple[Path, ...]
    found: Collection
    summary: Summary
    paper: list[PaperRow]
    claims: Sequence[Judged] = ()
    searches: tuple[Search, ...] = ()
    target: Target | None = None

    @property
    def title(self) -> str:
        """The names of the folders."""
        more = " …" if len(self.given) > 4 else ""
        return ", ".join(folder.resolve().name for folder in self.given[:4]) + more

    @property
    def smoke(self) -> bool:
        """Whether any run is a smoke run."""
        return any(run.smoke for run in self.found.runs)

    @property
    def outcome(self) -> str:
        """Sentence with the number of runs per outcome."""
        ends = Counter(run.record.status for run in self.found.runs)
        ends["not readable"] = len(self.found.unreadable)
        counts = ", ".join(f"{ends[end]} {end}" for end in (*ENDS, "not readable") if ends[end])
        runs, settings = counted(ends.total(), "run"), counted(len(self.summary.settings), "setting")
        return f"{runs} of {settings}: {counts}."

    @property
    def legend(self) -> str:
        """Explanation of the table of settings."""
        return (
            "Mean ± standard deviation (n - 1) over the seeds that completed; runs that repeat a seed count "
            f"as one. A single seed has no standard deviation. {self.summary.ties}"
        ).rstrip()

    @cached_property
    def failures(self) -> list[Failure]:
        """Failed, diverged and unfinished runs, then the folders that could not be read."""
        runs = [run for status in FAILURES for run in self.found.runs if run.record.status == status]
        return [Failure(run.folder, run.record.status, _reason(run), run.command) for run in runs] + [
            Failure(lost.folder, "not readable", _why(lost), lost.command) for lost in self.found.unreadable
        ]

    @cached_property
    def to_target(self) -> Table | None:
        """Table of the cost of each setting to reach the target, if one was given."""
        return None if self.target is None else target_table(self.summary, self.target)


def content_of(
    folders: Sequence[Path],
    found: Collection,
    metric: str | None = None,
    paper: str | None = None,
    target: str | None = None,
) -> Content:
    """Summarise the runs that `load` found.

    Raises:
        UserError: no run has the metric, the paper has no experiments, or the target cannot be read.
    """
    aim = None if target is None else Target.parse(target)
    summary = summarise(found.runs, metric)
    searches = tuple(searches_of(found))
    rows, claims = paper_rows(summary, paper), judged_claims(found.runs, paper)
    return Content(tuple(folders), found, summary, rows, claims, searches, aim)


def sections_of(content: Content, figures: Sequence[Drawn]) -> list[Section]:
    """Return the sections of the page and of report.md, without empty ones."""
    summary = content.summary
    runs, target = summary.runs, content.target.words if content.target else ""
    everything = [
        Section("settings", f"Settings, by {metric_name(summary.metric)}", _settings(content)),
        Section("comparisons", "Comparisons", _comparisons(summary)),
        Section("charts", "Charts", [CHARTS] if runs else [], page_only=True),
        Section("target", f"Time to a {target}", [content.to_target] if content.to_target else []),
        Section(
            "paper", "Our results and the paper's", [paper_table(content.paper)] if content.paper else []
        ),
        Section("claims", "What the paper says in words", _claims(content)),
        *(_search(search, number) for number, search in enumerate(content.searches, start=1)),
        Section("figures", "Figures", figures),
        Section("failures", "Failed, diverged or unfinished", _failures(content.failures)),
        Section("runs", "All runs", [RUNS] if runs else [], page_only=True),
        Section("images", "Confusion matrix and wrong images", [IMAGES] if runs else [], page_only=True),
        Section("differs", "Keys that differ", [differences(summary)] if runs else []),
        Section("shared", "Configuration shared by all runs", [_shared(runs)] if runs else []),
        Section("environment", "Environment", _environment(content) if runs else []),
    ]
    return [section for section in everything if section.blocks]


def _settings(content: Content) -> list[Block]:
    if not content.summary.settings:
        return []
    return [settings_table(content.summary), Text(content.legend, "note")]


def _comparisons(summary: Summary) -> list[Block]:
    """Return the best setting compared with the closest others, in order; limited to a readable number."""
    shown = summary.comparisons[:MOST_COMPARISONS]
    if not shown:
        return []
    left = len(summary.comparisons) - len(shown)
    note = (
        "Each interval holds with 95 % for its own comparison (Student's t; common seeds of two settings are "
        "paired, else Welch's). The best of many settings is partly luck: the intervals do not correct for "
        "having chosen it." + (f" {left} settings further behind are left out." if left else "")
    )
    items = [Text(item.words, "item" if item.distinguishable else "faint") for item in shown]
    return [*items, Text(note, "note")]


def _claims(content: Content) -> list[Block]:
    return [claims_table(content.claims), Text(RULE, "note")] if content.claims else []


def _search(search: Search, number: int) -> Section:
    space = ", ".join(f"{key}={words}" for key, words in search.space.items())
    blocks: list[Block] = [Text(f"{search.outcome} Space: {space}."), Text(search.verdict)]
    if search.best_command:
        blocks.append(Text(search.best_command, "command"))
    if search.shares:
        blocks.append(Text(f"Importance: {search.shares}."))
    blocks.append(trials_table(search))
    name = "search" if number == 1 else f"search{number}"
    return Section(name, f"Search: {search.sweep.folder.name}", blocks)


def differences(summary: Summary) -> Table:
    """Return every key that varies, with its value per setting; if these are many, its values and counts."""
    keys = [
        key
        for key in differing(summary.runs)
        if (key not in NOT_A_SETTING or key == "seed") and not key.startswith(NOT_A_SETTING_BELOW)
    ]
    if len(summary.settings) <= MOST_COLUMNS:
        labels = tuple(setting.label for setting in summary.settings)
        rows = [[Cell(key), *(_values(setting.runs, key) for setting in summary.settings)] for key in keys]
        return Table(("key", *labels), rows)
    return Table(("key", "values (runs)"), [[Cell(key), _counts(summary.runs, key)] for key in keys])


def _values(runs: Sequence[Run], key: str) -> Cell:
    values = distinct(value_of(run, key) for run in runs)
    return value_cell(values[0]) if len(values) == 1 else Cell(", ".join(map(human, values)))


def _counts(runs: Sequence[Run], key: str) -> Cell:
    values = [value_of(run, key) for run in runs]
    counts = Counter(map(canonical, values))
    return Cell(", ".join(f"{human(value)} ({counts[canonical(value)]})" for value in distinct(values)))


def _shared(runs: Sequence[Run]) -> Table:
    return Table(
        ("key", "value"), [[text_cell(key), value_cell(value)] for key, value in shared(runs).items()]
    )


def _failures(failures: Sequence[Failure]) -> list[Block]:
    blocks: list[Block] = []
    for failure in failures:
        folder = shown_path(failure.folder)
        blocks.append(Text(f"{failure.status}: {folder}: {failure.reason}", "failure"))
        if failure.command:
            blocks.append(Text(failure.command, "command"))
    return blocks


def _environment(content: Content) -> list[Block]:
    """Return the environments of the runs: every item's distinct values, with the number of runs."""
    items = [_environment_of(run) for run in content.summary.runs]
    names = dict.fromkeys(name for item in items for name in item)
    rows = [
        [text_cell(name), text_cell(value), count_cell(count)]
        for name in names
        for value, count in Counter(item[name] for item in items if name in item).most_common()
    ]
    seconds = sum(run.train_seconds for run in content.found.runs if math.isfinite(run.train_seconds))
    return [
        Text(f"Training took {duration(seconds)} over all runs."),
        Table(("item", "value", "runs"), rows),
    ]


def _environment_of(run: Run) -> dict[str, str]:
    record, data = run.record, run.record.data
    changed = " with uncommitted changes" if record.git.get("dirty") else ""
    sizes = {"train": data.get("train"), "val": data.get("val"), "test": data.get("test")}
    images = ", ".join(f"{size} {split}" for split, size in sizes.items() if size is not None)
    return {
        "device": record.device or "unknown",
        "processes": str(record.world_size),
        "commit": str(record.git.get("commit") or "unknown") + changed,
        "data": f"{data.get('name', 'unknown')} ({images}; sha256 {data.get('sha256', 'unknown')[:16]})",
        "parameters": str(record.parameters.get("total", "unknown")),
        **dict(sorted(record.versions.items())),
    }


def _why(lost: Unreadable) -> str:
    """Return the reason without the path, which is shown next to it."""
    return lost.why.replace(f"{lost.folder}{os.sep}", "").replace(f"{lost.folder} ", "the folder ")


def _reason(run: Run) -> str:
    record = run.record
    default = f"at step {record.steps}"
    if record.status == "running":
        default = f"no end recorded: still running, or killed after step {record.steps}"
    return shortened(" ".join(record.reason.split()) or default, REASON_LENGTH)
