"""`report.html`: one file that opens from the disk, with no network, and holds everything."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from tempo.report.content import Content
from tempo.report.failures import Failure, said_path
from tempo.report.figures import Drawn
from tempo.report.number_format import SMOKE, duration, human, metric_name
from tempo.report.published_numbers import paper_table
from tempo.report.search_results import Search, trials_table
from tempo.report.tables import Cell, Table, means_table, runs_table

LARGEST_SVG_BYTES = 400_000
"""A figure with more detail is embedded as PNG."""
FILTER_FROM_ROWS = 15
BEST = ' class="best"'
_MARK = '<meta name="generator" content="tempo report">'


def write_page(content: Content, figures: Sequence[Drawn], path: Path) -> Path:
    """Write the page: all text of records is escaped, and no script but its own may run."""
    sections = [
        ("settings", "Settings", _settings(content)),
        ("target", f"To a {content.target.words}" if content.target else "", _to_target(content)),
        (
            "paper",
            "Ours beside the paper's",
            sortable(paper_table(content.paper), path) if content.paper else "",
        ),
        ("search", "Search", "".join(_search(each, path) for each in content.searches)),
        ("figures", "Figures", "".join(figure(each) for each in figures)),
        ("failures", "Without result", _failures(content.failures)),
        ("runs", "All runs", sortable(runs_table(content.summary), path) if content.summary.runs else ""),
        ("differs", "What differs", sortable(content.differences, path) if content.differences.rows else ""),
        ("shared", "What all share", _shared(content)),
        ("environment", "Environment", _environment(content)),
    ]
    present = [each for each in sections if each[2]]
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in present)
    body = "".join(
        f'<section id="{name}"><h2>{escape(title)}</h2>{inner}</section>' for name, title, inner in present
    )
    head = f"<h1>{escape(content.title)}</h1><p>{escape(content.outcome)}</p>{_sources(content)}"
    banner = f'<p class="smoke" role="alert">{SMOKE}</p>' if content.smoke else ""
    path.write_text(
        document(content.title, f"<header>{head}{banner}<nav>{links}</nav></header><main>{body}</main>"),
        encoding="utf-8",
    )
    return path


def announce_page(path: Path) -> None:
    """Write a page that says that it is on its way, where there is none yet: the folder is known as ours."""
    if not path.exists():
        path.write_text(document("Unfinished", "<p>This report was not finished: make it again.</p>"))


def is_page(path: Path) -> bool:
    """Whether a file is a page that was written here."""
    try:
        with path.open(encoding="utf-8") as file:
            return _MARK in file.read(1000)
    except (OSError, UnicodeDecodeError):
        return False


def document(title: str, body: str) -> str:
    """A whole page; `body` is HTML, in which all text was escaped."""
    style, script = (_beside(name) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"{_MARK}"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n"
        f"<body>{body}<script>{script}</script></body></html>\n"
    )


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _sources(content: Content) -> str:
    lines = [f"<li>read: <code>{escape(each)}</code></li>" for each in content.folders]
    lines += [f"<li>made by: <code>{escape(each)}</code></li>" for each in content.commands]
    return f'<ul class="sources">{"".join(lines)}</ul>'


def _settings(content: Content) -> str:
    summary = content.summary
    if not summary.settings:
        return ""
    parts = [f"<p>Bold: the best mean {escape(metric_name(summary.metric))}. {escape(content.legend)}</p>"]
    parts.append(sortable(means_table(summary)))
    if content.comparisons:
        kind = {True: "beats", False: "open"}
        said = [
            f'<li class="{kind[each.distinguishable]}">{escape(each.words)}</li>'
            for each in content.comparisons
        ]
        parts.append(f'<h3>Comparisons</h3><ul class="comparisons">{"".join(said)}</ul>')
        parts.append(f'<p class="note">{escape(content.comparison_note)}</p>')
    return "".join(parts)


def _search(search: Search, path: Path) -> str:
    space = ", ".join(f"{key}={words}" for key, words in search.space.items())
    parts = [f"<p>{escape(search.outcome)} Space: <code>{escape(space)}</code></p>"]
    parts.append(f"<p>{escape(search.verdict)}</p>")
    if search.best_command:
        parts.append(f"<pre>{escape(search.best_command)}</pre>")
    if search.shares:
        parts.append(f"<p>Importance: {escape(search.shares)}.</p>")
    return "".join(parts) + sortable(trials_table(search), path)


def _to_target(content: Content) -> str:
    return "" if content.to_target is None else sortable(content.to_target)


def sortable(table: Table, path: Path | None = None) -> str:
    """A table whose heads are buttons; cells carry what they are sorted by."""
    head = "".join(
        f'<th scope="col"><button type="button">{escape(each)}<span aria-hidden="true"></span></button></th>'
        for each in table.head
    )
    rows = "".join(
        f"<tr{BEST if at == table.best else ''}>{''.join(_cell(cell, path) for cell in row)}</tr>"
        for at, row in enumerate(table.rows)
    )
    search = ""
    if len(table.rows) >= FILTER_FROM_ROWS:
        search = '<label class="filter">Show rows with <input type="search"></label>'
    return (
        f'<div class="sortable">{search}<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _cell(cell: Cell, path: Path | None) -> str:
    text = escape(cell.text)
    if cell.folder is not None and path is not None and cell.folder.drive == path.resolve().drive:
        place = os.path.relpath(cell.folder, path.resolve().parent)
        text = f'<a href="{escape(quote(Path(place).as_posix()))}/">{text}</a>'
    if cell.sort is None:
        return f"<td>{text}</td>"
    kind = ' class="number"' if isinstance(cell.sort, (int, float)) else ""
    return f'<td{kind} data-sort="{escape(str(cell.sort))}">{text}</td>'


def figure(drawn: Drawn) -> str:
    """A figure with its caption, embedded."""
    svg = drawn.svg.read_bytes()
    kind, data = ("svg+xml", svg) if len(svg) <= LARGEST_SVG_BYTES else ("png", drawn.png.read_bytes())
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure><h3>{escape(drawn.title)}</h3><img alt="{escape(drawn.title)}" src="{source}">'
        f"<figcaption>{escape(drawn.caption)}</figcaption></figure>"
    )


def _failures(failures: Sequence[Failure]) -> str:
    items = []
    for each in failures:
        again = f"<pre>{escape(each.again)}</pre>" if each.again else ""
        items.append(
            f'<li><strong class="status">{escape(each.status)}</strong> '
            f"<code>{escape(said_path(each.folder))}</code><br>{escape(each.reason)}{again}</li>"
        )
    return f'<ul class="failures">{"".join(items)}</ul>' if items else ""


def _shared(content: Content) -> str:
    lines = [
        f"<dt>{escape(key)}</dt><dd>{escape(human(value))}</dd>" for key, value in content.shared.items()
    ]
    if not lines:
        return ""
    return f'<details><summary>{len(lines)} keys</summary><dl class="keys">{"".join(lines)}</dl></details>'


def _environment(content: Content) -> str:
    if not content.environment:
        return ""
    lines = []
    for name, values in content.environment:
        told = [f"{value} ({count} runs)" if len(values) > 1 else value for value, count in values]
        lines.append(f"<dt>{escape(name)}</dt><dd>{'<br>'.join(escape(each) for each in told)}</dd>")
    total = f"<p>Training took {duration(content.train_seconds)} over all runs.</p>"
    return f'{total}<dl class="keys">{"".join(lines)}</dl>'
