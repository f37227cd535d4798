"""The values that each stage tries, in the order of preference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tempo.report.number_format import human
from tempo.tuning.choice import Candidate
from tempo.tuning.proposal import BOUNDS_RATIO, EDGE_MARGIN, Proposal, rounded_down, two_digits

SMALL_DATA = 10_000
"""Training images below which a data set counts as simple, so that it needs more regularisation."""
MUCH_LARGER = 2.0
CONSTANT = ("scheduler.min_momentum=null", "scheduler.max_momentum=null")


def bounds(proposal: Proposal) -> list[Candidate]:
    """The bounds that a range test proposes; before them larger ones where its curve leaves room for them."""
    proposed = proposal.max_lr or 0.0
    edge = proposal.points.edge if proposal.points else None
    larger = [] if edge is None or edge / EDGE_MARGIN < MUCH_LARGER * proposed else [edge / EDGE_MARGIN]
    return [_cycle(max_lr) for max_lr in (*map(rounded_down, larger), proposed)]


def _cycle(max_lr: float) -> Candidate:
    low, high = number(two_digits(max_lr / BOUNDS_RATIO)), number(max_lr)
    overrides = (f"scheduler.min_lr={low}", f"scheduler.max_lr={high}")
    return Candidate(f"{low} to {high}", overrides, [float(low), float(high)])


def momenta(optimizer: Mapping[str, Any], values: Sequence[float]) -> list[Candidate]:
    """Cyclical momentum first: it is what the paper recommends."""
    if not optimizer.get("momentum"):
        return [Candidate("left alone", CONSTANT, None, outcome="the optimizer has no momentum to choose")]
    constant = [
        Candidate(f"momentum {number(each)}", (f"optimizer.momentum={number(each)}", *CONSTANT), each)
        for each in values
    ]
    return [Candidate("cyclical 0.95 to 0.85", (), "cyclical"), *constant]


def weight_decays(
    values: Sequence[float] | Literal["auto"], *, deep: bool, train_images: int
) -> list[Candidate]:
    """Less for a deep network than for a shallow one, more for little data."""
    if values == "auto":
        values = [1e-3, 1e-2, 1e-4]
        if deep:
            values = [1e-4, 1e-3, 1e-5, 0.0] if train_images < SMALL_DATA else [1e-4, 1e-5, 1e-6, 0.0]
    return [Candidate(f"wd {number(each)}", (f"optimizer.wd={number(each)}",), each) for each in values]


def batch_sizes(
    values: Sequence[int] | Literal["auto"], config: Mapping[str, Any], train_images: int
) -> list[Candidate]:
    """The total batch size as it is, its double, its half: those that the devices can share."""
    own, trainer = int(config["data"]["total_batch_size"]), config["trainer"]
    parts = trainer["devices"] * trainer["num_nodes"] * trainer["accumulate"]
    sizes = [own, 2 * own, own // 2] if values == "auto" else list(values)
    kept = [each for each in sizes if each >= parts and each % parts == 0 and each <= train_images // 4]
    return [Candidate(f"TBS {each}", (f"data.total_batch_size={each}",), each) for each in kept or [own]]


def number(value: float) -> str:
    """A number as an override takes it."""
    return human(float(value))
