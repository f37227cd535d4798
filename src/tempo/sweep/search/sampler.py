"""Draw the next point of a search with Optuna's samplers, but never the same point twice."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from tempo.sweep.search.space import Axis, Choice, Numbers, Point, Space

MOST_TRIES = 20
"""Number of draws by Optuna's sampler before a new point is drawn at random."""


class DistinctSampler(BaseSampler):
    """Draws whole points that are new to the study.

    The draw of trial n depends only on the seed, n and the study's trials, so a resumed search draws the same
    points. If a sampler keeps proposing known points, as it may after finding the best of a finite space, a
    random draw from the remaining points replaces it.
    """

    def __init__(self, space: Space, name: str, seed: int, startup_trials: int) -> None:
        self.space = space
        self.distributions = distributions(space)
        self.name = name
        self.seed = seed
        self.startup_trials = startup_trials
        self.known: set[Point] = set()
        """Points of all trials; Hyperband shows a sampler only some of them."""

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all axes, since they are drawn together."""
        return dict(self.distributions)

    def sample_relative(
        self, study: Any, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the values of a new point, by axis."""
        bits = np.random.SeedSequence([self.seed, trial.number])
        inner = self._optunas_sampler(int(bits.generate_state(1)[0]))
        for _ in range(MOST_TRIES):
            values = self._propose(inner, study, trial)
            if self.space.point(values) not in self.known:
                return values
        return self._draw_unknown(np.random.default_rng(bits))

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Raise AssertionError; never called, because `sample_relative` draws every axis."""
        raise AssertionError(f"{param_name} is drawn with all axes, by sample_relative")

    def _optunas_sampler(self, seed: int) -> BaseSampler:
        startup = self.startup_trials
        if self.name == "tpe":
            return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=False)
        if self.name == "gp":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # raised by Optuna 4
                return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        return RandomSampler(seed=seed)

    def _propose(self, inner: BaseSampler, study: Any, trial: FrozenTrial) -> dict[str, Any]:
        # Only the Gaussian process uses torch, whose threads `_one_thread` limits.
        with _one_thread() if self.name == "gp" else contextlib.nullcontext(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            known = inner.infer_relative_search_space(study, trial)
            drawn = inner.sample_relative(study, trial, known)
            for name, distribution in self.distributions.items():
                if name not in drawn:
                    drawn[name] = inner.sample_independent(study, trial, name, distribution)
        return self.space.rounded(drawn)

    def _draw_unknown(self, generator: np.random.Generator) -> dict[str, Any]:
        """Return one of the remaining points, all equally likely."""
        if self.space.size is None:  # in a continuous space, any random point is almost surely new
            axes = zip(self.space.names, self.space.axes, strict=True)
            return self.space.rounded({name: _uniform(axis, generator) for name, axis in axes})
        known = sorted(self._number(point) for point in self.known)
        number = int(generator.integers(self.space.size - len(known)))
        for taken in known:  # turn the number among remaining points into one among all points
            number += taken <= number
        values = []
        for axis in reversed(self.space.axes):
            assert axis.size is not None
            number, index = divmod(number, axis.size)
            values.append(axis.value(index))
        return dict(zip(self.space.names, reversed(values), strict=True))

    def _number(self, point: Point) -> int:
        """Return the number of a point in a finite space; the last axis varies fastest."""
        number = 0
        for axis, value in zip(self.space.axes, point, strict=True):
            assert axis.size is not None
            number = number * axis.size + axis.index(value)
        return number


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the space as Optuna's distributions."""
    return {name: _distribution(axis) for name, axis in zip(space.names, space.axes, strict=True)}


def _distribution(axis: Axis) -> BaseDistribution:
    if isinstance(axis, Choice):
        return CategoricalDistribution(axis.values)
    if isinstance(axis.low, int) and isinstance(axis.high, int) and isinstance(axis.step, int):
        return IntDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
    return FloatDistribution(axis.low, axis.high, log=axis.log and axis.step is None, step=axis.step)


def _uniform(axis: Axis, generator: np.random.Generator) -> Any:
    if axis.size is not None:
        return axis.value(int(generator.integers(axis.size)))
    assert isinstance(axis, Numbers)
    if axis.log:
        return float(np.exp(generator.uniform(np.log(axis.low), np.log(axis.high))))
    return float(generator.uniform(axis.low, axis.high))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread: launchers fork jobs, and a process with more threads must not fork."""
    torch = importlib.import_module("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
