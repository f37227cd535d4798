"""The look of every figure: colours that colour-blind readers tell apart, sizes, numbers on axes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from tempo.report.load_runs import Array
from tempo.report.number_format import human, is_share, shortened

# Okabe & Ito (2008), without the yellow that is too pale for a line; grey takes its place.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7A7A7A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST_LINES = len(COLOURS)
MOST_POINTS = 400
LABEL_LENGTH = 44
RC: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "text.parse_math": False,  # a run may be called $x$
    "svg.fonttype": "path",
    "svg.hashsalt": "tempo",
    "path.simplify": True,
}


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of its own (no pyplot, no display) with its axes in reading order; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def save(figure: Figure, png: Path, svg: Path) -> None:
    """Write both formats, without dates: the same records give the same bytes."""
    with mpl.rc_context(RC), warnings.catch_warnings():
        # A name may use a script that the font lacks: boxes are no reason to fail.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(png, dpi=130, metadata={"Software": None})
        # The layout is solved: neither solved nor looked for again, the second format has the same.
        figure.set_layout_engine(None)
        figure.savefig(svg, metadata={"Date": None})


def label_of(text: str) -> str:
    """A legend's entry: short enough, and never taken for a private one."""
    said = shortened(text, LABEL_LENGTH)
    return f" {said}" if said.startswith("_") else said


def thin(xs: Array, *others: Array) -> tuple[Array, ...]:
    """At most `MOST_POINTS` points, both ends kept."""
    if len(xs) <= MOST_POINTS:
        return (xs, *others)
    kept = np.unique(np.linspace(0, len(xs) - 1, MOST_POINTS).round().astype(int))
    return tuple(each[kept] for each in (xs, *others))


def spans_decades(values: Sequence[float]) -> bool:
    """Whether positive values span more than a factor of ten, so that a log axis serves them."""
    positive = [each for each in values if each > 0]
    return len(positive) > 1 and min(values) >= 0 and max(positive) > 10 * min(positive)


def value_axis(axes: Axes, values: Sequence[float]) -> dict[float, float]:
    """Set up the x axis for the swept values, a tick at each; the position of every value.

    Log where `spans_decades`; zero, which has no place there, stands a step left of the smallest value.
    """
    ordered = sorted(set(values))
    positions = {each: each for each in ordered}
    if spans_decades(ordered):
        positive = [each for each in ordered if each > 0]
        axes.set_xscale("log")
        if ordered[0] == 0:
            step = (positive[-1] / positive[0]) ** (1 / max(len(positive) - 1, 1))
            positions[0.0] = positive[0] / max(step, 3.0)
        first, last = min(positions.values()), positive[-1]
        axes.set_xlim(first / (last / first) ** 0.05, last * (last / first) ** 0.05)
        if ordered[0] == 0:
            edge = (first * positive[0]) ** 0.5
            axes.axvline(edge, color="#999999", linewidth=0.8, linestyle=(0, (2, 3)))
    shown = ordered if len(ordered) <= 12 else ordered[:: -(-len(ordered) // 12)]
    axes.set_xticks([positions[each] for each in shown], [human(float(f"{each:.3g}")) for each in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    return positions


def plain_log(axes: Axes, which: str) -> None:
    """A log axis whose numbers read 1e-4 instead of a power in a raised font."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_formatter(FuncFormatter(lambda value, _: human(float(value))))
    axis.set_minor_formatter(NullFormatter())


def per_cent(axes: Axes, metric: str) -> None:
    """A y axis of shares in per cent; any other metric as it is."""
    if is_share(metric):
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend for all axes, under them."""
    longest = max((len(each) for each in labels), default=0)
    columns = max(1, min(4, len(labels), 100 // max(longest + 6, 1)))
    figure.legend(list(handles), list(labels), loc="outside lower center", ncols=columns)
