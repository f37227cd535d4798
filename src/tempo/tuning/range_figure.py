"""Figure of a range test: loss and its slope against the learning rate, one colour per setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tempo.config.schema import SMOKE
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
from tempo.tuning.range_curve import SmoothCurve, on_common_grid
from tempo.tuning.range_proposal import slope_per_decade
from tempo.tuning.range_result import RangeTestResult, SettingResult


@mpl.rc_context(RC)
def draw(result: RangeTestResult) -> Path:
    """Write `lr_range.png` and `.svg`: smoothed loss with its spread over seeds, and its slope on log LR.

    At most `MOST_LINES` settings are drawn. The legends name the marks; the shaded strip is the proposal of
    the only or the best setting.
    """
    curves = [(setting, setting.mean) for setting in result.settings if setting.mean is not None]
    curves = curves[:MOST_LINES]
    figure, (loss, slope) = new_figure(1, 2, 10.5, 4.4)
    for axes in (loss, slope):
        plain_log(axes, "x")
        axes.set_xlabel("learning rate")
    loss.set(title="training loss, smoothed", ylabel="loss")
    slope.set(title="slope per decade of the learning rate", ylabel="d loss / d log10(LR)")
    handles = [
        _draw_setting(loss, slope, setting, mean, colour)
        for (setting, mean), colour in zip(curves, COLOURS, strict=False)
    ]
    if curves:
        _limit_axes(loss, slope, [mean for _, mean in curves])
    _name_marks(loss, slope, result)
    title = result.settings[0].runs[0].record.name
    if (best := result.best) is not None:
        low, high = best.proposal.min_lr or 0.0, best.proposal.max_lr or 0.0
        for axes in (loss, slope):
            axes.axvspan(low, high, color="#999999", alpha=0.15, linewidth=0)
        title += f": {low:g} to {high:g}" + (f" ({best.label})" if len(result.settings) > 1 else "")
    if result.smoke:
        figure.suptitle(f"{SMOKE}: {title}", color="#B00020", fontweight="bold")
    else:
        figure.suptitle(title)
    if len(curves) > 1:
        legend_below(figure, handles, [label_of(setting.label) for setting, _ in curves])
    path = result.folder / "lr_range.png"
    save(figure, path, path.with_suffix(".svg"))
    return path


def _name_marks(loss: Axes, slope: Axes, result: RangeTestResult) -> None:
    """Explain the marks that are drawn, in a legend of each panel."""
    points = [found for setting in result.settings if (found := setting.proposal.points) is not None]
    grey: Any = {"color": "#555555", "linestyle": ""}
    marks: dict[Axes, list[Artist]] = {loss: [], slope: []}
    if points:
        marks[loss].append(Line2D([], [], marker="o", label="minimum", **grey))
        marks[slope].append(Line2D([], [], marker="v", label="steepest descent", **grey))
    if any(found.edge is not None for found in points):
        edge = "edge of divergence"
        marks[loss].append(Line2D([], [], marker="x", markeredgewidth=1.8, label=edge, **grey))
    if any(len(setting.runs) > 1 for setting in result.settings):
        marks[loss].append(Patch(color="#555555", alpha=0.18, linewidth=0, label="range over seeds"))
    if result.best is not None:
        for handles in marks.values():
            handles.append(Patch(color="#999999", alpha=0.3, linewidth=0, label="proposed min_lr to max_lr"))
    for axes, handles in marks.items():
        if handles:
            axes.legend(handles=handles, loc="best")


def _draw_setting(loss: Axes, slope: Axes, setting: SettingResult, mean: SmoothCurve, colour: str) -> object:
    """Draw a setting and return the line for the legend."""
    if len(setting.runs) == 1:
        x, y = thin(setting.curves[0].lr, setting.curves[0].loss)
        loss.plot(x, y, color=colour, alpha=0.25, linewidth=0.7)
    else:
        losses, lr = on_common_grid(setting.smoothed)
        loss.fill_between(lr, losses.min(axis=0), losses.max(axis=0), color=colour, alpha=0.18, linewidth=0)
    (line,) = loss.plot(mean.lr, mean.loss, color=colour)
    slope.plot(mean.lr, slope_per_decade(mean), color=colour)
    if (points := setting.proposal.points) is not None:
        loss.plot(points.minimum, points.minimum_loss, "o", color=colour)
        slope.plot(points.steepest, points.steepest_slope, "v", color=colour)
        if points.edge is not None:
            height = float(np.interp(np.log10(points.edge), np.log10(mean.lr), mean.loss))
            loss.plot(points.edge, height, "x", color=colour, markersize=7, markeredgewidth=1.8)
    return line


def _limit_axes(loss: Axes, slope: Axes, means: list[SmoothCurve]) -> None:
    """Limit the axes to cut off the explosion, which would flatten the rest of the curve."""
    low = min(float(mean.loss.min()) for mean in means)
    start = max(mean.start for mean in means)
    loss.set_ylim(low - 0.1 * (start - low), start + 0.35 * (start - low))
    steepest = max(-float(slope_per_decade(mean).min()) for mean in means)
    if steepest > 0:
        slope.set_ylim(-1.25 * steepest, 1.0 * steepest)
