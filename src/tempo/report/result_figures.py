"""Draw final results: settings side by side, over swept keys, and against the cost of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tempo.report.colours_and_axes import (
    COLOURS,
    MARKERS,
    MOST_LINES,
    Drawing,
    best_settings,
    category_axis,
    label_of,
    labels_of,
    legend_below,
    new_figure,
    per_cent,
)
from tempo.report.grouping import Setting, distinct
from tempo.report.load_runs import Run
from tempo.report.number_format import (
    amount,
    canonical,
    head_of,
    human,
    mean_and_sd,
    metric_name,
    short_keys,
)
from tempo.report.results_table import joules_name
from tempo.report.statistics import Summary, by_seed, describe, statistics

MOST_BARS = 24
MOST_KEYS = 4
FINALS = ("train/accuracy", "val/accuracy", "test/accuracy")


def result_figures(summary: Summary, *, over_keys: bool) -> Iterator[Drawing]:
    """Yield the figures of final results; those over swept keys only with `over_keys`."""
    shown, some = best_settings(summary)
    metric = metric_name(summary.metric)
    yield Drawing(
        "finals",
        "Final accuracies",
        "Mean over the completed runs of a setting, whisker: standard deviation over seeds. The training "
        f"accuracy is over the last logged interval. At most {MOST_BARS} settings.",
        finals(summary.settings),
    )
    for key in summary.keys[:MOST_KEYS] if over_keys else ():
        name = key.removesuffix("._target_")
        yield Drawing(
            "final_" + "".join(c if c.isalnum() or c in "._-" else "_" for c in name),
            f"Final {metric} against {name}",
            "Marker and whisker: mean ± standard deviation over seeds. Dots: the seeds. Cross at the bottom: "
            "no run completed. A value 0 on a log axis is left of the dotted line. "
            f"At most {MOST_LINES} lines, the best ones.",
            against_key(summary, key),
        )
    if over_keys:
        others = " The best over the other keys." if len(summary.keys) > 2 else ""
        yield Drawing(
            "heat_map",
            f"Final {metric} over two keys",
            f"Mean over seeds, below it the standard deviation. Hatched: no run completed.{others}",
            heat_map(summary),
        )
    yield Drawing(
        "cost",
        "Cost",
        "Mean over the completed runs of a setting, whisker: standard deviation. Comparable only on the same "
        f"device (see environment). At most {MOST_BARS} settings.",
        cost(summary.settings),
    )
    yield Drawing(
        "trade_off",
        f"Final {metric} against the cost of training",
        "Marker and whiskers: mean ± standard deviation over seeds, both ways. Dots: the seeds. Comparable "
        f"only on the same device (see environment).{some}",
        trade_off(shown, summary.metric),
    )


def against_key(summary: Summary, key: str) -> Figure | None:
    """Draw the final metric against one swept key: one line per setting of the others, one dot per seed."""
    at = summary.keys.index(key)
    lines: dict[Any, list[Setting]] = {}
    for setting in summary.ranked:
        lines.setdefault(tuple(map(canonical, _without(setting.values, at))), []).append(setting)
    kept = [line for line in lines.values() if len(lines) == 1 or len(line) > 1][:MOST_LINES]
    values = distinct(setting.values[at] for line in kept for setting in line)
    if len(values) < 2 or not any(by_seed(setting, summary.metric) for line in kept for setting in line):
        return None
    figure, (axes,) = new_figure(1, 1, 7.5, 4.2)
    positions = category_axis(axes, values)
    joined = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    handles, labels = [], []
    names = _without(short_keys(summary.keys), at)
    for index, line in enumerate(kept):
        points = [(positions[canonical(setting.values[at])], setting) for setting in line]
        points.sort(key=lambda point: point[0])
        handles.append(_draw_line(axes, points, summary.metric, index, joined=joined))
        others = _without(line[0].values, at)
        labels.append(", ".join(f"{n}={human(v)}" for n, v in zip(names, others, strict=True)))
    axes.set(xlabel=key.removesuffix("._target_"), ylabel=head_of(summary.metric))
    per_cent(axes, summary.metric)
    _turn_long_ticks(axes)
    if len(kept) > 1:
        legend_below(figure, handles, labels_of(labels))
    return figure


def _draw_line(
    axes: Axes, line: Sequence[tuple[float, Setting]], metric: str, index: int, *, joined: bool
) -> Any:
    colour = COLOURS[index % len(COLOURS)]
    bottom = axes.get_xaxis_transform()  # y as a share of the height
    for x, setting in line:
        values = list(by_seed(setting, metric).values())
        if len(values) > 1:
            axes.plot([x] * len(values), values, ".", color=colour, alpha=0.45, markersize=5)
        if not values:
            y = 0.03 + 0.03 * index
            axes.plot([x], [y], "x", color=colour, markersize=7, transform=bottom, clip_on=False)
    found = [statistics(setting, metric) for _, setting in line]
    xs, means = [x for x, _ in line], [item.mean for item in found]
    whiskers = [0.0 if math.isnan(item.sd) else item.sd for item in found]
    return axes.errorbar(xs, means, yerr=whiskers, linestyle="-" if joined else "none", **_style(index))


def heat_map(summary: Summary) -> Figure | None:
    """Draw the means over two swept keys; with more keys, the best over the others."""
    if len(summary.keys) < 2:
        return None
    rows, columns = (distinct(setting.values[at] for setting in summary.settings) for at in (0, 1))
    if min(len(rows), len(columns)) < 2 or max(len(rows), len(columns)) > MOST_BARS:
        return None
    best: dict[tuple[Any, Any], Setting] = {}
    for setting in summary.ranked:
        best.setdefault((canonical(setting.values[0]), canonical(setting.values[1])), setting)
    cells = [[best.get((canonical(row), canonical(column))) for column in columns] for row in rows]
    means = np.array([[statistics(s, summary.metric).mean if s else math.nan for s in row] for row in cells])
    if not np.isfinite(means).any():
        return None
    figure, (axes,) = new_figure(1, 1, max(5.0, 2.2 + 0.95 * len(columns)), max(3.0, 1.4 + 0.55 * len(rows)))
    colours = "viridis" if summary.more_is_better else "viridis_r"
    image = axes.imshow(means, cmap=colours, aspect="auto")
    low, high = float(np.nanmin(means)), float(np.nanmax(means))
    # A grid of equal values gets one colour instead of showing noise in the last bit.
    image.set_clim(*((low, high) if high - low > 1e-9 else (low - 0.01, high + 0.01)))
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            if cell is not None:
                _write_cell(axes, x, y, cell, summary.metric, image)
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), [label_of(human(value)) for value in columns])
    axes.set_yticks(range(len(rows)), [label_of(human(value)) for value in rows])
    axes.set(xlabel=summary.keys[1], ylabel=summary.keys[0])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _turn_long_ticks(axes)
    per_cent(figure.colorbar(image, ax=axes, label=head_of(summary.metric)).ax, summary.metric)
    return figure


def _write_cell(axes: Axes, x: int, y: int, setting: Setting, metric: str, image: Any) -> None:
    found = statistics(setting, metric)
    if found.n == 0:
        corner = (x - 0.5, y - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="///", edgecolor="#BBBBBB", linewidth=0))
        status = setting.runs[0].record.status
        axes.text(x, y, status, ha="center", va="center", fontsize=8, backgroundcolor="white")
        return
    red, green, blue, _ = image.cmap(image.norm(found.mean))
    colour = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "black"  # perceived brightness
    spread = "" if math.isnan(found.sd) else f"\n± {amount(found.sd, metric)}"
    text = amount(found.mean, metric) + spread
    axes.text(x, y, text, ha="center", va="center", fontsize=8.5, color=colour)


def finals(settings: Sequence[Setting]) -> Figure | None:
    """Draw one dot per setting and split: the final accuracy, mean over seeds, sd as whisker.

    Dots need no zero, so the axis shows the range of the values.
    """
    shown = [setting for setting in settings if setting.completed][:MOST_BARS]
    metrics = [name for name in FINALS if any(by_seed(setting, name) for setting in shown)]
    if len(shown) < 2 or not metrics:
        return None
    width = 0.7 / len(metrics)
    figure, (axes,) = new_figure(1, 1, 7.5, 1.2 + 0.26 * len(metrics) * len(shown))
    for index, metric in enumerate(metrics):
        found = [statistics(setting, metric) for setting in shown]
        places = [at + (index - (len(metrics) - 1) / 2) * width for at in range(len(shown))]
        means = [100 * item.mean for item in found]
        whiskers = [0.0 if math.isnan(item.sd) else 100 * item.sd for item in found]
        axes.errorbar(
            means, places, xerr=whiskers, linestyle="none", label=metric_name(metric), **_style(index)
        )
        for mean, whisker, y, item in zip(means, whiskers, places, found, strict=True):
            if item.n:
                text = mean_and_sd(item.mean, item.sd, metric)
                place: Any = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
                axes.annotate(text, (mean + whisker, y), **place)
    axes.set(xlabel="accuracy, %")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.22 * (high - low))  # room for the numbers
    _label_bars(axes, shown)
    axes.grid(visible=True, axis="y", alpha=0.5)
    legend_below(figure, *axes.get_legend_handles_labels())
    return figure


def cost(settings: Sequence[Setting]) -> Figure | None:
    """Draw training seconds and images per second, one bar per setting: mean over runs, sd as whisker."""
    shown = [setting for setting in settings if setting.completed][:MOST_BARS]
    if not shown:
        return None
    figure, (left, right) = new_figure(1, 2, 9.5, 1.2 + 0.32 * len(shown))
    measures: list[tuple[Axes, str, str, Callable[[Run], float]]] = [
        (left, "training seconds", COLOURS[0], lambda run: run.train_seconds),
        (right, "images per second", COLOURS[2], lambda run: run.record.images_per_second),
    ]
    for axes, title, colour, measure in measures:
        values = [[measure(run) for run in setting.completed] for setting in shown]
        found = [describe([value for value in of_runs if math.isfinite(value)]) for of_runs in values]
        lengths = [item.mean if item.n else 0.0 for item in found]
        whiskers = [item.sd for item in found]
        axes.barh(range(len(shown)), lengths, xerr=whiskers, color=colour, alpha=0.85, height=0.65, capsize=2)
        axes.set(title=title)
        _label_bars(axes, shown)
    right.set_yticks([])
    return figure


def _label_bars(axes: Axes, settings: Sequence[Setting]) -> None:
    axes.set(ylim=(len(settings) - 0.4, -0.6))
    axes.set_yticks(range(len(settings)), labels_of([setting.label for setting in settings]))
    axes.grid(visible=False, axis="y")


def trade_off(settings: Sequence[Setting], metric: str) -> Figure | None:
    """Draw the final metric against training seconds, and joules if all runs recorded them."""
    shown = [setting for setting in settings if by_seed(setting, metric)]
    runs = [run for setting in shown for run in setting.completed]
    all_measures: list[tuple[str, Callable[[Run], float]]] = [
        ("training seconds", lambda run: run.train_seconds),
        (joules_name(runs), lambda run: run.joules),
    ]
    measures = [(name, of) for name, of in all_measures if all(math.isfinite(of(run)) for run in runs)]
    if len(shown) < 2 or not measures:
        return None
    figure, panels = new_figure(1, len(measures), 4.75 * max(len(measures), 1.5), 3.8)
    handles: list[Any] = []
    for axes, (name, of) in zip(panels, measures, strict=True):
        handles = [_draw_point(axes, setting, metric, of, index) for index, setting in enumerate(shown)]
        axes.set(xlabel=name, ylabel=head_of(metric))
        axes.set_xlim(left=0)
        per_cent(axes, metric)
    legend_below(figure, handles, labels_of([setting.label for setting in shown]))
    return figure


def _draw_point(axes: Axes, setting: Setting, metric: str, of: Callable[[Run], float], index: int) -> Any:
    colour = COLOURS[index % len(COLOURS)]
    runs = [run for run in setting.completed if math.isfinite(run.metric(metric))]
    x, y = [of(run) for run in runs], [run.metric(metric) for run in runs]
    if len(runs) > 1:
        axes.plot(x, y, ".", color=colour, alpha=0.45, markersize=5)
    cost, result = describe(x), describe(y)
    whiskers: Any = {"xerr": [cost.sd], "yerr": [result.sd]}
    return axes.errorbar([cost.mean], [result.mean], **whiskers, linestyle="none", **_style(index))


def _style(index: int) -> Any:
    """Return the colour and marker of a setting, with thin whiskers."""
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    return {"color": colour, "marker": marker, "capsize": 3, "elinewidth": 1}


def _without(values: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    return values[:at] + values[at + 1 :]


def _turn_long_ticks(axes: Axes) -> None:
    labels = axes.get_xticklabels()
    lengths = [len(label.get_text()) for label in labels]
    if sum(lengths) > 70 or max(lengths, default=0) > 16:
        axes.tick_params(axis="x", labelrotation=30)
        for label in labels:
            label.set_horizontalalignment("right")
