"""Means over seeds, the ranking of settings, and paired differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]

from tempo.config.schema import SMOKE
from tempo.errors import UserError, nearest
from tempo.report.grouping import Setting, group
from tempo.report.load_runs import Run
from tempo.report.number_format import amount, metric_name, points

CONFIDENCE = 0.95
EQUAL_BELOW = 1e-9
"""Bound below which a standard deviation, or a difference of means, is rounding and counts as zero."""
TIE_BREAKER = "val/loss"
PREFERRED_METRICS = ("val/accuracy", "test/accuracy", "train/accuracy", "val/loss", "test/loss", "train/loss")


@dataclass(frozen=True)
class Statistics:
    """Mean, standard deviation (n - 1; NaN for a single value) and range of `n` values, one per seed."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Setting `better` against `other`: difference of the means and half of its 95 % interval.

    `half_width` is NaN if a single seed, or values that do not vary, allow no interval. If `paired`, the
    difference is over common seeds and `seeds` has their number; otherwise it has the number of each setting.
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
        """Whether the interval excludes zero."""
        return self.difference > self.half_width

    @property
    def words(self) -> str:
        """Sentence `A beats B by 0.31 ± 0.22 ...`, or that the seeds cannot distinguish the two."""
        a, b = self.better.label, self.other.label
        by, unit, name = amount(self.difference, self.metric), points(self.metric), metric_name(self.metric)
        if math.isnan(self.half_width):
            where, why = self._without_interval
            claim = f"{a} is {by}{unit} better than {b} {where} ({name})"
            if self.difference < EQUAL_BELOW:
                claim = f"{a} and {b} are equal {where} ({name})"
            return f"{claim}: {why}{self._notes}"
        seeds = " and ".join(map(str, self.seeds))
        pairing = "paired over common seeds" if self.paired else "unpaired"
        interval = f"{by} ± {amount(self.half_width, self.metric)}{unit}"
        how = f"({name}, 95 % interval, {pairing}, n = {seeds})"
        if self.distinguishable:
            return f"{a} beats {b} by {interval} {how}{self._notes}"
        return f"{a} and {b} are not distinguishable with {seeds} seeds: {interval} {how}{self._notes}"

    @property
    def short(self) -> str:
        """The same for a terminal, where the metric and the interval are explained once."""
        a, b = self.better.label, self.other.label
        by, unit = amount(self.difference, self.metric), points(self.metric).replace("percentage ", "")
        if math.isnan(self.half_width):
            where, why = self._without_interval
            is_equal = self.difference < EQUAL_BELOW
            claim = f"{a} and {b} are equal" if is_equal else f"{a} is {by}{unit} better than {b}"
            more = "; run more seeds" if why.endswith("run more seeds") else ""
            return f"{claim} {where}{more}{self._notes}"
        interval = f"{by} ± {amount(self.half_width, self.metric)}{unit}"
        if self.distinguishable:
            return f"{a} beats {b} by {interval}{self._notes}"
        seeds = " and ".join(map(str, self.seeds))
        return f"{a} and {b}: not distinguishable with {seeds} seeds, {interval}{self._notes}"

    @property
    def _without_interval(self) -> tuple[str, str]:
        if self.paired:
            return f"in each of {self.seeds[0]} seeds", "no interval from equal differences"
        if max(self.seeds) < 2:
            return "in a single seed", "no interval can be given; run more seeds"
        if min(self.seeds) < 2:
            seeds = " and ".join(map(str, self.seeds))
            return f"with {seeds} seeds", "no interval can be given; run more seeds"
        return f"in all of {' and '.join(map(str, self.seeds))} seeds", "no interval from equal values"

    @property
    def _notes(self) -> str:
        pair = (self.better, self.other)
        diverged = [(setting, len(setting.with_status("diverged"))) for setting in pair]
        lost = [
            f"{n} of {len(setting.runs)} runs of {setting.label} diverged" for setting, n in diverged if n
        ]
        one, two = ({run.record.data.get("sha256") for run in setting.runs} for setting in pair)
        return (
            (f"; {', '.join(lost)} and are not in the mean" if lost else "")
            + ("" if one == two else "; they ran on different data")
            + (f" [{SMOKE}]" if any(setting.smoke for setting in pair) else "")
        )


@dataclass(frozen=True, eq=False)
class Summary:
    """The settings, the metric that ranks them, and the best setting against each other one."""

    metric: str
    keys: tuple[str, ...]
    settings: tuple[Setting, ...]
    comparisons: tuple[Comparison, ...]

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """All runs, grouped by setting."""
        return tuple(run for setting in self.settings for run in setting.runs)

    @cached_property
    def more_is_better(self) -> bool:
        """Whether larger values of the metric are better."""
        return all(run.more_is_better(self.metric) for run in self.runs)

    @cached_property
    def ranked(self) -> tuple[Setting, ...]:
        """The settings, best mean first; equal ones by `TIE_BREAKER`, then in the order of their values.

        Smoke settings come after the others, settings without a completed run last.
        """
        return tuple(sorted(self.settings, key=lambda setting: (*self._rank(setting), self._loss(setting))))

    @property
    def ties(self) -> str:
        """How settings with equal means were ranked, in one sentence, or "" if there are none."""
        ties = [
            (self._loss(a), self._loss(b))
            for a, b in pairwise(self.ranked)
            if by_seed(a, self.metric) and self._rank(a) == self._rank(b)
        ]
        if not ties:
            return ""
        by = [f"by {metric_name(TIE_BREAKER)}"] if self.metric != TIE_BREAKER else []
        if not by or any(a == b for a, b in ties):
            by.append("in the order of their values")
        return f"Equal means of {metric_name(self.metric)} are ranked {', then '.join(by)}."

    def _rank(self, setting: Setting) -> tuple[bool, bool, float]:
        mean = statistics(setting, self.metric).mean
        sign = -1 if self.more_is_better else 1
        lost = math.isnan(mean)
        # NaN has no order, so a setting without a result gets a number.
        return (lost, setting.smoke, 0.0 if lost else round(sign * mean, 9))  # EQUAL_BELOW

    def _loss(self, setting: Setting) -> float:
        mean = statistics(setting, TIE_BREAKER).mean
        return math.inf if math.isnan(mean) else mean


def summarise(runs: Sequence[Run], metric: str | None = None) -> Summary:
    """Group the runs into settings and compare the best one with each other one.

    Raises:
        UserError: no run has the metric asked for.
    """
    chosen = choose_metric(runs, metric)
    keys, settings = group(runs)
    summary = Summary(chosen, keys, settings, ())
    ranked = [setting for setting in summary.ranked if by_seed(setting, chosen)]
    others = [setting for setting in ranked[1:] if setting.smoke == ranked[0].smoke]
    comparisons = tuple(compare(ranked[0], other, chosen) for other in others)
    return Summary(chosen, keys, settings, comparisons)


def known_metrics(runs: Sequence[Run]) -> set[str]:
    """Return the metrics that any record has, as `val/accuracy`."""
    return {f"{split}/{name}" for run in runs for split, of in run.record.metrics.items() for name in of}


def choose_metric(runs: Sequence[Run], asked: str | None = None) -> str:
    """Return `asked`, else the objective that all runs share, else the first of the usual metrics."""
    known = known_metrics(runs)
    if asked is not None:
        if asked not in known and runs:
            there = ", ".join(sorted(known)) or "none yet"
            raise UserError(f"no run has the metric {asked}.{nearest(asked, known)} Choose from: {there}")
        return asked
    objectives = {run.record.objective.get("name") or run.record.config.get("objective") for run in runs}
    if len(objectives) == 1 and (only := objectives.pop()) in known:
        return str(only)
    return next((metric for metric in PREFERRED_METRICS if metric in known), PREFERRED_METRICS[0])


def by_seed(setting: Setting, metric: str) -> dict[tuple[int, int], float]:
    """Return (fold, seed) -> final value over completed runs; runs that repeat both count as their mean."""
    values: dict[tuple[int, int], list[float]] = {}
    for run in setting.completed:
        if math.isfinite(value := run.metric(metric)):
            values.setdefault(run.repeat, []).append(value)
    return {repeat: float(np.mean(of_repeat)) for repeat, of_repeat in values.items()}


def statistics(setting: Setting, metric: str) -> Statistics:
    """Return mean, standard deviation and range of a metric over the seeds of a setting."""
    return describe(list(by_seed(setting, metric).values()))


def describe(values: Sequence[float]) -> Statistics:
    """Return mean, standard deviation (n - 1) and range; NaN if there are too few values."""
    if not values:
        return Statistics(0, math.nan, math.nan, math.nan, math.nan)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Statistics(len(values), float(np.mean(values)), sd, min(values), max(values))


def compare(a: Setting, b: Setting, metric: str) -> Comparison:
    """Compare the better of two settings with the other.

    Two or more common seeds are paired: d ± t(n-1) sd(d) / sqrt(n). Otherwise Welch's interval is used, with
    the degrees of freedom of Welch and Satterthwaite.
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
    if not all(run.more_is_better(metric) for run in (*a.runs, *b.runs)):
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
