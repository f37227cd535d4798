"""Pictures of final values: against a swept key, and over two swept keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tempo.record.number_format import amount, canonical, head_of, human, is_share, more_is_better, short_keys
from tempo.report.grouping import Setting, distinct
from tempo.report.style import (
    COLOURS,
    MARKERS,
    MOST_LINES,
    label_of,
    legend_below,
    new_figure,
    per_cent,
    value_axis,
)
from tempo.report.summarise import Summary, by_seed, statistics

MOST_BARS = 24


def against_key(summary: Summary, key: str) -> Figure | None:
    """The final metric against one swept key: mean ± sd, every seed a dot, a line a setting of the others."""
    at = summary.keys.index(key)
    lines: dict[Any, list[Setting]] = {}
    for setting in summary.ranked:
        lines.setdefault(tuple(map(canonical, _without(setting.values, at))), []).append(setting)
    kept = [each for each in lines.values() if len(lines) == 1 or len(each) > 1][:MOST_LINES]
    if not any(by_seed(each, summary.metric) for line in kept for each in line):
        return None
    values = distinct(setting.values[at] for line in kept for setting in line)
    if len(values) < 2:
        return None
    figure, (axes,) = new_figure(1, 1, 7.5, 4.2)
    numeric = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in values)
    if numeric:
        positions = {canonical(v): x for v, x in value_axis(axes, [float(each) for each in values]).items()}
    else:
        positions = {canonical(each): float(place) for place, each in enumerate(values)}
        axes.set_xticks(range(len(values)), [label_of(human(each)) for each in values])
        axes.margins(x=0.15)
    handles, labels = [], []
    names = _without(short_keys(summary.keys), at)
    for index, line in enumerate(kept):
        line.sort(key=lambda each: positions[canonical(each.values[at])])
        points = [positions[canonical(each.values[at])] for each in line]
        handles.append(_draw_line(axes, line, points, summary.metric, index, joined=numeric))
        others = _without(line[0].values, at)
        labels.append(label_of(", ".join(f"{n}={human(v)}" for n, v in zip(names, others, strict=True))))
    axes.set(xlabel=key.removesuffix("._target_"), ylabel=head_of(summary.metric))
    per_cent(axes, summary.metric)
    _turn_long_ticks(axes)
    if len(kept) > 1:
        legend_below(figure, handles, labels)
    return figure


def _draw_line(
    axes: Axes, line: Sequence[Setting], points: Sequence[float], metric: str, index: int, *, joined: bool
) -> Any:
    colour = COLOURS[index % len(COLOURS)]
    described = [statistics(each, metric) for each in line]
    foot = axes.get_xaxis_transform()  # y in shares of the height
    for x, setting in zip(points, line, strict=True):
        values = list(by_seed(setting, metric).values())
        if len(values) > 1:
            axes.plot([x] * len(values), values, ".", color=colour, alpha=0.45, markersize=5)
        if not values:
            axes.plot(
                [x], [0.03 + 0.03 * index], "x", color=colour, markersize=7, transform=foot, clip_on=False
            )
    means = [each.mean for each in described]
    return axes.errorbar(
        points,
        means,
        yerr=[0.0 if math.isnan(each.sd) else each.sd for each in described],
        color=colour,
        marker=MARKERS[index % len(MARKERS)],
        linestyle="-" if joined else "none",
        capsize=3,
        elinewidth=1,
    )


def heat_map(summary: Summary) -> Figure | None:
    """Two swept keys: the mean (and sd) in each cell; with more keys, the best over the others."""
    if len(summary.keys) < 2:
        return None
    rows = distinct(setting.values[0] for setting in summary.settings)
    columns = distinct(setting.values[1] for setting in summary.settings)
    if len(rows) < 2 or len(columns) < 2 or max(len(rows), len(columns)) > MOST_BARS:
        return None
    cells: dict[tuple[Any, Any], Setting] = {}
    for setting in summary.ranked:
        cells.setdefault((canonical(setting.values[0]), canonical(setting.values[1])), setting)
    found = [[cells.get((canonical(r), canonical(c))) for c in columns] for r in rows]
    means = np.array(
        [[statistics(s, summary.metric).mean if s else math.nan for s in line] for line in found]
    )
    if not np.isfinite(means).any():
        return None
    figure, (axes,) = new_figure(1, 1, max(5.0, 2.2 + 0.95 * len(columns)), max(3.0, 1.4 + 0.55 * len(rows)))
    colours = "viridis" if more_is_better(summary.metric) else "viridis_r"
    image = axes.imshow(means, cmap=colours, aspect="auto")
    image.set_clim(*_limits(means))
    for y, line in enumerate(found):
        for x, each in enumerate(line):
            _write_cell(axes, x, y, each, summary.metric, image)
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), [label_of(human(each)) for each in columns])
    axes.set_yticks(range(len(rows)), [label_of(human(each)) for each in rows])
    axes.set(xlabel=summary.keys[1], ylabel=summary.keys[0])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _turn_long_ticks(axes)
    bar = figure.colorbar(image, ax=axes, label=head_of(summary.metric))
    if is_share(summary.metric):
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    return figure


def _limits(means: Any) -> tuple[float, float]:
    """A grid of equal values is one colour, not the noise of the last bit."""
    low, high = float(np.nanmin(means)), float(np.nanmax(means))
    return (low, high) if high - low > 1e-9 else (low - 0.01, high + 0.01)


def _write_cell(axes: Axes, x: int, y: int, setting: Setting | None, metric: str, image: Any) -> None:
    if setting is None:
        return
    of = statistics(setting, metric)
    if of.n == 0:
        corner = (x - 0.5, y - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="///", edgecolor="#BBBBBB", linewidth=0))
        status = setting.runs[0].record.status
        axes.text(x, y, status, ha="center", va="center", fontsize=8, backgroundcolor="white")
        return
    red, green, blue, _ = image.cmap(image.norm(of.mean))
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
    text = amount(of.mean, metric)
    if not math.isnan(of.sd):
        text += f"\n± {amount(of.sd, metric)}"
    axes.text(x, y, text, ha="center", va="center", fontsize=8.5, color="white" if dark else "black")


def _without(values: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    return values[:at] + values[at + 1 :]


def _turn_long_ticks(axes: Axes) -> None:
    ticks = [each.get_text() for each in axes.get_xticklabels()]
    if sum(map(len, ticks)) > 70 or max(map(len, ticks), default=0) > 16:
        axes.tick_params(axis="x", labelrotation=30)
        for each in axes.get_xticklabels():
            each.set_horizontalalignment("right")
