"""Write a report into a folder, and return its short form for the terminal."""

from __future__ import annotations

import io
import math
import shutil
import sys
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from tempo.config.schema import SMOKE
from tempo.errors import UserError, printable
from tempo.report.figures import draw
from tempo.report.html_page import announce_page, is_page, write_page
from tempo.report.load_runs import load
from tempo.report.markdown import write_markdown
from tempo.report.number_format import head_of, metric_name
from tempo.report.results_table import Cell, Table, settings_table, write_csv
from tempo.report.sections import Content, content_of
from tempo.report.statistics import Summary

_ANY_WIDTH = 10_000
MOST_TERMINAL_ROWS = 40
MOST_TERMINAL_COMPARISONS = 5
FILE_WIDTH = 160
"""Columns of the short form in a file or a pipe."""
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
    figures = draw(content.summary, out / "figures", content.searches, content.target)
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
    console = terminal_console(output)
    console.print(Text(content.outcome))
    if content.smoke:
        console.print(Text(f"*** {SMOKE} ***"))
    if content.summary.settings:
        _print_means(content.summary, console)
    for line in _lines(content):
        console.print(Text(line), soft_wrap=True)
    return "".join(f"{printable(line)}\n" for line in output.getvalue().splitlines())


def _print_means(summary: Summary, console: Console) -> None:
    means = ranked_table(summary)
    console.print(Text(f"by {metric_name(summary.metric)}, the best first:"))
    shown = [at for at, head in enumerate(means.head) if not head.startswith(NOT_IN_THE_TERMINAL)]
    if all(row[means.head.index("not completed")].text == "0" for row in means.rows):
        shown.remove(means.head.index("not completed"))
    names, first = means.head.index("seeds"), Table(means.head, means.rows[:MOST_TERMINAL_ROWS])
    least = _least_important(means, summary, shown, names)
    console.print(terminal_table(first, console, shown, range(names), least))
    if len(means.rows) > MOST_TERMINAL_ROWS:
        console.print(Text(f"and {len(means.rows) - MOST_TERMINAL_ROWS} more settings, in results.csv"))


def ranked_table(summary: Summary) -> Table:
    """Return the table of settings in the order of their rank, which its first column shows."""
    means = settings_table(summary)
    order = [summary.settings.index(setting) for setting in summary.ranked]
    ranks = ["best" if place == means.best else str(rank) for rank, place in enumerate(order, start=1)]
    if len(order) == 1:
        return means
    rows = [[Cell(rank), *means.rows[place]] for rank, place in zip(ranks, order, strict=True)]
    return Table(("", *means.head), rows)


def _least_important(table: Table, summary: Summary, shown: Sequence[int], names: int) -> list[int]:
    """Return the columns that a narrow terminal leaves out, in this order: losses, other metrics, seeds."""
    fixed = (head_of(summary.metric), "seeds", "not completed")
    metrics = [at for at in reversed(shown) if at >= names and table.head[at] not in fixed]
    return [
        *(at for at in metrics if table.head[at].endswith(" loss")),
        *(at for at in metrics if not table.head[at].endswith(" loss")),
        table.head.index("seeds"),
    ]


def terminal_console(output: io.StringIO) -> Console:
    """Return a console for plain text with the width of the terminal, or `FILE_WIDTH`."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else FILE_WIDTH
    return Console(file=output, width=width, color_system=None, legacy_windows=False)


def terminal_table(
    table: Table,
    console: Console,
    shown: Sequence[int],
    left: Container[int],
    least_important: Iterable[int],
    title: str | None = None,
) -> RichTable:
    """Return the columns `shown` of a table for the terminal; columns in `left` hold text, not numbers.

    If the terminal is too narrow, heads take two lines; then columns are left out, `least_important` first.
    """
    kept, options = list(shown), console.options.update(width=_ANY_WIDTH)
    made = _rich_table(table, title, kept, left, lines_of_head=1)
    for column in (None, *least_important, None):
        if Measurement.get(console, options, made).maximum <= console.width:
            break
        if column in kept:
            kept.remove(column)
        made = _rich_table(table, title, kept, left, lines_of_head=2)
    return made


def _rich_table(
    table: Table, title: str | None, shown: Sequence[int], left: Container[int], lines_of_head: int
) -> RichTable:
    made = RichTable(title=title, title_justify="left", highlight=False)
    for at in shown:
        head = table.head[at].replace(" ", "\n", lines_of_head - 1)
        made.add_column(Text(head), justify="left" if at in left else "right", overflow="fold")
    for row in table.rows:
        made.add_row(*(Text(row[at].text) for at in shown))
    return made


def _lines(content: Content) -> list[str]:
    summary = content.summary
    lines = [summary.ties] if summary.ties else []
    compared = summary.comparisons[:MOST_TERMINAL_COMPARISONS]
    lines += [comparison.short for comparison in compared]
    if any(math.isfinite(comparison.half_width) for comparison in compared):
        lines.append(f"± is the 95 % interval of the difference in {metric_name(summary.metric)}")
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
