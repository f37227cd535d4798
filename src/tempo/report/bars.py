"""Pictures of settings side by side: final accuracies, cost, and the one against the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tempo.record.number_format import head_of, mean_and_sd, metric_name
from tempo.report.charts import MOST_BARS
from tempo.report.grouping import Setting
from tempo.report.load import Run
from tempo.report.style import COLOURS, MARKERS, label_of, legend_below, new_figure, per_cent
from tempo.report.summarise import by_seed, describe, statistics
from tempo.report.table import joules_name

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
