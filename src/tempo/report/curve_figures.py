"""Draw curves over the epochs of training: losses, accuracies and schedules of settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tempo.record.metric_names import is_share
from tempo.report.colours_and_axes import (
    COLOURS,
    LOG_FROM,
    MARKERS,
    Drawing,
    best_settings,
    labels_of,
    legend_below,
    new_figure,
    per_cent,
    plain_log,
    spans_decades,
    thin,
)
from tempo.report.grouping import Setting
from tempo.report.load_runs import Array, Run, varies
from tempo.report.number_format import head_of
from tempo.report.statistics import Summary

CURVES = ("val/loss", "val/accuracy", "test/loss", "test/accuracy", "train/loss", "train/accuracy")
NAMES = {"lr": "learning rate", "momentum": "momentum"}


def curve_figures(summary: Summary) -> Iterator[Drawing]:
    """Yield the figures over epochs, for at most as many settings as there are colours."""
    shown, some = best_settings(summary)
    yield Drawing(
        "curves",
        "Loss and accuracy by epoch",
        "Line: mean over the seeds that completed. Band: from the lowest to the highest seed. Dotted with a "
        f"cross: a diverged run.{some}",
        training_curves(shown),
    )
    yield Drawing(
        "schedule",
        "Learning rate and momentum",
        f"As recorded in training; one run per setting, equal schedules share a line.{some}",
        schedules(shown),
    )


def spread(runs: Sequence[Run], column: str) -> tuple[Array, Array, Array, Array]:
    """Return x, mean, minimum and maximum over runs, at the epochs common to all of them."""
    series = [xy for run in runs if len((xy := run.series(column))[0])]
    if not series:
        return (np.empty(0),) * 4
    x = np.array(sorted(set.intersection(*(set(xs) for xs, _ in series))), dtype=np.float64)
    values = np.array([ys[np.isin(xs, x)] for xs, ys in series], dtype=np.float64)
    return x, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def training_curves(settings: Sequence[Setting]) -> Figure | None:
    """Draw loss and accuracy by epoch, one colour per setting; the band is the range over seeds."""
    columns = [name for name in CURVES if any(len(run.series(name)[0]) for run in _all_runs(settings))]
    if not columns:
        return None
    rows = -(-len(columns) // 2)
    figure, panels = new_figure(rows, -(-len(columns) // rows), 9.5, 3.3 * rows + 0.6)
    handles: dict[str, Any] = {}
    labels = labels_of([setting.label for setting in settings])
    for axes, column in zip(panels, columns, strict=False):
        for index, (setting, label) in enumerate(zip(settings, labels, strict=True)):
            for handle in _draw_setting(axes, setting, column, index):
                handles.setdefault(label, handle)
        _set_axes(axes, settings, column)
        _mark_ends(axes, settings, column)
    for axes in panels[len(columns) :]:
        axes.set_visible(False)
    if len(settings) > 1:
        legend_below(figure, list(handles.values()), list(handles))
    return figure


def schedules(settings: Sequence[Setting]) -> Figure | None:
    """Draw learning rate and momentum by epoch; settings with the same schedule share a line.

    What is constant in every run is not drawn: the table has its value.
    """
    columns = [name for name in NAMES if any(varies(run.series(name)[1]) for run in _all_runs(settings))]
    if not columns:
        return None
    figure, panels = new_figure(1, len(columns), 9.5, 3.4)
    lines: dict[bytes, tuple[list[str], Run]] = {}
    for setting in settings:
        if run := next((run for run in setting.runs if len(run.series("lr")[0])), None):
            content = b"|".join(values.tobytes() for column in columns for values in run.series(column))
            lines.setdefault(content, ([], run))[0].append(setting.label)
    handles, labels = [], []
    for index, (names, run) in enumerate(lines.values()):
        for axes, column in zip(panels, columns, strict=True):
            x, y = thin(*run.series(column))
            marker = "o" if len(x) == 1 else ""  # a line through one point is invisible
            colour = COLOURS[index % len(COLOURS)]
            (handle,) = axes.plot(x, y, color=colour, linestyle=_dash(index), marker=marker)
        handles.append(handle)
        labels.append(names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more")
    for axes, column in zip(panels, columns, strict=True):
        axes.set(xlabel="epoch", title=NAMES[column])
        peaks = [float(y.max()) for _, run in lines.values() if len(y := run.series(column)[1])]
        if column == "lr" and spans_decades(peaks) and min(peaks) > 0:
            plain_log(axes, "y")
        else:
            _keep_constant_flat(axes)
    if len(lines) > 1:
        legend_below(figure, handles, labels_of(labels))
    return figure


def _all_runs(settings: Sequence[Setting]) -> list[Run]:
    return [run for setting in settings for run in setting.runs]


def _draw_setting(axes: Axes, setting: Setting, column: str, index: int) -> list[Any]:
    """Draw the mean line with its band, and a thin dotted line per diverged run."""
    colour, handles = COLOURS[index % len(COLOURS)], []
    whole = setting.completed or setting.with_status("pruned", "running", "interrupted")
    x, mean, low, high = thin(*spread(whole, column))
    if len(x):
        every = max(1, len(x) // 8)
        # Markers of different settings start at different points, so that overlapping curves both show.
        marks = ((index * every // 3) % every, every)
        handles += axes.plot(x, mean, color=colour, marker=MARKERS[index % len(MARKERS)], markevery=marks)
        if len({run.record.seed for run in whole}) > 1:
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    for run in setting.with_status("diverged"):
        x, y = thin(*run.series(column))
        if len(x):
            handles += axes.plot(x, y, color=colour, linewidth=0.9, linestyle=":")
    return handles


def _mark_ends(axes: Axes, settings: Sequence[Setting], column: str) -> None:
    """Draw a cross where a run diverged, at the edge if its last value is outside the axes."""
    low, high = axes.get_ylim()
    for index, setting in enumerate(settings):
        for run in setting.with_status("diverged"):
            x, y = run.series(column)
            if len(x):  # an empty line without clipping collapses the layout
                end, colour = np.clip(y[-1:], low, high), COLOURS[index % len(COLOURS)]
                axes.plot(x[-1:], end, "x", color=colour, markersize=7, markeredgewidth=1.8, clip_on=False)
    axes.set_ylim(low, high)


def _set_axes(axes: Axes, settings: Sequence[Setting], column: str) -> None:
    axes.set(title=head_of(column), xlabel="epoch")
    if axes.get_xlim()[1] >= 2:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # The losses of diverged runs would flatten all other curves; accuracies are bounded.
    completed = [run for setting in settings for run in setting.completed]
    runs = _all_runs(settings) if is_share(column) or not completed else completed
    values = np.concatenate([run.series(column)[1] for run in runs])
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())
    if not is_share(column) and low > 0 and high / low > LOG_FROM:
        plain_log(axes, "y")
        axes.set_ylim(low / 1.15, high * 1.3)
        return
    per_cent(axes, column)
    room = 0.06 * (high - low) or 0.05 * (abs(high) or 1.0)
    axes.set_ylim(low - room, high + room)


def _dash(index: int) -> Any:
    return ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)))[index // 2 % 4]


def _keep_constant_flat(axes: Axes) -> None:
    """Widen the axis of a constant schedule, to show a line in the middle instead of magnified noise."""
    low, high = axes.get_ylim()
    middle = (low + high) / 2
    if high - low < 0.15 * abs(middle):
        axes.set_ylim(middle - 0.25 * abs(middle), middle + 0.25 * abs(middle))
