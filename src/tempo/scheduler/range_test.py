"""LR range test: the learning rate rises from far too small to too large in one short run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tempo.errors import UserError
from tempo.scheduler.bounds import check_momenta, check_rates
from tempo.scheduler.schedule import Schedule, exponential, linear, progress

_SPACINGS = {"exponential": exponential, "linear": linear}


@dataclass(frozen=True, kw_only=True)
class RangeTest(Schedule):
    """The LR range test of L. N. Smith (arXiv:1506.01186, section 3.3; arXiv:1803.09820, section 4.1).

    Over the progress p = step / (total_steps - 1): `lr = min_lr (max_lr / min_lr)^p`, equal steps on a log
    axis, or `lr = (1 - p) min_lr + p max_lr` with `spacing=linear`. If momentum has bounds, it falls
    linearly: `momentum = (1 - p) max_momentum + p min_momentum`.
    Raises UserError for bounds without a range between them, and for a min_lr of 0 with exponential spacing.
    """

    min_lr: float
    max_lr: float
    spacing: Literal["exponential", "linear"] = "exponential"
    min_momentum: float | None = None
    max_momentum: float | None = None

    def __post_init__(self) -> None:
        check_rates(self.min_lr, self.max_lr, zero_allowed=self.spacing == "linear")
        if self.min_lr == self.max_lr:
            raise UserError(
                f"scheduler.min_lr={self.min_lr} equals scheduler.max_lr, which leaves no range to test; "
                f"set scheduler.max_lr={100 * self.max_lr:g}"
            )
        check_momenta(self.min_momentum, self.max_momentum)

    @property
    def least_steps(self) -> int:
        """One step for each end of the range."""
        return 2

    def at(self, step: int, total_steps: int) -> dict[str, float]:
        """Return the rate, and momentum if it has bounds; ValueError outside the run."""
        p = progress(step, total_steps)
        values = {"lr": _SPACINGS[self.spacing](self.min_lr, self.max_lr, p)}
        if self.min_momentum is not None and self.max_momentum is not None:
            values["momentum"] = linear(self.max_momentum, self.min_momentum, p)
        return values
