"""What holds for every option of conf/scheduler, over any run length and any sane bounds."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tempo.paths import ROOT
from tempo.scheduler.onecycle import OneCycle
from tempo.scheduler.range_test import RangeTest
from tempo.scheduler.triangular import Triangular
from tests.scheduler.options import OPTIONS, build

# option: (lr at the first step, lr at the last step, moves momentum) beside an optimizer of lr 0.1
ENDS = {
    "constant": (0.1, 0.1, False),
    "multistep": (0.1, 0.001, False),
    "cosine": (0.1, 0.0, False),
    "triangular": (0.1, 0.1, False),
    "onecycle": (0.1, 0.001, True),
    "range_test": (0.0001, 10.0, False),
}
SCHEDULES = {option: (build(option), build(option)) for option in OPTIONS}
QUIET = settings(deadline=None, derandomize=True, max_examples=60)
ROUNDING = 1e-12

totals = st.integers(2, 3000)
rates = st.tuples(st.floats(1e-6, 10), st.floats(1e-6, 10)).filter(lambda pair: pair[0] != pair[1])
momenta = st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)).map(sorted)


def test_every_yaml_is_in_the_table():
    assert set(ENDS) == set(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("total_steps", [8, 1000])
def test_first_and_last_step_have_the_end_values(option, total_steps):
    schedule = build(option)
    first, last, moves = ENDS[option]
    assert schedule.at(0, total_steps)["lr"] == pytest.approx(first, rel=ROUNDING)
    assert schedule.at(total_steps - 1, total_steps)["lr"] == pytest.approx(last, rel=ROUNDING)
    assert schedule.moves_momentum is moves
    assert ("momentum" in schedule.at(0, total_steps)) is moves


@pytest.mark.parametrize("option", OPTIONS)
def test_a_run_of_one_step_has_the_start_value(option):
    assert build(option).at(0, 1)["lr"] == pytest.approx(ENDS[option][0], rel=ROUNDING)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(("step", "total_steps"), [(-1, 10), (10, 10), (11, 10), (1, 1), (0, 0)])
def test_no_value_outside_the_run(option, step, total_steps):
    with pytest.raises(ValueError, match="outside a run"):
        build(option).at(step, total_steps)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_schedule_is_a_plain_frozen_value(option):
    schedule = build(option)
    assert pickle.loads(pickle.dumps(schedule)) == schedule == build(option)
    assert hash(schedule) == hash(build(option))
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.lr = 1.0  # type: ignore[attr-defined]
    assert all(type(value) is float for value in schedule.at(2, 9).values())


@pytest.mark.parametrize("option", OPTIONS)
@QUIET
@given(total_steps=totals, seed=st.integers(0, 100))
def test_the_order_of_calls_does_not_matter(option, total_steps, seed):
    schedule, resumed = SCHEDULES[option]
    steps = np.random.default_rng(seed).permutation(total_steps)[:50]
    asked = {int(step): schedule.at(int(step), total_steps) for step in steps}
    # What a resumed run sees: a new object, asked from the middle on.
    assert all(resumed.at(step, total_steps) == asked[step] for step in sorted(asked))


@QUIET
@given(rates=rates, momenta=momenta, total_steps=totals, curve=st.sampled_from(["linear", "cosine"]))
def test_onecycle_keeps_its_bounds_and_rises_falls_dies(rates, momenta, total_steps, curve):
    low, high = sorted(rates)
    schedule = OneCycle(
        min_lr=low, max_lr=high, min_momentum=momenta[0], max_momentum=momenta[1], curve=curve
    )
    values = [schedule.at(step, total_steps) for step in range(total_steps)]
    lrs = np.array([value["lr"] for value in values])
    m = np.array([value["momentum"] for value in values])
    assert np.all((lrs >= 0.01 * low * (1 - ROUNDING)) & (lrs <= high * (1 + ROUNDING)))
    assert np.all((m >= momenta[0] - ROUNDING) & (m <= momenta[1] + ROUNDING))

    p = np.arange(total_steps) / (total_steps - 1)
    rising, falling, dying = p <= 0.45, (p >= 0.45) & (p <= 0.9), p >= 0.9
    slack = high * ROUNDING
    assert np.all(np.diff(lrs[rising]) >= -slack)
    assert np.all(np.diff(lrs[falling]) <= slack)
    assert np.all(np.diff(lrs[dying]) <= slack)
    # Momentum is the mirror of the rate until the annihilation, where it rests at its top.
    mirrored = momenta[1] - (lrs - low) / (high - low) * (momenta[1] - momenta[0])
    tolerance = 1e-9 + 1e-14 * high / (high - low)
    np.testing.assert_allclose(m[~dying], mirrored[~dying], rtol=0, atol=tolerance)
    np.testing.assert_allclose(m[dying], momenta[1], rtol=0, atol=1e-9)


@QUIET
@given(rates=rates, total_steps=totals)
def test_onecycle_has_no_jump(rates, total_steps):
    low, high = sorted(rates)
    schedule = OneCycle(min_lr=low, max_lr=high)
    lrs = np.array([schedule.at(step, total_steps)["lr"] for step in range(total_steps)])
    steepest = max((high - low) / 0.45, 0.99 * low / 0.1) / (total_steps - 1)
    assert np.max(np.abs(np.diff(lrs))) <= steepest * (1 + 1e-9) + high * ROUNDING


@QUIET
@given(rates=rates, tenths=st.integers(1, 200))
def test_onecycle_rises_as_it_falls(rates, tenths):
    low, high = sorted(rates)
    schedule = OneCycle(min_lr=low, max_lr=high)
    total_steps, fallen = 10 * tenths + 1, 9 * tenths
    for step in range(0, fallen + 1, max(fallen // 20, 1)):
        there, back = schedule.at(step, total_steps)["lr"], schedule.at(fallen - step, total_steps)["lr"]
        assert there == pytest.approx(back, rel=1e-9)


@QUIET
@given(rates=rates, momenta=momenta, total_steps=totals, cycles=st.integers(1, 9))
def test_triangular_is_bounded_continuous_and_symmetric(rates, momenta, total_steps, cycles):
    low, high = sorted(rates)
    schedule = Triangular(
        min_lr=low, max_lr=high, cycles=cycles, min_momentum=momenta[0], max_momentum=momenta[1]
    )
    values = [schedule.at(step, total_steps) for step in range(total_steps)]
    lrs = np.array([value["lr"] for value in values])
    m = np.array([value["momentum"] for value in values])
    assert np.all((lrs >= low * (1 - ROUNDING)) & (lrs <= high * (1 + ROUNDING)))
    assert np.all((m >= momenta[0] - ROUNDING) & (m <= momenta[1] + ROUNDING))
    np.testing.assert_allclose(lrs, lrs[::-1], rtol=1e-9, atol=1e-9 * high)
    steepest = 2 * cycles * (high - low) / (total_steps - 1)
    assert np.max(np.abs(np.diff(lrs))) <= steepest + 1e-9 * high


@QUIET
@given(rates=rates, momenta=momenta, total_steps=totals, spacing=st.sampled_from(["linear", "exponential"]))
def test_range_test_only_rises_while_momentum_only_falls(rates, momenta, total_steps, spacing):
    low, high = sorted(rates)
    schedule = RangeTest(
        min_lr=low, max_lr=high, spacing=spacing, min_momentum=momenta[0], max_momentum=momenta[1]
    )
    values = [schedule.at(step, total_steps) for step in range(total_steps)]
    lrs = np.array([value["lr"] for value in values])
    m = np.array([value["momentum"] for value in values])
    assert (lrs[0], lrs[-1]) == (low, high)
    assert (m[0], m[-1]) == (momenta[1], momenta[0])
    assert np.all(np.diff(lrs) >= -high * ROUNDING)
    assert np.all(np.diff(m) <= ROUNDING)


def test_schedules_are_built_without_torch():
    modules = [f"tempo.scheduler.{name}" for name in (*OPTIONS, "schedule", "bounds", "preview")]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", check=False).returncode == 0
