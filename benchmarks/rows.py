"""What a section of `make bench` returns: named rows of values, each with the goal it is held against."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """Values of one quantity, one a round; `unit` is words for a reader.

    `at_least` and `at_most` are the goal that the median is held against.
    """

    name: str
    unit: str
    values: list[float]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most

    def to_json(self) -> dict[str, Any]:
        """Plain values; `text` and `range` are for readers, rounded against us."""
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
    """Quotients within each round."""
    return Row(name, "ratio", [a / b for a, b in zip(above, below, strict=True)], **goal)


@dataclass(frozen=True)
class Section:
    """A part of the benchmark that can be run by its name."""

    name: str
    protocol: str
    measure: Callable[[int], list[Row]]
    """Takes the number of rounds."""


def three_digits(value: float, direction: Callable[[float], int]) -> str:
    """Three significant digits, or all of a number above 1,000, rounded up or down."""
    places = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    scaled = value * 10**places
    # The epsilon keeps 0.29 from becoming 0.28 by its binary form.
    whole = round(scaled) if abs(scaled - round(scaled)) < 1e-9 else direction(scaled)
    return f"{whole / 10**places:,.{places}f}"
