"""Learn five digits, then the five others with the same features: a network for two data sets of images."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset


class DigitClassifier(pl.LightningModule):
    """Convolutional features that are kept, and a head for each set of classes."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.AvgPool2d(2)
        )
        self.head = nn.Linear(16 * channels, num_classes)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the cross-entropy of a batch."""
        loss, _ = self._loss_and_accuracy(batch)
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log `val/accuracy`."""
        self.log("val/accuracy", self._loss_and_accuracy(batch)[1])

    def test_step(self, batch: list[Tensor]) -> None:
        """Log `test/accuracy`."""
        self.log("test/accuracy", self._loss_and_accuracy(batch)[1])

    def _loss_and_accuracy(self, batch: list[Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = batch
        logits = self.head(self.features(images).flatten(1))
        return cross_entropy(logits, labels), (logits.argmax(1) == labels).float().mean()


def some_digits(first: int, classes: int) -> tuple[TensorDataset, TensorDataset]:
    """Return the sets (train, test) of `classes` digits from `first` on: images `[N, 1, 8, 8]`, labels."""
    pixels, digits = map(torch.as_tensor, load_digits(return_X_y=True))
    chosen = (digits >= first) & (digits < first + classes)
    images, labels = pixels[chosen].float().view(-1, 1, 8, 8) / 16, digits[chosen] - first
    is_test = torch.arange(len(labels)) % 5 == 0
    return TensorDataset(images[~is_test], labels[~is_test]), TensorDataset(images[is_test], labels[is_test])
