"""Render a report as Markdown: report.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tempo.config.schema import SMOKE
from tempo.report.figures import Drawn
from tempo.report.results_table import Table
from tempo.report.sections import Block, Content, Live, Section, sections_of


def write_markdown(content: Content, figures: Sequence[Drawn], path: Path) -> None:
    """Write report.md of a report of runs."""
    shown = sections_of(content, figures)
    text = markdown_of(content.title, content.outcome, shown, path.parent, smoke=content.smoke)
    path.write_text(text, encoding="utf-8")


def markdown_of(title: str, outcome: str, shown: Sequence[Section], folder: Path, *, smoke: bool) -> str:
    """Return all sections but those that are for the page only; figures are linked from `folder`."""
    parts = [f"# {escaped(title)}", outcome]
    if smoke:
        parts.append(f"**{SMOKE}: these runs only show that the code path works.**")
    for section in shown:
        if not section.page_only:
            parts.append(f"## {escaped(section.title)}")
            parts += [_markdown(block, folder) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block, folder: Path) -> str:
    if isinstance(block, Table):
        return markdown(block)
    if isinstance(block, Drawn):
        title, file = escaped(block.title), block.png.relative_to(folder).as_posix()
        return f"### {title}\n\n![{title}]({file})\n\n{escaped(block.caption)}"
    if isinstance(block, Live):
        return ""
    if block.kind == "command":
        return fenced(block.text)
    return ("- " if block.kind in ("item", "faint", "failure") else "") + escaped(block.text)


def markdown(table: Table) -> str:
    """Return a GitHub table; a bar or a line break in a cell cannot break it."""
    lines = [table.head, ["---"] * len(table.head), *([cell.text for cell in row] for row in table.rows)]
    return "\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines)


def escaped(text: str) -> str:
    """Escape text so that Markdown shows it as it is."""
    # The backslash comes first, or it would escape those of the others.
    for character in "\\`*_<>|[]":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def fenced(text: str) -> str:
    """Return text as a code block, with a fence that the text does not contain."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"
