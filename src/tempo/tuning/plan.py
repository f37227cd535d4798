"""What the procedure will run and what that costs, cut to what there is before it starts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tempo.errors import UserError
from tempo.report.number_format import duration

SAFETY = 1.15
"""Runs may turn out this much slower than measured."""
ROUNDING = 1e-6
Unit = Literal["epochs", "seconds"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Epochs and runs of each stage, at most: runs that would repeat an earlier one are not run."""

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
        """Runs that compare values."""
        return self.short_seeds * (self.lr_runs + self.momentum_runs + self.decay_runs + self.batch_runs)

    @property
    def full_runs(self) -> int:
        """Runs of full length: the final one, its other seeds, and the default setting."""
        return max(1, 2 * self.compare_seeds)

    @property
    def runs(self) -> int:
        """All of them, the range test included while it is to come."""
        return (self.range_epochs > 0) + self.short_runs + self.full_runs

    @property
    def epochs(self) -> float:
        """All runs together."""
        return self.range_epochs + self.short_runs * self.short_epochs + self.full_runs * self.final_epochs

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def words(self) -> str:
        """One line for the screen."""
        each = f"{self.short_seeds} x {self.short_epochs}" if self.short_seeds > 1 else f"{self.short_epochs}"
        parts = [
            f"range test {self.range_epochs:.3g} epochs",
            f"learning rate {self.lr_runs} x {each}",
            f"momentum {self.momentum_runs} x {each}",
            f"weight decay {self.decay_runs} x {each}",
            f"batch size {self.batch_runs} x {each}",
            f"final 1cycle 1 x {self.final_epochs}",
        ]
        if self.full_runs > 1:
            parts.append(f"comparison {self.full_runs - 1} x {self.final_epochs}")
        return ", ".join(parts) + f": at most {self.epochs:.4g} epochs in {self.runs} runs"


@dataclass(frozen=True)
class Price:
    """What an epoch costs, and a run besides its epochs, in the unit of the budget."""

    unit: Unit
    per_epoch: float = 1.0
    per_run: float = 0.0

    def of(self, epochs: float, runs: int) -> float:
        """What so many epochs in so many runs cost."""
        return epochs * self.per_epoch + runs * self.per_run

    def words(self, amount: float) -> str:
        """An amount as a person says it."""
        if self.unit == "seconds":
            return duration(amount)
        return f"{amount:.4g} epoch{'' if amount == 1 else 's'}"

    def override(self, amount: float) -> str:
        """What sets a budget of so much."""
        if self.unit == "seconds":
            return f"tune.budget_minutes={math.ceil(amount / 6) / 10:g}"
        return f"tune.budget_epochs={math.ceil(amount - ROUNDING)}"


STAGE_OF = {
    "lr_runs": "learning rate",
    "momentum_runs": "momentum",
    "decay_runs": "weight decay",
    "batch_runs": "batch size",
}
RUNS_OF = {stage: key for key, stage in STAGE_OF.items()}
CUT_FIRST_TO_LAST = (
    "short_seeds",
    "short_epochs",
    "compare_seeds",
    "batch_runs",
    "decay_runs",
    "momentum_runs",
    "lr_runs",
    "final_epochs",
)


def fitted(
    plan: Plan, price: Price, spent: float, total: float | None, keys: Collection[str] = CUT_FIRST_TO_LAST
) -> tuple[Plan, list[str]]:
    """The plan cut to what is left, and each cut with its reason, in `CUT_FIRST_TO_LAST`'s order.

    `spent`, `total`: in the unit of the price; total None = no limit. `keys`: what may be cut.

    Raises:
        UserError: not even the shortest plan fits.
    """
    if total is None:
        return plan, []
    wanted, left, costs = plan, total - spent, dict[str, float]()
    for key, value in _steps(plan):
        cost = price.of(plan.epochs, plan.runs)
        if cost <= left + ROUNDING:
            break
        shorter = replace(plan, **{key: value})
        if key in keys and price.of(shorter.epochs, shorter.runs) < cost:
            costs.setdefault(key, cost)
            plan = shorter
    least = price.of(plan.epochs, plan.runs)
    if least > left + ROUNDING:
        raise UserError(
            f"{price.words(max(0.0, left))} of the budget are left, and the shortest plan takes "
            f"{price.words(least)}: at least {price.override(spent + least)}"
        )
    after = [*costs.values(), least][1:]
    return plan, [
        f"{cut_words(key, getattr(wanted, key), getattr(plan, key))}: {price.words(before)} are more than "
        f"the {price.words(left)} left; {price.words(now)} with this cut"
        for (key, before), now in zip(costs.items(), after, strict=False)
    ]


def _steps(plan: Plan) -> Iterator[tuple[str, int]]:
    """Key by key, the values that it may be cut to."""
    least = {"short_seeds": 1, "short_epochs": 1, "final_epochs": 1}
    for key in CUT_FIRST_TO_LAST:
        if key.endswith("_runs"):
            yield key, 0
        else:
            for value in range(getattr(plan, key) - 1, least.get(key, 0) - 1, -1):
                yield key, value


def cut_words(key: str, was: int, now: int) -> str:
    """What a cut leaves of one of the plan's numbers."""
    if key in STAGE_OF:
        what = f"{STAGE_OF[key]}s" if key != "momentum_runs" else "momenta"
        return f"no {what} are tried" if now == 0 else f"{now} of {was} {what} are tried"
    if key == "compare_seeds" and now == 0:
        return "no comparison with the default"
    thing, of, unit = {
        "short_seeds": ("short runs", "with", "seed"),
        "short_epochs": ("short runs", "of", "epoch"),
        "compare_seeds": ("comparison", "with", "seed"),
        "final_epochs": ("full runs", "of", "epoch"),
    }[key]
    return f"{thing} {of} {now} {unit}{'s' * (now != 1)} instead of {was}"
