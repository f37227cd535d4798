"""A schedule as it will run, drawn before anything is trained: in the terminal and as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tempo.scheduler.schedule import Schedule

_BLOCKS = " ▁▂▃▄▅▆▇█"
_COLUMNS = 64
_ROWS = {"lr": 6, "momentum": 3}
_NAMES = {"lr": "learning rate", "momentum": "momentum"}
# A figure shows no more points than this; a table looks at every step of any ordinary run to find its turns.
_FIGURE_POINTS = 4_000
_TABLE_POINTS = 100_000
# More turns than fit on a screen are left to the chart.
_MOST_TURNS = 16
# A linear axis hides what lies below this share of its top.
_FLAT_SHARE = 1 / 30


@dataclass(frozen=True)
class _Trace:
    """What a schedule gives: `steps` int [n], the first and the last step among them, values float [n]."""

    steps: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]


def preview_table(schedule: Schedule, total_steps: int) -> str:
    """Learning rate and momentum against the step as text: charts, then the values where the curves turn."""
    trace = _trace(schedule, total_steps, _TABLE_POINTS)
    charts = [_chart(key, trace) for key in trace.values]
    table = [f"{'step':>10}  {'done':>6}  " + "  ".join(f"{_NAMES[key]:>13}" for key in trace.values)]
    for step in _key_steps(trace):
        values = schedule.at(step, total_steps)
        row = "  ".join(f"{values[key]:>13.6g}" for key in trace.values)
        table.append(f"{step:>10}  {step / max(total_steps - 1, 1):>6.1%}  {row}")
    note = [] if schedule.moves_momentum else ["momentum: as the optimizer has it"]
    return "\n".join(["\n\n".join(charts), "", *table, *note])


def preview_figure(schedule: Schedule, total_steps: int, path: Path, x_label: str = "optimizer step") -> None:
    """Plot learning rate and, where it moves, momentum against the step; `path`'s suffix gives the format.

    The rate's axis is logarithmic where a linear one would flatten much of the curve.
    """
    trace = _trace(schedule, total_steps, _FIGURE_POINTS)
    # Figure itself, not pyplot: no global state, no window system.
    figure = Figure(figsize=(7.0, 2.6 * len(trace.values) + 0.4), layout="constrained")
    axes: NDArray[np.object_] = figure.subplots(len(trace.values), 1, sharex=True, squeeze=False)
    for axis, (key, color) in zip(axes[:, 0], (("lr", "tab:blue"), ("momentum", "tab:orange")), strict=False):
        _plot(axis, key, color, trace)
    axes[-1, 0].set_xlabel(x_label)
    axes[0, 0].set_title(f"{type(schedule).__name__}, {_count(total_steps)}", loc="left", fontsize="medium")
    figure.savefig(path, dpi=120)


def _plot(axis: Axes, key: str, color: str, trace: _Trace) -> None:
    values = trace.values[key]
    marker = "." if len(values) <= 40 else None
    # Each step has one value: steps-post shows a drop as the edge that it is.
    axis.plot(trace.steps, values, color=color, marker=marker, drawstyle="steps-post")
    axis.set_ylabel(_NAMES[key])
    axis.grid(alpha=0.3)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if key == "lr" and _wants_log(values):
        axis.set_yscale("log")
    elif key == "lr":
        # Zero in sight, and a curve that ends there not hidden by the frame.
        axis.set_ylim(bottom=-0.02 * values.max())


def _count(total_steps: int) -> str:
    return f"{total_steps:,} step{'s' if total_steps > 1 else ''}"


def _trace(schedule: Schedule, total_steps: int, points: int) -> _Trace:
    """The schedule at up to `points` evenly spaced steps."""
    steps = np.unique(np.linspace(0, total_steps - 1, min(points, total_steps)).round().astype(np.int64))
    rows = [schedule.at(int(step), total_steps) for step in steps]
    return _Trace(steps, {key: np.array([row[key] for row in rows]) for key in _NAMES if key in rows[0]})


def _wants_log(values: NDArray[np.float64]) -> bool:
    """Whether a fifth of the steps or more would lie flat on a linear axis, and a log axis can show all."""
    flat = np.mean(values < _FLAT_SHARE * values.max())
    return bool(values.min() > 0 and flat >= 0.2)


def _key_steps(trace: _Trace) -> list[int]:
    """Both ends, the quarters, and the steps where a curve turns, levels off or jumps."""
    last = len(trace.steps) - 1
    turns: set[int] = set()
    level = True
    for values in trace.values.values():
        change = np.diff(values)
        level = level and not change.any()
        # Rounding of a level piece is no turn.
        direction = np.where(np.abs(change) > 1e-9 * np.ptp(values), np.sign(change), 0)
        turns.update((1 + np.flatnonzero(np.diff(direction))).tolist())
    if len(turns) > _MOST_TURNS:
        turns = set()
    quarters = {0, last} if level else {round(last * share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)}
    return [int(trace.steps[index]) for index in sorted(turns | quarters)]


def _chart(key: str, trace: _Trace) -> str:
    """A block chart of one curve: a title, then rows of columns, the highest and lowest value beside them."""
    values = trace.values[key]
    title = f"{_NAMES[key]} over {_count(int(trace.steps[-1]) + 1)}"
    low, high = float(values.min()), float(values.max())
    if low == high:
        return f"{title}\n{high:>10.4g} {_BLOCKS[4] * _COLUMNS}"
    columns = values[np.linspace(0, len(values) - 1, _COLUMNS).round().astype(int)]
    if key == "lr" and _wants_log(values):
        title += ", log scale"
        share = np.log(columns / low) / np.log(high / low)
    else:
        low = 0.0 if key == "lr" else low
        share = (columns - low) / (high - low)
    rows = _ROWS[key]
    # The lowest value still shows as one eighth of a row.
    eighths = 1 + np.rint(share * (8 * rows - 1)).astype(int)
    lines = [title]
    for row in reversed(range(rows)):
        label = {rows - 1: f"{high:.4g}", 0: f"{low:.4g}"}.get(row, "")
        blocks = "".join(_BLOCKS[min(max(int(eighth) - 8 * row, 0), 8)] for eighth in eighths)
        lines.append(f"{label:>10} {blocks}".rstrip())
    return "\n".join(lines)
