"""The plan is cut in a known order and never costs more than the budget; the settings it comes from."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from omegaconf import OmegaConf

from tempo.errors import UserError
from tempo.tuning.plan import Plan, Price, cut_to_fit
from tempo.tuning.tune_settings import TuneSettings, kept_overrides, read_settings
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
EPOCHS = Price("epochs")
SECONDS = Price("seconds", 3.0, 4.0)


def test_the_epochs_of_a_plan_are_those_of_its_runs() -> None:
    assert WANTED.epochs == 15 + (5 + 4 + 3) * 3 + 3 * 12 + 3 * 12
    assert WANTED.runs == 1 + 12 + 6
    assert SECONDS.of(WANTED.epochs, WANTED.runs) == 3 * 123 + 4 * 19
    assert replace(WANTED, range_epochs=0.0).runs == 18  # the range test is done


@pytest.mark.parametrize(
    ("plan", "total", "keys", "changed"),
    [
        (WANTED, None, {}, {}),
        (WANTED, 111.0, {}, {"short_epochs": 2}),
        (WANTED, 80.0, {}, {"short_epochs": 1, "compare_seeds": 2}),
        (WANTED, 38.0, {}, {"short_epochs": 1, "compare_seeds": 0, "batch_runs": 0}),
        (replace(WANTED, short_seeds=2), 150.0, {}, {"short_seeds": 1}),
        (WANTED, 65.0, {"keys": ("compare_seeds",)}, {"compare_seeds": 0}),
    ],
)
def test_the_order_of_cuts(
    plan: Plan, total: float | None, keys: dict[str, Any], changed: dict[str, int]
) -> None:
    """Second seeds, epochs of short runs, seeds of the comparison, stages; only what may be cut."""
    cut, lines = cut_to_fit(plan, EPOCHS, 0.0, total, **keys)
    assert cut == replace(plan, **changed)
    assert len(lines) == len(changed)


def test_every_cut_has_a_line_with_its_reason() -> None:
    """A cut that saves nothing (WANTED has no runs for learning rates) is left out."""
    plan, cuts = cut_to_fit(WANTED, EPOCHS, 2.0, 24.0)
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
    _, cuts = cut_to_fit(replace(WANTED, short_seeds=2), EPOCHS, 0.0, 150.0)
    assert cuts[0].startswith(
        "short runs with 1 seed instead of 2: 159 epochs are more than the 150 epochs left"
    )


@pytest.mark.parametrize("available", [17, 20, 27, 33, 50, 77, 100, 123, 500])
def test_a_plan_never_costs_more_than_the_budget(available: int) -> None:
    plan, _ = cut_to_fit(WANTED, EPOCHS, 0.0, float(available))
    assert plan.epochs <= available
    assert plan.final_epochs >= 1
    seconds = 5.0 * available  # a plan in seconds pays for its runs, too
    plan, cuts = cut_to_fit(WANTED, SECONDS, 60.0, 60.0 + seconds)
    assert 3.0 * plan.epochs + 4.0 * plan.runs <= seconds
    assert cuts == [] or "left; " in cuts[0]


def test_too_small_a_budget_names_one_that_fits() -> None:
    with pytest.raises(
        UserError, match=r"the shortest plan takes 16 epochs; set at least tune.budget_epochs=16"
    ):
        cut_to_fit(WANTED, EPOCHS, 0.0, 15.5)
    with pytest.raises(
        UserError, match=r"^0 s of the budget are left, .* at least tune.budget_minutes=1\.6$"
    ):
        cut_to_fit(WANTED, SECONDS, 40.0, 30.0)  # 40 + 3 * 16 + 4 * 2 = 96 s


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget_epochs": 0}, "tune.budget_epochs=0 must be at least 1"),
        ({"range_steps": 10}, "tune.range_steps=10 must be at least 100"),
        ({"compare_seeds": -1}, "tune.compare_seeds=-1 must be at least 0"),
        (
            {"momenta": [0.9, 1.0]},
            r"tune.momenta=\[0.9, 1.0\] must be below 1; set e.g. tune.momenta=\[0.9\]",
        ),
        ({"budget_epochs": 9, "budget_minutes": 1.0}, "exclude each other"),
        ({"weight_decays": []}, "tune.weight_decays=.* has no value"),
        ({"short_epochs": "many"}, "tune.short_epochs='many' is not a whole number or auto"),
        ({"sort_epochs": 3}, "Did you mean 'short_epochs'"),
    ],
)
def test_refused_settings(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_settings(change)


def test_the_yaml_has_every_key_with_its_default() -> None:
    node = OmegaConf.to_container(OmegaConf.load(CONF / "tune.yaml").tune)
    assert node == {**asdict(TuneSettings()), "momenta": [0.9, 0.95, 0.97, 0.99]}


def test_overrides_that_the_procedure_sets_itself_are_refused() -> None:
    assert kept_overrides(["model=mlp", "tune.budget_epochs=9", "+data.x=1"]) == ["model=mlp", "+data.x=1"]
    with pytest.raises(UserError, match="scheduler=cosine: the procedure sets it itself; leave it out"):
        kept_overrides(["scheduler=cosine"])
    with pytest.raises(UserError, match=r"set trainer\.epochs instead"):
        kept_overrides(["trainer.max_steps=9"])
