"""The content of a report: sections of text, tables and figures, shared by the page and by report.md.

A new section is one entry in `sections`; `html_page` and `markdown` render every kind of block.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

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
)
from tempo.report.published_numbers import PaperRow, paper_rows, paper_table
from tempo.report.search_results import Search, searches_of, trials_table
from tempo.report.statistics import Summary, summarise
from tempo.report.tables import Cell, Table, runs_table, settings_table, value_cell
from tempo.report.time_to_target import Target, target_table

ENDS = ("completed", "pruned", "diverged", "failed", "interrupted", "running")
FAILURES = ("failed", "diverged", "interrupted", "running")
MOST_COLUMNS = 8
MOST_COMPARISONS = 30
REASON_LENGTH = 400


@dataclass(frozen=True)
class Text:
    """A paragraph; a `note` explains what is above it."""

    text: str
    note: bool = False


@dataclass(frozen=True)
class Command:
    """A command to paste, or lines of configuration."""

    text: str


@dataclass(frozen=True)
class Bullet:
    """One item of a list; `faint` if it claims nothing."""

    text: str
    faint: bool = False


@dataclass(frozen=True)
class Facts:
    """Names with their values; `folded` on a page until the reader opens them."""

    items: tuple[tuple[str, tuple[str, ...]], ...]
    folded: bool = False


@dataclass(frozen=True)
class Failure:
    """A run that did not complete and the command that reruns it, or "" if that is unknown."""

    folder: Path
    status: str
    reason: str
    again: str


Block = Text | Command | Bullet | Facts | Failure | Table | Drawn


@dataclass(frozen=True)
class Section:
    """A titled part of the report; `name` is its anchor on the page."""

    name: str
    title: str
    blocks: tuple[Block, ...]
    page_only: bool = False


@dataclass(frozen=True)
class Content:
    """Runs with their summary; `given` are the folders that the user named."""

    given: tuple[Path, ...]
    found: Collection
    summary: Summary
    paper: list[PaperRow]
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
        """One sentence: how many runs ended how."""
        ends = Counter(run.record.status for run in self.found.runs)
        ends["not readable"] = len(self.found.unreadable)
        counts = ", ".join(f"{ends[end]} {end}" for end in (*ENDS, "not readable") if ends[end])
        runs, settings = counted(ends.total(), "run"), counted(len(self.summary.settings), "setting")
        return f"{runs} of {settings}: {counts}."

    @property
    def legend(self) -> str:
        """How to read the table of settings."""
        return (
            "Mean ± standard deviation (n - 1) over the seeds that completed; runs that repeat a seed count "
            f"as one. A single seed has no standard deviation. {self.summary.ties}"
        ).rstrip()

    @cached_property
    def failures(self) -> list[Failure]:
        """Failed, diverged and unfinished runs, then the folders that could not be read."""
        runs = [run for status in FAILURES for run in self.found.runs if run.record.status == status]
        return [Failure(run.folder, run.record.status, _reason(run), run.again) for run in runs] + [
            Failure(lost.folder, "not readable", _why(lost), lost.again) for lost in self.found.unreadable
        ]

    @cached_property
    def to_target(self) -> Table | None:
        """What each setting took to reach the target, if one was given."""
        return None if self.target is None else target_table(self.summary, self.target)


def content_of(
    folders: Sequence[Path],
    found: Collection,
    metric: str | None = None,
    paper: str | None = None,
    target: str | None = None,
) -> Content:
    """Summarise what `load` found.

    Raises:
        UserError: no run has the metric, the paper has no experiments, or the target cannot be read.
    """
    aim = None if target is None else Target.parse(target)
    summary = summarise(found.runs, metric)
    searches = tuple(searches_of(found))
    return Content(tuple(folders), found, summary, paper_rows(summary, paper), searches, aim)


def sections(content: Content, figures: Sequence[Drawn]) -> list[Section]:
    """Return the sections of the page and of report.md, without empty ones."""
    summary = content.summary
    by = metric_name(summary.metric)
    all_sections = [
        _section("settings", f"Settings, by {by}", [settings_table(summary), Text(content.legend, note=True)])
        if summary.settings
        else None,
        _comparisons(summary),
        _section("target", f"To a {content.target.words}", [content.to_target])
        if content.target and content.to_target
        else None,
        _section("paper", "Ours beside the paper's", [paper_table(content.paper)]) if content.paper else None,
        *(_search(search, at) for at, search in enumerate(content.searches)),
        _section("figures", "Figures", figures),
        _section("failures", "Failed, diverged or unfinished", content.failures),
    ]
    if summary.runs:
        all_sections += [
            Section("runs", "All runs", (runs_table(summary),), page_only=True),
            _section("differs", "Keys that differ", [differences(summary)]),
            _section("shared", "Configuration shared by all runs", [_shared(summary.runs)]),
            _section("environment", "Environment", _environment(content)),
        ]
    return [section for section in all_sections if section is not None and section.blocks]


def _section(name: str, title: str, blocks: Iterable[Block]) -> Section:
    return Section(name, title, tuple(blocks))


def _comparisons(summary: Summary) -> Section | None:
    """The best setting against the others, the closest first, no more than a person reads."""
    shown = summary.comparisons[:MOST_COMPARISONS]
    left = len(summary.comparisons) - len(shown)
    note = (
        "Each interval holds with 95 % for its own comparison (Student's t; common seeds of two settings are "
        "paired, else Welch's). The best of many settings is partly luck: the intervals do not correct for "
        "having chosen it." + (f" {left} settings further behind are left out." if left else "")
    )
    bullets = [Bullet(item.words, faint=not item.distinguishable) for item in shown]
    return _section("comparisons", "Comparisons", [*bullets, Text(note, note=True)]) if shown else None


def _search(search: Search, at: int) -> Section:
    space = ", ".join(f"{key}={words}" for key, words in search.space.items())
    blocks: list[Block] = [Text(f"{search.outcome} Space: {space}."), Text(search.verdict)]
    if search.best_command:
        blocks.append(Command(search.best_command))
    if search.shares:
        blocks.append(Text(f"Importance: {search.shares}."))
    blocks.append(trials_table(search))
    name = "search" if at == 0 else f"search{at + 1}"
    return _section(name, f"Search: {search.sweep.folder.name}", blocks)


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


def _shared(runs: Sequence[Run]) -> Facts:
    return Facts(tuple((key, (human(value),)) for key, value in shared(runs).items()), folded=True)


def _environment(content: Content) -> list[Block]:
    """What the runs ran on: each item with its distinct values and the number of runs of each."""
    counts: dict[str, Counter[str]] = {}
    for run in content.summary.runs:
        for name, value in _environment_of(run).items():
            counts.setdefault(name, Counter())[value] += 1
    items = tuple((name, _with_counts(values)) for name, values in counts.items())
    seconds = sum(run.train_seconds for run in content.found.runs if math.isfinite(run.train_seconds))
    return [Text(f"Training took {duration(seconds)} over all runs."), Facts(items)]


def _with_counts(values: Counter[str]) -> tuple[str, ...]:
    if len(values) == 1:
        return tuple(values)
    return tuple(f"{value} ({count} runs)" for value, count in values.most_common())


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
    """Return the reason without the path, which is shown beside it."""
    return lost.why.replace(f"{lost.folder}{os.sep}", "").replace(f"{lost.folder} ", "the folder ")


def _reason(run: Run) -> str:
    record = run.record
    default = f"at step {record.steps}"
    if record.status == "running":
        default = f"no end recorded: still running, or killed after step {record.steps}"
    return shortened(" ".join(record.reason.split()) or default, REASON_LENGTH)
