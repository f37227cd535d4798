"""Format values, keys, metrics, times and paths for a reader."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

from tempo.paths import ROOT
from tempo.record.metric_names import is_share, mode_in_name

ABSENT = "—"
"""Shown for a key that a configuration does not have, and for an empty cell."""
SPLITS = {"train": "training", "val": "validation", "test": "test"}


def human(value: Any) -> str:
    """Return a value as a person writes it: 0.0001 as `1e-4`, True as `true`, None as `null`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(human, value)) + "]"
    return str(value)


def _number(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        # -0.0 is 0 to a reader.
        return f"{value:g}".replace("-0", "0")
    if 1e-2 <= abs(value) < 1e6:
        return f"{value:.6g}"
    mantissa, _, exponent = f"{value:.5e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def canonical(value: Any) -> Any:
    """Return a hashable form that is equal for values that mean the same (1 and 1.0, but not 1 and true)."""
    if isinstance(value, (bool, str)) or value is None:
        return (type(value).__name__, value)
    if isinstance(value, (int, float)):
        return ("number", float(value))
    if isinstance(value, (list, tuple)):
        return ("list", tuple(map(canonical, value)))
    return ("other", repr(value))


def order(value: Any) -> tuple[Any, ...]:
    """Return a sort key for values of any kind: numbers by size, text in natural order, null and absent."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (0, float(value), ())
    if value is None or value == ABSENT:
        return (2, 0.0, ())
    return (1, 0.0, natural(human(value)))


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts `row 2` before `row 10`."""
    parts = re.findall(r"\d+|\D+", text.lower())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def short_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Shorten `optimizer.wd` to `wd` if no other key has that ending, and `model._target_` to `model`."""
    trimmed = [key.removesuffix("._target_") for key in keys]
    leaves = [key.rpartition(".")[2] for key in trimmed]
    return tuple(leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(trimmed, leaves, strict=True))


def more_is_better(metric: str) -> bool:
    """Whether larger values of the metric are better: true for accuracy, false for loss."""
    return mode_in_name(metric) != "min"


def metric_name(metric: str) -> str:
    """Return `val/accuracy` as `validation accuracy`."""
    split, _, leaf = metric.partition("/")
    return f"{SPLITS.get(split, split)} {leaf}".strip()


def head_of(metric: str) -> str:
    """Return the title of a column or an axis: `validation accuracy, %`."""
    return metric_name(metric) + (", %" if is_share(metric) else "")


def amount(value: float, metric: str, *, sign: bool = False) -> str:
    """Format a metric without its unit: accuracies in per cent with two decimals, losses with four."""
    if not math.isfinite(value):
        return ABSENT if math.isnan(value) else human(value)
    plus = "+" if sign else ""
    return f"{100 * value:{plus}.2f}" if is_share(metric) else f"{value:{plus}.4f}"


def mean_and_sd(mean: float, sd: float, metric: str) -> str:
    """Format `97.31 ± 0.22`, or the mean alone if `sd` is NaN."""
    text = amount(mean, metric)
    return text if math.isnan(sd) else f"{text} ± {amount(sd, metric)}"


def unit(metric: str) -> str:
    """Return the unit of a value: ` %` for accuracies."""
    return " %" if is_share(metric) else ""


def points(metric: str) -> str:
    """Return the unit of a difference: ` percentage points` for accuracies."""
    return " percentage points" if is_share(metric) else ""


def duration(seconds: float) -> str:
    """Format a time: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    if not math.isfinite(seconds):
        return ABSENT
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds < 59.5 else "1 min"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counted(count: int, noun: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def shown_path(path: Path) -> str:
    """Return a path relative to the repository, or whole if it is elsewhere."""
    return os.path.relpath(path, ROOT) if path.is_relative_to(ROOT) else str(path)


def shortened(text: str, limit: int) -> str:
    """Shorten text to `limit` characters in the middle, since both ends distinguish settings."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[-tail:]}"
