"""What holds for every option of conf/scheduler, over any run length and any sane bounds."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tempo.scheduler.onecycle import OneCycle
from tempo.scheduler.range_test import RangeTest
from tempo.scheduler.triangular import Triangular
from tests.scheduler.options import OPTIONS, build

# option: (lr at the first step, lr at the last step, moves momentum) beside an optimizer of lr 0.1
ENDS = {
    "constant": (0.1, 0.1, False),
    "multistep": (0.1, 0.001, False),
    "cosine": (0.1, 0.0, False),
    "linear": (0.1, None, False),  # 0 one step after the run: test_curves
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
    last = 0.1 / total_steps if last is None else last
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
@given(rates=rates, momenta=momenta, total_steps=totals, cycles=st.integers(1, 9))
def test_lines_through_the_corners_for_any_bounds(rates, momenta, total_steps, cycles):
    """1cycle, triangular and linear range test are lines between few corners; momentum mirrors the rate."""
    (low, high), (small, large) = sorted(rates), momenta
    bounds = {"min_lr": low, "max_lr": high, "min_momentum": small, "max_momentum": large}
    turns = np.linspace(0, 1, 2 * cycles + 1)
    up, down = [low, *cycles * [high, low]], [large, *cycles * [small, large]]
    for schedule, corners, of_lr, of_momentum in (
        (OneCycle(**bounds), [0, 0.45, 0.9, 1], [low, high, low, 0.01 * low], [large, small, large, large]),
        (Triangular(**bounds, cycles=cycles), turns, up, down),
        (RangeTest(**bounds, spacing="linear"), [0, 1], [low, high], [large, small]),
    ):
        values = [schedule.at(step, total_steps) for step in range(total_steps)]
        p = np.arange(total_steps) / (total_steps - 1)
        lrs, m = (np.array([value[key] for value in values]) for key in ("lr", "momentum"))
        np.testing.assert_allclose(lrs, np.interp(p, corners, of_lr), rtol=1e-9, atol=1e-11 * high)
        np.testing.assert_allclose(m, np.interp(p, corners, of_momentum), rtol=0, atol=1e-11)
        assert ((small - ROUNDING <= m) & (m <= large + ROUNDING)).all()


@QUIET
@given(rates=rates, total_steps=totals)
def test_the_exponential_range_test_is_a_line_on_a_log_axis_with_exact_ends(rates, total_steps):
    low, high = sorted(rates)
    schedule = RangeTest(min_lr=low, max_lr=high)
    lrs = np.array([schedule.at(step, total_steps)["lr"] for step in range(total_steps)])
    assert (lrs[0], lrs[-1]) == (low, high)
    np.testing.assert_allclose(lrs, np.geomspace(low, high, total_steps), rtol=1e-9)
