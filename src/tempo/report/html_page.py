"""Render a report as one HTML file that opens from the disk without a network: report.html.

The page holds its style, its scripts, its figures, its tables and the data of its charts. The scripts of
`page/` draw the charts with the libraries of `chart_library/`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tempo.config.schema import SMOKE
from tempo.record.read_file import read_start
from tempo.report.chart_data import chart_data, json_block
from tempo.report.figures import Drawn
from tempo.report.number_format import shown_path
from tempo.report.results_table import Cell, Table
from tempo.report.sections import Block, Content, Live, Section, sections_of

LARGEST_SVG_BYTES = 400_000
"""Size limit for an embedded SVG; a larger figure is embedded as PNG."""
FILTER_FROM_ROWS = 15
DRAWN_LIVE = {"curves", "schedule", "heat_map"}
"""Figures that the page draws as charts; figures/ has them too."""
BEST = ' class="best"'
PLAIN_SCRIPTS = ("page/theme.js", "page/sortable_tables.js")
CHART_SCRIPTS = (
    "chart_library/d3.min.js",
    "chart_library/plot.min.js",
    *(
        f"page/{name}.js"
        for name in (
            "dom",
            "filter_expression",
            "runs",
            "zoom",
            "curve_lines",
            "curves",
            "parallel",
            "heat_map",
            "key_charts",
            "runs_table",
            "test_images",
            "follow",
            "explorer",
        )
    ),
)
"""Scripts of a page with charts, in the order of their use; `explorer.js` starts the rest."""
_DATA_BLOCK = '<script type="application/json" id="chart-data">{}</script>'
_MARK = '<meta name="generator" content="tempo report">'


def write_page(content: Content, figures: Sequence[Drawn], path: Path) -> Path:
    """Write the page; all text from records is escaped, and only the page's own script may run."""
    text = report_page(content, figures, path, lambda folder: folder_link(folder, path))
    path.write_text(text, encoding="utf-8")
    return path


def report_page(
    content: Content,
    figures: Sequence[Drawn],
    path: Path | None,
    link: Callable[[Path], str | None],
    files: Mapping[str, str] | None = None,
) -> str:
    """Return the page at `path`, None for one that is served.

    `link` returns the address of a run's folder, and `files` are the names and addresses of further files.
    """
    commands = [" ".join(sweep.command) for sweep in content.found.sweeps if sweep.command]
    sources = [("read", shown_path(folder.resolve())) for folder in content.given]
    sources += [("made by", command) for command in commands]
    lines = "".join(f"<li>{name}: <code>{escape(value)}</code></li>" for name, value in sources)
    lines += "".join(
        f'<li><a href="{escape(address)}">{escape(name)}</a></li>' for name, address in (files or {}).items()
    )
    head = f'<p>{escape(content.outcome)}</p><ul class="sources">{lines}</ul>'
    data = chart_data(content.summary, link, images=True) if content.summary.runs else None
    shown = sections_of(content, [drawn for drawn in figures if data is None or drawn.name not in DRAWN_LIVE])
    return page_of(content.title, head, shown, path, smoke=content.smoke, data=data)


def page_of(
    title: str,
    head: str,
    shown: Sequence[Section],
    path: Path | None,
    *,
    smoke: bool,
    data: dict[str, Any] | None = None,
) -> str:
    """Return the page at `path`, if it has one, with these sections; `head` is HTML whose text was escaped.

    `data` are the values of `chart_data`, for the sections that scripts fill.
    """
    links = "".join(f'<a href="#{section.name}">{escape(section.title)}</a>' for section in shown)
    body = "".join(
        f'<section id="{section.name}"><h2>{escape(section.title)}</h2>'
        f"{''.join(_html(block, path) for block in section.blocks)}</section>"
        for section in shown
    )
    head = f"<h1>{escape(title)}</h1>{head}"
    head += f'<p class="smoke" role="alert">{SMOKE}</p>' if smoke else ""
    return document(title, f"<header>{head}<nav>{links}</nav></header><main>{body}</main>", data)


def announce_page(path: Path) -> None:
    """Write a placeholder page if there is none, to mark the folder as a tempo report."""
    if not path.exists():
        path.write_text(document("Unfinished", "<p>This report is unfinished; make it again.</p>"))


def is_page(path: Path) -> bool:
    """Whether a file is a page that tempo wrote."""
    try:
        return _MARK.encode() in read_start(path, 1000)
    except OSError:
        return False


def document(title: str, body: str, data: dict[str, Any] | None = None) -> str:
    """Return a whole page; `body` is HTML whose text was escaped, `data` the values of its charts."""
    scripts = [_read(path) for path in (*PLAIN_SCRIPTS, *(CHART_SCRIPTS if data is not None else ()))]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    if data is not None and data.get("live"):
        policy += "; connect-src 'self'"
    block = "" if data is None else _DATA_BLOCK.format(json_block(data))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"{_MARK}"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_read('page/page.css')}</style></head>\n"
        f"<body>{body}{block}{''.join(f'<script>{text}</script>' for text in scripts)}</body></html>\n"
    )


@functools.cache
def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text("utf-8")


def _html(block: Block, page: Path | None) -> str:
    if isinstance(block, Table):
        return sortable(block, page)
    if isinstance(block, Drawn):
        return figure(block)
    if isinstance(block, Live):
        note = f'<noscript><p class="note">{block.without_scripts}</p></noscript>'
        return f'<div id="{block.name}">{note}</div>'
    text = escape(block.text)
    return f"<pre>{text}</pre>" if block.kind == "command" else f'<p class="{block.kind}">{text}</p>'


def sortable(table: Table, page: Path | None = None) -> str:
    """Return a table that sorts by any column and can be filtered; links are relative to `page`."""
    head = "".join(
        f'<th scope="col"><button type="button">{escape(name)}<span aria-hidden="true"></span></button></th>'
        for name in table.head
    )
    rows = "".join(
        f"<tr{BEST if at == table.best else ''}>{''.join(_cell(cell, page) for cell in row)}</tr>"
        for at, row in enumerate(table.rows)
    )
    above = '<p class="note">Bold: the best row.</p>' if table.best is not None else ""
    if len(table.rows) >= FILTER_FROM_ROWS:
        above += '<label class="filter">Show rows with <input type="search"></label>'
    return (
        f'<div class="sortable">{above}<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _cell(cell: Cell, page: Path | None) -> str:
    text = escape(cell.text)
    link = None if cell.folder is None or page is None else folder_link(cell.folder, page)
    if link is not None:
        text = f'<a href="{escape(link)}">{text}</a>'
    if cell.sort is None:
        return f"<td>{text}</td>"
    kind = ' class="number"' if isinstance(cell.sort, (int, float)) else ""
    return f'<td{kind} data-sort="{escape(str(cell.sort))}">{text}</td>'


def folder_link(folder: Path, page: Path) -> str | None:
    """Return the address of a folder relative to a page; None for another drive of Windows."""
    if folder.drive != page.resolve().drive:
        return None
    return quote(Path(os.path.relpath(folder, page.resolve().parent)).as_posix()) + "/"


def figure(drawn: Drawn) -> str:
    """Return a figure with its caption, embedded."""
    svg = drawn.svg.read_bytes()
    kind, data = ("svg+xml", svg) if len(svg) <= LARGEST_SVG_BYTES else ("png", drawn.png.read_bytes())
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure><h3>{escape(drawn.title)}</h3><img alt="{escape(drawn.title)}" src="{source}">'
        f"<figcaption>{escape(drawn.caption)}</figcaption></figure>"
    )
