"""Predict the progress of diabetes from ten measurements: a LightningModule and two datasets."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import TensorDataset

Batch = tuple[Tensor, Tensor]


class Regression(pl.LightningModule):
    """A perceptron that is trained on the squared error; conf/optimizer and conf/scheduler train it."""

    def __init__(self, inputs: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1)
        )

    def training_step(self, batch: Batch) -> Tensor:
        """Return the mean squared error of a batch."""
        return self._mse(batch)

    def validation_step(self, batch: Batch) -> None:
        """Log `val/mse`."""
        self.log("val/mse", self._mse(batch))

    def test_step(self, batch: Batch) -> None:
        """Log `test/mse`."""
        self.log("test/mse", self._mse(batch))

    def _mse(self, batch: Batch) -> Tensor:
        rows, targets = batch
        return mse_loss(self.network(rows).squeeze(1), targets)


def diabetes(test_rows: int) -> tuple[TensorDataset, TensorDataset]:
    """Return the training and the test set: standardized columns `[N, 10]` and standardized targets `[N]`."""
    columns, progress = load_diabetes(return_X_y=True, scaled=False)
    order = torch.randperm(len(progress), generator=torch.Generator().manual_seed(0))
    rows = torch.as_tensor(columns, dtype=torch.float32)[order]
    targets = torch.as_tensor(progress, dtype=torch.float32)[order]
    train = slice(test_rows, None)
    rows = (rows - rows[train].mean(0)) / rows[train].std(0)
    targets = (targets - targets[train].mean()) / targets[train].std()
    test = TensorDataset(rows[:test_rows], targets[:test_rows])
    return TensorDataset(rows[train], targets[train]), test
