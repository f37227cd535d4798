"""How far to go along a direction: a step that meets the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

_EXPANSION = 4.0
_ZOOM_EDGE = 0.1
"""A trial keeps this share of the bracket's width from its ends, so that the bracket shrinks."""


@dataclass(frozen=True)
class Point:
    """`phi(t) = f(x + t p)` with its slope `phi'(t) = g(x + t p) . p`."""

    t: float
    value: float
    slope: float
    gradient: Tensor


Line = Callable[[float], Point]


def strong_wolfe(line: Line, start: Point, t: float, *, c1: float, c2: float, max_trials: int) -> Point:
    """The first t found with `phi(t) <= phi(0) + c1 t phi'(0)` and `|phi'(t)| <= c2 |phi'(0)|`.

    Nocedal & Wright 2006, algorithms 3.5 (widen until a minimum is bracketed) and 3.6 (narrow down), with
    cubic interpolation (eq. 3.59). `t` is tried first. Where `max_trials` trials do not suffice, the lowest
    point that was seen comes back: `start` itself if nothing was lower.

    Raises ValueError for a direction in which f does not fall.
    """
    if not start.slope < 0:
        raise ValueError(f"the slope {start.slope:.3g} along the direction is not below 0")
    search = _Search(line, start, c1, c2, max_trials)
    found = search.bracket(t)
    if isinstance(found, tuple):
        found = search.zoom(*found)
    return search.best if found is None else found


class _Search:
    """Trials along a line, their number, and the best of them."""

    def __init__(self, line: Line, start: Point, c1: float, c2: float, max_trials: int) -> None:
        self.line, self.start, self.c1, self.c2 = line, start, c1, c2
        self.trials_left = max_trials
        self.best = start

    def bracket(self, t: float) -> Point | tuple[Point, Point] | None:
        """Algorithm 3.5: a point that will do, or the lower and the higher end of a bracket."""
        last = self.start
        while self.trials_left:
            point = self._try(t)
            if self._too_high(point) or (last is not self.start and point.value >= last.value):
                return last, point
            if self._flat_enough(point):
                return point
            if point.slope >= 0:
                return point, last
            last, t = point, _EXPANSION * t
        return None

    def zoom(self, low: Point, high: Point) -> Point | None:
        """Algorithm 3.6: a point within the bracket that will do."""
        while self.trials_left:
            t = _between(low, high)
            if t in (low.t, high.t):
                break  # the bracket is as narrow as the numbers are fine
            point = self._try(t)
            if self._too_high(point) or point.value >= low.value:
                high = point
                continue
            if self._flat_enough(point):
                return point
            if point.slope * (high.t - low.t) >= 0:
                high = low
            low = point
        return None

    def _try(self, t: float) -> Point:
        self.trials_left -= 1
        point = self.line(t)
        if point.value < self.best.value:
            self.best = point
        return point

    def _too_high(self, point: Point) -> bool:
        # In this form a value that is not a number is too high.
        return not point.value <= self.start.value + self.c1 * point.t * self.start.slope

    def _flat_enough(self, point: Point) -> bool:
        return abs(point.slope) <= -self.c2 * self.start.slope


def _between(one: Point, other: Point) -> float:
    """The minimum of the cubic through both points and slopes, kept off the ends; the middle without one."""
    width = other.t - one.t
    middle = one.t + 0.5 * width
    d1 = one.slope + other.slope - 3 * (one.value - other.value) / (one.t - other.t)
    under_root = d1 * d1 - one.slope * other.slope
    if not (math.isfinite(under_root) and under_root >= 0):
        return middle
    d2 = math.copysign(math.sqrt(under_root), width)
    below = other.slope - one.slope + 2 * d2
    if below == 0:
        return middle
    t = other.t - width * (other.slope + d2 - d1) / below
    edges = sorted((one.t + _ZOOM_EDGE * width, other.t - _ZOOM_EDGE * width))
    return min(max(t, edges[0]), edges[1]) if math.isfinite(t) else middle
