"""Values that cannot work are refused in one line that says why and what mends it."""

from __future__ import annotations

import re

import pytest

from tempo.errors import UserError
from tests.scheduler.options import build

CASES = [
    ("constant", {"lr": 0}, "scheduler.lr=0 "),
    ("constant", {"lr": -0.1}, "set scheduler.lr=0.1"),
    ("constant", {"lr": float("inf")}, "finite"),
    ("constant", {"lr": float("nan")}, "finite"),
    ("multistep", {"milestones": [0.75, 0.5]}, "'scheduler.milestones=[0.5,0.75]'"),
    ("multistep", {"milestones": [0.5, 0.5]}, "'scheduler.milestones=[0.5]'"),
    ("multistep", {"milestones": [50, 75]}, "fractions of the run in [0, 1]"),
    ("multistep", {"factor": 0}, "set scheduler.factor=0.1"),
    ("cosine", {"warmup_fraction": 5}, "set scheduler.warmup_fraction=0.05"),
    ("cosine", {"final_fraction": -0.1}, "must be in [0, 1]"),
    ("triangular", {"cycles": 0}, "set scheduler.cycles=1"),
    ("triangular", {"min_lr": 1.0, "max_lr": 0.1}, "scheduler.min_lr=1.0 is above scheduler.max_lr=0.1"),
    ("onecycle", {"min_lr": 1.0, "max_lr": 0.1}, "set scheduler.min_lr=0.1 scheduler.max_lr=1.0"),
    ("onecycle", {"max_lr": 0.0}, "set scheduler.max_lr=0.1"),
    ("onecycle", {"min_lr": -1}, "finite and 0 or more"),
    ("onecycle", {"min_momentum": 0.95, "max_momentum": 0.85}, "min_momentum=0.95 is above"),
    ("onecycle", {"max_momentum": 1.0}, "outside [0, 1)"),
    ("onecycle", {"min_momentum": -0.1}, "outside [0, 1)"),
    ("onecycle", {"min_momentum": None}, "momentum needs both"),
    ("onecycle", {"max_momentum": None}, "set scheduler.max_momentum=0.85"),
    ("onecycle", {"rise_fraction": 1.2}, "must be in (0, 1]"),
    ("onecycle", {"fall_fraction": 0.0}, "set scheduler.fall_fraction=0.45"),
    ("onecycle", {"rise_fraction": 0.6, "fall_fraction": 0.6}, "together exceed the run"),
    ("onecycle", {"final_fraction": 2}, "scheduler.final_fraction=2 must be in"),
    ("range_test", {"min_lr": 0.0}, "finite and above 0"),
    ("range_test", {"min_lr": 1.0, "max_lr": 1.0}, "leaves no range"),
    ("range_test", {"min_lr": 2.0, "max_lr": 1.0}, "is above"),
    ("range_test", {"min_momentum": 0.85}, "momentum needs both"),
]


@pytest.mark.parametrize(("option", "overrides", "part"), CASES)
def test_refused(option, overrides, part):
    with pytest.raises(UserError, match=re.escape(part)) as caught:
        build(option, **overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(r"[sS]et '?scheduler\.\w+=", message), "the override that mends it"


@pytest.mark.parametrize(
    ("option", "overrides"),
    [
        ("multistep", {"milestones": []}),
        ("multistep", {"milestones": [0, 1]}),
        ("onecycle", {"min_lr": 0}),
        ("onecycle", {"min_lr": 1, "max_lr": 1}),
        ("onecycle", {"rise_fraction": 0.7, "fall_fraction": 0.3}),
        ("onecycle", {"min_momentum": 0.9, "max_momentum": 0.9}),
        ("range_test", {"min_lr": 0, "spacing": "linear"}),
    ],
)
def test_edges_that_work(option, overrides):
    schedule = build(option, **overrides)
    assert all(schedule.at(step, 10)["lr"] >= 0 for step in range(10))
