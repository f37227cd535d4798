"""The values that each stage tries, in order of preference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tempo.config.schema import RunConfig
from tempo.report.number_format import human
from tempo.tuning.choice import Candidate
from tempo.tuning.range_proposal import BOUNDS_RATIO, EDGE_MARGIN, Proposal, rounded_down, two_digits

SMALL_DATA = 10_000
"""Data sets with fewer training images than this need more regularisation."""
MUCH_LARGER = 2.0
CONSTANT = ("scheduler.min_momentum=null", "scheduler.max_momentum=null")


def learning_rates(proposal: Proposal) -> list[Candidate]:
    """Return the bounds that a range test proposes, preceded by larger ones if its curve allows them."""
    rates = [proposal.max_lr or 0.0]
    edge = proposal.points.edge if proposal.points else None
    if edge is not None and edge / EDGE_MARGIN >= MUCH_LARGER * rates[0]:
        rates.insert(0, rounded_down(edge / EDGE_MARGIN))
    return [_bounds(max_lr) for max_lr in rates]


def _bounds(max_lr: float) -> Candidate:
    low, high = number(two_digits(max_lr / BOUNDS_RATIO)), number(max_lr)
    overrides = (f"scheduler.min_lr={low}", f"scheduler.max_lr={high}")
    return Candidate(f"{low} to {high}", overrides, [float(low), float(high)])


def momenta(config: RunConfig, values: Sequence[float]) -> list[Candidate]:
    """Return cyclical momentum, which the paper recommends, before the constant values."""
    if not config.optimizer.get("momentum"):
        return [Candidate("left alone", CONSTANT, None, outcome="the optimizer has no momentum to choose")]
    constant = [
        Candidate(
            f"momentum {number(momentum)}", (f"optimizer.momentum={number(momentum)}", *CONSTANT), momentum
        )
        for momentum in values
    ]
    return [Candidate("cyclical 0.95 to 0.85", (), "cyclical"), *constant]


def weight_decays(
    values: Sequence[float] | Literal["auto"], *, deep: bool, train_images: int
) -> list[Candidate]:
    """Return smaller decays for a deep network than for a shallow one, and larger ones for little data."""
    if values == "auto":
        values = [1e-3, 1e-2, 1e-4]
        if deep:
            values = [1e-4, 1e-3, 1e-5, 0.0] if train_images < SMALL_DATA else [1e-4, 1e-5, 1e-6, 0.0]
    return [Candidate(f"wd {number(decay)}", (f"optimizer.wd={number(decay)}",), decay) for decay in values]


def batch_sizes(
    values: Sequence[int] | Literal["auto"], config: RunConfig, train_images: int
) -> list[Candidate]:
    """Return the total batch size, its double and its half, or `values`, if the devices can share them."""
    own = config.data.total_batch_size
    shares = config.trainer.processes * config.trainer.accumulate
    sizes = [own, 2 * own, own // 2] if values == "auto" else values
    kept = [size for size in sizes if size >= shares and size % shares == 0 and size <= train_images // 4]
    return [Candidate(f"TBS {size}", (f"data.total_batch_size={size}",), size) for size in kept or [own]]


def number(value: float) -> str:
    """Return a number as the text of an override."""
    return human(float(value))
