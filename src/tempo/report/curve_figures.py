"""Pictures of training by epoch: curves and schedules of settings, and the pictures in a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tempo.report.figure_style import (
    COLOURS,
    MARKERS,
    label_of,
    legend_below,
    new_figure,
    plain_log,
    spans_decades,
    thin,
)
from tempo.report.grouping import Setting
from tempo.report.load_runs import Array, Run, read_curves
from tempo.report.number_format import is_share, metric_name

CURVES = ("val/loss", "val/accuracy", "test/loss", "test/accuracy", "train/loss", "train/accuracy")
LOG_FROM = 30.0
"""A loss that falls by more than this factor is drawn on a log axis."""


def spread(runs: Sequence[Run], column: str) -> tuple[Array, Array, Array, Array]:
    """x, mean, minimum and maximum over runs, at the epochs that all of them have."""
    series = [each for run in runs if len((each := run.series(column))[0])]
    if not series:
        return (np.empty(0),) * 4
    common = set(series[0][0]).intersection(*(each[0] for each in series[1:]))
    x = np.array(sorted(common), dtype=np.float64)
    values = np.array([ys[np.isin(xs, x)] for xs, ys in series], dtype=np.float64)
    return x, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def training_curves(settings: Sequence[Setting]) -> Figure | None:
    """Loss and accuracy by epoch, a colour a setting; the band is the range over seeds."""
    columns = [each for each in CURVES if any(len(run.series(each)[0]) for run in _drawn(settings))]
    if not columns:
        return None
    rows = -(-len(columns) // 2)
    figure, axes = new_figure(rows, -(-len(columns) // rows), 9.5, 3.3 * rows + 0.6)
    handles: dict[str, Any] = {}
    for place, column in zip(axes, columns, strict=False):
        for index, setting in enumerate(settings):
            for handle in _draw_setting(place, setting, column, index):
                handles.setdefault(label_of(setting.label), handle)
        _dress(place, settings, column)
        _mark_ends(place, settings, column)
    for place in axes[len(columns) :]:
        place.set_visible(False)
    if len(settings) > 1:
        legend_below(figure, list(handles.values()), list(handles))
    return figure


def schedules(settings: Sequence[Setting]) -> Figure | None:
    """Learning rate and momentum by epoch; settings with the same schedule share a line."""
    columns = [
        each for each in ("lr", "momentum") if any(len(run.series(each)[0]) for run in _drawn(settings))
    ]
    if not columns:
        return None
    figure, axes = new_figure(1, len(columns), 9.5, 3.4)
    lines: dict[bytes, tuple[list[str], Run]] = {}
    for setting in settings:
        if run := next((each for each in setting.runs if len(each.series("lr")[0])), None):
            mark = b"|".join(each.tobytes() for column in columns for each in run.series(column))
            lines.setdefault(mark, ([], run))[0].append(setting.label)
    handles, labels = [], []
    for index, (names, run) in enumerate(lines.values()):
        for place, column in zip(axes, columns, strict=True):
            x, y = thin(*run.series(column))
            marker = "o" if len(x) == 1 else ""  # a single point has no line
            (handle,) = place.plot(
                x, y, color=COLOURS[index % len(COLOURS)], linestyle=_dash(index), marker=marker
            )
        handles.append(handle)
        labels.append(label_of(names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"))
    for place, column in zip(axes, columns, strict=True):
        place.set(xlabel="epoch", title={"lr": "learning rate"}.get(column, column))
        peaks = [float(y.max()) for _, run in lines.values() if len(y := run.series(column)[1])]
        if column == "lr" and spans_decades(peaks) and min(peaks) > 0:
            plain_log(place, "y")
        else:
            _enough_room(place)
    if len(lines) > 1:
        legend_below(figure, handles, labels)
    return figure


def _drawn(settings: Sequence[Setting]) -> list[Run]:
    return [run for setting in settings for run in setting.runs]


def _draw_setting(axes: Axes, setting: Setting, column: str, index: int) -> list[Any]:
    """The mean line with its band; a thin dotted line for each diverged run."""
    colour, handles = COLOURS[index % len(COLOURS)], []
    whole = setting.completed or setting.with_status("pruned", "running", "interrupted")
    x, mean, low, high = spread(whole, column)
    if len(x):
        x, mean, low, high = thin(x, mean, low, high)
        every = max(1, len(x) // 8)
        first = (index * every // 3) % every
        handles += axes.plot(
            x,
            mean,
            color=colour,
            marker=MARKERS[index % len(MARKERS)],
            markevery=(first, every),
            linestyle="-",
        )
        if len({run.record.seed for run in whole}) > 1:
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    for run in setting.with_status("diverged"):
        x, y = run.series(column)
        if len(x):
            x, y = thin(x, y)
            handles += axes.plot(x, y, color=colour, linewidth=0.9, linestyle=":")
    return handles


def _mark_ends(axes: Axes, settings: Sequence[Setting], column: str) -> None:
    """A cross where a run diverged, at the edge where its last value lies outside the axes."""
    low, high = axes.get_ylim()
    for index, setting in enumerate(settings):
        for run in setting.with_status("diverged"):
            x, y = run.series(column)
            if not len(x):  # diverged before its first row; an empty unclipped line collapses the layout
                continue
            end = np.clip(y[-1:], low, high)
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(x[-1:], end, "x", color=colour, markersize=7, markeredgewidth=1.8, clip_on=False)
    axes.set_ylim(low, high)


def _dress(axes: Axes, settings: Sequence[Setting], column: str) -> None:
    unit = ", %" if is_share(column) else ""
    axes.set(title=f"{metric_name(column)}{unit}", xlabel="epoch")
    if axes.get_xlim()[1] >= 2:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # The losses of diverged runs would squeeze the others into a line; accuracies are bounded.
    completed = [run for setting in settings for run in setting.completed]
    runs = _drawn(settings) if is_share(column) or not completed else completed
    values = np.concatenate([run.series(column)[1] for run in runs])
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())
    if is_share(column):
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    elif low > 0 and high / low > LOG_FROM:
        plain_log(axes, "y")
        axes.set_ylim(low / 1.15, high * 1.3)
        return
    room = 0.06 * (high - low) or 0.05 * (abs(high) or 1.0)
    axes.set_ylim(low - room, high + room)


def _dash(index: int) -> Any:
    return ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)))[index // 2 % 4]


def _enough_room(axes: Axes) -> None:
    """A constant schedule is a line in the middle, not noise blown up to the axis' height."""
    low, high = axes.get_ylim()
    middle = (low + high) / 2
    if high - low < 0.15 * abs(middle):
        axes.set_ylim(middle - 0.25 * abs(middle), middle + 0.25 * abs(middle))


_NUMBERS_UP_TO_CLASSES = 20
_RC: Any = {"text.parse_math": False}  # a class may be called $x$


@mpl.rc_context(_RC)
def draw_curves(metrics_file: Path, path: Path, title: str) -> None:
    """Loss, accuracy, learning rate and momentum against the epoch, from a run's metrics.csv."""
    columns = read_curves(metrics_file)
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for axis, name in ((axes[0, 0], "loss"), (axes[0, 1], "accuracy")):
        for split, style in (("train", "-"), ("val", "o-"), ("test", "s:")):
            values = columns.get(f"{split}/{name}", np.empty(0))
            here = np.isfinite(values)
            if here.any():
                single = "o" if here.sum() == 1 and style == "-" else ""  # a single point has no line
                axis.plot(columns["epoch"][here], values[here], single + style, markersize=3, label=split)
        axis.set_ylabel(name)
        if axis.lines:
            axis.legend()
    for axis, name in ((axes[1, 0], "lr"), (axes[1, 1], "momentum")):
        here = np.isfinite(columns[name])
        marker = "o" if here.sum() == 1 else ""
        axis.plot(columns["epoch"][here], columns[name][here], color="tab:green", marker=marker, markersize=3)
        axis.set_ylabel({"lr": "learning rate", "momentum": "momentum"}[name])
        axis.set_xlabel("epoch")
        if not here.any():
            axis.text(0.5, 0.5, "not scheduled", transform=axis.transAxes, ha="center", color="gray")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


@mpl.rc_context(_RC)
def draw_confusion(counts: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    """Test images by true class (rows) and predicted class (columns), `counts` int `[C, C]`."""
    n = len(classes)
    side = min(12.0, 3.0 + 0.4 * n)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class")
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title(title)
    if n <= _NUMBERS_UP_TO_CLASSES:
        axis.set_xticks(range(n), classes, rotation=90 if max(map(len, classes)) > 3 else 0)
        axis.set_yticks(range(n), classes)
        for row, column in np.argwhere(counts > 0):
            color = "white" if shares[row, column] > 0.5 else "black"
            axis.text(
                column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8
            )
    figure.savefig(path, dpi=120)
