"""Plan of the procedure: the length and number of its runs, their cost, and the cuts that fit a budget."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tempo.errors import UserError
from tempo.report.number_format import duration

ROUNDING = 1e-6
STAGE_OF = {
    "lr_runs": "learning rate",
    "batch_runs": "batch size",
    "momentum_runs": "momentum",
    "decay_runs": "weight decay",
}
"""Stage of each key of the plan that counts values, in the paper's order."""
ORDERS = {
    "paper": tuple(STAGE_OF.values()),
    "batch_last": ("learning rate", "momentum", "weight decay", "batch size"),
}
"""Orders of the stages; `tune.order` chooses one."""
RUNS_OF = {stage: key for key, stage in STAGE_OF.items()}
CUT_ORDER = (
    "short_seeds",
    "short_epochs",
    "compare_seeds",
    "batch_runs",
    "decay_runs",
    "momentum_runs",
    "lr_runs",
    "final_epochs",
)
"""Keys of the plan in the order in which a budget cuts them."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Largest numbers of epochs and runs per stage; a run that would repeat an earlier one is skipped."""

    range_epochs: float
    short_epochs: int
    short_seeds: int
    lr_runs: int
    momentum_runs: int
    decay_runs: int
    batch_runs: int
    final_epochs: int
    compare_seeds: int

    @property
    def short_runs(self) -> int:
        """Number of runs that compare values."""
        return self.short_seeds * (self.lr_runs + self.momentum_runs + self.decay_runs + self.batch_runs)

    @property
    def full_runs(self) -> int:
        """Number of runs of full length: the final one, its other seeds, and the default setting."""
        return max(1, 2 * self.compare_seeds)

    @property
    def runs(self) -> int:
        """Number of all runs, including the range test while it is planned."""
        return (self.range_epochs > 0) + self.short_runs + self.full_runs

    @property
    def epochs(self) -> float:
        """Epochs of all runs together."""
        return self.range_epochs + self.short_runs * self.short_epochs + self.full_runs * self.final_epochs

    def words(self, stages: Sequence[str] = ORDERS["paper"]) -> str:
        """Describe the plan in one line."""
        short = (
            f"{self.short_seeds} x {self.short_epochs}" if self.short_seeds > 1 else f"{self.short_epochs}"
        )
        parts = [f"range test {self.range_epochs:.3g} epochs"]
        parts += [f"{stage} {getattr(self, RUNS_OF[stage])} x {short}" for stage in stages]
        parts.append(f"final 1cycle 1 x {self.final_epochs}")
        if self.full_runs > 1:
            parts.append(f"comparison {self.full_runs - 1} x {self.final_epochs}")
        return ", ".join(parts) + f": at most {self.epochs:.4g} epochs in {self.runs} runs"


@dataclass(frozen=True)
class Price:
    """Cost of an epoch, and of a run on top of its epochs, in the unit of the budget."""

    unit: Literal["epochs", "seconds"]
    per_epoch: float = 1.0
    per_run: float = 0.0

    def of(self, epochs: float, runs: int) -> float:
        """Return the cost of this many epochs in this many runs."""
        return epochs * self.per_epoch + runs * self.per_run

    def amount(self, cost: float) -> str:
        """Return a cost with its unit, as text."""
        if self.unit == "seconds":
            return duration(cost)
        return f"{cost:.4g} epoch{'' if cost == 1 else 's'}"

    def override(self, cost: float) -> str:
        """Return the override that sets a budget of at least this cost."""
        if self.unit == "seconds":
            return f"tune.budget_minutes={math.ceil(cost / 6) / 10:g}"
        return f"tune.budget_epochs={math.ceil(cost - ROUNDING)}"


def cut_to_fit(
    plan: Plan, price: Price, spent: float, total: float | None, keys: Collection[str] = CUT_ORDER
) -> tuple[Plan, list[str]]:
    """Cut the plan to fit the remaining budget; return it with one line per cut, in `CUT_ORDER`.

    `spent` and `total` are in the unit of the price; a total of None means no limit. Only `keys` may be cut.

    Raises:
        UserError: even the shortest plan costs more than the remaining budget.
    """
    if total is None:
        return plan, []
    wanted, left, cost_before = plan, total - spent, dict[str, float]()
    for key, value in _possible_cuts(plan):
        cost = price.of(plan.epochs, plan.runs)
        if cost <= left + ROUNDING:
            break
        shorter = replace(plan, **{key: value})
        if key in keys and price.of(shorter.epochs, shorter.runs) < cost:
            cost_before.setdefault(key, cost)
            plan = shorter
    cost = price.of(plan.epochs, plan.runs)
    if cost > left + ROUNDING:
        raise UserError(
            f"{price.amount(max(0.0, left))} of the budget are left, but the shortest plan takes "
            f"{price.amount(cost)}; set at least {price.override(spent + cost)}"
        )
    cost_after = [*cost_before.values(), cost][1:]
    return plan, [
        f"{cut_words(key, getattr(wanted, key), getattr(plan, key))}: {price.amount(before)} are more than "
        f"the {price.amount(left)} left; {price.amount(after)} with this cut"
        for (key, before), after in zip(cost_before.items(), cost_after, strict=True)
    ]


def _possible_cuts(plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield each key with its smaller values: a stage is cut as a whole, other numbers step by step."""
    for key in CUT_ORDER:
        least = 0 if key == "compare_seeds" or key in STAGE_OF else 1
        steps = [0] if key in STAGE_OF else range(getattr(plan, key) - 1, least - 1, -1)
        yield from ((key, value) for value in steps)


def cut_words(key: str, before: int, after: int) -> str:
    """Describe the cut of one of the plan's numbers."""
    if key in STAGE_OF:
        values = "momenta" if key == "momentum_runs" else f"{STAGE_OF[key]}s"
        return f"no {values} are tried" if after == 0 else f"{after} of {before} {values} are tried"
    if key == "compare_seeds" and after == 0:
        return "no comparison with the default"
    runs = {"compare_seeds": "comparison", "final_epochs": "full runs"}.get(key, "short runs")
    preposition, unit = ("with", "seed") if key.endswith("seeds") else ("of", "epoch")
    return f"{runs} {preposition} {after} {unit}{'s' * (after != 1)} instead of {before}"
