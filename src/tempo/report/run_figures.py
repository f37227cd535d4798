"""Draw the two figures in a run's folder: its curves and its confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tempo.record.metric_names import is_share
from tempo.report.colours_and_axes import LOG_FROM, per_cent, plain_log
from tempo.report.fallback_fonts import fonts_for
from tempo.report.load_runs import read_curves, varies
from tempo.report.number_format import head_of

MOST_CLASSES_WITH_NUMBERS = 20
SCHEDULED = {"lr": "learning rate", "momentum": "momentum"}
PLAIN_TEXT: Any = {"text.parse_math": False}  # a class may be named $x$


def draw_curves(metrics_file: Path, path: Path, title: str, tested_step: int | None = None) -> None:
    """Draw loss, accuracy, learning rate and momentum by epoch, from a metrics.csv; mark the tested state."""
    fonts = fonts_for([title])
    with mpl.rc_context(PLAIN_TEXT | {"font.family": list(fonts.families)}):
        _curves(read_curves(metrics_file), path, fonts.drawable(title), tested_step)


def _curves(columns: Mapping[str, np.ndarray], path: Path, title: str, tested_step: int | None) -> None:
    scheduled = [(name, label) for name, label in SCHEDULED.items() if varies(columns[name])]
    rows = 2 if scheduled else 1
    figure = Figure(figsize=(9, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, sharex=True).ravel()
    for axes, name in zip(panels, ("loss", "accuracy"), strict=False):
        for split, style in (("train", "-"), ("val", "o-"), ("test", "s:")):
            values = columns.get(f"{split}/{name}", np.empty(0))
            here = np.isfinite(values)
            if here.any():
                # A line through one point is invisible.
                single = "o" if here.sum() == 1 and style == "-" else ""
                axes.plot(columns["epoch"][here], values[here], single + style, markersize=3, label=split)
        axes.set_ylabel(head_of(name))
        _scale(axes, name)
        if axes.lines:
            for epoch in columns["epoch"][columns["step"] == tested_step][-1:]:
                axes.axvline(epoch, color="grey", linestyle=(0, (3, 3)), linewidth=1, label="tested")
            axes.legend()
    for axes, (name, label) in zip(panels[2:], scheduled, strict=False):
        here = np.isfinite(columns[name])
        axes.plot(columns["epoch"][here], columns[name][here], color="tab:green")
        axes.set_ylabel(label)
    drawn = panels[: 2 + len(scheduled)]
    for axes in drawn:
        axes.grid(alpha=0.3)
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("epoch")
        if axes.get_xlim()[1] >= 2:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels[len(drawn) :]:
        axes.remove()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _scale(axes: Axes, name: str) -> None:
    """Show accuracies in per cent, and a loss on a log axis if one large value hides the others."""
    per_cent(axes, name)
    lines = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    low, high = (min(map(np.min, lines)), max(map(np.max, lines))) if lines else (0.0, 0.0)
    if not is_share(name) and low > 0 and high / low > LOG_FROM:
        plain_log(axes, "y")


def draw_confusion(counts: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    """Draw test images by true class (rows) and predicted class (columns); `counts` are integers `[C, C]`."""
    named = classes if len(classes) <= MOST_CLASSES_WITH_NUMBERS else []
    fonts = fonts_for([title, *named])
    with mpl.rc_context(PLAIN_TEXT | {"font.family": list(fonts.families)}):
        _confusion(counts, fonts.labels(named), path, fonts.drawable(title))


def _confusion(counts: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    n = len(counts)
    side = min(12.0, 3.0 + 0.4 * n)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    # At least 1: a class may have no test images.
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if classes:
        axes.set_xticks(range(n), classes, rotation=90 if max(map(len, classes)) > 3 else 0)
        axes.set_yticks(range(n), classes)
        for row, column in np.argwhere(counts > 0):
            color, text = "white" if shares[row, column] > 0.5 else "black", str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    figure.savefig(path, dpi=120)
