"""Find the points of a range test's curve, and propose bounds of the learning rate from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tempo.report.load_runs import Array
from tempo.report.number_format import human
from tempo.tuning.range_curve import SmoothCurve, lag_steps

FEWEST_POINTS = 50
CLEAR_FALL = 0.1
"""Share of its starting value by which the loss must fall to support a proposal."""
FIRST_FALL = 0.1
"""Share of the whole fall after which the loss counts as falling."""
TURN_RISE = 0.1
"""Share of its fall that the loss has climbed back when it counts as turned up."""
EDGE_RISE = 0.5
"""Share of its fall that the loss has climbed back at the edge of divergence."""
TAIL_DECADES, TAIL_FALL = 0.5, 0.05
"""The loss counts as still falling if more than this share of its fall is in the last half decade."""
AT_ONCE_DECADES = 0.5
"""An explosion within this many powers of ten of the smallest rate counts as immediate."""
EDGE_MARGIN = 4.0
BOUNDS_RATIO = 10.0
RULE_MAX = (
    f"the largest LR before the smoothed loss turns up (by {TURN_RISE:.0%} of its fall), "
    f"at most 1/{EDGE_MARGIN:g} of the edge of divergence"
)
RULE_MIN = f"max_lr / {BOUNDS_RATIO:g}, the ratio of radiuk2020 (0.1 to 1)"


@dataclass(frozen=True)
class Points:
    """Learning rates of a smoothed curve's points; `*_loss` are smoothed losses.

    At `falls_at` a tenth of the fall is done. At `steepest` the slope of the loss against log10(LR) is least,
    `steepest_slope` per decade. At `minimum` the loss is lowest. At `turn` a tenth of the fall is climbed
    back; at `edge` half of it is, or the run diverged. These two are None if not reached within the range.
    """

    start_loss: float
    falls_at: float
    steepest: float
    steepest_slope: float
    minimum: float
    minimum_loss: float
    turn: float | None
    edge: float | None
    edge_reason: str


@dataclass(frozen=True)
class Proposal:
    """Bounds for 1cycle with their reasons; or else `why_not`, and the overrides for a better test."""

    points: Points | None
    min_lr: float | None = None
    max_lr: float | None = None
    min_lr_reason: str = ""
    max_lr_reason: str = ""
    notes: tuple[str, ...] = ()
    why_not: str = ""
    go_on: str = ""

    @property
    def supported(self) -> bool:
        """Whether the curve supports bounds."""
        return self.max_lr is not None


def points_of(curve: SmoothCurve) -> Points:
    """Find the points of a curve of at least 3 values."""
    lowest = int(np.argmin(curve.loss))
    low = float(curve.loss[lowest])
    fall = curve.start - low
    begun = np.flatnonzero(curve.loss[: lowest + 1] <= curve.start - FIRST_FALL * fall)
    slopes = slope_per_decade(curve)
    steepest = int(np.argmin(slopes[: lowest + 1]))
    # If the loss has hardly fallen, noise alone can climb half of the fall back.
    rise = max(EDGE_RISE * fall, CLEAR_FALL * abs(curve.start))
    back = np.flatnonzero(curve.loss[lowest:] > low + rise) + lowest
    turned = np.flatnonzero(curve.loss[lowest:] > low + TURN_RISE * rise / EDGE_RISE) + lowest
    edge, reason = None, ""
    if len(back):
        edge, reason = float(curve.lr[back[0]]), "the smoothed loss has climbed back half of its fall"
    elif curve.diverged:
        edge, reason = curve.last_lr, "the run diverged"
    return Points(
        start_loss=curve.start,
        falls_at=float(curve.lr[begun[0] if len(begun) else 0]),
        steepest=float(curve.lr[steepest]),
        steepest_slope=float(slopes[steepest]),
        minimum=float(curve.lr[lowest]),
        minimum_loss=low,
        turn=float(curve.lr[turned[0]]) if len(turned) else None,
        edge=edge,
        edge_reason=reason,
    )


def slope_per_decade(curve: SmoothCurve) -> Array:
    """Return the loss's slope on log10(LR): central differences over a fifth of a decade."""
    n, half = len(curve.lr), lag_steps(curve.lr)
    left, right = np.maximum(np.arange(n) - half, 0), np.minimum(np.arange(n) + half, n - 1)
    x = np.log10(curve.lr)
    slopes: Array = (curve.loss[right] - curve.loss[left]) / (x[right] - x[left])
    return slopes


def propose(curve: SmoothCurve, steps: int, lowest_lr: float) -> Proposal:
    """Propose bounds from a smoothed curve, by the same two rules for every curve.

    max_lr is the largest LR before the smoothed loss turns up by a tenth of its fall (the "large" LR that
    still trains, arXiv:1506.01186 section 3.3, radiuk2020), but at most a quarter of the edge of divergence.
    The loss takes some steps to explode, so the edge is found late, and a rate at which a network only begins
    to diverge may still be too large for a long training. If the loss stays flat to the end of the range,
    max_lr is the LR of the minimum. min_lr is a tenth of max_lr.

    `steps` and `lowest_lr` describe the test, for the overrides that are proposed instead of bounds.
    """
    points = points_of(curve)
    if problem := _unsupported(curve, points, steps, lowest_lr):
        return Proposal(points, why_not=problem[0], go_on=problem[1])
    largest, reason = _largest(points)
    max_lr = rounded_down(largest)
    notes = []
    if points.edge is None:
        notes.append(f"the edge of divergence is above {_lr(curve.last_lr)}, the largest LR tried")
    if points.falls_at < lowest_lr * 10**AT_ONCE_DECADES:
        notes.append("the loss falls from the smallest LR on, so the test does not show what is below it")
    if max_lr < points.falls_at:
        notes.append("the loss falls clearly only above max_lr: the rate rose too fast, take more steps")
    return Proposal(
        points,
        min_lr=two_digits(max_lr / BOUNDS_RATIO),
        max_lr=max_lr,
        min_lr_reason=f"{RULE_MIN}; the loss begins to fall at {_lr(points.falls_at)}",
        max_lr_reason=reason,
        notes=tuple(notes),
    )


def _largest(points: Points) -> tuple[float, str]:
    """Return the largest rate that the rule for max_lr allows, and the reason."""
    if points.edge is not None and points.edge / EDGE_MARGIN < (points.turn or points.edge):
        reason = f"1/{EDGE_MARGIN:g} of the edge of divergence, {_lr(points.edge)} ({points.edge_reason})"
        return points.edge / EDGE_MARGIN, reason
    if points.turn is not None:
        return points.turn, (
            f"above it the smoothed loss turns up, by {TURN_RISE:.0%} of its fall; lowest is "
            f"{points.minimum_loss:.3g} at {_lr(points.minimum)}"
        )
    return points.minimum, f"the smoothed loss is lowest there ({points.minimum_loss:.3g}), then flat"


def too_short(points: int, diverged_after_decades: float | None, steps: int, lowest_lr: float) -> Proposal:
    """Explain a curve with too few points; `diverged_after_decades` is None if the run did not diverge."""
    if diverged_after_decades is not None and diverged_after_decades < AT_ONCE_DECADES:
        return Proposal(
            None,
            why_not=f"the run diverged after {points} steps, so even the smallest LR is too large",
            go_on=f"scheduler.min_lr={_lr(lowest_lr / 1000)}",
        )
    return Proposal(
        None,
        why_not=f"the curve has {points} points, but needs at least {FEWEST_POINTS}",
        go_on=f"trainer.max_steps={max(300, 2 * steps)} trainer.log_every_n_steps=1",
    )


def _unsupported(curve: SmoothCurve, points: Points, steps: int, lowest_lr: float) -> tuple[str, str] | None:
    """Return why a curve supports no bounds, and overrides for a better test; None if it supports some."""
    fall = points.start_loss - points.minimum_loss
    higher = f"scheduler.max_lr={_lr(100 * curve.last_lr)}"
    if fall < CLEAR_FALL * max(abs(points.start_loss), 1e-12):
        if points.edge is None:
            why = f"the loss never falls by {CLEAR_FALL:.0%} of its start, and does not explode either"
            return why, higher
        if math.log10(points.edge / lowest_lr) < AT_ONCE_DECADES:
            return (
                f"the loss explodes at {_lr(points.edge)}, near the smallest LR, and never falls",
                f"scheduler.min_lr={_lr(lowest_lr / 1000)}",
            )
        return (
            f"the loss never falls by {CLEAR_FALL:.0%} of its start before it explodes at "
            f"{_lr(points.edge)}: too few steps, or nothing that can be learnt",
            f"trainer.max_steps={4 * steps}",
        )
    before_end = int(np.searchsorted(curve.lr, curve.lr[-1] / 10**TAIL_DECADES))
    still_falling = curve.loss[before_end] - curve.loss[-1] > TAIL_FALL * fall
    if points.turn is None and points.edge is None and still_falling:
        return "the loss still falls at the largest LR: no minimum inside the range", higher
    return None


def two_digits(value: float) -> float:
    """Round to two significant digits, the precision of a range test."""
    return float(f"{value:.2g}")


def rounded_down(value: float) -> float:
    """Round down to two significant digits."""
    near = two_digits(value)
    return near if near <= value else float(f"{near - 10 ** (math.floor(math.log10(value)) - 1):.2g}")


def _lr(value: float) -> str:
    return human(two_digits(value))
