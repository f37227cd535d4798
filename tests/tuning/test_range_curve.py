"""Smoothing and pairing of losses with rates, compared with closed forms."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tempo.trainer.metrics_csv import COLUMNS
from tempo.tuning.range_curve import Curve, lag_steps, mean_curve, on_common_grid, read_curve, smooth

LR = np.logspace(-4, 1, 301)
X = np.log10(LR)


def test_the_lag_is_a_tenth_of_a_decade() -> None:
    assert lag_steps(LR) == 6
    assert lag_steps(LR[:5]) == 2


def test_a_straight_line_is_not_shifted() -> None:
    """The mean of x_t = a + b t with decay d lags d / (1 - d) steps once its start is forgotten."""
    smoothed = smooth(Curve(LR, 5.0 - X))
    late = len(smoothed.lr) // 2
    assert smoothed.loss[late:] == pytest.approx(5.0 - np.log10(smoothed.lr[late:]), abs=1e-9)


def test_smoothing_is_the_bias_corrected_mean_written_out() -> None:
    loss = np.random.default_rng(0).normal(1.0, 0.1, 301)
    lag, smoothed = 6, smooth(Curve(LR, loss))
    decay = lag / (lag + 1)
    for t in (lag, 50, 300):
        weights = decay ** np.arange(t, -1, -1)
        assert smoothed.loss[t - lag] == pytest.approx(np.average(loss[: t + 1], weights=weights))
        assert smoothed.lr[t - lag] == LR[t - lag]


def test_an_explosion_counts_as_twice_the_start() -> None:
    loss = np.full(301, 2.0)
    loss[200] = 1e30
    smoothed = smooth(Curve(LR, loss))
    assert smoothed.loss.max() <= 4.0


def test_the_mean_over_seeds_ends_with_the_seed_that_ends_first() -> None:
    whole, cut = Curve(LR, np.full(301, 1.0)), Curve(LR[:200], np.full(200, 3.0), diverged=True)
    curves = [smooth(whole), smooth(cut)]
    mean = mean_curve(curves)
    assert mean.loss == pytest.approx(2.0)
    assert mean.last_lr == LR[199]
    assert mean.diverged
    values, grid = on_common_grid(curves)
    assert values.shape == (2, len(grid))
    assert grid[-1] < LR[199]


def write_metrics(folder: Path, losses: list[float]) -> Path:
    """A run's metrics.csv, the row of a validation in the middle."""
    path = folder / "metrics.csv"
    rows = [{"step": n, "lr": 10.0**n, "train/loss": loss} for n, loss in enumerate(losses, start=1)]
    rows.insert(2, {"step": 2, "val/loss": 9.0})
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_loss_belongs_to_the_rate_of_the_step_before(tmp_path: Path) -> None:
    curve = read_curve(write_metrics(tmp_path, [5.0, 4.0, 3.0, 2.0]), diverged=False)
    assert curve.lr.tolist() == [10.0, 100.0, 1000.0]
    assert curve.loss.tolist() == [4.0, 3.0, 2.0]
    assert not curve.diverged


def test_the_curve_ends_before_the_first_loss_that_is_not_finite(tmp_path: Path) -> None:
    curve = read_curve(write_metrics(tmp_path, [5.0, 4.0, float("inf"), 1.0, float("nan")]), diverged=False)
    assert curve.loss.tolist() == [4.0]
    assert curve.diverged


def test_a_run_without_rows_has_an_empty_curve(tmp_path: Path) -> None:
    assert len(read_curve(tmp_path / "metrics.csv", diverged=True).lr) == 0
