"""How a stage chooses among short runs, and what it says of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tempo.report.load_runs import Run
from tempo.report.number_format import amount, metric_name, more_is_better, unit

LOSS_MARGIN = 0.05
ACCURACY_MARGIN = 0.005
RULE = (
    "the best {metric} {where}; within {margin} of the best, or within the standard error over the seeds, "
    "the value named first"
)


@dataclass(frozen=True)
class Candidate:
    """A value that a stage tries: the overrides that set it, and what came of it."""

    label: str
    overrides: tuple[str, ...]
    value: Any
    scores: tuple[float, ...] = ()
    """Of the early validation, one a seed; NaN where the run diverged."""
    outcome: str = ""

    @property
    def mean(self) -> float:
        """Over the seeds; NaN where one of them diverged or none was run."""
        return float(np.mean(self.scores)) if self.scores else math.nan


@dataclass(frozen=True)
class Choice:
    """What a stage chose, with its evidence in the order in which the values were preferred."""

    stage: str
    metric: str
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    why: str

    @property
    def lines(self) -> list[str]:
        """For the screen and for the head of tuned.yaml."""
        shown = [f"  {each.label:<22}{said(each, self.metric)}" for each in self.candidates]
        return [f"{self.stage}: {self.chosen.label} ({self.why})", *shown]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "stage": self.stage,
            "chosen": self.chosen.value,
            "overrides": list(self.chosen.overrides),
            "why": self.why,
            "evidence": {each.label: said(each, self.metric) for each in self.candidates},
        }


def early_metric(model_target: str) -> str:
    """What short runs are compared by: the loss; the accuracy for DenseNet, as radiuk2020 advises."""
    return "val/accuracy" if "densenet" in model_target.lower() else "val/loss"


def score(run: Run, metric: str) -> float:
    """The validation of the state that the run tests, its last or its best; NaN where it did not complete."""
    return run.metric(metric) if run.record.status == "completed" else math.nan


def choose(
    stage: str,
    metric: str,
    candidates: Sequence[Candidate],
    untried: Candidate | None = None,
    where: str = "at the end of the runs",
) -> Choice:
    """The candidate that the rule names: `candidates` are in the order of preference, the default first.

    Short runs are noisy judges, so a value must be clearly better to be put before an earlier one: by more
    than 5 % of the loss, or half a percentage point of accuracy, and by more than the standard error of the
    difference over the common seeds. With no score at all it is `untried`, or the first.
    """
    scores = np.array([each.mean for each in candidates], dtype=np.float64)
    rule = RULE.format(metric=metric_name(metric), where=where, margin=_margin_words(metric))
    if np.isnan(scores).all():
        why = "no run came to a validation" if len(scores) > 1 else "the only value"
        return Choice(stage, metric, untried or candidates[0], tuple(candidates), why)
    best = candidates[int(np.nanargmax(scores) if more_is_better(metric) else np.nanargmin(scores))]
    margin = ACCURACY_MARGIN if more_is_better(metric) else LOSS_MARGIN * best.mean
    first = next(
        each
        for each in candidates
        if abs(each.mean - best.mean) <= max(margin, standard_error(each.scores, best.scores))
    )
    return Choice(stage, metric, first, tuple(candidates), rule)


def standard_error(a: Sequence[float], b: Sequence[float]) -> float:
    """Of the mean difference over the seeds that both have, in order; 0 where there are fewer than two."""
    n = min(len(a), len(b))
    if n < 2:
        return 0.0
    return float(np.std(np.subtract(a[:n], b[:n]), ddof=1) / math.sqrt(n))


def said(candidate: Candidate, metric: str) -> str:
    """A candidate's score, or what became of it."""
    if math.isnan(candidate.mean):
        return candidate.outcome or "not run"
    seeds = f" (seeds: {', '.join(amount(each, metric) for each in candidate.scores)})"
    return f"{amount(candidate.mean, metric)}{unit(metric)}" + seeds * (len(candidate.scores) > 1)


def _margin_words(metric: str) -> str:
    if more_is_better(metric):
        return f"{100 * ACCURACY_MARGIN:g} percentage points"
    return f"{LOSS_MARGIN:.0%}"
