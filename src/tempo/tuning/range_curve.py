"""Read, smooth and average over seeds the loss of a range test against its learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tempo.report.load_runs import Array, read_curves

SMOOTHED_DECADES = 0.1
"""Lag of the running mean, in powers of ten of the learning rate."""
LEAST_LAG_STEPS = 2
START_SHARE = 0.05
CLIP_FACTOR = 2.0
"""Losses are clipped to this many times the loss at the start, since an explosion has no useful mean."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Finite training losses `[n]` at rising learning rates `[n]`; `diverged`: the run ended as diverged."""

    lr: Array
    loss: Array
    diverged: bool = False


@dataclass(frozen=True, eq=False)
class SmoothCurve:
    """Smoothed losses `[m]`; `start` is the loss at the smallest rates, `last_lr` the largest rate."""

    lr: Array
    loss: Array
    start: float
    last_lr: float
    diverged: bool


def read_curve(metrics_file: Path, diverged: bool) -> Curve:
    """Read the curve from a run's `metrics.csv`, up to its first loss that is not finite.

    A step's loss is measured before the step is taken, so it belongs to the learning rate of the previous
    step. Rates of 0 are left out.
    """
    columns = read_curves(metrics_file)
    if not {"lr", "train/loss", "step"} <= columns.keys():
        return Curve(np.empty(0), np.empty(0), diverged)
    rows = np.isfinite(columns["lr"])
    lr, loss = columns["lr"][rows][:-1], columns["train/loss"][rows][1:]
    broken = np.flatnonzero(~np.isfinite(loss))
    end = int(broken[0]) if len(broken) else len(loss)
    lr, loss = lr[:end], loss[:end]
    return Curve(lr[lr > 0], loss[lr > 0], diverged or bool(len(broken)))


def smooth(curve: Curve) -> SmoothCurve:
    """Return the bias-corrected running mean of the loss over the steps, corrected for its lag.

    `s_t = b s_(t-1) + (1 - b) x_t`, `x^_t = s_t / (1 - b^t)` with `b = k / (k + 1)`: such a mean lags k steps
    behind, so `x^_t` is paired with the learning rate of step t - k. On a log axis with even steps this is
    exact for a parabola. k is a tenth of a decade of the learning rate, and at least 2 steps.
    """
    lag = lag_steps(curve.lr)
    start = float(np.median(curve.loss[: max(5, round(START_SHARE * len(curve.loss)))]))
    decay, mean, means = lag / (lag + 1), 0.0, []
    for step, loss in enumerate(np.minimum(curve.loss, CLIP_FACTOR * start), start=1):
        mean = decay * mean + (1 - decay) * float(loss)
        means.append(mean / (1 - decay**step))
    last_lr = float(curve.lr[-1])
    return SmoothCurve(curve.lr[: len(curve.lr) - lag], np.array(means[lag:]), start, last_lr, curve.diverged)


def lag_steps(lr: Array) -> int:
    """Return the number of steps in `SMOOTHED_DECADES`, for learning rates evenly spaced on a log axis."""
    decades = math.log10(float(lr[-1] / lr[0])) if len(lr) > 1 else 0.0
    steps = round(SMOOTHED_DECADES * (len(lr) - 1) / decades) if decades > 0 else 0
    return max(LEAST_LAG_STEPS, min(steps, len(lr) // 10))


def mean_curve(curves: Sequence[SmoothCurve]) -> SmoothCurve:
    """Average over seeds, up to the rate that all of them reached; diverged if any of them has."""
    losses, grid = on_common_grid(curves)
    return SmoothCurve(
        lr=grid,
        loss=losses.mean(axis=0),
        start=float(np.mean([curve.start for curve in curves])),
        last_lr=min(curve.last_lr for curve in curves),
        diverged=any(curve.diverged for curve in curves),
    )


def on_common_grid(curves: Sequence[SmoothCurve]) -> tuple[Array, Array]:
    """Interpolate to losses `[seeds, m]` at the learning rates `[m]` of the curve that ends first."""
    grid = min(curves, key=lambda curve: float(curve.lr[-1])).lr
    return np.array([np.interp(np.log10(grid), np.log10(curve.lr), curve.loss) for curve in curves]), grid
