"""Write a report into a folder, and return its short form for the terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tempo.config.schema import SMOKE
from tempo.errors import UserError, printable
from tempo.report.figures import draw
from tempo.report.html_page import announce_page, is_page, write_page
from tempo.report.load_runs import load
from tempo.report.markdown import write_markdown
from tempo.report.number_format import metric_name
from tempo.report.results_table import Table, settings_table, write_csv
from tempo.report.sections import Content, content_of
from tempo.report.statistics import Summary

MOST_TERMINAL_ROWS = 40
MOST_TERMINAL_COMPARISONS = 5
TERMINAL_WIDTH = 160
NOT_IN_THE_TERMINAL = ("training", "images", "joules", "lowest")
"""Starts of the heads of columns that are left out on a terminal, which is too narrow for them."""


def build_report(
    folders: Sequence[Path], out: Path, metric: str | None = None, paper: str | None = None
) -> Path:
    """Read the runs below `folders`, write their report into `out` and return the path of the page.

    Raises:
        UserError: no run below `folders`, a metric that no run has, or an unknown paper.
    """
    return write_report(content_of(folders, load(folders), metric, paper), out)


def write_report(content: Content, out: Path) -> Path:
    """Write results.csv, report.md, figures/ and report.html into `out`; return the path of the page.

    Raises:
        UserError: an error of `prepare`.
    """
    page = prepare(out)
    write_csv(content.summary, out / "results.csv")
    figures = draw(content.summary, out / "figures", content.searches)
    write_markdown(content, figures, out / "report.md")
    return write_page(content, figures, page)


def prepare(out: Path) -> Path:
    """Create the folder of a report and return the path of its page.

    Raises:
        UserError: `out` has files but is not a report, or is a link or has a linked folder.
    """
    page = out / "report.html"
    if out.is_dir() and any(out.iterdir()) and not is_page(page):
        raise UserError(f"{out} has files that are not a tempo report; choose another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    # A folder from elsewhere may have links in place of a report's files; never write to their targets.
    for folder in (out, out / "figures"):
        if folder.is_symlink():
            raise UserError(f"{folder} is a link to {folder.readlink()}; choose another folder with --out")
        for path in folder.glob("*"):
            if path.is_symlink() and not path.is_dir():
                path.unlink()
    announce_page(page)
    return page


def text_of(content: Content) -> str:
    """Return the report for a terminal as plain text: means, comparisons with the best, failures."""
    output = io.StringIO()
    console = Console(file=output, width=TERMINAL_WIDTH, color_system=None, legacy_windows=False)
    console.print(Text(content.outcome))
    if content.smoke:
        console.print(Text(f"*** {SMOKE} ***"))
    if content.summary.settings:
        _print_means(content.summary, console)
    for line in _lines(content):
        console.print(Text(line), soft_wrap=True)
    return "".join(f"{printable(line)}\n" for line in output.getvalue().splitlines())


def _print_means(summary: Summary, console: Console) -> None:
    means = settings_table(summary)
    shown = [at for at, head in enumerate(means.head) if not head.startswith(NOT_IN_THE_TERMINAL)]
    first = Table(means.head, means.rows[:MOST_TERMINAL_ROWS])
    console.print(terminal_table(first, f"by {metric_name(summary.metric)}", shown, left=[0]))
    if len(means.rows) > MOST_TERMINAL_ROWS:
        console.print(Text(f"and {len(means.rows) - MOST_TERMINAL_ROWS} more settings, in results.csv"))


def terminal_table(table: Table, title: str, shown: Sequence[int], left: Sequence[int]) -> RichTable:
    """Return the columns `shown` of a table for the terminal; columns in `left` hold text, not numbers."""
    made = RichTable(title=title, title_justify="left", highlight=False)
    for at in shown:
        made.add_column(Text(table.head[at]), justify="left" if at in left else "right", overflow="fold")
    for row in table.rows:
        made.add_row(*(Text(row[at].text) for at in shown))
    return made


def _lines(content: Content) -> list[str]:
    summary = content.summary
    lines = [summary.ties] if summary.ties else []
    lines += [comparison.words for comparison in summary.comparisons[:MOST_TERMINAL_COMPARISONS]]
    for search in content.searches:
        lines.append(f"{search.outcome} {search.verdict}")
        lines += [f"  best alone: {search.best_command}"] if search.best_command else []
    if content.target and content.to_target:
        lines.append(f"time to a {content.target.words}:")
        for row in content.to_target.rows:
            named = zip(content.to_target.head, row, strict=True)
            lines.append("  " + ", ".join(f"{name} {cell.text}" for name, cell in named))
    lines += [row.words for row in content.paper]
    lines += [claim.words for claim in content.claims]
    for failure in content.failures:
        lines.append(f"{failure.status}: {failure.folder}: {failure.reason}")
        lines += [f"  rerun: {failure.command}"] if failure.command else []
    return lines
