"""Draw a search: the best value so far, the importance of each key, and a slice along each key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tempo.report.colours_and_axes import (
    COLOURS,
    Drawing,
    category_axis,
    label_of,
    legend_below,
    new_figure,
    per_cent,
    plain_log,
)
from tempo.report.grouping import distinct
from tempo.report.number_format import canonical, head_of, metric_name
from tempo.report.search_trials import Search, SearchTrial

SLICES_PER_ROW = 3
MOST_SLICES = 12
RING: Any = {"marker": "o", "linestyle": "none", "fillstyle": "none", "color": COLOURS[7]}
BEST: Any = {**RING, "color": COLOURS[1], "markersize": 10, "markeredgewidth": 1.5}
WITHOUT_VALUE = ("diverged", "failed", "interrupted", "running")


def search_figures(search: Search, prefix: str) -> Iterator[Drawing]:
    """Yield the figures of a search, their names with a prefix."""
    metric = metric_name(search.objective)
    yield Drawing(
        f"{prefix}best_so_far",
        "Best value so far",
        f"Dots: the {metric} of each completed trial. Line: the best up to there. Rings: trials that were "
        "stopped early, at the last value they reported. Crosses at the bottom: trials without a value.",
        best_so_far(search),
    )
    yield Drawing(
        f"{prefix}importance",
        "Importance of each key",
        "How much each key tells the good trials from the others (PED-ANOVA, arXiv:2304.10255). With few "
        "trials it is a guess.",
        importance(search),
    )
    yield Drawing(
        f"{prefix}slices",
        f"{metric.capitalize()} along each key",
        "Every completed trial in each panel, later ones darker, the best one circled. Rings: stopped early, "
        "last value reported. Crosses at the bottom: trials without a value.",
        slices(search),
    )


def best_so_far(search: Search) -> Figure | None:
    """Draw the progress of the search over its trials."""
    numbers, best = search.best_so_far()
    if not numbers:
        return None
    figure, (axes,) = new_figure(1, 1, 7.5, 4.0)
    axes.step(numbers, best, where="post", color=COLOURS[0], label="best so far")
    axes.plot(numbers, [trial.value for trial in search.completed], "o", color=COLOURS[1], label="trial")
    if pruned := _stopped_early(search):
        x, y = [trial.number for trial in pruned], [trial.shown for trial in pruned]
        axes.plot(x, y, **RING, label="stopped early")
    _draw_crosses(axes, [trial.number for trial in _without_value(search)], label="without a value")
    axes.set(xlabel="trial", ylabel=head_of(search.objective))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    per_cent(axes, search.objective)
    legend_below(figure, *axes.get_legend_handles_labels())
    return figure


def importance(search: Search) -> Figure | None:
    """Draw one bar per key, the most important on top."""
    shares = sorted(search.importance.items(), key=lambda item: -item[1])
    if len(shares) < 2:
        return None
    figure, (axes,) = new_figure(1, 1, 7.5, 1.0 + 0.4 * len(shares))
    axes.barh(range(len(shares)), [100 * share for _, share in shares], color=COLOURS[0], height=0.6)
    axes.set(xlabel="importance, %", xlim=(0, 100), ylim=(len(shares) - 0.4, -0.6))
    axes.set_yticks(range(len(shares)), [label_of(key) for key, _ in shares])
    axes.grid(visible=False, axis="y")
    return figure


def slices(search: Search) -> Figure | None:
    """Draw the objective against each key."""
    keys, done = search.keys[:MOST_SLICES], search.completed
    if not done:
        return None
    pruned = _stopped_early(search)
    columns = min(SLICES_PER_ROW, len(keys))
    rows = -(-len(keys) // columns)
    figure, panels = new_figure(rows, columns, 3.6 * columns + 0.6, 3.2 * rows)
    for unused in panels[len(keys) :]:
        unused.remove()
    for at, (axes, key) in enumerate(zip(panels, keys, strict=False)):
        positions = _positions(axes, search, key)
        x = {trial.number: positions[canonical(trial.values.get(key))] for trial in search.trials}
        numbers = [trial.number for trial in done]
        y = [trial.shown for trial in done]
        axes.scatter([x[n] for n in numbers], y, c=numbers, cmap="viridis_r", s=26, zorder=3)
        axes.plot([x[trial.number] for trial in pruned], [trial.shown for trial in pruned], **RING)
        _draw_crosses(axes, [x[trial.number] for trial in _without_value(search)])
        if search.best is not None:
            axes.plot([x[search.best.number]], [search.best.shown], **BEST)
        axes.set(xlabel=key, ylabel=head_of(search.objective) if at % columns == 0 else "")
        per_cent(axes, search.objective)
    return figure


def _positions(axes: Axes, search: Search, key: str) -> dict[Any, float]:
    """Set up the x axis for a key, and return the position of each value by its canonical form."""
    values = distinct(trial.values.get(key) for trial in search.trials)
    if "interval" not in search.space[key] or not all(isinstance(value, (int, float)) for value in values):
        return category_axis(axes, values)
    if key in search.log_axes:
        plain_log(axes, "x")
    return {canonical(value): float(value) for value in values}


def _draw_crosses(axes: Axes, at: Sequence[float], label: str | None = None) -> None:
    """Draw crosses at the bottom of the axes."""
    if at:
        bottom, heights = axes.get_xaxis_transform(), [0.02] * len(at)
        axes.plot(at, heights, "x", color=COLOURS[7], transform=bottom, clip_on=False, label=label)


def _without_value(search: Search) -> list[SearchTrial]:
    return [trial for trial in search.trials if math.isnan(trial.shown) or trial.status in WITHOUT_VALUE]


def _stopped_early(search: Search) -> list[SearchTrial]:
    return [trial for trial in search.trials if trial.status == "pruned" and math.isfinite(trial.shown)]
