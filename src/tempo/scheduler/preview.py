"""Show a schedule before anything is trained: a table for the terminal, and a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tempo.scheduler.schedule import Schedule

_NAMES = {"lr": "learning rate", "momentum": "momentum"}
# More points than a figure can show; the table looks at every step of most runs, to find the turns.
_FIGURE_POINTS = 4_000
_TABLE_POINTS = 100_000
# More turns do not fit on a screen and are left to the figure.
_MOST_TURNS = 16
# A linear axis hides values below this fraction of its top.
_FLAT_FRACTION = 1 / 30


@dataclass(frozen=True)
class _Trace:
    """Values of a schedule, float `[n]` each, at `steps` `[n]`, which include the first and the last step."""

    steps: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]


def preview_table(schedule: Schedule, total_steps: int) -> str:
    """Return a table of learning rate and momentum at the ends, the quarters and the turns of the curves."""
    trace = _trace(schedule, total_steps, _TABLE_POINTS)
    names = [_NAMES[key] for key in trace.values]
    lines = [f"{' and '.join(names)} over {_count(total_steps)}"]
    lines.append(f"{'step':>10}  {'done':>6}  " + "  ".join(f"{name:>13}" for name in names))
    for step in _key_steps(trace):
        row = "  ".join(f"{value:>13.6g}" for value in schedule.at(step, total_steps).values())
        lines.append(f"{step:>10}  {step / max(total_steps - 1, 1):>6.1%}  {row}")
    if not schedule.moves_momentum:
        lines.append("momentum: constant, as set for the optimizer")
    return "\n".join(lines)


def preview_figure(schedule: Schedule, total_steps: int, path: Path, x_label: str = "optimizer step") -> None:
    """Plot learning rate and momentum, if it changes, against the step; the suffix of `path` is the format.

    The rate's axis is logarithmic if a linear one would flatten much of the curve.
    """
    trace = _trace(schedule, total_steps, _FIGURE_POINTS)
    # Not pyplot, which has global state and may open a window system.
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
    # One value per step: steps-post draws a drop as an edge.
    axis.plot(trace.steps, values, color=color, marker=marker, drawstyle="steps-post")
    axis.set_ylabel(_NAMES[key])
    axis.grid(alpha=0.3)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if key == "lr" and _wants_log(values):
        axis.set_yscale("log")
    elif key == "lr":
        # Show zero, and keep a curve that ends there off the frame.
        axis.set_ylim(bottom=-0.02 * values.max())


def _count(total_steps: int) -> str:
    return f"{total_steps:,} step{'s' if total_steps > 1 else ''}"


def _trace(schedule: Schedule, total_steps: int, points: int) -> _Trace:
    """Return the schedule's values at up to `points` evenly spaced steps."""
    steps = np.unique(np.linspace(0, total_steps - 1, min(points, total_steps)).round().astype(np.int64))
    rows = [schedule.at(int(step), total_steps) for step in steps]
    return _Trace(steps, {key: np.array([row[key] for row in rows]) for key in _NAMES if key in rows[0]})


def _wants_log(values: NDArray[np.float64]) -> bool:
    """Return whether a linear axis would flatten a fifth of the steps, and a log axis can show all."""
    flat = np.mean(values < _FLAT_FRACTION * values.max())
    return bool(values.min() > 0 and flat >= 0.2)


def _key_steps(trace: _Trace) -> list[int]:
    """Return the ends, the quarters, and the steps where a curve turns, levels off or jumps."""
    last = len(trace.steps) - 1
    turns: set[int] = set()
    level = True
    for values in trace.values.values():
        change = np.diff(values)
        level = level and not change.any()
        # The rounding of a level piece is not a turn.
        direction = np.where(np.abs(change) > 1e-9 * np.ptp(values), np.sign(change), 0)
        turns.update((1 + np.flatnonzero(np.diff(direction))).tolist())
    if len(turns) > _MOST_TURNS:
        turns = set()
    quarters = {0, last} if level else {round(last * quarter) for quarter in (0.0, 0.25, 0.5, 0.75, 1.0)}
    return [int(trace.steps[index]) for index in sorted(turns | quarters)]
