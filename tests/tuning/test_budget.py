"""What is left of a budget, what still fits, and the measured price of an epoch and a run."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tempo.errors import UserError
from tempo.record.run_json import RunRecord
from tempo.tuning.budget import LEAST_SECONDS_PER_RUN, SAFETY, Budget
from tempo.tuning.plan import RUNS_OF, Price
from tempo.tuning.stage_runs import StageRuns
from tempo.tuning.tune_settings import TuneSettings
from tests.tuning.test_plan import WANTED


def budget_of(spent_epochs: float = 0.0, **settings: Any) -> Budget:
    budget = Budget(TuneSettings(**settings), StageRuns(Path(), []))
    budget.runs.epochs = spent_epochs
    budget.plan = WANTED
    return budget


def test_minutes_are_wall_clock_time_of_all_calls() -> None:
    budget = budget_of(budget_minutes=3.0)
    budget.started = time.perf_counter() - 100
    budget.seconds_before = 50
    assert budget.left == pytest.approx(30, abs=5)
    budget.price = Price("seconds", 3.0, 4.0)
    assert budget.fits(5, 1)
    assert not budget.fits(8, 2)


def test_epochs_are_those_of_the_runs() -> None:
    budget = budget_of(10.5, budget_epochs=30)
    assert budget.left == 19.5
    assert (budget.fits(19.5, 9), budget.fits(19.6, 1)) == (True, False)
    assert budget_of().left is None
    assert budget_of().fits(1e9, 1)


def test_the_rest_is_cut_to_what_is_left() -> None:
    """Weight decay 4 x 3, batch size 3 x 3, 6 full runs of 12 epochs: 93 of 100 epochs."""
    finished = ["learning rate", "momentum"]
    assert budget_of(0, budget_epochs=100).cut_rest(finished, 0, 0) == []
    budget = budget_of(55, budget_epochs=100)
    (line,) = budget.cut_rest(finished, 0, 0)
    expected = "comparison with 1 seed instead of 3: 93 epochs are more than the 45 epochs left; 45"
    assert line.startswith(expected)
    assert budget.plan == replace(WANTED, compare_seeds=1)
    assert budget.cuts == [line]
    # 48 of the 55 epochs were spent on the rest, by an earlier call.
    assert budget_of(55, budget_epochs=100).cut_rest(finished, 48, 4) == []


def test_a_spent_budget_is_one_line() -> None:
    budget = budget_of(99.5, budget_epochs=100)
    with pytest.raises(UserError, match=r"^0.5 epochs of the budget are left, .* tune.budget_epochs=101$"):
        budget.cut_rest(list(RUNS_OF), 0, 0)


def test_a_comparison_that_must_end_early() -> None:
    budget = budget_of(90, budget_epochs=100)
    line = budget.limit("compare_seeds", 2)
    assert line.startswith("comparison with 2 seeds instead of 3: 10 epochs are left")
    assert budget.plan == replace(WANTED, compare_seeds=2)
    assert budget.cuts == [line]


def record(epochs: float, train: float, status: str = "completed") -> RunRecord:
    made = RunRecord(config={}, config_hash="", overrides=[], seed=0, status=status, epochs=epochs)
    made.seconds = {"startup": 0.5, "train": train, "test": 1.0}
    return made


def test_the_price_is_measured_by_the_runs_so_far() -> None:
    """Two epochs: 6 s of training, 2 x 0.5 s of validation, 10 s by the clock, so 3 s on top."""
    budget = budget_of(budget_minutes=9.0)
    budget.runs.fresh = [(record(0.5, 9.0), 20.0)]
    budget.measure(0.5)
    assert budget.price.per_epoch == pytest.approx(SAFETY * (9.0 + 0.25) / 0.5)  # only the speed run so far
    budget.runs.fresh.append((record(2.0, 6.0), 10.0))
    budget.measure(0.5)
    assert budget.price == Price("seconds", pytest.approx(SAFETY * 3.5), pytest.approx(SAFETY * 3.0))
    budget.runs.fresh.append((record(1.0, 90.0, status="diverged"), 91.0))
    budget.measure(0.5)
    assert budget.price.per_run == pytest.approx(SAFETY * 3.0)


def test_a_run_is_never_free_and_an_epoch_costs_an_epoch() -> None:
    for settings, price in (
        ({"budget_minutes": 9.0}, Price("seconds", SAFETY * 3.5, SAFETY * LEAST_SECONDS_PER_RUN)),
        ({"budget_epochs": 9}, Price("epochs")),
    ):
        budget = budget_of(**settings)  # type: ignore[arg-type]
        budget.runs.fresh = [(record(2.0, 6.0), 6.1)]
        budget.measure(0.5)
        assert budget.price == price
