"""Steps, epochs and training seconds until a metric reached a target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tempo.errors import UserError, nearest
from tempo.record.metric_names import is_share
from tempo.report.grouping import Setting
from tempo.report.load_runs import Run
from tempo.report.number_format import ABSENT, amount, metric_name, unit
from tempo.report.results_table import Cell, Columns, Table, number_cell, setting_columns, table_of
from tempo.report.statistics import Summary, describe


@dataclass(frozen=True)
class Target:
    """A column of metrics.csv and the value that it should reach: `val/accuracy=0.5`."""

    metric: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read METRIC=NUMBER from the command line; raise UserError for anything else."""
        metric, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not metric or not math.isfinite(value):
            raise UserError(
                f"--target {text} is not a metric and a number; write e.g. --target val/accuracy=0.5"
            )
        if is_share(metric) and not 0 <= value <= 1:
            raise UserError(
                f"--target {text}: accuracies are in [0, 1]; write e.g. --target {metric}={value / 100:g}"
            )
        return cls(metric, value)

    @property
    def words(self) -> str:
        """Target as text, such as `validation accuracy of 50.00 %`."""
        return f"{metric_name(self.metric)} of {amount(self.value, self.metric)}{unit(self.metric)}"

    def reached_by(self, run: Run) -> dict[str, float] | None:
        """Return step, epoch and training seconds of the first row that reaches the target, or None.

        The moment is known only as finely as the run was evaluated.
        """
        steps, values = run.series(self.metric, "step")
        good = values >= self.value if run.more_is_better(self.metric) else values <= self.value
        if not good.any():
            return None
        # argmax of booleans is the first that is true.
        step = float(steps[np.argmax(good)])
        found = {"step": step}
        for column in ("epoch", "seconds"):
            at, ys = run.series(column, "step")
            found[column] = float(ys[at == step][0])
        return found


def target_table(summary: Summary, target: Target) -> Table:
    """Return one row per setting: how many runs reached the target, and the means over those.

    Raises:
        UserError: no run has a curve of the metric.
    """
    known = {name for run in summary.runs for name in run.curves if "/" in name}
    if not any(len(run.series(target.metric)[0]) for run in summary.runs):
        raise UserError(
            f"--target: no run has a curve of {target.metric}.{nearest(target.metric, known)} Choose from: "
            f"{', '.join(sorted(known)) or 'none'}"
        )

    def reached(setting: Setting) -> list[dict[str, float]]:
        return [found for run in setting.completed if (found := target.reached_by(run)) is not None]

    def mean_of(name: str) -> Callable[[Setting], Cell]:
        return lambda setting: _mean_cell([found[name] for found in reached(setting)])

    columns: Columns[Setting] = [
        *setting_columns(summary),
        ("reached", lambda setting: _count_cell(len(reached(setting)), len(setting.runs))),
        ("steps", mean_of("step")),
        ("epochs", mean_of("epoch")),
        ("training seconds", mean_of("seconds")),
    ]
    return table_of(columns, summary.settings)


def _count_cell(count: int, runs: int) -> Cell:
    return Cell(f"{count} of {runs} runs", float(count))


def _mean_cell(values: list[float]) -> Cell:
    found = describe(values)
    spread = "" if math.isnan(found.sd) else f" ± {found.sd:.3g}"
    return number_cell(found.mean, f"{found.mean:.4g}{spread}") if found.n else Cell(ABSENT)
