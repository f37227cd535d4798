"""Intervals of losses, wherever chunks, flushes and restarts lie; the seeds of steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tempo.data.random_seeds import mixed_seed
from tempo.task.loss_window import Interval, StepWindow


@given(
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    every=st.integers(1, 10),
    flush_at=st.sets(st.integers(0, 11)),
    restart_at=st.sets(st.integers(0, 11)),
)
@settings(max_examples=60, deadline=None)
def test_intervals_are_means_wherever_chunks_flushes_and_restarts_lie(
    chunks: list[int], every: int, flush_at: set[int], restart_at: set[int]
) -> None:
    total = sum(chunks)
    losses = np.random.default_rng(0).random(total).astype(np.float32)
    window, step, found, seen = StepWindow(every), 0, [], []
    for number, size in enumerate(chunks):
        part = torch.from_numpy(losses[step : step + size].copy())
        window.add(step, part, part / 2)
        step += size
        if number in flush_at | restart_at or window.due:
            first, flushed, intervals = window.flush()
            assert first + len(flushed) == step
            found, seen = found + intervals, seen + flushed
        if number in restart_at:
            state, window = window.state_dict(), StepWindow(every)
            window.load_state_dict(state)
    _, flushed, intervals = window.flush()
    found, seen = found + intervals, seen + flushed
    if (rest := window.close(step)) is not None:
        found.append(rest)
    assert seen == losses.astype(float).tolist()
    borders = [*range(every, total + 1, every)]
    borders += [total] if total % every else []
    assert [interval.steps_done for interval in found] == borders
    for start, interval in zip([0, *borders], found, strict=False):
        mean = losses[start : interval.steps_done].astype(float).mean()
        assert interval.means["loss"] == pytest.approx(mean, rel=1e-12)
        assert interval.means["accuracy"] == pytest.approx(mean / 2, rel=1e-6)


def test_an_interval_that_ends_on_a_border_leaves_nothing() -> None:
    window = StepWindow(2)
    window.add(0, torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]))
    assert window.due
    assert window.flush() == (0, [1.0, 3.0], [Interval(2, {"loss": 2.0, "accuracy": 0.5})])
    assert window.close(2) is None
    assert window.flush()[1:] == ([], [])


def test_flush_takes_the_mean_over_ranks() -> None:
    window = StepWindow(1)
    window.add(0, torch.tensor([1.0]), torch.tensor([0.5]))
    assert window.flush(lambda values: values * 3)[2] == [Interval(1, {"loss": 3.0, "accuracy": 1.5})]


def test_step_seeds_are_all_different() -> None:
    seeds = {mixed_seed(seed, rank, step) for seed in range(5) for rank in range(4) for step in range(500)}
    assert len(seeds) == 5 * 4 * 500
    assert all(0 <= seed < 2**63 for seed in seeds)
