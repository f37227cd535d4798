"""Losses by conf/loss against torch's own formulas, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tempo.errors import UserError
from tempo.task.losses import CrossEntropy, OneVsAllCrossEntropy, SquaredError, as_loss
from tests.conftest import Train

COUNTS = [6, 3, 1]
STEPS = "trainer.max_steps=20"


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(10, 3, generator=generator), torch.tensor([0] * 6 + [1] * 3 + [2])


def test_the_default_is_one_call_of_torch(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = CrossEntropy(num_classes=3, class_counts=COUNTS)
    assert torch.equal(loss(*batch), F.cross_entropy(*batch))
    assert loss.state_dict() == {}


def test_losses_are_those_of_torch(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    target = torch.eye(3)[labels]
    smoothed = 0.9 * target + 0.1 / 3
    expected = {
        CrossEntropy(num_classes=3, class_counts=COUNTS, label_smoothing=0.1): F.cross_entropy(
            logits, smoothed
        ),
        OneVsAllCrossEntropy(num_classes=3, class_counts=COUNTS): nn.BCEWithLogitsLoss()(logits, target),
        SquaredError(num_classes=3, class_counts=COUNTS): nn.MSELoss()(logits, target),
        # Over all training images the balanced weights sum to their number, and torch's division is ours.
        CrossEntropy(num_classes=3, class_counts=COUNTS, weights="balanced"): nn.CrossEntropyLoss(
            weight=torch.tensor([10 / 18, 10 / 9, 10 / 3])
        )(logits, labels),
    }
    for loss, value in expected.items():
        torch.testing.assert_close(loss(logits, labels), value)
        torch.testing.assert_close(loss.per_image(logits, labels).mean(), value)


@pytest.mark.parametrize("kind", [CrossEntropy, OneVsAllCrossEntropy, SquaredError])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0, 4.0]])
def test_the_shares_of_one_class_cost_what_its_label_costs(kind: Any, weights: Any) -> None:
    logits, labels = torch.randn(6, 4), torch.arange(6) % 4
    loss = kind(num_classes=4, weights=weights)
    shares = F.one_hot(labels).float()
    assert loss(logits, shares) == pytest.approx(loss(logits, labels))


def test_weights_do_not_depend_on_micro_batches(train: Train) -> None:
    """Two micro-batches of one step differ in the sum of their weights; divided by it, steps would differ."""
    runs = [
        train(STEPS, "loss=weighted", f"trainer.accumulate={parts}", folder=str(parts)).checkpoint()
        for parts in (1, 4)
    ]
    for name, tensor in runs[0]["state_dict"].items():
        torch.testing.assert_close(runs[1]["state_dict"][name], tensor, rtol=1e-4, atol=1e-5)


def test_a_loss_trains_is_recorded_and_reproduces_its_own_validation(train: Train) -> None:
    runs = {
        option: train(STEPS, f"loss={option}", folder=option).record
        for option in ("cross_entropy", "label_smoothing", "bce", "mse")
    }
    assert len({record.weights_sha256 for record in runs.values()}) == 4
    assert len({record.config_hash for record in runs.values()}) == 4
    assert runs["mse"].metrics["val"]["loss"] < 0.2 < runs["bce"].metrics["val"]["loss"] * 2


def test_a_loss_of_torch_gives_the_bits_of_ours(train: Train) -> None:
    small = (STEPS, "loss._target_=torch.nn.CrossEntropyLoss")
    with pytest.raises(UserError, match=r"loss: .*weights.*choose loss=<option of conf/loss>"):
        train(*small)
    loss, logits = as_loss(nn.CrossEntropyLoss()), torch.randn(4, 3)
    labels = torch.tensor([0, 1, 2, 0])
    assert torch.equal(loss(logits, labels), F.cross_entropy(logits, labels))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["loss=bec"], "bce"),
        (["loss.weights=[1,2]"], "loss.weights has 2 numbers for 10 classes"),
        (["loss.weights=even"], "loss.weights='even' is not"),
        (["loss.label_smoothing=1.0"], r"loss.label_smoothing=1.0 is not in \[0, 1\)"),
        (["loss.smoothing=0.1"], "loss.smoothing"),
    ],
)
def test_a_loss_that_cannot_be_is_one_line(overrides: list[str], line: str, train: Train) -> None:
    with pytest.raises(Exception, match=line):
        train(STEPS, *overrides)


def test_what_is_no_loss_of_logits_and_labels() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    with pytest.raises(UserError, match="BCEWithLogitsLoss cannot be computed from logits"):
        as_loss(nn.BCEWithLogitsLoss())(logits, labels)
    with pytest.raises(UserError, match="not callable"):
        as_loss(3)
    with pytest.raises(UserError, match="has parameters"):
        as_loss(nn.Linear(3, 1))
