"""Predict the next character of a text: a recurrent network and windows of an embedded text."""

from __future__ import annotations

import math
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

TEXT = (Path(__file__).parent / "sonnets.txt").read_text(encoding="utf-8")
"""Sonnets 1, 18, 116 and 29 of Shakespeare."""
ALPHABET = sorted(set(TEXT))


class CharacterModel(pl.LightningModule):
    """A GRU over characters, measured in bits per character."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(ALPHABET), width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, len(ALPHABET)))

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the cross-entropy of the next characters in nats."""
        return self._loss(batch)

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log `val/bits`."""
        self.log("val/bits", self._loss(batch) / math.log(2))

    def test_step(self, batch: list[Tensor]) -> None:
        """Log `test/bits`."""
        self.log("test/bits", self._loss(batch) / math.log(2))

    def _loss(self, batch: list[Tensor]) -> Tensor:
        (windows,) = batch
        states, _ = self.gru(self.embedding(windows[:, :-1]))
        return cross_entropy(self.head(states).flatten(0, 1), windows[:, 1:].flatten())


def windows(length: int) -> dict[str, TensorDataset]:
    """Return overlapping windows of `length` + 1 characters, `[N, length + 1]`, for each split."""
    numbers = torch.tensor([ALPHABET.index(character) for character in TEXT])
    first, second = int(0.8 * len(numbers)), int(0.9 * len(numbers))
    parts = {"train": numbers[:first], "val": numbers[first:second], "test": numbers[second:]}
    return {name: TensorDataset(part.unfold(0, length + 1, length // 4)) for name, part in parts.items()}
