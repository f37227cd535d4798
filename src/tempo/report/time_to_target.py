"""What it took to get there: steps, epochs and seconds of training until a metric reached a target."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tempo.errors import UserError, nearest
from tempo.report.load_runs import Run
from tempo.report.number_format import (
    ABSENT,
    SMOKE,
    amount,
    is_share,
    metric_name,
    more_is_better,
    short_keys,
    unit,
)
from tempo.report.statistics import Statistics, Summary, describe
from tempo.report.tables import Cell, Table, number_cell, value_cell


@dataclass(frozen=True)
class Target:
    """A column of metrics.csv and the value that it should reach: `val/accuracy=0.5`."""

    metric: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """From the command line; UserError for anything else than METRIC=NUMBER."""
        metric, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not metric or not math.isfinite(value):
            raise UserError(f"--target {text}: name a metric and a number, e.g. --target val/accuracy=0.5")
        if is_share(metric) and not 0 <= value <= 1:
            raise UserError(
                f"--target {text}: accuracies lie in [0, 1], e.g. --target {metric}={value / 100:g}"
            )
        return cls(metric, value)

    @property
    def words(self) -> str:
        """`validation accuracy of 50.00 %`."""
        return f"{metric_name(self.metric)} of {amount(self.value, self.metric)}{unit(self.metric)}"

    def reached_by(self, run: Run) -> dict[str, float] | None:
        """Step, epoch and training seconds of the first row that is as good; None where none is.

        Rows are as far apart as the run was evaluated: that is how finely the moment is known.
        """
        steps, values = run.series(self.metric, "step")
        good = values >= self.value if more_is_better(self.metric) else values <= self.value
        if not good.any():
            return None
        step = float(steps[np.argmax(good)])
        found = {"step": step}
        for column in ("epoch", "seconds"):
            at, ys = run.series(column, "step")
            found[column] = float(ys[at == step][0])
        return found


def target_table(summary: Summary, target: Target) -> Table:
    """A row a setting: in how many seeds the target was reached, and the means over those.

    Raises UserError where no run has a curve of the metric.
    """
    known = {name for run in summary.runs for name in run.curves if "/" in name}
    if not any(len(run.series(target.metric)[0]) for run in summary.runs):
        raise UserError(
            f"--target: no run has a curve of {target.metric}.{nearest(target.metric, known)} There is: "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    head = (*(short_keys(summary.keys) or ("setting",)), "reached", "steps", "epochs", "training seconds")
    rows = []
    for setting in summary.settings:
        found = [each for run in setting.completed if (each := target.reached_by(run)) is not None]
        keys = [value_cell(each) for each in setting.values] or [Cell(setting.label)]
        if setting.smoke:
            keys[0] = Cell(f"{keys[0].text} [{SMOKE}]", keys[0].sort)
        counts = Cell(f"{len(found)} of {len(setting.runs)} runs", float(len(found)))
        described = [describe([each[name] for each in found]) for name in ("step", "epoch", "seconds")]
        rows.append([*keys, counts, *(_cell(each) for each in described)])
    return Table(head, rows)


def _cell(of: Statistics) -> Cell:
    if of.n == 0:
        return Cell(ABSENT)
    spread = "" if math.isnan(of.sd) else f" ± {of.sd:.3g}"
    return number_cell(of.mean, f"{of.mean:.4g}{spread}")
