"""Images per second and scaling against the number of workers, beside the ideal line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tempo.report.figure_style import (
    COLOURS,
    MARKERS,
    MOST_LINES,
    RC,
    label_of,
    legend_below,
    new_figure,
    plain_log,
    save,
)
from tempo.report.figures import Drawn
from tempo.report.number_format import SMOKE
from tempo.scaling.point import METHODS, SOURCES, ScalingPoint, Source

METHOD_NAMES = {
    "ring": "ring all-reduce",
    "ps_sync": "parameter server, synchronous",
    "ps_async": "parameter server, asynchronous",
}
# Line and marker say where a point comes from: nobody shall take a prediction for a measurement.
_LINES: dict[Source, tuple[str, bool]] = {
    "measured": ("-", True),
    "emulated": ("--", False),
    "predicted": (":", False),
}
_CAPTION = (
    "Left: images per second of all workers. Right: scaling, images per second with n workers over n times "
    "those with one. Solid, filled: measured. Dashed, hollow: emulated. Dotted: predicted. Grey: ideal. "
    "Whisker: quartiles over intervals. Crossed: workers share cores, so the point shows contention for them."
)
Group = Callable[[ScalingPoint], str]
Alone = Mapping[tuple[str, Source], ScalingPoint]
"""One worker alone, by network and source."""


def draw(points: Sequence[ScalingPoint], folder: Path, *, smoke: bool) -> list[Drawn]:
    """A figure for each method, with a line a network, and one for each network, with a line a method."""
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    with mpl.rc_context(RC):
        for name, title, figure in _figures(points):
            if smoke:
                figure.suptitle(SMOKE, color="#B00020", fontweight="bold")
            png, svg = folder / f"{name}.png", folder / f"{name}.svg"
            save(figure, png, svg)
            done.append(Drawn(name, title, f"{SMOKE}. {_CAPTION}" if smoke else _CAPTION, png, svg))
    return done


def _figures(points: Sequence[ScalingPoint]) -> Iterator[tuple[str, str, Figure]]:
    alone = {
        (each.model, each.source): each for each in points if each.workers == 1 and each.method == "ring"
    }
    shown = [each for each in points if each.source != "predicted" or "overlapped" not in each.variant]
    several = [each for each in shown if each.workers > 1 or each.method == "ps_async"]
    for method in METHODS:
        of_method = [each for each in several if each.method == method]
        if any(each.workers > 1 for each in of_method):
            yield f"method_{method}", METHOD_NAMES[method], _figure(of_method, _network, alone)
    for model in dict.fromkeys(each.model for each in several):
        of_model = [each for each in several if each.model == model]
        if len({each.label for each in of_model if each.workers > 1}) > 1:
            name = "".join(each if each.isalnum() or each in "._-" else "_" for each in model)
            yield f"network_{name}", model, _figure(of_model, _label, alone)


def _network(point: ScalingPoint) -> str:
    return ", ".join(filter(None, [point.model, point.variant]))


def _label(point: ScalingPoint) -> str:
    return point.label


def _figure(points: Sequence[ScalingPoint], group: Group, alone: Alone) -> Figure:
    """A line for each value of `group` and each source, at most as many groups as there are colours.

    A line begins with the worker alone, which is measured once for all methods.
    """
    names = list(dict.fromkeys(group(each) for each in points if each.workers > 1))[:MOST_LINES]
    figure, (rate, scaling) = new_figure(1, 2, 10.0, 4.4)
    handles: dict[str, object] = {}
    drawn: list[ScalingPoint] = []
    for at, name in enumerate(names):
        for source in SOURCES:
            line = [each for each in points if each.source == source and group(each) == name]
            if not line:
                continue
            one = alone.get((line[0].model, source))
            if one is not None and all(each.workers > 1 for each in line):
                line = [one, *line]
            line.sort(key=lambda each: each.workers)
            said = name if source == "measured" else f"{name} ({source})"
            handles[said] = _line(rate, scaling, line, COLOURS[at], MARKERS[at])
            drawn += line
    scaling.axhline(100, color="#999999", linewidth=1, zorder=0)
    rate.set(xlabel="workers", title="images per second")
    scaling.set(xlabel="workers", title="scaling, % of ideal")
    if is_wide(workers := sorted({each.workers for each in drawn})):
        plain_log(rate, "y")  # the ideal stays a straight line
    else:
        rate.set_ylim(bottom=0)
    scaling.set_ylim(0, max(110.0, *(100 * (each.efficiency or 0) + 5 for each in drawn)))
    for axes in (rate, scaling):
        _workers_axis(axes, workers)
    legend_below(figure, list(handles.values()), [label_of(each) for each in handles])
    return figure


def _line(rate: Axes, scaling: Axes, points: list[ScalingPoint], colour: str, marker: str) -> object:
    style, filled = _LINES[points[0].source]
    look: Any = {
        "color": colour,
        "linestyle": style,
        "marker": "" if points[0].source == "predicted" and len(points) > 1 else marker,
        "markerfacecolor": colour if filled else "white",
    }
    xs = [each.workers for each in points]
    handle = rate.errorbar(
        xs, [each.images_per_second for each in points], yerr=_whiskers(points), capsize=2, **look
    )
    with_efficiency = [each for each in points if each.efficiency is not None]
    scaling.plot(
        [each.workers for each in with_efficiency],
        [100 * (each.efficiency or 0) for each in with_efficiency],
        **look,
    )
    if single := next((each.single_images_per_second for each in points if each.efficiency), None):
        rate.plot([1, max(xs)], [single, single * max(xs)], color="#999999", linewidth=0.8, zorder=0)
    crossed = [each for each in points if each.share_cores]
    rate.plot([each.workers for each in crossed], [each.images_per_second for each in crossed], **_CROSS)
    scaling.plot(
        [each.workers for each in crossed if each.efficiency],
        [100 * each.efficiency for each in crossed if each.efficiency],
        **_CROSS,
    )
    return handle


_CROSS: Any = {"color": "black", "linestyle": "", "marker": "x", "markersize": 9.0, "zorder": 5}


def _whiskers(points: Sequence[ScalingPoint]) -> list[list[float]]:
    """Below and above each rate: quartiles of a step's seconds, as rates; 0 where there are none."""
    below, above = [], []
    for each in points:
        slow, quick = each.images_per_second, each.images_per_second
        if len(each.step_seconds_quartiles) == 2 and min(each.step_seconds_quartiles) > 0:
            first, third = each.step_seconds_quartiles
            quick *= each.step_seconds / first
            slow *= each.step_seconds / third
        below.append(max(0.0, each.images_per_second - slow))
        above.append(max(0.0, quick - each.images_per_second))
    return [below, above]


def is_wide(workers: Sequence[int]) -> bool:
    """Whether so many workers need a log axis."""
    return max(workers) > 32


def _workers_axis(axes: Axes, workers: list[int]) -> None:
    if is_wide(workers):
        axes.set_xscale("log", base=2)
        axes.set_xlim(workers[0] / 1.2, workers[-1] * 1.2)
    else:
        axes.set_xlim(0.5, workers[-1] * 1.03 + 0.5)
    shown = workers if len(workers) <= 12 else workers[:: -(-len(workers) // 12)]
    axes.set_xticks(shown, [str(each) for each in shown])
    axes.minorticks_off()
