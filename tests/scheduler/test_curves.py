"""Every schedule against closed forms computed another way, and against torch's own schedulers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from tempo.scheduler.constant import Constant
from tempo.scheduler.cosine import Cosine
from tempo.scheduler.linear import Linear
from tempo.scheduler.multistep import MultiStep
from tempo.scheduler.onecycle import OneCycle
from tempo.scheduler.range_test import RangeTest
from tempo.scheduler.schedule import Schedule
from tempo.scheduler.triangular import Triangular

TOTALS = [2, 3, 7, 10, 101, 1000]


def curve(schedule: Schedule, total_steps: int, key: str = "lr") -> np.ndarray:
    return np.array([schedule.at(step, total_steps)[key] for step in range(total_steps)])


def torch_curve(make, total_steps: int, lr: float, **sgd) -> tuple[np.ndarray, np.ndarray]:
    """Learning rates and momenta that one of torch's schedulers sets before each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, **sgd)
    scheduler = make(optimizer)
    lrs, momenta = [], []
    for step in range(total_steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if step < total_steps - 1:
            scheduler.step()
    return np.array(lrs), np.array(momenta)


@pytest.mark.parametrize("total_steps", [3, 11, 97, 1000])
@pytest.mark.parametrize(("name", "torch_name"), [("linear", "linear"), ("cosine", "cos")])
def test_onecycle_equals_torch_three_phases(total_steps, name, torch_name):
    schedule = OneCycle(min_lr=0.08, max_lr=0.8, curve=name)
    # torch ends its first phase at pct_start * total - 1; ours ends at 0.45 of the last step's number.
    pct_start = (0.45 * (total_steps - 1) + 1) / total_steps
    lrs, momenta = torch_curve(
        lambda optimizer: lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=0.8,
            total_steps=total_steps,
            pct_start=pct_start,
            anneal_strategy=torch_name,
            base_momentum=0.85,
            max_momentum=0.95,
            div_factor=10,
            final_div_factor=100,
            three_phase=True,
        ),
        total_steps,
        lr=0.08,
        momentum=0.9,
    )
    np.testing.assert_allclose(curve(schedule, total_steps), lrs, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(curve(schedule, total_steps, "momentum"), momenta, rtol=1e-9)


@pytest.mark.parametrize("total_steps", TOTALS)
def test_onecycle_goes_through_its_corners(total_steps):
    schedule = OneCycle(
        min_lr=0.1, max_lr=3.0, rise_fraction=0.3, fall_fraction=0.5, final_fraction=0.001, min_momentum=0.8
    )
    p = np.arange(total_steps) / (total_steps - 1)
    expected = np.interp(p, [0, 0.3, 0.8, 1], [0.1, 3.0, 0.1, 0.0001])
    np.testing.assert_allclose(curve(schedule, total_steps), expected, rtol=1e-12)
    expected = np.interp(p, [0, 0.3, 0.8, 1], [0.95, 0.8, 0.95, 0.95])
    np.testing.assert_allclose(curve(schedule, total_steps, "momentum"), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("rise", "fall"),
    [(0.7, 0.3), (0.5, 0.5), (0.333333333333, 0.666666666666), (0.333333333334, 0.666666666667)],
)
def test_onecycle_without_annihilation_ends_at_min_lr(rise, fall):
    """Thirds typed by hand sum to a little more or less than 1."""
    schedule = OneCycle(min_lr=0.1, max_lr=1.0, rise_fraction=rise, fall_fraction=fall)
    assert schedule.at(99, 100)["lr"] == pytest.approx(0.1, rel=1e-9)


@pytest.mark.parametrize("schedule_class", [OneCycle, Triangular, RangeTest])
def test_momentum_is_left_alone_without_bounds(schedule_class):
    schedule = schedule_class(min_lr=0.1, max_lr=1.0, min_momentum=None, max_momentum=None)
    assert not schedule.moves_momentum
    assert set(schedule.at(3, 10)) == {"lr"}


@pytest.mark.parametrize("total_steps", [4, 8, 100, 391])
def test_multistep_equals_torch(total_steps):
    milestones = [math.ceil(total_steps * 0.5), math.ceil(total_steps * 0.75)]
    expected, _ = torch_curve(
        lambda optimizer: lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1), total_steps, lr=0.1
    )
    np.testing.assert_allclose(curve(MultiStep(lr=0.1), total_steps), expected, rtol=1e-12)


def test_multistep_drops_after_exactly_that_share_of_the_steps():
    # 0.29 * 100 is 28.999999999999996: a milestone turned into a step by int() would come a step early.
    lrs = curve(MultiStep(lr=1.0, milestones=(0.29, 0.57), factor=0.5), 100)
    np.testing.assert_array_equal(lrs, 29 * [1.0] + 28 * [0.5] + 43 * [0.25])


@pytest.mark.parametrize("total_steps", TOTALS)
def test_cosine_equals_torch(total_steps):
    expected, _ = torch_curve(
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps - 1, eta_min=0.002),
        total_steps,
        lr=0.1,
    )
    # torch's recursion loses a few digits where the curve is flat.
    np.testing.assert_allclose(curve(Cosine(lr=0.1, final_fraction=0.02), total_steps), expected, rtol=1e-8)


def test_cosine_warms_up_in_a_line_without_a_step_at_zero():
    total_steps, warmup_steps = 101, 20
    lrs = curve(Cosine(lr=0.5, warmup_fraction=0.2), total_steps)
    np.testing.assert_allclose(lrs[: warmup_steps + 1], 0.5 * np.arange(1, 22) / 21, rtol=1e-12)
    expected = [0.25 * (1 + math.cos(math.pi * k / 80)) for k in range(81)]
    np.testing.assert_allclose(lrs[warmup_steps:], expected, rtol=1e-12, atol=1e-15)
    assert lrs[0] > 0


def test_cosine_may_be_all_warmup():
    lrs = curve(Cosine(lr=0.5, warmup_fraction=1.0), 10)
    np.testing.assert_allclose(lrs, 0.5 * np.arange(1, 11) / 10, rtol=1e-12)


@pytest.mark.parametrize("total_steps", TOTALS)
def test_linear_equals_torch(total_steps):
    expected, _ = torch_curve(
        lambda optimizer: lr_scheduler.LinearLR(
            optimizer, start_factor=1.0, end_factor=0.1, total_iters=total_steps
        ),
        total_steps,
        lr=0.1,
    )
    np.testing.assert_allclose(curve(Linear(lr=0.1, final_fraction=0.1), total_steps), expected, rtol=1e-9)


def test_linear_warms_up_and_falls_to_zero_one_step_after_the_run():
    lrs = curve(Linear(lr=0.5, warmup_fraction=0.2), 100)
    np.testing.assert_allclose(lrs[:21], 0.5 * np.arange(1, 22) / 21, rtol=1e-12)
    np.testing.assert_allclose(lrs[20:], 0.5 * np.arange(80, 0, -1) / 80, rtol=1e-12)
    np.testing.assert_allclose(curve(Linear(lr=0.5, warmup_fraction=1.0), 10), 0.5 * np.arange(1, 11) / 11)


@pytest.mark.parametrize("cycles", [1, 2, 5])
def test_triangular_equals_torch(cycles):
    total_steps = 10 * 2 * cycles + 1
    schedule = Triangular(min_lr=0.01, max_lr=0.06, cycles=cycles, min_momentum=0.8, max_momentum=0.9)
    lrs, momenta = torch_curve(
        lambda optimizer: lr_scheduler.CyclicLR(
            optimizer, base_lr=0.01, max_lr=0.06, step_size_up=10, base_momentum=0.8, max_momentum=0.9
        ),
        total_steps,
        lr=0.01,
        momentum=0.9,
    )
    np.testing.assert_allclose(curve(schedule, total_steps), lrs, rtol=1e-9)
    np.testing.assert_allclose(curve(schedule, total_steps, "momentum"), momenta, rtol=1e-9)


def test_constant_is_constant():
    np.testing.assert_array_equal(curve(Constant(lr=0.25), 5), [0.25] * 5)
