"""Choose among a stage's short runs by a fixed rule, and show the evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from tempo.errors import UserError
from tempo.report.load_runs import Run
from tempo.report.number_format import amount, metric_name, more_is_better, unit

EARLY_METRICS = ("val/loss", "val/accuracy")
"""Metrics that can compare short runs; the first one is the default."""
ONLY_VALUE = "the only value"
NO_VALIDATION = "no run has a validation"
LOSS_MARGIN = 0.05
ACCURACY_MARGIN = 0.005


@dataclass(frozen=True)
class Candidate:
    """A value that a stage tries: its overrides, and its result."""

    label: str
    overrides: tuple[str, ...]
    value: Any
    scores: tuple[float, ...] = ()
    """Final validation metric of each seed; NaN for a run that did not complete."""
    outcome: str = ""
    """Reason why there is no score."""

    @property
    def mean(self) -> float:
        """Mean over the seeds; NaN if any did not complete or none was run."""
        return float(np.mean(self.scores)) if self.scores else math.nan

    def evidence(self, metric: str) -> str:
        """Return the score, or the reason why there is none."""
        if math.isnan(self.mean):
            return self.outcome or "not run"
        seeds = f" (seeds: {', '.join(amount(score, metric) for score in self.scores)})"
        return f"{amount(self.mean, metric)}{unit(metric)}" + seeds * (len(self.scores) > 1)


@dataclass(frozen=True)
class Choice:
    """The candidate that a stage chose, and all candidates in order of preference."""

    stage: str
    metric: str
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    why: str

    @property
    def lines(self) -> list[str]:
        """Lines for the screen and for the head of tuned.yaml."""
        shown = [f"  {tried.label:<22}{tried.evidence(self.metric)}" for tried in self.candidates]
        return [f"{self.stage}: {self.chosen.label} ({self.why})", *shown]

    @property
    def short_lines(self) -> list[str]:
        """The same for the screen, which shows the rule once; a star marks the chosen value."""
        by = self.why if self.why in (ONLY_VALUE, NO_VALIDATION) else f"by {metric_name(self.metric)}"
        stars = {True: "*", False: " "}
        shown = [
            f"{stars[tried is self.chosen]} {tried.label:<22} {tried.evidence(self.metric)}"
            for tried in self.candidates
        ]
        return [f"{self.stage}: {self.chosen.label}, {by}", *(shown if len(shown) > 1 else [])]

    def as_json(self) -> dict[str, Any]:
        """Return plain values for tune.json."""
        return {
            "stage": self.stage,
            "chosen": self.chosen.value,
            "overrides": list(self.chosen.overrides),
            "why": self.why,
            "evidence": {tried.label: tried.evidence(self.metric) for tried in self.candidates},
        }


def early_metric(network: nn.Module) -> str:
    """Return the metric that compares short runs: the network's attribute `early_metric`, or the loss.

    A LightningModule logs what it likes, so `Procedure` takes the objective of its runs instead.

    Raises:
        UserError: the attribute is not one of `EARLY_METRICS`.
    """
    metric = getattr(network, "early_metric", EARLY_METRICS[0])
    if metric not in EARLY_METRICS:
        raise UserError(
            f"{type(network).__name__}.early_metric={metric!r} cannot compare short runs; set it to one of "
            f"{', '.join(EARLY_METRICS)}"
        )
    return str(metric)


def score(run: Run, metric: str) -> float:
    """Return the validation metric of the state that the run tests; NaN if it did not complete."""
    return run.metric(metric) if run.record.status == "completed" else math.nan


def choose(
    stage: str,
    metric: str,
    candidates: Sequence[Candidate],
    untried: Candidate | None = None,
    where: str = "at the end of the runs",
) -> Choice:
    """Choose a candidate; `candidates` are in order of preference, the default first.

    Results of short runs are noisy, so a value must be clearly better to be chosen over an earlier one: by
    more than 5 % of the loss or half a percentage point of accuracy, and by more than the standard error of
    the difference over the common seeds. If no candidate has a score, choose `untried`, or else the first.
    """
    means = np.array([candidate.mean for candidate in candidates], dtype=np.float64)
    if np.isnan(means).all():
        why = NO_VALIDATION if len(means) > 1 else ONLY_VALUE
        return Choice(stage, metric, untried or candidates[0], tuple(candidates), why)
    if more_is_better(metric):
        best = candidates[int(np.nanargmax(means))]
        margin = ACCURACY_MARGIN
    else:
        best = candidates[int(np.nanargmin(means))]
        margin = LOSS_MARGIN * best.mean
    chosen = next(
        candidate
        for candidate in candidates
        if abs(candidate.mean - best.mean) <= max(margin, standard_error(candidate.scores, best.scores))
    )
    return Choice(stage, metric, chosen, tuple(candidates), rule(metric, where))


def rule(metric: str, where: str = "at the end of the runs") -> str:
    """Return the rule of `choose` in words."""
    is_accuracy = more_is_better(metric)
    margin = f"{100 * ACCURACY_MARGIN:g} percentage points" if is_accuracy else f"{LOSS_MARGIN:.0%}"
    return (
        f"the best {metric_name(metric)} {where}; within {margin} of the best, or within the standard error "
        "over the seeds, the value listed first"
    )


def standard_error(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the standard error of the mean difference over common seeds; 0 for fewer than two seeds."""
    n = min(len(a), len(b))
    return float(np.std(np.subtract(a[:n], b[:n]), ddof=1) / math.sqrt(n)) if n > 1 else 0.0
