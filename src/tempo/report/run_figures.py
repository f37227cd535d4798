"""The two pictures in the folder of a single run: learning curves and confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from tempo.report.load import read_curves

_NUMBERS_UP_TO_CLASSES = 20
_RC: Any = {"text.parse_math": False}  # a class may be called $x$


@mpl.rc_context(_RC)
def draw_curves(metrics_file: Path, path: Path, title: str) -> None:
    """Loss, accuracy, learning rate and momentum against the epoch, from a run's metrics.csv."""
    columns = read_curves(metrics_file)
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for axis, name in ((axes[0, 0], "loss"), (axes[0, 1], "accuracy")):
        for split, style in (("train", "-"), ("val", "o-"), ("test", "s:")):
            values = columns.get(f"{split}/{name}", np.empty(0))
            here = np.isfinite(values)
            if here.any():
                single = "o" if here.sum() == 1 and style == "-" else ""  # a single point has no line
                axis.plot(columns["epoch"][here], values[here], single + style, markersize=3, label=split)
        axis.set_ylabel(name)
        if axis.lines:
            axis.legend()
    for axis, name in ((axes[1, 0], "lr"), (axes[1, 1], "momentum")):
        here = np.isfinite(columns[name])
        marker = "o" if here.sum() == 1 else ""
        axis.plot(columns["epoch"][here], columns[name][here], color="tab:green", marker=marker, markersize=3)
        axis.set_ylabel({"lr": "learning rate", "momentum": "momentum"}[name])
        axis.set_xlabel("epoch")
        if not here.any():
            axis.text(0.5, 0.5, "not scheduled", transform=axis.transAxes, ha="center", color="gray")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


@mpl.rc_context(_RC)
def draw_confusion(counts: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    """Test images by true class (rows) and predicted class (columns), `counts` int `[C, C]`."""
    n = len(classes)
    side = min(12.0, 3.0 + 0.4 * n)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class")
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title(title)
    if n <= _NUMBERS_UP_TO_CLASSES:
        axis.set_xticks(range(n), classes, rotation=90 if max(map(len, classes)) > 3 else 0)
        axis.set_yticks(range(n), classes)
        for row, column in np.argwhere(counts > 0):
            color = "white" if shares[row, column] > 0.5 else "black"
            axis.text(
                column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8
            )
    figure.savefig(path, dpi=120)
