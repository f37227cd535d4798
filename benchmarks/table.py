"""The table that a benchmark prints: one line a row, with its spread and its goal."""

from __future__ import annotations

import os

from rich.table import Table
from rows import Row

from tempo.record.environment import cpu_name


def new_table(threads: str) -> Table:
    """One table for all sections."""
    title = f"{cpu_name()}, {os.cpu_count()} cores, {threads}"
    table = Table(title=title, caption="medians of the rounds; ratios are taken within a round")
    for column in ("section", "row", "median", "smallest to largest", "unit", "goal"):
        table.add_column(column, justify="right" if column in ("median", "smallest to largest") else "left")
    return table


def add(table: Table, section: str, rows: list[Row]) -> None:
    """A line for each row."""
    for number, row in enumerate(rows):
        goal = ""
        if row.met is not None:
            bound = f">= {row.at_least:g}" if row.at_least is not None else f"<= {row.at_most:g}"
            goal = f"{bound} {'met' if row.met else '[bold]missed[/bold]'}"
        words = row.to_json()
        table.add_row(section if number == 0 else "", row.name, words["text"], words["range"], row.unit, goal)
    table.add_section()
