"""`report.md`: the whole report as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tempo.report.content import Content
from tempo.report.failures import said_path
from tempo.report.figures import Drawn
from tempo.report.number_format import SMOKE, duration, human, metric_name
from tempo.report.published_numbers import paper_table
from tempo.report.search_results import trials_table
from tempo.report.tables import escaped, markdown, means_table


def write_markdown(content: Content, figures: Sequence[Drawn], path: Path) -> None:
    """Means, comparisons in words, failures with their commands, configuration, environment."""
    summary = content.summary
    parts = [f"# {escaped(content.title)}", content.outcome]
    if content.smoke:
        parts.append(f"**{SMOKE}: these runs only prove that the path works.**")
    if summary.settings:
        parts += [f"## Settings, by {metric_name(summary.metric)}", markdown(means_table(summary))]
        parts.append(content.legend)
    if summary.comparisons:
        said = [f"- {escaped(each.words)}" for each in content.comparisons]
        parts += ["## Comparisons", "\n".join(said), content.comparison_note]
    for search in content.searches:
        parts += [f"## Search: {escaped(search.sweep.folder.name)}", search.outcome, escaped(search.verdict)]
        parts += [_fenced(search.best_command)] if search.best_command else []
        parts += [f"Importance: {escaped(search.shares)}."] if search.shares else []
        parts.append(markdown(trials_table(search)))
    if content.target is not None and content.to_target is not None:
        parts += [f"## To a {escaped(content.target.words)}", markdown(content.to_target)]
    if content.paper:
        parts += ["## Ours beside the paper's", markdown(paper_table(content.paper))]
    if content.failures:
        parts += ["## Without result", _failures(content)]
    for figure in figures:
        place = figure.png.relative_to(path.parent).as_posix()
        parts += [
            f"## {escaped(figure.title)}",
            f"![{escaped(figure.title)}]({place})",
            escaped(figure.caption),
        ]
    if summary.runs:
        parts += ["## What differs", markdown(content.differences)]
        lines = "\n".join(f"{key}: {human(value)}" for key, value in content.shared.items())
        parts += ["## What all share", _fenced(lines), "## Environment", _environment(content)]
        parts.append(f"Training took {duration(content.train_seconds)} over all runs.")
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _failures(content: Content) -> str:
    items = []
    for each in content.failures:
        text = f"- {escaped(said_path(each.folder))}: **{each.status}**, {escaped(each.reason)}"
        if each.again:
            text += "\n\n" + "\n".join(f"  {line}" for line in _fenced(each.again).splitlines()) + "\n"
        items.append(text)
    return "\n".join(items)


def _environment(content: Content) -> str:
    lines = []
    for name, values in content.environment:
        told = (
            values[0][0]
            if len(values) == 1
            else "; ".join(f"{value} ({count} runs)" for value, count in values)
        )
        lines.append(f"- {escaped(name)}: {escaped(told)}")
    return "\n".join(lines)


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"
