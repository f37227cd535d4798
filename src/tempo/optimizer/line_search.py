"""Line search: a step along a direction that meets the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

_EXPANSION = 4.0
_ZOOM_EDGE = 0.1
"""Distance of a trial from the bracket's ends, as a fraction of its width, so that the bracket shrinks."""


@dataclass(frozen=True)
class Point:
    """Value `phi(t) = f(x + t p)`, slope `phi'(t) = g(x + t p) . p` and gradient g `[n]` at t."""

    t: float
    value: float
    slope: float
    gradient: Tensor


Line = Callable[[float], Point]


def strong_wolfe(line: Line, start: Point, t: float, *, c1: float, c2: float, max_trials: int) -> Point:
    """Return the first point found with `phi(t) <= phi(0) + c1 t phi'(0)` and `|phi'(t)| <= c2 |phi'(0)|`.

    Nocedal & Wright 2006, algorithms 3.5 (widen until a minimum is bracketed) and 3.6 (narrow down), with
    cubic interpolation (eq. 3.59).

    Args:
        line: computes the point at t.
        start: the point at t = 0.
        t: tried first, above 0.
        c1, c2: sufficient decrease and curvature, 0 < c1 < c2 < 1.
        max_trials: largest number of points; if they do not suffice, the lowest of them is returned, or
            `start` if none is lower.

    Raises:
        ValueError: f does not fall along the direction.
    """
    if not start.slope < 0:
        raise ValueError(f"the slope {start.slope:.3g} along the direction is not below 0")
    search = _Search(line, start, c1, c2, max_trials)
    found = search.bracket(t)
    if isinstance(found, tuple):
        found = search.zoom(*found)
    return search.best if found is None else found


class _Search:
    """Trials along a line: how many are left, and the lowest point so far."""

    def __init__(self, line: Line, start: Point, c1: float, c2: float, max_trials: int) -> None:
        self.line, self.start, self.c1, self.c2 = line, start, c1, c2
        self.trials_left = max_trials
        self.best = start

    def bracket(self, t: float) -> Point | tuple[Point, Point] | None:
        """Return an acceptable point, or the lower and higher end of a bracket (algorithm 3.5)."""
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
        """Return an acceptable point within the bracket (algorithm 3.6)."""
        while self.trials_left:
            t = _between(low, high)
            if t in (low.t, high.t):
                break  # the bracket is as narrow as floating point allows
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
        # `not <=` instead of `>`: NaN counts as too high.
        return not point.value <= self.start.value + self.c1 * point.t * self.start.slope

    def _flat_enough(self, point: Point) -> bool:
        return abs(point.slope) <= -self.c2 * self.start.slope


def _between(one: Point, other: Point) -> float:
    """Return the minimum of the cubic through both points and slopes, away from the ends, or the middle."""
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
