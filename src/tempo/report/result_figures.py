"""Pictures of final results: against a swept key, over two keys, side by side, and against their cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tempo.report.figure_style import (
    COLOURS,
    MARKERS,
    MOST_LINES,
    label_of,
    legend_below,
    new_figure,
    per_cent,
    value_axis,
)
from tempo.report.grouping import Setting, distinct
from tempo.report.load_runs import Run
from tempo.report.number_format import (
    amount,
    canonical,
    head_of,
    human,
    is_share,
    mean_and_sd,
    metric_name,
    more_is_better,
    short_keys,
)
from tempo.report.statistics import Summary, by_seed, describe, statistics
from tempo.report.tables import joules_name

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


FINALS = ("train/accuracy", "val/accuracy", "test/accuracy")


def finals(settings: Sequence[Setting]) -> Figure | None:
    """A bar a setting and kind of images: the final accuracies, mean over seeds, sd as whisker."""
    shown = [each for each in settings if each.completed][:MOST_BARS]
    metrics = [name for name in FINALS if any(by_seed(each, name) for each in shown)]
    if len(shown) < 2 or not metrics:
        return None
    width = 0.8 / len(metrics)
    figure, (axes,) = new_figure(1, 1, 7.5, 1.2 + 0.26 * len(metrics) * len(shown))
    for index, metric in enumerate(metrics):
        of = [statistics(each, metric) for each in shown]
        places = [at + (index - (len(metrics) - 1) / 2) * width for at in range(len(shown))]
        axes.barh(
            places,
            [0.0 if math.isnan(each.mean) else 100 * each.mean for each in of],
            xerr=[100 * each.sd for each in of],  # NaN, of a single seed, has no whisker
            height=0.92 * width,
            color=COLOURS[index],
            alpha=0.85,
            capsize=2,
            label=metric_name(metric),
        )
        for y, each in zip(places, of, strict=True):
            end = each.mean + (0.0 if math.isnan(each.sd) else each.sd)
            if each.n:
                axes.text(100 * end + 1, y, mean_and_sd(each.mean, each.sd, metric), va="center", fontsize=8)
    axes.set(xlim=(0, 118), ylim=(len(shown) - 0.4, -0.6), xlabel="accuracy, %")
    axes.set_xticks(range(0, 101, 20))
    axes.set_yticks(range(len(shown)), [label_of(each.label) for each in shown])
    axes.grid(visible=False, axis="y")
    legend_below(figure, *axes.get_legend_handles_labels())
    return figure


def cost(settings: Sequence[Setting]) -> Figure | None:
    """Seconds of training and images per second, a bar a setting: mean over its runs, sd as whisker."""
    shown = [each for each in settings if each.completed][:MOST_BARS]
    if not shown:
        return None
    figure, axes = new_figure(1, 2, 9.5, 1.2 + 0.32 * len(shown))
    for place, title, numbers in zip(
        axes,
        ("seconds of training", "images per second"),
        (
            [[run.train_seconds for run in each.completed] for each in shown],
            [[run.record.images_per_second for run in each.completed] for each in shown],
        ),
        strict=True,
    ):
        described = [describe([value for value in each if math.isfinite(value)]) for each in numbers]
        heights = [0.0 if math.isnan(each.mean) else each.mean for each in described]
        whiskers = [each.sd for each in described]
        colour = COLOURS[0] if place is axes[0] else COLOURS[2]
        place.barh(
            range(len(shown)), heights, xerr=whiskers, color=colour, alpha=0.85, height=0.65, capsize=2
        )
        place.set(title=title, ylim=(len(shown) - 0.4, -0.6))
        place.grid(visible=False, axis="y")
        place.set_yticks(
            range(len(shown)), [label_of(each.label) for each in shown] if place is axes[0] else []
        )
    return figure


def trade_off(settings: Sequence[Setting], metric: str) -> Figure | None:
    """The final metric against what training took, in seconds and where all runs say it in joules."""
    shown = [each for each in settings if by_seed(each, metric)]
    measures: list[tuple[str, Callable[[Run], float]]] = [
        ("seconds of training", lambda run: run.train_seconds),
        (joules_name([run for each in shown for run in each.completed]), lambda run: run.joules),
    ]
    measures = [
        (name, of)
        for name, of in measures
        if all(math.isfinite(of(run)) for each in shown for run in each.completed)
    ]
    if len(shown) < 2 or not measures:
        return None
    figure, panels = new_figure(1, len(measures), 4.75 * max(len(measures), 1.5), 3.8)
    handles: list[Any] = []
    for axes, (name, of) in zip(panels, measures, strict=True):
        handles = [_draw_point(axes, each, metric, of, index) for index, each in enumerate(shown)]
        axes.set(xlabel=name, ylabel=head_of(metric))
        axes.set_xlim(left=0)
        per_cent(axes, metric)
    legend_below(figure, handles, [label_of(each.label) for each in shown])
    return figure


def _draw_point(axes: Axes, setting: Setting, metric: str, of: Callable[[Run], float], index: int) -> Any:
    colour = COLOURS[index % len(COLOURS)]
    runs = [run for run in setting.completed if math.isfinite(run.metric(metric))]
    x, y = [of(run) for run in runs], [run.metric(metric) for run in runs]
    if len(runs) > 1:
        axes.plot(x, y, ".", color=colour, alpha=0.45, markersize=5)
    return axes.errorbar(
        [describe(x).mean],
        [describe(y).mean],
        xerr=[describe(x).sd],
        yerr=[describe(y).sd],
        color=colour,
        marker=MARKERS[index % len(MARKERS)],
        linestyle="none",
        capsize=3,
        elinewidth=1,
    )
