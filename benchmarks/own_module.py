"""A user's LightningModule with a DataLoader: through tempo, and with Lightning alone."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jobs import composed_config
from measurement import Row, Section, ratio
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from tempo.config.check import check
from tempo.run.run_request import RunRequest
from tempo.run.train import run

_IMAGES, _BATCH, _EPOCHS = 4096, 64, 2
_WORKERS = (0, 2)


class FlippedImages(Dataset[Any]):
    """Images 3x32x32 in memory, each converted and flipped by a draw from torch, as a transform does."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (_IMAGES, 3, 32, 32), dtype=torch.uint8, generator=generator)
        self.labels = torch.randint(0, 10, (_IMAGES,), generator=generator)

    def __len__(self) -> int:
        return _IMAGES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index].float().div(255)
        return (image.flip(-1) if torch.rand(1) < 0.5 else image), self.labels[index]


class Flipped(pl.LightningDataModule):
    """The images in a DataLoader."""

    def __init__(self, workers: int = 0) -> None:
        super().__init__()
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Any]:
        """Return a shuffled loader."""
        return DataLoader(
            FlippedImages(),
            batch_size=_BATCH,
            shuffle=True,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )


class Plain(pl.LightningModule):
    """A small convolutional network with its own optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy, and log it as modules do."""
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class Clock(pl.Callback):
    """Seconds from the start of training to its end."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.begin = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self.seconds = time.perf_counter() - self.begin


def tempo_speed(workers: int) -> float:
    """Return images per second of training through tempo; its clock stops while states are saved."""
    values = composed_config(
        "trainer=cpu", f"trainer.epochs={_EPOCHS}", f"data.total_batch_size={_BATCH}", "data.val_size=0",
        "data=digits", "objective=train/loss", "checkpoint.select=last",
    ).values  # fmt: skip
    own = {"_target_": "own"}
    common = {**values["data"], "train_images": None}
    config = check(
        {
            **values,
            "data": {
                **common,
                "_target_": f"{__name__}.Flipped",
                "workers": workers,
            },
            "model": {"_target_": f"{__name__}.Plain"},
            "optimizer": own,
            "scheduler": own,
        }
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        record = run(RunRequest(config=config, folder=Path(folder), overrides=[], choices={}))
    return _EPOCHS * _IMAGES / record.seconds["train"]


def lightning_speed(workers: int) -> float:
    """Return images per second of `pl.Trainer.fit` with a TensorBoard logger."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=_EPOCHS, callbacks=[clock], default_root_dir=folder,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            deterministic=True,
        )  # fmt: skip
        trainer.fit(Plain(), datamodule=Flipped(workers))
    return _EPOCHS * _IMAGES / clock.seconds


def measure(rounds: int) -> list[Row]:
    """Measure both in turn, with 0 and with 2 workers."""
    rows = []
    for workers in _WORKERS:
        found: dict[str, list[float]] = {"tempo": [], "lightning": []}
        for number in range(rounds + 1):
            speeds = {"tempo": tempo_speed(workers), "lightning": lightning_speed(workers)}
            for name, speed in speeds.items():
                if number:  # the first round warms up
                    found[name].append(speed)
        rows += [Row(f"{name}_{workers}_workers", "images/s", values) for name, values in found.items()]
        name = f"tempo_over_lightning_{workers}_workers"
        rows.append(ratio(name, found["tempo"], found["lightning"], at_least=1.0))
    return rows


SECTIONS = [
    Section(
        "own_module",
        f"Images per second of a user's LightningModule (two convolutions, SGD) and DataLoader, {_IMAGES:,} "
        f"images of 3x32x32, batch {_BATCH}, {_EPOCHS} epochs in turn: through tempo, and Lightning alone.",
        measure,
    )
]
