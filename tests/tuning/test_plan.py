"""Budgets: the plan is cut in a known order, and never costs more than there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tempo.errors import UserError
from tempo.tuning.plan import Plan, Price, fitted
from tempo.tuning.settings import TuneSettings
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


EPOCHS = Price("epochs")


def test_the_epochs_of_a_plan_are_those_of_its_runs() -> None:
    assert WANTED.epochs == 15 + (5 + 4 + 3) * 3 + 3 * 12 + 3 * 12
    assert WANTED.runs == 1 + 12 + 6
    assert Price("seconds", 2.0, 5.0).of(WANTED.epochs, WANTED.runs) == 2 * 123 + 5 * 19
    assert replace(WANTED, range_epochs=0.0).runs == 18  # the range test is over


def test_without_a_budget_nothing_is_cut() -> None:
    assert fitted(WANTED, EPOCHS, 0.0, None) == (WANTED, [])


def test_shorter_runs_go_first_then_seeds_then_stages() -> None:
    plan, cuts = fitted(WANTED, EPOCHS, 0.0, 111.0)
    assert (plan.short_epochs, plan.compare_seeds) == (2, 3)
    assert len(cuts) == 1
    plan, _ = fitted(WANTED, EPOCHS, 0.0, 80.0)
    assert (plan.short_epochs, plan.compare_seeds, plan.batch_runs) == (1, 2, 3)
    plan, cuts = fitted(WANTED, EPOCHS, 0.0, 38.0)
    assert (plan.compare_seeds, plan.batch_runs, plan.decay_runs, plan.momentum_runs) == (0, 0, 4, 5)


def test_every_cut_is_said_with_its_reason() -> None:
    """What saves nothing (learning rates: WANTED has no runs for them) is no cut."""
    plan, cuts = fitted(WANTED, EPOCHS, 2.0, 24.0)
    assert plan.final_epochs == 7
    assert cuts == [
        "short runs of 1 epoch instead of 3: 123 epochs are more than the 22 epochs left; "
        "99 epochs with this cut",
        "no comparison with the default: 99 epochs are more than the 22 epochs left; 39 epochs with this cut",
        "no batch sizes are tried: 39 epochs are more than the 22 epochs left; 36 epochs with this cut",
        "no weight decays are tried: 36 epochs are more than the 22 epochs left; 32 epochs with this cut",
        "no momenta are tried: 32 epochs are more than the 22 epochs left; 27 epochs with this cut",
        "full runs of 7 epochs instead of 12: 27 epochs are more than the 22 epochs left; "
        "22 epochs with this cut",
    ]


@pytest.mark.parametrize("available", [17, 20, 27, 33, 50, 77, 100, 123, 500])
def test_a_plan_never_costs_more_than_there_is(available: int) -> None:
    plan, _ = fitted(WANTED, EPOCHS, 0.0, float(available))
    assert plan.epochs <= available
    assert plan.final_epochs >= 1


@pytest.mark.parametrize("minutes", [2.2, 4.0, 5.5, 7.0])
def test_a_plan_in_minutes_pays_for_runs_too(minutes: float) -> None:
    price = Price("seconds", 3.0, 4.0)
    plan, cuts = fitted(WANTED, price, 60.0, 60.0 * minutes)
    assert 3.0 * plan.epochs + 4.0 * plan.runs <= 60 * (minutes - 1)
    assert cuts == [] or "s left; " in cuts[0]


def test_what_may_not_be_cut_is_kept() -> None:
    plan, _ = fitted(WANTED, EPOCHS, 0.0, 65.0, ("compare_seeds",))
    assert plan == replace(WANTED, compare_seeds=0)


def test_second_seeds_of_short_runs_go_before_their_epochs() -> None:
    plan, cuts = fitted(replace(WANTED, short_seeds=2), EPOCHS, 0.0, 150.0)
    assert (plan.short_seeds, plan.short_epochs) == (1, 3)
    assert cuts[0].startswith(
        "short runs with 1 seed instead of 2: 159 epochs are more than the 150 epochs left"
    )


def test_a_budget_for_nothing_names_one_that_would_do() -> None:
    with pytest.raises(UserError, match=r"the shortest plan takes 16 epochs: at least tune.budget_epochs=16"):
        fitted(WANTED, EPOCHS, 0.0, 15.5)
    with pytest.raises(
        UserError, match=r"^0 s of the budget are left, .* at least tune.budget_minutes=1\.6$"
    ):
        fitted(WANTED, Price("seconds", 3.0, 4.0), 40.0, 30.0)  # 40 + 3 * 16 + 4 * 2 = 96 s


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
