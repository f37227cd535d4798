"""The jobs of `make bench`, each three ways: a plain loop, tempo, and the conventional Lightning script."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torchmetrics
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tempo import compose  # noqa: E402
from tempo.config import check, composed  # noqa: E402
from tempo.data.images import ImageData  # noqa: E402
from tempo.paths import register_resolvers  # noqa: E402
from tempo.report.load import read_curves  # noqa: E402
from tempo.run import Job, run  # noqa: E402
from tempo.trainer.quiet import quiet  # noqa: E402


@dataclass(frozen=True)
class BenchJob:
    """One row of the table: overrides of `src/train.py`, and the goals for the two ratios."""

    name: str
    overrides: tuple[str, ...]
    tempo_over_raw: float
    tempo_over_conventional: float | None

    def config(self) -> dict[str, Any]:
        """The composed configuration; two epochs, of which the second is measured."""
        register_resolvers()
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = composed(
                hydra_compose(
                    "train",
                    overrides=[*self.overrides, "trainer.epochs=2", "hydra.run.dir=."],
                    return_hydra_config=True,
                )
            )
        check(config)
        return config


SHAPED_LIKE_CIFAR10 = ("data=synthetic", "data.augment.crop_padding=4", "data.augment.flip=true")
JOBS = (
    BenchJob(
        "mnist2024",
        (
            "data=synthetic",
            "data.channels=1",
            "data.image_size=28",
            "data.train_images=60000",
            "data.test_images=1000",
            "data.val_size=1000",
            "data.normalize=unit",
            "data.total_batch_size=32",
            "model=mlp",
            "optimizer=adam",
        ),
        0.85,
        10.0,
    ),
    BenchJob(
        "cnn",
        (
            *SHAPED_LIKE_CIFAR10,
            "data.train_images=9680",
            "data.test_images=1000",
            "data.val_size=2000",
            "model=cnn3",
        ),
        0.95,
        2.0,
    ),
    BenchJob(
        "resnet",
        (
            *SHAPED_LIKE_CIFAR10,
            "data.train_images=3840",
            "data.test_images=500",
            "data.val_size=1280",
            "model=resnet20",
        ),
        0.97,
        1.1,
    ),
    BenchJob("digits", ("data=digits", "data.total_batch_size=128", "model=densenet40"), 0.97, None),
)


def raw(config: dict[str, Any]) -> float:
    """Images per second of a plain loop over batches that lie ready in memory: the limit."""
    data, module = _built(config)
    network = module.network.train()
    optimizer = module.build_optimizer(network)
    chunks = compose.build_train_batches(
        {**config, "trainer": {**config["trainer"], "steps_per_call": 1}}, data, module
    )
    chunks.next_step = lambda: 0
    ready = [(module.train_preprocess(chunk.images, chunk.draws), chunk.labels) for chunk in chunks]

    def epoch() -> None:
        for images, labels in ready:
            loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    warm_up_steps = min(5, len(ready))
    for images, labels in ready[:warm_up_steps]:
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return len(ready) * config["data"]["total_batch_size"] / _seconds(epoch)


def tempo(config: dict[str, Any]) -> float:
    """Images per second of `src/train.py`'s own path with all its defaults, validation off the clock."""
    folder = Path(tempfile.mkdtemp(prefix="tempo-bench-"))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            record = run(Job(config={**config, "name": "bench"}, folder=folder, overrides=[], choices={}))
        curves = read_curves(folder / "metrics.csv")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    first, last = curves["epoch"] == 1, curves["epoch"] == 2
    seconds = float(curves["seconds"][last].max() - curves["seconds"][first].max())
    return record.steps / 2 * config["data"]["total_batch_size"] / seconds


def conventional(config: dict[str, Any]) -> float:
    """Images per second of the same job as most Lightning projects write it."""
    quiet()
    data, module = _built(config)
    augment, mean, std = config["data"]["augment"], module.train_preprocess.mean, module.train_preprocess.std
    steps: list[Any] = [transforms.ToPILImage()]
    if augment["crop_padding"]:
        steps.append(transforms.RandomCrop(data.train.shape[1], padding=augment["crop_padding"]))
    if augment["flip"]:
        steps.append(transforms.RandomHorizontalFlip())
    steps += [transforms.ToTensor(), transforms.Normalize(mean, std)]
    size = config["data"]["total_batch_size"]
    loader = DataLoader(
        _Images(data.train, transforms.Compose(steps)), batch_size=size, shuffle=True, drop_last=True
    )
    classic = _ConventionalModule(module.network, module.build_optimizer, len(data.train.classes))
    clock = _EpochClock()
    folder = Path(tempfile.mkdtemp(prefix="tempo-bench-"))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            trainer = pl.Trainer(
                accelerator="cpu",
                max_epochs=2,
                callbacks=[clock],
                logger=pl.loggers.TensorBoardLogger(folder),
                enable_model_summary=False,
                default_root_dir=folder,
            )
            trainer.fit(classic, loader)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return len(loader) * size / clock.epoch_seconds[-1]


WAYS: dict[str, Callable[[dict[str, Any]], float]] = {
    "raw": raw,
    "tempo": tempo,
    "conventional": conventional,
}


class _Images(Dataset[Any]):
    def __init__(self, data: ImageData, transform: Callable[[Any], Any]) -> None:
        self.data, self.transform = data, transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.data.images[index]), int(self.data.labels[index])


class _ConventionalModule(pl.LightningModule):
    """Automatic optimization; loss and torchmetrics accuracy logged at every step, to the bar too."""

    def __init__(self, network: nn.Module, build_optimizer: Callable[[nn.Module], Any], classes: int) -> None:
        super().__init__()
        self.network, self.build_optimizer = network, build_optimizer
        self.train_accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=classes)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        self.train_accuracy(logits.argmax(1), labels)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_accuracy, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.build_optimizer(self.network)


class _EpochClock(pl.Callback):
    def __init__(self) -> None:
        self.epoch_seconds: list[float] = []
        self._begin = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epoch_seconds.append(time.perf_counter() - self._begin)


def _built(config: dict[str, Any]) -> tuple[compose.Data, Any]:
    data = compose.build_data(config)
    plan = compose.build_plan(config, len(data.train), world_size=1, rank=0)
    return data, compose.build_module(config, data, plan)


def _seconds(function: Callable[[], None]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin
