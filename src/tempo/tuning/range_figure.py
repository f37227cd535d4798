"""The picture of a range test: loss against the learning rate, a colour a setting."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from tempo.report.colours_and_axes import (
    COLOURS,
    MOST_LINES,
    RC,
    label_of,
    legend_below,
    new_figure,
    plain_log,
    save,
    thin,
)
from tempo.report.number_format import SMOKE
from tempo.tuning.curve import on_grid
from tempo.tuning.proposal import slope_on_log_lr
from tempo.tuning.range_test import RangeTestResult, SettingResult


@mpl.rc_context(RC)
def draw(result: RangeTestResult) -> Path:
    """Write `lr_range.png` and `.svg`: smoothed loss with its spread over seeds, and its slope on log LR.

    Drawn are the first settings that there are colours for. A dot marks the minimum, a cross the edge of
    divergence; the shaded strip is the proposal of the only or the best setting.
    """
    shown = [each for each in result.settings if each.mean is not None][:MOST_LINES]
    figure, (loss, slope) = new_figure(1, 2, 10.5, 4.4)
    for axes in (loss, slope):
        plain_log(axes, "x")
        axes.set_xlabel("learning rate")
    loss.set(title="training loss, smoothed", ylabel="loss")
    slope.set(title="slope per decade of the learning rate", ylabel="d loss / d log10(LR)")
    handles = []
    for index, setting in enumerate(shown):
        handles.append(_draw_setting(loss, slope, setting, COLOURS[index]))
    if shown:
        _limits(loss, slope, shown)
    best = result.best
    if best is not None:
        low, high = best.proposal.min_lr or 0.0, best.proposal.max_lr or 0.0
        for axes in (loss, slope):
            axes.axvspan(low, high, color="#999999", alpha=0.15, linewidth=0)
    title = f"{result.settings[0].runs[0].record.name}"
    if best is not None:
        title += f": {best.proposal.min_lr:g} to {best.proposal.max_lr:g}"
        title += f" ({best.label})" if len(result.settings) > 1 else ""
    if result.smoke:
        figure.suptitle(f"{SMOKE}: {title}", color="#B00020", fontweight="bold")
    else:
        figure.suptitle(title)
    if len(shown) > 1:
        legend_below(figure, handles, [label_of(each.label) for each in shown])
    path = result.folder / "lr_range.png"
    save(figure, path, path.with_suffix(".svg"))
    return path


def _draw_setting(loss: Axes, slope: Axes, setting: SettingResult, colour: str) -> object:
    mean = setting.mean
    assert mean is not None
    if len(setting.runs) == 1:
        from_run = setting.raw[0]
        x, y = thin(from_run.lr, from_run.loss)
        loss.plot(x, y, color=colour, alpha=0.25, linewidth=0.7)
    else:
        values, grid = on_grid(setting.smoothed)
        loss.fill_between(grid, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)
    (handle,) = loss.plot(mean.lr, mean.loss, color=colour)
    slope.plot(mean.lr, slope_on_log_lr(mean), color=colour)
    points = setting.proposal.points
    if points is not None:
        loss.plot(points.minimum, points.minimum_loss, "o", color=colour)
        slope.plot(points.steepest, points.steepest_slope, "v", color=colour)
        if points.edge is not None:
            height = float(np.interp(np.log10(points.edge), np.log10(mean.lr), mean.loss))
            loss.plot(points.edge, height, "x", color=colour, markersize=7, markeredgewidth=1.8)
    return handle


def _limits(loss: Axes, slope: Axes, shown: list[SettingResult]) -> None:
    """The explosion itself is of no interest: it would press the rest into a line."""
    means = [each.mean for each in shown if each.mean is not None]
    low = min(float(each.loss.min()) for each in means)
    start = max(each.start for each in means)
    loss.set_ylim(low - 0.1 * (start - low), start + 0.35 * (start - low))
    steepest = max(-float(slope_on_log_lr(each).min()) for each in means)
    if steepest > 0:
        slope.set_ylim(-1.25 * steepest, 1.0 * steepest)
