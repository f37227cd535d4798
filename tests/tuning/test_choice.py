"""The rule by which a stage chooses, and the attribute that names its metric."""

from __future__ import annotations

import math

import pytest
from torch import nn

from tempo.errors import UserError
from tempo.model.densenet import DenseNet
from tempo.model.mlp import MLP
from tempo.tuning.choice import Candidate, choose, early_metric, standard_error


def candidates(*scores: float | tuple[float, ...]) -> list[Candidate]:
    of_seeds = [score if isinstance(score, tuple) else (score,) for score in scores]
    return [Candidate(f"value {n}", (f"key={n}",), n, values) for n, values in enumerate(of_seeds)]


@pytest.mark.parametrize(
    ("metric", "scores", "chosen"),
    [
        ("val/loss", (0.5, 0.3, 0.4), 1),
        ("val/loss", (0.30, 0.29, 0.5), 0),  # within 5 %
        ("val/loss", (0.31, 0.29, 0.285), 1),
        ("val/loss", (math.nan, 0.9, math.nan), 1),  # diverged
        ("val/accuracy", (0.90, 0.95, 0.80), 1),
        ("val/accuracy", (0.947, 0.95), 0),  # within half a percentage point
        ("val/loss", ((0.30, 0.20), (0.20, 0.22)), 0),  # differences 0.10 and -0.02: 0.04 ± 0.06
        ("val/loss", ((0.30, 0.32), (0.20, 0.22)), 1),
    ],
)
def test_the_first_value_that_is_not_clearly_worse_than_the_best_is_chosen(
    metric: str, scores: tuple[float, ...], chosen: int
) -> None:
    choice = choose("stage", metric, candidates(*scores))
    assert choice.chosen.value == chosen
    assert len(choice.lines) == 1 + len(scores)


def test_the_standard_error_of_a_paired_difference() -> None:
    assert standard_error((0.30, 0.20), (0.20, 0.22)) == pytest.approx(0.06)


def test_without_any_score_the_first_value_stays() -> None:
    nothing = candidates(math.nan, math.nan)
    choice = choose("stage", "val/loss", nothing)
    assert choice.chosen.value == 0
    assert "no run has a validation" in choice.why
    untried = Candidate("as it was", (), None)
    assert choose("stage", "val/loss", nothing, untried).chosen is untried
    assert choose("stage", "val/loss", candidates(0.5, 0.3), untried).chosen.value == 1


def test_the_class_of_a_network_names_its_early_metric() -> None:
    size = {"input_shape": (1, 8, 8), "num_classes": 3}
    densenet = DenseNet(**size, depth=10, growth_rate=2, bottleneck=False, reduction=1.0, dropout=0.0)  # type: ignore[arg-type]
    assert early_metric(densenet) == "val/accuracy"
    assert early_metric(MLP(**size, hidden=[4])) == "val/loss"  # type: ignore[arg-type]

    class Own(nn.Linear):
        early_metric = "val/accuracy"

    assert early_metric(Own(1, 1)) == "val/accuracy"
    Own.early_metric = "train/loss"
    with pytest.raises(
        UserError, match=r"^Own\.early_metric='train/loss' cannot compare short runs; set it to"
    ):
        early_metric(Own(1, 1))
