"""What is left, what still fits, and what an epoch and a run cost."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tempo.errors import UserError
from tempo.record.run_json import RunRecord
from tempo.tuning.budget import LEAST_SECONDS_A_RUN, Budget
from tempo.tuning.plan import RUNS_OF, SAFETY, Price
from tempo.tuning.settings import TuneSettings
from tempo.tuning.stage_run import StageRunner
from tests.tuning.test_plan import NODE, WANTED


def budget_of(spent_seconds: float = 0.0, **settings: Any) -> Budget:
    made = Budget(TuneSettings.of({**NODE, **settings}), StageRunner(Path(), []))
    made.started = time.perf_counter() - spent_seconds
    made.plan = WANTED
    return made


def test_minutes_are_those_of_the_clock_over_all_calls() -> None:
    budget = budget_of(100, budget_minutes=3.0)
    budget.seconds_before = 50
    assert budget.left == pytest.approx(30, abs=5)
    budget.price = Price("seconds", 3.0, 4.0)
    assert budget.fits(5, 1)
    assert not budget.fits(8, 2)


def test_epochs_are_those_of_the_runs() -> None:
    budget = budget_of(1000, budget_epochs=30)
    budget.runner.epochs = 10.5
    assert budget.left == 19.5
    assert (budget.fits(19.5, 9), budget.fits(19.6, 1)) == (True, False)
    assert budget_of().left is None
    assert budget_of().fits(1e9, 1)


def test_what_is_to_come_is_cut_to_what_is_left() -> None:
    """Weight decay 4 x 3, batch size 3 x 3, 6 full runs of 12 epochs."""
    budget = budget_of(budget_epochs=100)
    over = ["learning rate", "momentum"]
    assert budget.cut_rest(over, 0, 0) == []
    budget.runner.epochs = 55
    (line,) = budget.cut_rest(over, 0, 0)
    assert line.startswith(
        "comparison with 1 seed instead of 3: 93 epochs are more than the 45 epochs left; 45"
    )
    assert budget.plan == replace(WANTED, compare_seeds=1)
    assert budget.cuts == [line]


def test_what_an_earlier_call_has_done_of_it_is_not_counted_again() -> None:
    budget = budget_of(budget_epochs=100)
    budget.runner.epochs = 55
    assert budget.cut_rest(["learning rate", "momentum"], 48, 4) == []


def test_a_spent_budget_is_one_line() -> None:
    budget = budget_of(budget_epochs=100)
    budget.runner.epochs = 99.5
    with pytest.raises(UserError, match=r"^0.5 epochs of the budget are left, .* tune.budget_epochs=101$"):
        budget.cut_rest(list(RUNS_OF), 0, 0)


def test_a_comparison_that_must_end() -> None:
    budget = budget_of(budget_epochs=100)
    budget.runner.epochs = 90
    said = budget.stop_comparison(2)
    assert said.startswith("comparison with 2 seeds instead of 3: 10 epochs are left")
    assert budget.plan == replace(WANTED, compare_seeds=2)
    assert budget.cuts == [said]


def record(epochs: float, train: float, test: float = 1.0, status: str = "completed") -> RunRecord:
    made = RunRecord(config={}, config_hash="", overrides=[], seed=0, status=status, epochs=epochs)
    made.seconds = {"startup": 0.5, "train": train, "test": test}
    return made


def test_the_price_is_that_of_the_runs_so_far() -> None:
    """Two epochs: 6 s of training, 2 x 0.5 s of validation, 10 s by the clock, so 3 s besides."""
    budget = budget_of(budget_minutes=9.0)
    budget.runner.fresh = [(record(0.5, 9.0), 20.0)]
    budget.measure(0.5)
    assert budget.price.per_epoch == pytest.approx(SAFETY * (9.0 + 0.25) / 0.5)  # the probe is all there is
    budget.runner.fresh.append((record(2.0, 6.0), 10.0))
    budget.measure(0.5)
    assert budget.price == Price("seconds", pytest.approx(SAFETY * 3.5), pytest.approx(SAFETY * 3.0))
    budget.runner.fresh.append((record(1.0, 90.0, status="diverged"), 91.0))
    budget.measure(0.5)
    assert budget.price.per_run == pytest.approx(SAFETY * 3.0)


def test_a_run_is_never_free() -> None:
    budget = budget_of(budget_minutes=9.0)
    budget.runner.fresh = [(record(2.0, 6.0), 6.1)]
    budget.measure(0.5)
    assert budget.price.per_run == SAFETY * LEAST_SECONDS_A_RUN


def test_epochs_have_one_price() -> None:
    budget = budget_of(budget_epochs=9)
    budget.runner.fresh = [(record(2.0, 6.0), 10.0)]
    budget.measure(0.5)
    assert budget.price == Price("epochs", 1.0, 0.0)
