"""Rows of measured values with their goals, the table that shows them, and the origin of a record."""

from __future__ import annotations

import math
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tempo.record.environment import cpu_name, git_state, versions  # noqa: E402


@dataclass(frozen=True)
class Row:
    """Values of one quantity, one per round; `unit` is for people.

    `at_least` and `at_most` are the goal with which the median is compared.
    """

    name: str
    unit: str
    values: list[float]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `text` and `range` are for people, rounded against tempo."""
        against = math.ceil if self.at_most is not None else math.floor
        low, high = three_digits(min(self.values), math.floor), three_digits(max(self.values), math.ceil)
        goal = {"at_least": self.at_least, "at_most": self.at_most, "met": self.met}
        return {
            "unit": self.unit,
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "values": self.values,
            "text": three_digits(self.median, against),
            "range": f"{low} to {high}" if len(self.values) > 1 else "one value",
            **{key: value for key, value in goal.items() if value is not None},
        }


def ratio(name: str, above: list[float], below: list[float], **goal: float | None) -> Row:
    """Divide two rows of values, round by round."""
    return Row(name, "ratio", [a / b for a, b in zip(above, below, strict=True)], **goal)


@dataclass(frozen=True)
class Section:
    """A part of the benchmark that can be run by its name."""

    name: str
    protocol: str
    measure: Callable[[int], list[Row]]
    """Measure in a number of rounds."""


def three_digits(value: float, direction: Callable[[float], int]) -> str:
    """Format three significant digits, or all of a number above 1,000, rounded up or down."""
    places = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    scaled = value * 10**places
    # The epsilon keeps 0.29 from becoming 0.28 by its binary form.
    whole = round(scaled) if abs(scaled - round(scaled)) < 1e-9 else direction(scaled)
    return f"{whole / 10**places:,.{places}f}"


def stamp(command: str) -> dict[str, Any]:
    """Return the origin of a record: command, time, device, versions and commit."""
    return {
        "command": command,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": cpu_name(),
        "versions": versions(),
        "git": git_state()[0],
    }


def new_table(threads: str) -> Table:
    """Make the table for the sections of a benchmark."""
    title = f"{cpu_name()}, {os.cpu_count()} cores, {threads}"
    table = Table(title=title, caption="medians of the rounds; ratios are taken within a round")
    for column in ("section", "row", "median", "smallest to largest", "unit", "goal"):
        table.add_column(column, justify="right" if column in ("median", "smallest to largest") else "left")
    return table


def add_section(table: Table, name: str, rows: list[Row]) -> None:
    """Add one line per row, with its spread and its goal."""
    for number, row in enumerate(rows):
        goal = ""
        if row.met is not None:
            bound = f">= {row.at_least:g}" if row.at_least is not None else f"<= {row.at_most:g}"
            goal = f"{bound} {'met' if row.met else '[bold]missed[/bold]'}"
        values = row.to_json()
        table.add_row(name if number == 0 else "", row.name, values["text"], values["range"], row.unit, goal)
    table.add_section()
