"""From override strings to the space of a search, in Hydra's own grammar."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, RangeSweep

from tempo.errors import UserError
from tempo.sweep.grid import bare, overrides_by_key, short_number

RESOLUTION = 10_000
"""Steps in which an interval is drawn: values that can be read, and finer than any run can tell apart."""
_SIGNIFICANT_DIGITS = 4
Value = bool | int | float | str | None
Point = tuple[Value, ...]


@dataclass(frozen=True)
class Choice:
    """A list of values, each with its text in an override. Numbers where all are, else texts."""

    key: str
    values: tuple[Value, ...]
    texts: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    @property
    def words(self) -> str:
        """As one writes it."""
        return ",".join(self.texts)

    def index(self, value: Value) -> int:
        """Where a value stands."""
        return self.values.index(value)

    def value(self, index: int) -> Value:
        """Inverse of `index`."""
        return self.values[index]

    def override(self, value: Value) -> str:
        """`key=value`."""
        return f"{self.key}={self.texts[self.index(value)]}"

    def edges(self) -> tuple[Value, ...]:
        """Values that together show whether all can work: each one."""
        return self.values


@dataclass(frozen=True)
class Steps:
    """Whole or decimal numbers from `low` to `high`, both included, `step` apart."""

    key: str
    low: int | float
    high: int | float
    step: int | float
    log: bool = False

    @property
    def size(self) -> int:
        """How many values there are."""
        return 1 + round((self.high - self.low) / self.step)

    @property
    def words(self) -> str:
        """As one writes it."""
        inner = f"range({self.low}, {self._short(self.high + self.step)}, {self.step})"
        return f"tag(log, {inner})" if self.log else inner

    def index(self, value: Any) -> int:
        """Where a value stands."""
        return round((value - self.low) / self.step)

    def value(self, index: int) -> int | float:
        """Inverse of `index`."""
        return self._short(self.low + index * self.step)

    def override(self, value: Any) -> str:
        """`key=value`."""
        return f"{self.key}={short_number(str(self.value(self.index(value))))}"

    def edges(self) -> tuple[int | float, ...]:
        """Values that together show whether all can work: both ends."""
        return (self.low, self.high)

    def _short(self, number: int | float) -> int | float:
        """Without the last bits that sums of decimal steps leave: 0.3 and not 0.30000000000000004."""
        return number if isinstance(number, int) else float(f"{number:.12g}")


@dataclass(frozen=True)
class Interval:
    """Any number from `low` to `high`."""

    key: str
    low: float
    high: float
    log: bool = False

    @property
    def size(self) -> None:
        """There is no counting them."""
        return None

    @property
    def words(self) -> str:
        """As one writes it."""
        inner = f"interval({short_number(str(self.low))}, {short_number(str(self.high))})"
        return f"tag(log, {inner})" if self.log else inner

    def rounded(self, value: float) -> float:
        """The nearest short number: four significant digits on a log scale, else `RESOLUTION` steps."""
        if self.log:
            short = float(f"{value:.{_SIGNIFICANT_DIGITS - 1}e}")
        else:
            short = round(value, -math.floor(math.log10((self.high - self.low) / RESOLUTION)))
        return min(max(short, self.low), self.high)

    def override(self, value: Any) -> str:
        """`key=value`."""
        return f"{self.key}={short_number(str(float(value)))}"

    def edges(self) -> tuple[float, ...]:
        """Values that together show whether all can work: both ends."""
        return (self.low, self.high)


Axis = Choice | Steps | Interval


@dataclass(frozen=True)
class Space:
    """The axes that are searched, and the overrides that all trials share."""

    axes: tuple[Axis, ...]
    fixed: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the axes, as they stand in overrides."""
        return tuple(each.key for each in self.axes)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the axes in a study: the keys without `+`."""
        return tuple(bare(each.key) for each in self.axes)

    @property
    def size(self) -> int | None:
        """Number of points; None where an axis is continuous."""
        sizes = [each.size for each in self.axes]
        return None if None in sizes else math.prod(each for each in sizes if each is not None)

    @property
    def words(self) -> dict[str, str]:
        """Axis -> what it ranges over: what a study is made for."""
        return {name: axis.words for name, axis in zip(self.names, self.axes, strict=True)}

    def overrides(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of one point, given its value on each axis by name."""
        return tuple(axis.override(values[name]) for name, axis in zip(self.names, self.axes, strict=True))

    def rounded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The point as it is run: numbers of intervals shortened, numbers of ranges on their steps."""
        return {
            name: axis.rounded(values[name])
            if isinstance(axis, Interval)
            else axis.value(axis.index(values[name]))
            for name, axis in zip(self.names, self.axes, strict=True)
        }

    def point(self, values: Mapping[str, Any]) -> Point:
        """The same for the same point: its values in the order of the axes."""
        return tuple(self.rounded(values).values())

    def probes(self) -> list[dict[str, Value]]:
        """Few points that meet each choice and both ends of each range: what cannot work shows in them."""
        edges = [each.edges() for each in self.axes]
        longest = max(map(len, edges))
        return [
            {name: values[min(n, len(values) - 1)] for name, values in zip(self.names, edges, strict=True)}
            for n in range(longest)
        ]


def parse_space(parser: OverridesParser, arguments: Sequence[str], params: Mapping[str, Any]) -> Space:
    """The axes of `params` (an experiment's) and of the command line, which replaces those of the same key.

    Raises:
        UserError: nothing to search, a single point, an axis that cannot be searched, `seed` among the axes.
    """
    by_key = overrides_by_key(parser, arguments, params)
    axes = tuple(_axis(each) for each in by_key.values() if each.is_sweep_override())
    space = Space(
        axes, tuple(str(each.input_line) for each in by_key.values() if not each.is_sweep_override())
    )
    if not axes:
        raise UserError(
            "nothing to search: name a space, e.g. optimizer.lr=1e-2,1e-3 or "
            "'optimizer.lr=tag(log, interval(1e-5, 1))'"
        )
    if "seed" in space.names:
        raise UserError(
            "seed is no axis of a search, which would choose the luckiest: leave it out, and run the best "
            "trial's command with seed=0,1,2 -m"
        )
    if space.size == 1:
        raise UserError(
            f"{', '.join(space.overrides(space.probes()[0]))} is a space of one point: there is nothing to "
            "search; name more values, or leave -m out"
        )
    return space


def _axis(override: Override) -> Axis:
    key, sweep = override.get_key_element(), override.value()
    tags: set[str] = getattr(sweep, "tags", set())
    if unknown := tags - {"log"}:
        raise UserError(
            f"{override.input_line}: the tag {sorted(unknown)[0]} means nothing here; there is: log"
        )
    log = "log" in tags
    if isinstance(sweep, IntervalSweep):
        return _interval(override, key, sweep, log)
    if isinstance(sweep, RangeSweep):
        return _range(override, key, sweep, log)
    if log:
        raise UserError(f"{override.input_line}: a list has no log scale: tag(log, interval(1e-5, 1))")
    return _choice(override, key)


def _choice(override: Override, key: str) -> Choice:
    if hasattr(override.value(), "shuffle"):
        override.value().shuffle = False  # type: ignore[union-attr] # the order says nothing in a search
    found: dict[str, Any] = {}
    for element, text in zip(override.sweep_iterator(), override.sweep_string_iterator(), strict=True):
        found.setdefault(short_number(text), element)
    if not found:
        raise UserError(f"{override.input_line} has no value: name some, e.g. {key}=1,2")
    numbers = [
        each for each in found.values() if isinstance(each, (int, float)) and not isinstance(each, bool)
    ]
    if len(numbers) == len(set(numbers)) == len(found):
        return Choice(key, tuple(numbers), tuple(found))
    texts = [each.text if isinstance(each, QuotedString) else text for text, each in found.items()]
    return Choice(key, tuple(texts), tuple(found))


def _range(override: Override, key: str, sweep: RangeSweep, log: bool) -> Axis:
    values = list(sweep.range())
    if not values:
        raise UserError(f"{override.input_line} has no value: name some, e.g. {key}=range(1,4)")
    low, high = min(values), max(values)
    step = abs(sweep.step)
    if not isinstance(step, int) or not all(isinstance(each, int) for each in values):
        low, high, step = (float(f"{each:.12g}") for each in (low, high, step))
    if log and (step != 1 or low < 1):
        raise UserError(f"{override.input_line}: a range on a log scale has step 1 and begins at 1 or above")
    return Steps(key, low, high, step, log)


def _interval(override: Override, key: str, sweep: IntervalSweep, log: bool) -> Axis:
    low, high = sweep.start, sweep.end
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise UserError(f"{override.input_line} goes from {low} to {high}: write the lower end first")
    if log and low <= 0:
        raise UserError(
            f"{override.input_line}: a log scale begins above 0, e.g. tag(log, interval(1e-5, {high:g}))"
        )
    if isinstance(low, int) and isinstance(high, int):
        return Steps(key, low, high, 1, log)
    if low == high:
        return Choice(key, (low,), (short_number(str(low)),))
    return Interval(key, float(low), float(high), log)
