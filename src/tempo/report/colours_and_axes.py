"""Style of all figures: colours of curves, markers, sizes, legends, numbers on axes."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from tempo.record.metric_names import is_share
from tempo.report.grouping import Setting
from tempo.report.load_runs import Array, evenly_spaced
from tempo.report.number_format import canonical, human, metric_name, shortened
from tempo.report.statistics import Summary

# Okabe & Ito (2008), which colour-blind readers can tell apart; grey replaces their yellow, too pale here.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7A7A7A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST_LINES = len(COLOURS)
MOST_POINTS = 400
LABEL_LENGTH = 44
LOG_FROM = 30.0
"""Factor by which a loss must fall to be drawn on a log axis."""
RC: Any = {
    "font.family": "DejaVu Sans",  # bundled with matplotlib: the same picture on every machine
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
    "text.parse_math": False,  # a run may be named $x$
    # Text as outlines: the same where the font is not installed.
    "svg.fonttype": "path",
    # Without a salt, the ids in an SVG are random.
    "svg.hashsalt": "tempo",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Drawing:
    """A figure before it is saved; `figure` is None if there are no data for it."""

    name: str
    title: str
    caption: str
    figure: Figure | None


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure (no pyplot, no display) and its axes in reading order; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def save(figure: Figure, png: Path, svg: Path) -> None:
    """Write both formats without dates, so that the same records give identical files."""
    with mpl.rc_context(RC), warnings.catch_warnings():
        # The font may lack the characters of a name; boxes are drawn instead.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(png, dpi=130, metadata={"Software": None})
        # The layout is computed once, so both formats are the same.
        figure.set_layout_engine(None)
        figure.savefig(svg, metadata={"Date": None})


def label_of(text: str) -> str:
    """Shorten a legend's text, with a space before an underscore, as matplotlib would hide the label."""
    label = shortened(text, LABEL_LENGTH)
    return f" {label}" if label.startswith("_") else label


def labels_of(texts: Sequence[str]) -> list[str]:
    """Shorten the texts of a legend or an axis; those that would read the same get a number."""
    labels = list(map(label_of, texts))
    counts, numbers = Counter(labels), Counter[str]()
    for at, label in enumerate(labels):
        if counts[label] > 1:
            numbers[label] += 1
            labels[at] = f"{label} ({numbers[label]})"
    return labels


def thin(xs: Array, *others: Array) -> tuple[Array, ...]:
    """Reduce curves to at most `MOST_POINTS` points, keeping both ends."""
    if len(xs) <= MOST_POINTS:
        return (xs, *others)
    kept = evenly_spaced(len(xs), MOST_POINTS)
    return tuple(values[kept] for values in (xs, *others))


def spans_decades(values: Sequence[float]) -> bool:
    """Whether positive values span more than a factor of ten and need a log axis."""
    positive = [value for value in values if value > 0]
    return len(positive) > 1 and min(values) >= 0 and max(positive) > 10 * min(positive)


def value_axis(axes: Axes, values: Sequence[float]) -> dict[float, float]:
    """Set up the x axis with one tick per swept value, and return value -> position.

    The axis is logarithmic if `spans_decades`; zero is then drawn a step left of the smallest value.
    """
    ordered = sorted(set(values))
    positions = {value: value for value in ordered}
    if spans_decades(ordered):
        positive = [value for value in ordered if value > 0]
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
    axes.set_xticks([positions[value] for value in shown], [human(float(f"{value:.3g}")) for value in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    return positions


def plain_log(axes: Axes, which: str) -> None:
    """Make an axis logarithmic with numbers such as 1e-4 instead of raised powers."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_formatter(FuncFormatter(lambda value, _: human(float(value))))
    axis.set_minor_formatter(NullFormatter())


def per_cent(axes: Axes, metric: str) -> None:
    """Show a y axis of accuracies in per cent; leave other metrics unchanged."""
    if is_share(metric):
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Draw one legend for all axes, below them."""
    longest = max(map(len, labels), default=0)
    columns = max(1, min(4, len(labels), 100 // max(longest + 6, 1)))
    figure.legend(list(handles), list(labels), loc="outside lower center", ncols=columns)


def best_settings(summary: Summary) -> tuple[list[Setting], str]:
    """Return the best settings, at most one per colour, and a sentence if others are left out."""
    best = set(summary.ranked[:MOST_LINES])
    shown = [setting for setting in summary.settings if setting in best]
    if len(shown) == len(summary.settings):
        return shown, ""
    metric = metric_name(summary.metric)
    return (
        shown,
        f" The {len(shown)} best of {len(summary.settings)} settings by {metric}; the table has all.",
    )


def category_axis(axes: Axes, values: Sequence[Any]) -> dict[Any, float]:
    """Set up the x axis for values of any kind, and return the position of each by its canonical form."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return {canonical(value): at for value, at in value_axis(axes, list(map(float, values))).items()}
    axes.set_xticks(range(len(values)), [label_of(human(value)) for value in values])
    axes.margins(x=0.15)
    return {canonical(value): float(at) for at, value in enumerate(values)}
