"""LightningModules and data as users write them, for the tests of any module and any data."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

from tempo.data.augment import Preprocess, channel_statistics
from tempo.data.digits import digits
from tempo.data.images import ImageData
from tempo.data.split import split


class Drawing(Dataset[Any]):
    """Items that draw from torch, numpy and `random`."""

    def __init__(self, items: int, fails_at: int | None = None) -> None:
        self.items, self.fails_at = items, fails_at

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index == self.fails_at:
            raise ValueError("this file is torn")
        x = torch.full((4,), index / self.items) + 0.1 * torch.randn(4)
        x = x + 0.1 * float(np.random.rand()) + 0.1 * random.random()  # noqa: NPY002 - as users' code does
        return {"x": x, "y": x.sum(0, keepdim=True), "index": torch.tensor(index)}


class Tabular(pl.LightningDataModule):
    """Dict batches from ordinary DataLoaders; counts how often it is asked for test data."""

    asked_for_test: ClassVar[int] = 0

    def __init__(self, items: int = 320, num_workers: int = 0, fails_at: int | None = None) -> None:
        super().__init__()
        self.items, self.num_workers, self.fails_at = items, num_workers, fails_at

    def train_dataloader(self) -> DataLoader[Any]:
        data = Drawing(self.items, self.fails_at)
        return DataLoader(data, batch_size=16, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Drawing(50), batch_size=16)

    def test_dataloader(self) -> DataLoader[Any]:
        type(self).asked_for_test += 1
        return DataLoader(Drawing(45), batch_size=16)


class Split(Tabular):
    """A class whose parameter has the name of a key of tempo."""

    def __init__(self, val_size: float = 0.3) -> None:
        super().__init__()
        self.val_size = val_size


class Weighted(Tabular):
    """A training loader with a sampler of its own."""

    def train_dataloader(self) -> DataLoader[Any]:
        sampler = WeightedRandomSampler([1.0] * self.items, self.items)
        return DataLoader(Drawing(self.items), batch_size=16, sampler=sampler)


class Stream(IterableDataset[Any]):
    """A stream of random items without state."""

    def __iter__(self) -> Iterator[Any]:
        for index in range(64):
            x = torch.randn(4)
            yield {"x": x, "y": x.sum(0, keepdim=True), "index": torch.tensor(index)}


class CountingStream:
    """A loader that can say and take back its position."""

    def __init__(self) -> None:
        self.position = 0

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.position % 4, 4):
            self.position += 1
            x = torch.full((16, 4), float(self.position)) + torch.rand(16, 4)
            yield {"x": x, "y": x.sum(1, keepdim=True), "index": torch.arange(16)}

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class Streamed(Tabular):
    """A stream as training data, with or without state."""

    def __init__(self, has_state: bool = False) -> None:
        super().__init__()
        self.has_state = has_state

    def train_dataloader(self) -> Any:
        return CountingStream() if self.has_state else DataLoader(Stream(), batch_size=16)


class Noted(pl.LightningModule):
    """A module that writes the items of its batches into the folder TEMPO_TEST_SEEN, one file per rank."""

    def on_train_start(self) -> None:
        self.seen: list[list[int]] = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if os.environ.get("TEMPO_TEST_KILL_AT") == str(self.trainer.global_step):
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(batch, dict):
            self.seen.append(batch["index"].tolist())

    def on_train_end(self) -> None:
        if folder := os.environ.get("TEMPO_TEST_SEEN"):
            Path(folder, f"{self.global_rank}.json").write_text(json.dumps(self.seen), encoding="utf-8")


class Bare(Noted):
    """Regression with batch norm and dropout, without an optimizer."""

    def __init__(self, width: int = 16, log_as: str = "val/mse", nan: bool = False) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 1)
        )
        self.log_as, self.nan = log_as, nan

    def loss_of(self, batch: dict[str, Tensor]) -> Tensor:
        return F.mse_loss(self.net(batch["x"]), batch["y"])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss_of(batch)
        self.log("train/mse", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log(self.log_as, self.loss_of(batch) * (float("nan") if self.nan else 1))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("test/mse", self.loss_of(batch))


class Unvalidated(Bare):
    """The same without validation."""

    validation_step = pl.LightningModule.validation_step


class Regression(Bare):
    """The same with an optimizer and a scheduler that reacts to the validation."""

    def __init__(self, lr: float = 1e-2, **others: Any) -> None:
        super().__init__(**others)
        self.lr = lr

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/mse"}}


class Predicting(Regression):
    """The same that predicts."""

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.net(batch["x"])[:, 0]


class Idle(pl.LightningModule):
    """A module without training_step."""


class Silent(Regression):
    """A module that logs nothing."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.loss_of(batch)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.loss_of(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Gan(Noted):
    """Two optimizers under manual optimization; `training_step` returns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = nn.Linear(2, 4), nn.Linear(4, 1)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        x = batch["x"]
        of_generator, of_critic = self.optimizers()  # type: ignore[misc]
        fake = self.generator(torch.randn(len(x), 2))
        loss = F.softplus(-self.critic(fake)).mean()
        of_generator.zero_grad()
        self.manual_backward(loss)
        of_generator.step()
        critic_loss = F.softplus(self.critic(fake.detach())).mean() + F.softplus(-self.critic(x)).mean()
        of_critic.zero_grad()
        self.manual_backward(critic_loss)
        of_critic.step()
        self.log_dict({"g_loss": loss, "d_loss": critic_loss})

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        fake = self.generator(torch.randn(len(batch["x"]), 2))
        self.log("val_distance", (fake.mean(0) - batch["x"].mean(0)).norm())

    def configure_optimizers(self) -> Any:
        optimizers = [torch.optim.Adam(part.parameters(), lr=1e-2) for part in (self.generator, self.critic)]
        return optimizers, []


class ImageModule(pl.LightningModule):
    """A user's module on tempo's own images."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        outputs = self.net(images)
        self.log_dict(
            {
                "val_loss": F.cross_entropy(outputs, labels),
                "val_acc": outputs.argmax(1).eq(labels).float().mean(),
            }
        )

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("test_acc", self.net(images).argmax(1).eq(labels).float().mean())


def datasets(items: int = 128) -> tuple[TensorDataset, TensorDataset]:
    """A function under `data` that returns a training and a test set."""
    x = torch.linspace(-1, 1, items).view(-1, 1).repeat(1, 4)
    return TensorDataset(x, x.sum(1, keepdim=True)), TensorDataset(x[:32], x[:32].sum(1, keepdim=True))


class Pairs(Bare):
    """Regression on tuples."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/mse", F.mse_loss(self.net(batch[0]), batch[1]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/mse", F.mse_loss(self.net(batch[0]), batch[1]))


class Digits(pl.LightningDataModule):
    """The images of data=digits in ordinary loaders, as uint8 or as floats that are normalized already."""

    def __init__(self, form: str = "uint8", num_workers: int = 0, classes: int = 10) -> None:
        super().__init__()
        self.form, self.num_workers, self.classes = form, num_workers, [f"digit {n}" for n in range(classes)]
        train, self.test = digits()
        kept, val = split(train, val_size=0.1, train_size=320, split_seed=0)
        assert val is not None
        self.train, self.val = kept, val

    def loader(self, data: ImageData, batch_size: int) -> DataLoader[Any]:
        images = data.images if self.form == "uint8" else normalized(data.images, self.train.images)
        parts = {"labels": (images, F.one_hot(data.labels)), "triple": (images, images, data.labels)}
        dataset = TensorDataset(*parts.get(self.form, (images, data.labels)))
        return DataLoader(dataset, batch_size=batch_size, num_workers=self.num_workers)

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.train, 16)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.val, 1000)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.test, 1000)


def normalized(images: Tensor, train: Tensor) -> Tensor:
    """The images as tempo's preprocessing without augmentation makes them."""
    return Preprocess(None, *channel_statistics(train), channels_last=False)(images)
