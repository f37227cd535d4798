"""The loss against the learning rate of a range test: read, smoothed, averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tempo.report.load_runs import Array, read_curves

DECADES_SMOOTHED = 0.1
"""Lag of the running mean, in powers of ten of the learning rate."""
FEWEST_STEPS_SMOOTHED = 2
START_SHARE = 0.05
CLIPPED_AT = 2.0
"""Losses above this many times the one at the start count as that much: an explosion has no mean."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Training loss `[n]` over rising learning rates `[n]`, finite; `diverged` where the run ended so."""

    lr: Array
    loss: Array
    diverged: bool = False


@dataclass(frozen=True, eq=False)
class Smoothed:
    """A smoothed curve `[m]`; `start` is the loss at the smallest rates, `last_lr` the largest rate."""

    lr: Array
    loss: Array
    start: float
    last_lr: float
    diverged: bool


def read_curve(metrics_file: Path, diverged: bool) -> Curve:
    """The curve in a run's `metrics.csv`.

    The loss of a step is measured before the step is taken, so it belongs to the learning rate of the step
    before it. What comes after the first loss that is not finite is left out, and so are rates of 0.
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


def smooth(curve: Curve) -> Smoothed:
    """Bias-corrected running mean over the steps, with its lag taken back.

    `s_t = b s_(t-1) + (1 - b) x_t`, `x^_t = s_t / (1 - b^t)` with `b = k / (k + 1)`: such a mean lags k steps
    behind, so `x^_t` is paired with the learning rate of step t - k. On a log axis with even steps this is
    exact for a parabola. k is a tenth of a decade of the learning rate, and at least 2 steps.
    """
    lag = lag_steps(curve.lr)
    start = float(np.median(curve.loss[: max(5, round(START_SHARE * len(curve.loss)))]))
    clipped = np.minimum(curve.loss, CLIPPED_AT * start)
    decay, mean, values = lag / (lag + 1), 0.0, []
    for step, value in enumerate(clipped, start=1):
        mean = decay * mean + (1 - decay) * float(value)
        values.append(mean / (1 - decay**step))
    last = float(curve.lr[-1])
    return Smoothed(curve.lr[: len(curve.lr) - lag], np.array(values[lag:]), start, last, curve.diverged)


def lag_steps(lr: Array) -> int:
    """Steps in `DECADES_SMOOTHED` of a curve that has even steps on a log axis."""
    decades = math.log10(float(lr[-1] / lr[0])) if len(lr) > 1 else 0.0
    steps = round(DECADES_SMOOTHED * (len(lr) - 1) / decades) if decades > 0 else 0
    return max(FEWEST_STEPS_SMOOTHED, min(steps, len(lr) // 10))


def mean_of(curves: Sequence[Smoothed]) -> Smoothed:
    """The mean over seeds, up to the rate that all of them reached; diverged where any of them is."""
    shortest = min(curves, key=lambda each: float(each.lr[-1]))
    values, _ = on_grid(curves)
    return Smoothed(
        lr=shortest.lr,
        loss=values.mean(axis=0),
        start=float(np.mean([each.start for each in curves])),
        last_lr=min(each.last_lr for each in curves),
        diverged=any(each.diverged for each in curves),
    )


def on_grid(curves: Sequence[Smoothed]) -> tuple[Array, Array]:
    """Losses `[seeds, m]` at the learning rates `[m]` of the curve that ends first."""
    grid = min(curves, key=lambda each: float(each.lr[-1])).lr
    at = np.log10(grid)
    return np.array([np.interp(at, np.log10(each.lr), each.loss) for each in curves]), grid
