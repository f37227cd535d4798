"""Budgets: the plan is cut in a known order, and never costs more than there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tempo.errors import UserError
from tempo.study.plan import Cost, Plan, fitted
from tempo.tune_settings import TuneSettings
from tests.jobs import CONF

WANTED = Plan(
    range_epochs=15.0,
    short_epochs=3,
    short_seeds=1,
    lr_runs=0,
    momentum_runs=5,
    decay_runs=4,
    batch_runs=3,
    final_epochs=12,
    compare_seeds=3,
)
NODE = {
    "budget_epochs": None,
    "budget_minutes": None,
    "short_epochs": "auto",
    "short_seeds": 2,
    "range_steps": 300,
    "momenta": [0.9],
    "weight_decays": "auto",
    "batch_sizes": [64],
    "compare_seeds": 3,
}


def test_the_epochs_of_a_plan_are_those_of_its_runs() -> None:
    assert WANTED.epochs == 15 + (5 + 4 + 3) * 3 + 3 * 12 + 3 * 12
    assert Cost(2.0, 5.0, None).of(WANTED) == 2 * 123 + 5 * (12 + 6)


def test_without_a_budget_nothing_is_cut() -> None:
    assert fitted(WANTED, Cost(1.0, 0.0, None)) == (WANTED, [])


def test_shorter_runs_go_first_then_seeds_then_stages() -> None:
    plan, cuts = fitted(WANTED, Cost(1.0, 0.0, 111.0))
    assert (plan.short_epochs, plan.compare_seeds) == (2, 3)
    assert cuts == ["short runs of 2 epochs"]
    plan, _ = fitted(WANTED, Cost(1.0, 0.0, 80.0))
    assert (plan.short_epochs, plan.compare_seeds, plan.batch_runs) == (1, 2, 3)
    plan, cuts = fitted(WANTED, Cost(1.0, 0.0, 38.0))
    assert (plan.compare_seeds, plan.batch_runs, plan.decay_runs, plan.momentum_runs) == (0, 0, 4, 5)
    assert cuts[-1] == "no batch sizes"


@pytest.mark.parametrize("available", [17, 20, 27, 33, 50, 77, 100, 123, 500])
def test_a_plan_never_costs_more_than_there_is(available: int) -> None:
    plan, _ = fitted(WANTED, Cost(1.0, 0.0, float(available)))
    assert plan.epochs <= available
    assert plan.final_epochs >= 1


def test_second_seeds_of_short_runs_go_before_their_epochs() -> None:
    plan, cuts = fitted(replace(WANTED, short_seeds=2), Cost(1.0, 0.0, 150.0))
    assert (plan.short_seeds, plan.short_epochs) == (1, 3)
    assert cuts == ["short runs with one seed"]


def test_a_budget_for_nothing() -> None:
    with pytest.raises(UserError, match="cannot hold even the range test"):
        fitted(WANTED, Cost(1.0, 0.0, 15.5))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget_epochs": 0}, "tune.budget_epochs=0 must be at least 1"),
        ({"range_steps": 10}, "tune.range_steps=10 must be at least 100"),
        ({"compare_seeds": -1}, "tune.compare_seeds=-1 must be at least 0"),
        ({"budget_epochs": 9, "budget_minutes": 1.0}, "two budgets"),
        ({"weight_decays": []}, "tune.weight_decays=.* has no value"),
        ({"short_epochs": "many"}, "tune.short_epochs='many' is not a whole number or auto"),
        ({"sort_epochs": 3}, "Did you mean 'short_epochs'"),
    ],
)
def test_refused_settings(change: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        TuneSettings.of({**NODE, **change})


def test_the_yaml_has_every_key() -> None:
    text = (CONF / "tune.yaml").read_text(encoding="utf-8")
    assert all(f"  {key}:" in text for key in NODE)
    assert TuneSettings.of(NODE).momenta == [0.9]
