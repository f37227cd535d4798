"""The step policy: the learning rate drops at given fractions of the run."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from tempo.errors import UserError
from tempo.scheduler.bounds import check_rate
from tempo.scheduler.schedule import Schedule, progress


@dataclass(frozen=True, kw_only=True)
class MultiStep(Schedule):
    """`lr(step) = lr factor^k` with k the number of milestones m for which `step / total_steps >= m`.

    With (0.5, 0.75), the policy of He et al. for CIFAR (arXiv:1512.03385, section 4.2), exactly the first
    half of all steps has the full rate. Momentum is left alone. Raises UserError for milestones out of order
    or outside [0, 1] and for a factor that is not above 0.
    """

    lr: float
    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_rate("lr", self.lr)
        # A configuration passes a list, which a frozen value could not hash.
        object.__setattr__(self, "milestones", tuple(self.milestones))
        given = list(self.milestones)
        ordered = sorted({milestone for milestone in given if 0 <= milestone <= 1})
        if given != ordered:
            fixed = ",".join(str(milestone) for milestone in ordered or (0.5, 0.75))
            raise UserError(
                f"scheduler.milestones={given} must be rising fractions of the run in [0, 1]; "
                f"set 'scheduler.milestones=[{fixed}]'"
            )
        if not 0 < self.factor < math.inf:
            raise UserError(
                f"scheduler.factor={self.factor} leaves no learning rate above 0; set scheduler.factor=0.1"
            )

    def at(self, step: int, total_steps: int) -> dict[str, float]:
        """Return the rate after the milestones that `step` has reached; ValueError outside the run."""
        progress(step, total_steps)
        drops = bisect_right(self.milestones, step / total_steps)
        return {"lr": float(self.lr * self.factor**drops)}
