"""Find discs in noisy images: a LightningDataModule with masks, a LightningModule with its own optimizer."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import BinaryJaccardIndex

Batch = dict[str, Tensor]


class Discs(Dataset[Batch]):
    """Noisy images of one disc `[1, 32, 32]` and its mask; training images are flipped at random."""

    def __init__(self, first: int, items: int, *, flips: bool) -> None:
        self.first, self.items, self.flips = first, items, flips

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> Batch:
        generator = torch.Generator().manual_seed(self.first + index)
        row, column, radius = (torch.rand(3, generator=generator) * torch.tensor([20, 20, 5])).tolist()
        y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        mask = ((y - row - 6) ** 2 + (x - column - 6) ** 2 < (radius + 4) ** 2).float()[None]
        image = mask + 0.8 * torch.randn(mask.shape, generator=generator)
        if self.flips and torch.rand(()) < 0.5:
            image, mask = image.flip(2), mask.flip(2)
        return {"image": image, "mask": mask}


class DiscsDataModule(pl.LightningDataModule):
    """Three sets of generated images."""

    def __init__(self, train_items: int, batch_size: int, num_workers: int = 0) -> None:
        super().__init__()
        self.train_items, self.batch_size, self.num_workers = train_items, batch_size, num_workers

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled batches."""
        dataset = Discs(0, self.train_items, flips=True)
        return DataLoader(dataset, self.batch_size, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return batches of other images."""
        return DataLoader(Discs(100_000, 64, flips=False), 32, num_workers=self.num_workers)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return batches of yet other images."""
        return DataLoader(Discs(200_000, 64, flips=False), 32, num_workers=self.num_workers)


class Segmentation(pl.LightningModule):
    """A small convolutional network with a skip connection; the metric is the intersection over union."""

    def __init__(self, channels: int, lr: float, patience: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.down = nn.Sequential(nn.Conv2d(1, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU())
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU()
        )
        self.head = nn.Conv2d(channels + 1, 1, 3, 1, 1)
        self.iou = BinaryJaccardIndex()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the mask."""
        return self.head(torch.cat([images, self.up(self.down(images))], 1))

    def training_step(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of all pixels."""
        return binary_cross_entropy_with_logits(self(batch["image"]), batch["mask"])

    def validation_step(self, batch: Batch) -> None:
        """Log `val/iou`."""
        self.iou(self(batch["image"]), batch["mask"])
        self.log("val/iou", self.iou, on_epoch=True)

    def test_step(self, batch: Batch) -> None:
        """Log `test/iou`."""
        self.iou(self(batch["image"]), batch["mask"])
        self.log("test/iou", self.iou, on_epoch=True)

    def configure_optimizers(self) -> dict[str, object]:
        """Return Adam, and a schedule that waits for the validation to stand still."""
        optimizer = torch.optim.Adam(self.parameters(), self.hparams["lr"])
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", patience=self.hparams["patience"]
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/iou"}}
