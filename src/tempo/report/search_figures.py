"""Pictures of a search: the best value so far, the importance of each key, and a slice along each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tempo.report.figure_style import (
    COLOURS,
    label_of,
    legend_below,
    new_figure,
    per_cent,
    plain_log,
    value_axis,
)
from tempo.report.grouping import distinct
from tempo.report.number_format import canonical, head_of, human, metric_name
from tempo.report.search_results import Search, SearchTrial

SLICES_A_ROW = 3
MOST_SLICES = 12
RING: Any = {"marker": "o", "linestyle": "none", "fillstyle": "none", "color": COLOURS[7]}
BEST: Any = {**RING, "color": COLOURS[1], "markersize": 10, "markeredgewidth": 1.5}
NO_VALUE = ("diverged", "failed", "interrupted", "running")


def search_figures(search: Search, prefix: str) -> Iterator[tuple[str, str, str, Figure | None]]:
    """Name, title, caption and figure of each, as `figures.draw` takes them."""
    metric = metric_name(search.objective)
    yield (
        f"{prefix}best_so_far",
        "Best value so far",
        f"Dots: the {metric} of each completed trial. Line: the best up to there. Rings: trials that were "
        "stopped early, at the last value they reported. Crosses at the foot: trials without a value.",
        best_so_far(search),
    )
    yield (
        f"{prefix}importance",
        "Importance of each key",
        "Share of what sets the good trials apart from all (PED-ANOVA, arXiv:2304.10255). With few trials it "
        "is a guess.",
        importance(search),
    )
    yield (
        f"{prefix}slices",
        f"{metric.capitalize()} along each key",
        "Every completed trial in each panel, later ones darker, the best one circled. Rings: stopped early, "
        "last value reported. Crosses at the foot: trials without a value.",
        slices(search),
    )


def best_so_far(search: Search) -> Figure | None:
    """The search's progress over its trials."""
    numbers, best = search.best_so_far()
    if not numbers:
        return None
    figure, (axes,) = new_figure(1, 1, 7.5, 4.0)
    axes.step(numbers, best, where="post", color=COLOURS[0], label="best so far")
    done = [each for each in search.trials if math.isfinite(each.value)]
    axes.plot([t.number for t in done], [t.value for t in done], "o", color=COLOURS[1], label="trial")
    pruned = _stopped(search)
    if pruned:
        axes.plot([t.number for t in pruned], [t.shown for t in pruned], **RING, label="stopped early")
    _cross(axes, [each.number for each in _lost(search)], label="without a value")
    axes.set(xlabel="trial", ylabel=head_of(search.objective))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    per_cent(axes, search.objective)
    legend_below(figure, *axes.get_legend_handles_labels())
    return figure


def importance(search: Search) -> Figure | None:
    """A bar a key, the most important on top."""
    shares = sorted(search.importance.items(), key=lambda each: -each[1])
    if len(shares) < 2:
        return None
    figure, (axes,) = new_figure(1, 1, 7.5, 1.0 + 0.4 * len(shares))
    axes.barh(range(len(shares)), [100 * share for _, share in shares], color=COLOURS[0], height=0.6)
    axes.set(xlabel="importance, %", xlim=(0, 100), ylim=(len(shares) - 0.4, -0.6))
    axes.set_yticks(range(len(shares)), [label_of(key) for key, _ in shares])
    axes.grid(visible=False, axis="y")
    return figure


def slices(search: Search) -> Figure | None:
    """The objective against each key."""
    keys = search.keys[:MOST_SLICES]
    done = [each for each in search.trials if math.isfinite(each.value)]
    if not done:
        return None
    pruned = _stopped(search)
    columns = min(SLICES_A_ROW, len(keys))
    rows = -(-len(keys) // columns)
    figure, panels = new_figure(rows, columns, 3.6 * columns + 0.6, 3.2 * rows)
    for unused in panels[len(keys) :]:
        unused.remove()
    for at, (axes, key) in enumerate(zip(panels, keys, strict=False)):
        positions = _positions(axes, search, key)
        x = {each.number: positions[canonical(each.values.get(key))] for each in search.trials}
        numbers = [each.number for each in done]
        y = [each.shown for each in done]
        axes.scatter([x[n] for n in numbers], y, c=numbers, cmap="viridis_r", s=26, zorder=3)
        axes.plot([x[each.number] for each in pruned], [each.shown for each in pruned], **RING)
        _cross(axes, [x[each.number] for each in _lost(search)])
        if search.best is not None:
            axes.plot([x[search.best.number]], [search.best.shown], **BEST)
        axes.set(xlabel=key, ylabel=head_of(search.objective) if at % columns == 0 else "")
        per_cent(axes, search.objective)
    return figure


def _positions(axes: Axes, search: Search, key: str) -> dict[Any, float]:
    """Where each value of a key stands on the axis."""
    values = distinct(each.values.get(key) for each in search.trials)
    numeric = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in values)
    if not numeric:
        axes.set_xticks(range(len(values)), [label_of(human(each)) for each in values])
        axes.margins(x=0.2)
        return {canonical(each): float(at) for at, each in enumerate(values)}
    if "interval" not in search.space[key]:
        return {canonical(v): x for v, x in value_axis(axes, [float(each) for each in values]).items()}
    if key in search.log_axes:
        plain_log(axes, "x")
    return {canonical(each): float(each) for each in values}


def _cross(axes: Axes, at: Sequence[float], label: str | None = None) -> None:
    """Crosses at the foot of the axes."""
    if at:
        foot = axes.get_xaxis_transform()
        heights = [0.02] * len(at)
        axes.plot(at, heights, "x", color=COLOURS[7], transform=foot, clip_on=False, label=label)


def _lost(search: Search) -> list[SearchTrial]:
    return [each for each in search.trials if math.isnan(each.shown) or each.status in NO_VALUE]


def _stopped(search: Search) -> list[SearchTrial]:
    return [each for each in search.trials if each.status == "pruned" and math.isfinite(each.shown)]
