"""1cycle: one rise and fall of the learning rate, mirrored by momentum, then annihilation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tempo.errors import UserError
from tempo.scheduler.bounds import check_fraction, check_momenta, check_rates
from tempo.scheduler.schedule import Schedule, cosine, linear, progress

_CURVES = {"linear": linear, "cosine": cosine}
# Two decimal fractions that fill the run may sum to a little more or less than 1 in floating point.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """The 1cycle policy of L. N. Smith (arXiv:1803.09820, section 4.1; arXiv:1708.07120), as in radiuk2020.

    Over the progress p = step / (total_steps - 1) of the run:

    | p                                        | learning rate                        | momentum     |
    |------------------------------------------|--------------------------------------|--------------|
    | 0 to `rise_fraction`                     | min_lr to max_lr                     | max to min   |
    | to `rise_fraction + fall_fraction`       | max_lr to min_lr                     | min to max   |
    | to 1, the annihilation                   | min_lr to `final_fraction * min_lr`  | stays at max |

    `final_fraction` is a fraction of min_lr, not of max_lr. `curve` is the shape of each piece. The peak is
    between two steps unless `rise_fraction (total_steps - 1)` is a whole number. If rise and fall fill the
    run, there is no annihilation and the last step has min_lr. Momentum is left alone if both bounds are
    None. `range_test` only records which range test the bounds came from.
    Raises UserError for bounds in the wrong order and for fractions that exceed the run.
    """

    min_lr: float
    max_lr: float
    min_momentum: float | None = 0.85
    max_momentum: float | None = 0.95
    rise_fraction: float = 0.45
    fall_fraction: float = 0.45
    final_fraction: float = 0.01
    curve: Literal["linear", "cosine"] = "linear"
    range_test: str | None = None

    def __post_init__(self) -> None:
        check_rates(self.min_lr, self.max_lr)
        check_momenta(self.min_momentum, self.max_momentum)
        check_fraction("rise_fraction", self.rise_fraction, 0.45, zero_allowed=False)
        check_fraction("fall_fraction", self.fall_fraction, 0.45, zero_allowed=False)
        check_fraction("final_fraction", self.final_fraction, 0.01)
        if self.rise_fraction + self.fall_fraction > 1 + _ROUNDING:
            raise UserError(
                f"scheduler.rise_fraction={self.rise_fraction} and "
                f"scheduler.fall_fraction={self.fall_fraction} together exceed the run; "
                "set scheduler.rise_fraction=0.45 scheduler.fall_fraction=0.45"
            )

    def at(self, step: int, total_steps: int) -> dict[str, float]:
        """Return the rate, and momentum if it has bounds; ValueError outside the run."""
        p = progress(step, total_steps)
        curve = _CURVES[self.curve]
        fallen = self.rise_fraction + self.fall_fraction
        if fallen > 1 - _ROUNDING:
            fallen = 1.0
        if p < self.rise_fraction:
            height = p / self.rise_fraction
        elif p < fallen:
            height = (fallen - p) / self.fall_fraction
        else:
            height = 0.0
        if p > fallen:
            lr = curve(self.min_lr, self.final_fraction * self.min_lr, (p - fallen) / (1.0 - fallen))
        else:
            lr = curve(self.min_lr, self.max_lr, height)
        values = {"lr": lr}
        if self.min_momentum is not None and self.max_momentum is not None:
            values["momentum"] = curve(self.max_momentum, self.min_momentum, height)
        return values
