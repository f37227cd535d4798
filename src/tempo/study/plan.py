"""What the procedure will run and what it may cost, settled before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tempo.errors import UserError

SAFETY = 1.15
"""Runs may turn out this much slower than measured."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Epochs and runs of each stage; the stage of the range test is over when minutes are planned."""

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
        return ", ".join(parts) + f": {self.epochs:.4g} epochs in all"


@dataclass(frozen=True)
class Cost:
    """What an epoch and a run cost, in epochs or seconds, and what there is."""

    per_epoch: float
    per_run: float
    available: float | None
    """For all runs of a plan; None = no limit."""

    def of(self, plan: Plan) -> float:
        """What a plan costs; the range test has only its epochs, for its time is known."""
        runs = plan.short_runs + plan.full_runs
        return plan.epochs * self.per_epoch + runs * self.per_run

    def fits(self, plan: Plan) -> bool:
        """Whether the budget covers a plan."""
        return self.available is None or self.of(plan) <= self.available


def fitted(plan: Plan, cost: Cost) -> tuple[Plan, list[str]]:
    """The plan cut to a budget, and what was cut: the short runs first, then seeds, then whole stages.

    Raises:
        UserError: not even the final run fits.
    """
    cuts: list[str] = []
    for words, changes in _cuts(plan):
        if cost.fits(plan):
            break
        plan = replace(plan, **changes)
        cuts.append(words)
    while not cost.fits(plan) and plan.final_epochs > 1:
        plan = replace(plan, final_epochs=plan.final_epochs - 1)
    if not cost.fits(plan):
        raise UserError(
            "the budget cannot hold even the range test and one epoch of the final run: "
            "a larger tune.budget_epochs or tune.budget_minutes, or fewer tune.range_steps"
        )
    return plan, cuts


def _cuts(plan: Plan) -> Sequence[tuple[str, dict[str, Any]]]:
    shorter = [
        (f"short runs of {epochs} epochs", {"short_epochs": epochs})
        for epochs in range(plan.short_epochs - 1, 0, -1)
    ]
    single = [("short runs with one seed", {"short_seeds": 1})] if plan.short_seeds > 1 else []
    seeds = [
        (
            f"comparison with {seeds} seeds" if seeds else "no comparison with the default",
            {"compare_seeds": seeds},
        )
        for seeds in range(plan.compare_seeds - 1, -1, -1)
    ]
    stages = [
        ("no batch sizes", {"batch_runs": 0}),
        ("no weight decays", {"decay_runs": 0}),
        ("no momenta", {"momentum_runs": 0}),
        ("no second learning rate", {"lr_runs": 0}),
    ]
    return [*single, *shorter, *seeds, *stages]
