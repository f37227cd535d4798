"""Sum up the loss and accuracy of one validation or test."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix


class EvaluationSums(nn.Module):
    """Sums over evaluated images and all ranks; they are not part of a checkpoint.

    Attributes:
        confusion_counts: `[classes, classes]` counts of the last evaluation; rows are labels.
        items: number of images of the last evaluation.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.confusion = MulticlassConfusionMatrix(num_classes=num_classes)
        self.loss = MeanMetric()
        self.confusion_counts: Tensor
        self.items = 0

    def use_float64(self) -> None:
        """Sum losses in float64, so that the sum hardly depends on how images are spread over ranks."""
        self.loss.set_dtype(torch.float64)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add one batch."""
        losses = F.cross_entropy(logits, labels, reduction="none")
        self.loss.update(losses.to(self.loss.dtype))
        self.confusion.update(logits, labels)

    def close(self) -> dict[str, float]:
        """Return loss and accuracy since the last call, over all ranks."""
        counts = self.confusion.compute()
        self.confusion_counts = counts.cpu()
        self.items = int(counts.sum())
        found = {
            "loss": float(self.loss.compute()),
            "accuracy": int(counts.diagonal().sum()) / self.items,
        }
        self.confusion.reset()
        self.loss.reset()
        return found
