"""Means over seeds, and what may be said of two settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]

from tempo.errors import UserError, nearest
from tempo.report.grouping import Setting, group
from tempo.report.load_runs import Run
from tempo.report.number_format import amount, metric_name, more_is_better, points

CONFIDENCE = 0.95
EQUAL_BELOW = 1e-9
"""A standard deviation below this is rounding: values that do not vary say nothing of how they would. So is
a difference of means."""
TIE_BREAKER = "val/loss"
PREFERRED_METRICS = ("val/accuracy", "test/accuracy", "train/accuracy", "val/loss", "test/loss", "train/loss")


@dataclass(frozen=True)
class Statistics:
    """Of one value a seed: `sd` has n - 1 below, and is NaN for a single seed."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """`better` against `other`: difference of the means (positive = better), half its 95 % interval.

    `half_width` is NaN where a single seed, or values that do not vary, allow no interval. `paired` means
    over common seeds.
    """

    better: Setting
    other: Setting
    metric: str
    difference: float
    half_width: float
    paired: bool
    seeds: tuple[int, ...]

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.difference > self.half_width

    @property
    def words(self) -> str:
        """`A beats B by 0.31 ± 0.22 ...`, or that so many seeds cannot tell."""
        a, b = self.better.label, self.other.label
        by = amount(self.difference, self.metric)
        unit, name = points(self.metric), metric_name(self.metric)
        if math.isnan(self.half_width):
            where, why = self._without_interval
            said = f"{a} is {by}{unit} better than {b} {where} ({name})"
            if self.difference < EQUAL_BELOW:
                said = f"{a} and {b} are equal {where} ({name})"
            return f"{said}: {why}" + self._notes()
        seeds = " and ".join(map(str, self.seeds))
        interval = f"{by} ± {amount(self.half_width, self.metric)}{unit}"
        how = (
            f"{name}, 95 % interval, {'paired over common seeds' if self.paired else 'unpaired'}, n = {seeds}"
        )
        if self.distinguishable:
            return f"{a} beats {b} by {interval} ({how})" + self._notes()
        return f"{a} and {b} are not distinguishable with {seeds} seeds: {interval} ({how})" + self._notes()

    @property
    def _without_interval(self) -> tuple[str, str]:
        if self.paired:
            return f"in each of {self.seeds[0]} seeds", "no interval from equal differences"
        if min(self.seeds) < 2:
            where = (
                "in a single seed"
                if max(self.seeds) < 2
                else f"with {self.seeds[0]} and {self.seeds[1]} seeds"
            )
            return where, "no interval can be given; run more seeds"
        return f"in all of {' and '.join(map(str, self.seeds))} seeds", "no interval from equal values"

    def _notes(self) -> str:
        data = [
            {str(run.record.data.get("sha256")) for run in each.runs} for each in (self.better, self.other)
        ]
        apart = "" if data[0] == data[1] else "; they ran on different data"
        return self._missing() + apart

    def _missing(self) -> str:
        lost = [(each, len(each.with_status("diverged"))) for each in (self.better, self.other)]
        told = [f"{n} of {len(each.runs)} runs of {each.label} diverged" for each, n in lost if n]
        return f"; {', '.join(told)} and are not in the mean" if told else ""


@dataclass(frozen=True, eq=False)
class Summary:
    """The settings found, the metric that ranks them, and the best one against each other one."""

    metric: str
    keys: tuple[str, ...]
    settings: tuple[Setting, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, setting by setting."""
        return tuple(run for setting in self.settings for run in setting.runs)

    @property
    def ranked(self) -> tuple[Setting, ...]:
        """The best mean first, of equal ones the lower `TIE_BREAKER`, then the order of their values.

        Smoke settings come after the others, those without a completed run last.
        """
        return tuple(sorted(self.settings, key=lambda each: (*self._place(each), self._loss(each))))

    @property
    def ties(self) -> str:
        """One sentence where settings have equal means: how these were put in order; else ""."""
        pairs = [
            (a, b)
            for a, b in pairwise(self.ranked)
            if by_seed(a, self.metric) and self._place(a) == self._place(b)
        ]
        if not pairs:
            return ""
        told_apart = all(self._loss(a) != self._loss(b) for a, b in pairs)
        by = f"by {metric_name(TIE_BREAKER)}, then " * (self.metric != TIE_BREAKER)
        order = by.removesuffix(", then ") if told_apart else f"{by}in the order of their values"
        return f"Equal means of {metric_name(self.metric)} are ranked {order}."

    def _place(self, setting: Setting) -> tuple[bool, bool, float]:
        mean = statistics(setting, self.metric).mean
        sign = -1 if more_is_better(self.metric) else 1
        lost = math.isnan(mean)
        return (lost, setting.smoke, 0.0 if lost else round(sign * mean, 9))  # EQUAL_BELOW

    def _loss(self, setting: Setting) -> float:
        mean = statistics(setting, TIE_BREAKER).mean
        return math.inf if math.isnan(mean) else mean


def summarise(runs: Sequence[Run], metric: str | None = None) -> Summary:
    """Group the runs and compare the best setting with each other one.

    Raises:
        UserError: no run has the metric asked for.
    """
    chosen = choose_metric(runs, metric)
    keys, settings = group(runs)
    summary = Summary(chosen, keys, settings, ())
    ranked = [each for each in summary.ranked if by_seed(each, chosen)]
    others = [each for each in ranked[1:] if each.smoke == ranked[0].smoke]
    comparisons = tuple(compare(ranked[0], each, chosen) for each in others)
    return Summary(chosen, keys, settings, comparisons)


def choose_metric(runs: Sequence[Run], asked: str | None = None) -> str:
    """`asked`, else the objective that all runs share, else the first of the usual ones that is there."""
    known = {f"{split}/{name}" for run in runs for split, of in run.record.metrics.items() for name in of}
    if asked is not None:
        if asked not in known and runs:
            there = ", ".join(sorted(known)) or "none yet"
            raise UserError(f"no run has the metric {asked}.{nearest(asked, known)} There is: {there}")
        return asked
    objectives = {run.record.objective.get("name") or run.record.config.get("objective") for run in runs}
    if len(objectives) == 1 and (only := objectives.pop()) in known:
        return str(only)
    return next((each for each in PREFERRED_METRICS if each in known), PREFERRED_METRICS[0])


def by_seed(setting: Setting, metric: str) -> dict[int, float]:
    """The final value of each seed's completed run; runs that repeat a seed count as their mean."""
    values: dict[int, list[float]] = {}
    for run in setting.completed:
        if math.isfinite(value := run.metric(metric)):
            values.setdefault(run.record.seed, []).append(value)
    return {seed: float(np.mean(each)) for seed, each in values.items()}


def statistics(setting: Setting, metric: str) -> Statistics:
    """Mean, standard deviation and range of a metric over the seeds of a setting."""
    return describe(list(by_seed(setting, metric).values()))


def describe(values: Sequence[float]) -> Statistics:
    """Mean, standard deviation (n - 1) and range; NaN where there are too few values."""
    if not values:
        return Statistics(0, math.nan, math.nan, math.nan, math.nan)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Statistics(len(values), float(np.mean(values)), sd, min(values), max(values))


def compare(a: Setting, b: Setting, metric: str) -> Comparison:
    """The better of two settings against the other.

    Paired over the seeds both have, where these are two or more: d ± t(n-1) sd(d) / sqrt(n). Otherwise
    Welch's interval, its degrees of freedom after Welch and Satterthwaite; without an interval where a
    setting has a single seed, or where nothing varies.
    """
    first, second = by_seed(a, metric), by_seed(b, metric)
    common = sorted(first.keys() & second.keys())
    if len(common) >= 2:
        d = describe([first[seed] - second[seed] for seed in common])
        difference = d.mean
        half_width = math.nan if d.sd < EQUAL_BELOW else _t(d.n - 1) * d.sd / math.sqrt(d.n)
        seeds: tuple[int, ...] = (d.n,)
    else:
        x, y = describe(list(first.values())), describe(list(second.values()))
        difference, half_width, seeds = x.mean - y.mean, _welch(x, y), (x.n, y.n)
    if not more_is_better(metric):
        difference = -difference
    better, other = (a, b) if difference > -EQUAL_BELOW else (b, a)
    if better is b:
        seeds = seeds[::-1]
    return Comparison(better, other, metric, abs(difference), half_width, len(common) >= 2, seeds)


def _welch(x: Statistics, y: Statistics) -> float:
    if min(x.n, y.n) < 2 or max(x.sd, y.sd) < EQUAL_BELOW:
        return math.nan
    vx, vy = x.sd**2 / x.n, y.sd**2 / y.n
    freedom = (vx + vy) ** 2 / (vx**2 / (x.n - 1) + vy**2 / (y.n - 1))
    return _t(freedom) * math.sqrt(vx + vy)


def _t(freedom: float) -> float:
    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))
