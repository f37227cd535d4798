"""Turn override strings, in Hydra's grammar, into the space of a search."""

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
"""Number of steps in an interval: values stay short, but differ less than any run can distinguish."""
_SIGNIFICANT_DIGITS = 4
Value = bool | int | float | str | None
Point = tuple[Value, ...]


@dataclass(frozen=True)
class Choice:
    """A list of values and their texts in overrides. The values are numbers if all are, otherwise strings."""

    key: str
    values: tuple[Value, ...]
    texts: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def words(self) -> str:
        """The axis as a user writes it."""
        return ",".join(self.texts)

    def index(self, value: Value) -> int:
        """Return the index of a value."""
        return self.values.index(value)

    def value(self, index: int) -> Value:
        """Return the value at an index."""
        return self.values[index]

    def rounded(self, value: Value) -> Value:
        """Return the value unchanged: a value of a list needs no rounding."""
        return value

    def override(self, value: Value) -> str:
        """Return `key=value`."""
        return f"{self.key}={self.texts[self.index(value)]}"

    def edges(self) -> tuple[Value, ...]:
        """Return the values to check so that all can work: every one."""
        return self.values


@dataclass(frozen=True)
class Numbers:
    """Numbers from `low` to `high`, inclusive: `step` apart, or any number if `step` is None."""

    key: str
    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @property
    def size(self) -> int | None:
        """Number of values; None for an interval."""
        return None if self.step is None else 1 + round((self.high - self.low) / self.step)

    @property
    def words(self) -> str:
        """The axis as a user writes it."""
        if self.step is None:
            inner = f"interval({short_number(str(self.low))}, {short_number(str(self.high))})"
        else:
            inner = f"range({self.low}, {_without_noise(self.high + self.step)}, {self.step})"
        return f"tag(log, {inner})" if self.log else inner

    def index(self, value: Any) -> int:
        """Return the index of a value of a range."""
        assert self.step is not None
        return round((value - self.low) / self.step)

    def value(self, index: int) -> int | float:
        """Return the value of a range at an index."""
        assert self.step is not None
        return _without_noise(self.low + index * self.step)

    def rounded(self, value: Any) -> int | float:
        """Return the nearest step of a range, or the nearest short number of an interval.

        A short number has four significant digits on a log scale, and is one of `RESOLUTION` steps otherwise.
        """
        if self.step is not None:
            return self.value(self.index(value))
        if self.log:
            short = float(f"{value:.{_SIGNIFICANT_DIGITS - 1}e}")
        else:
            short = round(value, -math.floor(math.log10((self.high - self.low) / RESOLUTION)))
        return float(min(max(short, self.low), self.high))

    def override(self, value: Any) -> str:
        """Return `key=value`."""
        number = float(value) if self.step is None else self.rounded(value)
        return f"{self.key}={short_number(str(number))}"

    def edges(self) -> tuple[int | float, ...]:
        """Return the values to check so that all can work: both ends."""
        return (self.low, self.high)


def _without_noise(number: int | float) -> int | float:
    """Remove the rounding error of summed decimal steps: 0.3, not 0.30000000000000004."""
    return number if isinstance(number, int) else float(f"{number:.12g}")


Axis = Choice | Numbers


@dataclass(frozen=True)
class Space:
    """The axes that are searched, and the overrides that all trials share."""

    axes: tuple[Axis, ...]
    fixed: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the axes, as in overrides."""
        return tuple(axis.key for axis in self.axes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes in a study: the keys without `+`."""
        return tuple(map(bare, self.keys))

    @property
    def size(self) -> int | None:
        """Number of points; None if an axis is continuous."""
        sizes = [axis.size for axis in self.axes if axis.size is not None]
        return math.prod(sizes) if len(sizes) == len(self.axes) else None

    @property
    def words(self) -> dict[str, str]:
        """Axis -> its values as a user writes them; they identify the search in its study."""
        return {name: axis.words for name, axis in zip(self.names, self.axes, strict=True)}

    def overrides(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the overrides of one point, given its value on each axis by name."""
        return tuple(axis.override(values[name]) for name, axis in zip(self.names, self.axes, strict=True))

    def rounded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point as it will run, with every number rounded."""
        return {name: axis.rounded(values[name]) for name, axis in zip(self.names, self.axes, strict=True)}

    def point(self, values: Mapping[str, Any]) -> Point:
        """Return the rounded values in the order of the axes, so that equal points compare equal."""
        return tuple(self.rounded(values).values())

    def probes(self) -> list[dict[str, Value]]:
        """Return points that together include every choice and both ends of every range.

        Checking them reveals a space that cannot work.
        """
        edges = [axis.edges() for axis in self.axes]
        return [
            {name: values[min(n, len(values) - 1)] for name, values in zip(self.names, edges, strict=True)}
            for n in range(max(map(len, edges)))
        ]


def parse_space(parser: OverridesParser, arguments: Sequence[str], params: Mapping[str, Any]) -> Space:
    """Return the axes of an experiment's `params` and of the command line, which replaces equal keys.

    Raises:
        UserError: the space has no axis or a single point, an axis cannot be searched, or `seed` is an axis.
    """
    by_key = overrides_by_key(parser, arguments, params)
    axes = tuple(_axis(override) for override in by_key.values() if override.is_sweep_override())
    fixed = tuple(
        str(override.input_line) for override in by_key.values() if not override.is_sweep_override()
    )
    space = Space(axes, fixed)
    if not axes:
        raise UserError(
            "nothing to search; name a space, e.g. optimizer.lr=1e-2,1e-3 or "
            "'optimizer.lr=tag(log, interval(1e-5, 1))'"
        )
    if "seed" in space.names:
        raise UserError(
            "seed cannot be searched: the search would pick a lucky one; leave it out, and run the best "
            "trial's command with seed=0,1,2 -m"
        )
    if space.size == 1:
        raise UserError(
            f"{', '.join(space.overrides(space.probes()[0]))} is a space of one point, with nothing to "
            "search; name more values, or leave -m out"
        )
    return space


def _axis(override: Override) -> Axis:
    key, line, sweep = override.get_key_element(), override.input_line, override.value()
    tags: set[str] = getattr(sweep, "tags", set())
    if unknown := tags - {"log"}:
        raise UserError(f"{line}: the tag {sorted(unknown)[0]} is unknown; use log")
    log = "log" in tags
    if isinstance(sweep, IntervalSweep):
        return _interval(line, key, sweep, log)
    if isinstance(sweep, RangeSweep):
        return _range(line, key, sweep, log)
    if log:
        raise UserError(f"{line}: a list has no log scale; use tag(log, interval(1e-5, 1))")
    return _choice(override, key)


def _choice(override: Override, key: str) -> Choice:
    if hasattr(override.value(), "shuffle"):
        override.value().shuffle = False  # type: ignore[union-attr] # a search ignores the order
    found: dict[str, Any] = {}
    for element, text in zip(override.sweep_iterator(), override.sweep_string_iterator(), strict=True):
        found.setdefault(short_number(text), element)
    if not found:
        raise UserError(f"{override.input_line} has no value; give some, e.g. {key}=1,2")
    numbers = [
        value for value in found.values() if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    if len(numbers) == len(set(numbers)) == len(found):
        return Choice(key, tuple(numbers), tuple(found))
    texts = [value.text if isinstance(value, QuotedString) else text for text, value in found.items()]
    return Choice(key, tuple(texts), tuple(found))


def _range(line: str | None, key: str, sweep: RangeSweep, log: bool) -> Axis:
    values = list(sweep.range())
    if not values:
        raise UserError(f"{line} has no value; give some, e.g. {key}=range(1,4)")
    low, high, step = min(values), max(values), abs(sweep.step)
    if not all(isinstance(number, int) for number in (step, *values)):
        low, high, step = (float(f"{number:.12g}") for number in (low, high, step))
    if log and (step != 1 or low < 1):
        raise UserError(f"{line}: on a log scale, a range must have step 1 and start at 1 or above")
    return Numbers(key, low, high, step, log)


def _interval(line: str | None, key: str, sweep: IntervalSweep, log: bool) -> Axis:
    low, high = sweep.start, sweep.end
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise UserError(f"{line} goes from {low} to {high}; write two finite ends, the lower end first")
    if log and low <= 0:
        raise UserError(f"{line}: a log scale begins above 0; use tag(log, interval(1e-5, {high:g}))")
    if isinstance(low, int) and isinstance(high, int):
        return Numbers(key, low, high, 1, log)
    if low == high:
        return Choice(key, (low,), (short_number(str(low)),))
    return Numbers(key, float(low), float(high), None, log)
