"""Quantities of a run that a claim compares: final or best value, steadiness, speed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tempo.report.load_runs import Run
from tempo.report.number_format import amount, metric_name, more_is_better, points
from tempo.report.time_to_target import Target


@dataclass(frozen=True)
class Quantity:
    """A number per run; `metric` gives its unit, or is empty for a number without one."""

    name: str
    metric: str
    more_is_better: bool
    value: Callable[[Run], float]
    """The quantity of a run; NaN if its record or curve does not have it."""

    def text(self, value: float, *, sign: bool = False) -> str:
        """Format a value without its unit."""
        return amount(value, self.metric, sign=sign) if self.metric else f"{value:{'+' if sign else ''}.2f}"

    @property
    def unit(self) -> str:
        """Unit of a difference."""
        return points(self.metric)


def quantity(text: str) -> Quantity:
    """Return the quantity that a claim names.

    `METRIC`: its final value. `best METRIC`: the best value of its curve. `drops METRIC`: its falls from one
    evaluation to the next, summed over the run (rises for a loss). `epochs to METRIC=VALUE`: the first epoch
    that is as good; a run that never is counts as one epoch more than it had, which favours it. `training
    seconds`: those of the record.
    """
    kind, _, rest = text.partition(" ")
    if text == "training seconds":
        return Quantity(text, "", False, lambda run: run.train_seconds)
    if kind == "best":
        return Quantity(f"best {metric_name(rest)}", rest, more_is_better(rest), lambda run: _best(run, rest))
    if kind == "drops":
        return Quantity(f"summed drops of {metric_name(rest)}", rest, False, lambda run: _drops(run, rest))
    if text.startswith("epochs to "):
        metric, _, number = text.removeprefix("epochs to ").partition("=")
        target = Target(metric, float(number))
        return Quantity(f"epochs to a {target.words}", "", False, lambda run: _epochs(run, target))
    return Quantity(metric_name(text), text, more_is_better(text), lambda run: run.metric(text))


def _best(run: Run, metric: str) -> float:
    values = run.series(metric)[1]
    if not len(values):
        return math.nan
    return float(values.max() if more_is_better(metric) else values.min())


def _drops(run: Run, metric: str) -> float:
    values = run.series(metric)[1]
    worse = np.diff(values) * (-1 if more_is_better(metric) else 1)
    return float(worse.clip(min=0).sum()) if len(values) > 1 else math.nan


def _epochs(run: Run, target: Target) -> float:
    epochs, _ = run.series(target.metric)
    if not len(epochs):
        return math.nan
    reached = target.reached_by(run)
    return float(epochs[-1]) + 1 if reached is None else reached["epoch"]
