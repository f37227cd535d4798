"""When a run counts as diverged, computed by hand, and when early stopping ends it."""

from __future__ import annotations

import math

import pytest

from tempo.trainer.stopping_rules import Diverged, DivergenceWatch
from tests.conftest import Train


def step_of_divergence(losses: list[float], factor: float | None, classes: int = 10) -> int | None:
    try:
        DivergenceWatch(factor, classes).look(0, losses)
    except Diverged as end:
        return end.step
    return None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("factor", [None, 10.0])
def test_a_loss_that_is_not_finite_ends_the_run_at_once(bad: float, factor: float | None) -> None:
    assert step_of_divergence([2.3, 2.2, bad, 2.0], factor) == 2


def test_a_jump_is_found_when_the_running_mean_crosses_the_bound() -> None:
    """s_n = 100 - 98 * 0.9^n after n losses of 100 that follow a loss of 2; bound 10 * ln 10 = 23.03."""
    bound = 10 * math.log(10)
    n = next(n for n in range(1, 99) if 100 - 98 * 0.9**n > bound)
    assert step_of_divergence([2.0] + [100.0] * 50, 10.0) == n == 3


def test_the_bound_follows_a_best_loss_above_that_of_guessing() -> None:
    """With a best loss of 8 > ln 10 the bound is 10 * 8: a constant 79 stays below, 81 does not."""
    assert step_of_divergence([8.0] + [79.0] * 2000, 10.0) is None
    assert step_of_divergence([8.0] + [81.0] * 2000, 10.0) is not None


def test_a_loss_near_zero_may_rise() -> None:
    """1e-6 to 2 is a factor of two million, and still below guessing."""
    assert step_of_divergence([1e-6] * 50 + [2.0] * 200, 10.0) is None


def test_without_a_factor_only_nan_and_infinity_count() -> None:
    assert step_of_divergence([2.0] + [1e30] * 100, None) is None


def test_the_step_is_counted_from_the_start_of_the_run() -> None:
    with pytest.raises(Diverged, match="diverged at step 42: loss nan") as caught:
        DivergenceWatch(10.0, 10).look(40, [1.0, 1.0, math.nan])
    assert caught.value.step == 42
    assert math.isnan(caught.value.loss)


def test_chunks_and_restarts_change_nothing() -> None:
    losses = [2.3 - 0.01 * n for n in range(30)] + [30.0] * 30
    expected = step_of_divergence(losses, 10.0)
    assert expected is not None
    assert expected > 35, "no restart happens between the rise and its discovery"
    watch = DivergenceWatch(10.0, 10)
    with pytest.raises(Diverged) as caught:
        for first in range(0, len(losses), 7):
            again = DivergenceWatch(10.0, 10)
            again.load_state_dict(watch.state_dict())
            watch = again
            watch.look(first, losses[first : first + 7])
    assert caught.value.step == expected


def test_early_stopping_waits_as_long_as_it_says(train: Train) -> None:
    trained = train("early_stopping.patience=2", "early_stopping.min_delta=0.5", "trainer.epochs=9")
    values = [row["val/accuracy"] for row in trained.rows() if "val/accuracy" in row]
    best, waited, stops_after = -math.inf, 0, 9
    for epoch, value in enumerate([*values, *[-1.0] * 9], start=1):
        best, waited = (value, 0) if value - best > 0.5 else (best, waited + 1)
        if waited == 2:
            stops_after = epoch
            break
    assert len(values) == stops_after < 9
    assert trained.record.steps == 5 * stops_after
    assert trained.record.status == "completed"
