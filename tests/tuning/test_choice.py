"""The rule by which a stage chooses."""

from __future__ import annotations

import math

import pytest

from tempo.tuning.choice import Candidate, choose, early_metric, standard_error


def candidates(*scores: float) -> list[Candidate]:
    return [Candidate(f"value {n}", (f"key={n}",), n, (score,)) for n, score in enumerate(scores)]


def test_a_clearly_lower_loss_wins() -> None:
    assert choose("stage", "val/loss", candidates(0.5, 0.3, 0.4)).chosen.value == 1


def test_within_the_margin_the_first_stays() -> None:
    assert choose("stage", "val/loss", candidates(0.30, 0.29, 0.5)).chosen.value == 0
    assert choose("stage", "val/loss", candidates(0.31, 0.29, 0.285)).chosen.value == 1


def test_within_the_standard_error_the_first_stays() -> None:
    """Differences 0.10 and -0.02: mean 0.04, standard error 0.06."""
    noisy = [Candidate("first", (), 0, (0.30, 0.20)), Candidate("second", (), 1, (0.20, 0.22))]
    assert standard_error(noisy[0].scores, noisy[1].scores) == pytest.approx(0.06)
    assert choose("stage", "val/loss", noisy).chosen.value == 0
    steady = [Candidate("first", (), 0, (0.30, 0.32)), Candidate("second", (), 1, (0.20, 0.22))]
    assert choose("stage", "val/loss", steady).chosen.value == 1


def test_accuracies_should_rise() -> None:
    assert choose("stage", "val/accuracy", candidates(0.90, 0.95, 0.80)).chosen.value == 1
    assert choose("stage", "val/accuracy", candidates(0.947, 0.95)).chosen.value == 0


def test_what_diverged_is_never_chosen() -> None:
    choice = choose("stage", "val/loss", candidates(math.nan, 0.9, math.nan))
    assert choice.chosen.value == 1
    assert len(choice.lines) == 4


def test_without_any_result_the_first_stays_and_it_is_said() -> None:
    choice = choose("stage", "val/loss", candidates(math.nan, math.nan))
    assert choice.chosen.value == 0
    assert "no run came to a validation" in choice.why
    untried = Candidate("as it was", (), None)
    assert choose("stage", "val/loss", candidates(math.nan, math.nan), untried).chosen is untried
    assert choose("stage", "val/loss", candidates(0.5, 0.3), untried).chosen.value == 1


def test_densenet_is_read_by_accuracy() -> None:
    assert early_metric("tempo.model.densenet.DenseNet") == "val/accuracy"
    assert early_metric("tempo.model.cifar_resnet.ResNet") == "val/loss"
