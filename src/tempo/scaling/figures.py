"""Draw images per second and scaling against the number of workers, with the ideal line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tempo.report.colours_and_axes import (
    COLOURS,
    MARKERS,
    MOST_LINES,
    Drawing,
    label_of,
    legend_below,
    new_figure,
    plain_log,
)
from tempo.report.figures import Drawn, write_drawings
from tempo.scaling.measured_point import METHODS, SOURCES, ScalingPoint, Source

METHOD_NAMES = {
    "ring": "ring all-reduce",
    "ps_sync": "parameter server, synchronous",
    "ps_async": "parameter server, asynchronous",
}
# Line and marker show the source, so that a prediction is not mistaken for a measurement.
_LINES: dict[Source, tuple[str, bool]] = {
    "measured": ("-", True),
    "emulated": ("--", False),
    "predicted": (":", False),
}
_CROSS: Any = {"color": "black", "linestyle": "", "marker": "x", "markersize": 9.0, "zorder": 5}
_IDEAL: Any = {"color": "#999999", "zorder": 0}
_LINEAR_UP_TO = 32
"""Largest number of workers on a linear axis; more need a log axis."""
_CAPTION = (
    "Left: images per second of all workers. Right: scaling, images per second with n workers over n times "
    "those with one. Solid, filled: measured. Dashed, hollow: emulated. Dotted: predicted. Grey: ideal. "
    "Whisker: quartiles over intervals. Crossed: workers share cores, so the point shows contention for them."
)
Name = Callable[[ScalingPoint], str]
"""Function that returns the name of the line that a point belongs to."""
Singles = Mapping[tuple[str, Source], ScalingPoint]
"""The point of one worker alone, by network and source."""


def draw(points: Sequence[ScalingPoint], folder: Path, *, smoke: bool) -> list[Drawn]:
    """Draw one figure per method, with a line per network, and one per network, with a line per method."""
    return write_drawings(_drawings(points, smoke), folder, smoke=smoke)


def _drawings(points: Sequence[ScalingPoint], smoke: bool) -> Iterator[Drawing]:
    singles = {(p.model, p.source): p for p in points if p.workers == 1 and p.method == "ring"}
    # Predictions with overlap would double every line; the table has them.
    shown = [p for p in points if p.source != "predicted" or "overlapped" not in p.variant]
    several = [point for point in shown if point.workers > 1 or point.method == "ps_async"]
    for method in METHODS:
        of_method = [point for point in several if point.method == method]
        if any(point.workers > 1 for point in of_method):
            figure = _figure(of_method, _network_name, singles, smoke)
            yield Drawing(f"method_{method}", METHOD_NAMES[method], _CAPTION, figure)
    for model in dict.fromkeys(point.model for point in several):
        of_model = [point for point in several if point.model == model]
        if len({point.label for point in of_model if point.workers > 1}) > 1:
            name = re.sub(r"[^\w.-]", "_", model)
            figure = _figure(of_model, lambda point: point.label, singles, smoke)
            yield Drawing(f"network_{name}", model, _CAPTION, figure)


def _network_name(point: ScalingPoint) -> str:
    return ", ".join(filter(None, [point.model, point.variant]))


def _figure(points: Sequence[ScalingPoint], name_of: Name, singles: Singles, smoke: bool) -> Figure:
    """Draw a line per name and source, for the first `MOST_LINES` names."""
    names = list(dict.fromkeys(name_of(point) for point in points if point.workers > 1))[:MOST_LINES]
    figure, (rate, scaling) = new_figure(1, 2, 10.0, 4.4)
    handles: dict[str, object] = {}
    drawn: list[ScalingPoint] = []
    for name, colour, marker in zip(names, COLOURS, MARKERS, strict=False):
        for source in SOURCES:
            line = [point for point in points if point.source == source and name_of(point) == name]
            if not line:
                continue
            # One worker alone is measured once for all methods, so it starts every line.
            one = singles.get((line[0].model, source))
            if one is not None and all(point.workers > 1 for point in line):
                line.append(one)
            line.sort(key=lambda point: point.workers)
            label = name if source == "measured" else f"{name} ({source})"
            handles[label] = _line(rate, scaling, line, colour, marker)
            drawn += line
    workers = sorted({point.workers for point in drawn})
    scaling.axhline(100, linewidth=1, **_IDEAL)
    rate.set(xlabel="workers", title="images per second")
    scaling.set(xlabel="workers", title="scaling, % of ideal")
    if workers[-1] > _LINEAR_UP_TO:
        plain_log(rate, "y")  # with both axes logarithmic, the ideal stays a straight line
    else:
        rate.set_ylim(bottom=0)
    # A smoke run measures too few steps: its scaling may be several hundred per cent, which means nothing.
    highest = 0.0 if smoke else max(100 * (point.efficiency or 0) + 5 for point in drawn)
    scaling.set_ylim(0, max(110.0, highest))
    for axes in (rate, scaling):
        _workers_axis(axes, workers)
    legend_below(figure, list(handles.values()), [label_of(label) for label in handles])
    return figure


def _line(rate: Axes, scaling: Axes, points: list[ScalingPoint], colour: str, marker: str) -> object:
    style, filled = _LINES[points[0].source]
    look: Any = {
        "color": colour,
        "linestyle": style,
        "marker": "" if points[0].source == "predicted" and len(points) > 1 else marker,
        "markerfacecolor": colour if filled else "white",
    }
    workers = [point.workers for point in points]
    rates = [point.images_per_second for point in points]
    shares = [(point.workers, 100 * share) for point in points if (share := point.efficiency)]
    handle = rate.errorbar(workers, rates, yerr=_whiskers(points), capsize=2, **look)
    scaling.plot(*_columns(shares), **look)
    if single := next((point.single_images_per_second for point in points if point.efficiency), None):
        rate.plot([1, workers[-1]], [single, single * workers[-1]], linewidth=0.8, **_IDEAL)
    crossed = [point for point in points if point.share_cores]
    rate.plot(*_columns([(point.workers, point.images_per_second) for point in crossed]), **_CROSS)
    shares = [(point.workers, 100 * share) for point in crossed if (share := point.efficiency)]
    scaling.plot(*_columns(shares), **_CROSS)
    return handle


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def _whiskers(points: Sequence[ScalingPoint]) -> tuple[list[float], list[float]]:
    """Return the lengths of the whiskers below and above each rate, from the quartiles of the step time."""
    pairs = []
    for point in points:
        rate, quartiles = point.images_per_second, point.step_seconds_quartiles
        fast, slow = quartiles if len(quartiles) == 2 and min(quartiles) > 0 else [point.step_seconds] * 2
        below, above = (rate * point.step_seconds / seconds - rate for seconds in (slow, fast))
        pairs.append((max(0.0, -below), max(0.0, above)))
    return _columns(pairs)


def _workers_axis(axes: Axes, workers: list[int]) -> None:
    if workers[-1] > _LINEAR_UP_TO:
        axes.set_xscale("log", base=2)
        axes.set_xlim(workers[0] / 1.2, workers[-1] * 1.2)
    else:
        axes.set_xlim(0.5, workers[-1] * 1.03 + 0.5)
    shown = workers if len(workers) <= 12 else workers[:: -(-len(workers) // 12)]
    axes.set_xticks(shown, [str(count) for count in shown])
    axes.minorticks_off()
