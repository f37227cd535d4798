"""The ways in: a report on disk, and a short table for the terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tempo.errors import UserError, printable
from tempo.report.content import Content, content_of
from tempo.report.figures import draw
from tempo.report.html_page import announce_page, is_page, write_page
from tempo.report.load_runs import load
from tempo.report.markdown import write_markdown
from tempo.report.number_format import SMOKE, metric_name
from tempo.report.tables import means_table, write_csv

MOST_TERMINAL_ROWS = 40
TERMINAL_WIDTH = 160


def build_report(
    folders: Sequence[Path], out: Path, metric: str | None = None, paper: str | None = None
) -> Path:
    """Write `results.csv`, `report.md`, `figures/` and `report.html` into `out`; the path of the page.

    Raises:
        UserError: nothing at all under `folders`, a metric that no run has, an unknown paper.
    """
    return write_report(content_of(folders, load(folders), metric, paper), out)


def write_report(content: Content, out: Path) -> Path:
    """The files of a report whose content is known; the path of the page.

    Raises:
        UserError: `out` has files and is no report: none of them may be written over; or what is to be
            written there is a link to a folder elsewhere.
    """
    page = prepare(out)
    write_csv(content.summary, out / "results.csv")
    figures = draw(content.summary, out / "figures", content.searches)
    write_markdown(content, figures, out / "report.md")
    return write_page(content, figures, page)


def prepare(out: Path) -> Path:
    """Make `out` ready for the files of a report; where its page will be. UserError as `write_report`."""
    page = out / "report.html"
    if out.is_dir() and any(out.iterdir()) and not is_page(page):
        raise UserError(f"{out} has files that are no report of tempo: choose another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    _cut_links(out)
    announce_page(page)
    return page


def _cut_links(out: Path) -> None:
    """A stranger's folder may hold links in the place of a report's files: what they lead to is not ours."""
    for path in (out, out / "figures"):
        if path.is_symlink():
            raise UserError(f"{path} is a link to {path.readlink()}: choose another folder with --out")
        for each in path.glob("*"):
            if each.is_symlink() and not each.is_dir():
                each.unlink()


def text_of(content: Content) -> str:
    """What a terminal shows of a report: means, the best one's comparisons, what failed; plain text."""
    summary = content.summary
    console = Console(file=io.StringIO(), width=TERMINAL_WIDTH, color_system=None, legacy_windows=False)
    console.print(Text(content.outcome))
    if content.smoke:
        console.print(Text(f"*** {SMOKE} ***"))
    if summary.settings:
        means = means_table(summary)
        # The losses and the cost have their place in the files; a terminal is narrow.
        wanted = [
            at
            for at, head in enumerate(means.head)
            if not head.startswith(("training", "images", "joules", "lowest"))
        ]
        table = Table(title=f"by {metric_name(summary.metric)}", title_justify="left", highlight=False)
        for at in wanted:
            table.add_column(Text(means.head[at]), justify="left" if at == 0 else "right", overflow="fold")
        for row in means.rows[:MOST_TERMINAL_ROWS]:
            table.add_row(*(Text(row[at].text) for at in wanted))
        console.print(table)
        if len(means.rows) > MOST_TERMINAL_ROWS:
            console.print(Text(f"and {len(means.rows) - MOST_TERMINAL_ROWS} settings more, in results.csv"))
    for line in filter(None, (summary.ties, *(each.words for each in summary.comparisons[:5]))):
        console.print(Text(line), soft_wrap=True)
    for search in content.searches:
        console.print(Text(f"{search.outcome} {search.verdict}"), soft_wrap=True)
        if search.best_command:
            console.print(Text(f"  best alone: {search.best_command}"), soft_wrap=True)
    for line in (*content.lines_to_target, *(each.words for each in content.paper)):
        console.print(Text(line), soft_wrap=True)
    for each in content.failures:
        console.print(Text(f"{each.status}: {each.folder}: {each.reason}"), soft_wrap=True)
        if each.again:
            console.print(Text(f"  again: {each.again}"), soft_wrap=True)
    output = console.file
    assert isinstance(output, io.StringIO)
    return "".join(f"{printable(line)}\n" for line in output.getvalue().splitlines())
