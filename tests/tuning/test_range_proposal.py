"""Points and proposals of curves whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from tempo.tuning.range_curve import Curve, smooth
from tempo.tuning.range_proposal import (
    Points,
    Proposal,
    points_of,
    propose,
    rounded_down,
    slope_per_decade,
    too_short,
)

LR = np.logspace(-4, 1, 301)
X = np.log10(LR)


def valley(begin: float, end: float, rise: float) -> np.ndarray:
    """From 2.3 along a straight line in log LR down to 0.3 at `end`; from `rise` on it explodes."""
    loss = np.clip(2.3 - 2.0 * (X - begin) / (end - begin), 0.3, 2.3)
    return loss + np.where(rise < X, 20.0 * (X - rise) ** 2, 0.0)


def proposal_of(loss: np.ndarray) -> Proposal:
    return propose(smooth(Curve(LR, loss)), 300, 1e-4)


def supported(loss: np.ndarray) -> tuple[float, Points]:
    """The proposed max_lr and the points, which there must be."""
    proposal = proposal_of(loss)
    assert proposal.max_lr is not None
    assert proposal.points is not None
    return proposal.max_lr, proposal.points


def test_the_points_of_a_valley() -> None:
    points = points_of(smooth(Curve(LR, valley(-3.0, -1.0, 0.0))))
    assert points.start_loss == pytest.approx(2.3)
    assert np.log10(points.falls_at) == pytest.approx(-2.8, abs=0.05)  # a tenth of the way down
    assert points.steepest_slope == pytest.approx(-1.0, abs=0.02)  # 2.0 over two decades
    assert -2.9 < np.log10(points.steepest) < -1.1
    assert points.minimum_loss == pytest.approx(0.3, abs=0.01)
    assert points.edge is not None
    # Half of the fall of 2 is climbed back where 20 (x - 0)^2 = 1.
    assert np.log10(points.edge) == pytest.approx(np.sqrt(1 / 20), abs=0.05)
    # A tenth of it where 20 x^2 = 0.2.
    assert points.turn is not None
    assert np.log10(points.turn) == pytest.approx(0.1, abs=0.05)


def test_the_minimum_of_a_parabola_and_the_slope_of_a_line() -> None:
    points = points_of(smooth(Curve(LR, 0.3 + 0.3 * (X + 0.7) ** 2)))
    assert np.log10(points.minimum) == pytest.approx(-0.7, abs=0.02)
    line = smooth(Curve(LR, 10.0 - 1.5 * X))
    assert slope_per_decade(line)[100:200] == pytest.approx(-1.5, abs=1e-4)


def test_the_rules() -> None:
    """Turn at 10^0.1, edge at 10^0.22: a quarter of the edge is the smaller one."""
    steep = proposal_of(valley(-3.0, -1.0, 0.0))
    assert steep.max_lr == pytest.approx(10**0.2236 / 4, rel=0.15)
    assert "1/4 of the edge" in steep.max_lr_reason
    # With 0.1 x^2 a tenth is climbed back after sqrt(2) decades; the edge is out of range.
    gentle = valley(-3.0, -2.0, 9.0) + np.where(X > -1.0, 0.1 * (X + 1.0) ** 2, 0.0)
    proposal = proposal_of(gentle)
    assert np.log10(proposal.max_lr or 1) == pytest.approx(-1.0 + np.sqrt(2.0), abs=0.1)
    assert "turns up" in proposal.max_lr_reason
    assert any("the edge of divergence is above" in note for note in proposal.notes)
    flat = proposal_of(valley(-3.0, -2.0, 9.0))
    assert (flat.max_lr or 0.0) >= 0.009
    assert "flat" in flat.max_lr_reason


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_the_proposal_little(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0.0, 0.15, 301)
    clean, clean_points = supported(valley(-3.0, -1.0, 0.0))
    noisy, noisy_points = supported(valley(-3.0, -1.0, 0.0) + noise)
    assert clean / 4 < noisy < clean * 4
    assert noisy_points.edge == pytest.approx(clean_points.edge, rel=0.35)


def test_rounding_never_goes_up() -> None:
    for value in (1.0, 0.129, 0.1, 9.99e-4, 0.031999, 7.0, 0.57):
        assert 0.9 * value < rounded_down(value) <= value
    assert rounded_down(0.57) == 0.57


@pytest.mark.parametrize(
    ("proposal", "why", "overrides"),
    [
        (proposal_of(valley(0.0, 3.0, 5.0)), "no minimum inside the range", "scheduler.max_lr=1000"),
        (proposal_of(np.full(301, 2.3)), "never falls", "scheduler.max_lr=1000"),
        (proposal_of(np.where(X > 0, 100.0, 2.3)), "never falls", "trainer.max_steps=1200"),
        (proposal_of(np.where(X > -3.8, 100.0, 2.3)), "near the smallest LR", "scheduler.min_lr=1e-7"),
        (too_short(4, 0.05, 300, 1e-4), "diverged after 4 steps", "scheduler.min_lr=1e-7"),
        (too_short(20, None, 20, 1e-4), "20 points", "trainer.max_steps=300 trainer.log_every_n_steps=1"),
        (too_short(40, 4.0, 200, 1e-4), "40 points", "trainer.max_steps=400 trainer.log_every_n_steps=1"),
    ],
)
def test_without_a_proposal_the_next_test_is_named(proposal: Proposal, why: str, overrides: str) -> None:
    assert not proposal.supported
    assert why in proposal.why_not
    assert proposal.go_on == overrides


def expected_losses(eigenvalues: np.ndarray, lr: np.ndarray, noise: float) -> np.ndarray:
    """Expected loss sum(l v) / 2 after each step of SGD on sum(l w^2) / 2 from w = 1, in closed form.

    w <- w - lr l (w + noise n) with n of variance 1, so v = E[w^2] <- (1 - lr l)^2 v + (lr l noise)^2.
    """
    variance, losses = np.ones_like(eigenvalues), []
    for rate in lr:
        variance = (1.0 - rate * eigenvalues) ** 2 * variance + (rate * eigenvalues * noise) ** 2
        losses.append(0.5 * float(np.sum(eigenvalues * variance)))
    return np.array(losses)


@pytest.mark.parametrize("largest", [0.3, 5.0, 80.0])
@pytest.mark.parametrize("spread", [1.0, 30.0])
@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_the_edge_is_the_stability_of_a_quadratic(largest: float, spread: float, noise: float) -> None:
    """Plain gradient descent on a quadratic is stable up to 2 / lambda_max, and not above."""
    stable = 2.0 / largest
    lr = stable * np.logspace(-3, 1.5, 450)
    losses = expected_losses(largest / np.linspace(1.0, spread, 10), lr, noise)
    proposal = propose(smooth(Curve(lr, losses)), 450, float(lr[0]))
    assert proposal.points is not None
    assert proposal.points.edge == pytest.approx(stable, rel=0.2)
    assert proposal.max_lr is not None
    assert proposal.max_lr < stable


def test_without_noise_the_edge_is_found_late() -> None:
    """A parameter that shrank for hundreds of steps needs some to grow again: the reason for the margin."""
    lr = np.logspace(-3, 1.5, 450)
    losses = expected_losses(2.0 / np.linspace(1.0, 30.0, 10), lr, 0.0)
    points = points_of(smooth(Curve(lr, losses)))
    assert points.edge is not None
    assert 1.0 < points.edge < 10.0
