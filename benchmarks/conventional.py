"""The jobs of `make bench` as a popular template (lightning-hydra-template) writes them."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
import torchmetrics
from jobs import ASK_NVML, Config, Cost, built, changed, temporary_folder
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import CIFAR10, MNIST

from tempo.data.images import ImageData
from tempo.data.run_data_module import ImageDataModule
from tempo.task.classifier import Classifier
from tempo.trainer.process_settings import quiet


def conventional(config: Config, steps: int) -> dict[str, float]:
    """Measure the job as lightning-hydra-template writes it, for `steps` after a few to warm up.

    torchvision's data sets and transforms, one PIL image after the other, its DataLoader settings (0 workers,
    no pinning), automatic optimization, torchmetrics for loss and accuracy, `self.log` of both at every step,
    Lightning's progress bar and TensorBoard; memory format and optimizer as torch has them by default.
    """
    config = changed(config, trainer={"channels_last": False}, optimizer={"fused": False})
    quiet()
    os.environ[ASK_NVML] = "1"  # as `import pytorch_lightning` has left it
    data, module = built(config)
    size = config.data.total_batch_size
    loader = conventional_loader(config, data, module, size)
    clock = StepClock(warm_up_steps=max(2, steps // 10), steps=steps, images_per_step=size)
    with (
        temporary_folder() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=clock.last_step,
            callbacks=[clock],
            deterministic=False,  # the template's own setting; None would keep what tempo has set
            logger=pl.loggers.TensorBoardLogger(folder),
            default_root_dir=folder,
        )
        trainer.fit(ConventionalModule(module, len(data.train.classes)), loader)
    return clock.cost.values()


def conventional_loader(
    config: Config, data: ImageDataModule, module: Classifier, size: int
) -> DataLoader[Any]:
    """Make a DataLoader with crop, flip and normalisation as torchvision's transforms."""
    augment, mean, std = config.data.augment, module.train_preprocess.mean, module.train_preprocess.std
    steps: list[Any] = []
    if augment.crop_padding:
        steps.append(transforms.RandomCrop(data.train.shape[1], padding=augment.crop_padding))
    if augment.flip:
        steps.append(transforms.RandomHorizontalFlip())
    steps += [transforms.ToTensor(), transforms.Normalize(mean, std)]
    return DataLoader(
        torchvision_dataset(data.train, transforms.Compose(steps)),
        batch_size=size,
        shuffle=True,
        drop_last=True,
    )


def torchvision_dataset(data: ImageData, transform: Callable[[Any], Tensor]) -> Dataset[Any]:
    """Put images into torchvision's MNIST (one channel) or CIFAR10, whose `__getitem__` is measured."""
    if data.shape[0] == 1:
        mnist = MNIST.__new__(MNIST)
        mnist.data, mnist.targets = data.images[:, 0], data.labels
        mnist.transform, mnist.target_transform = transform, None
        return mnist
    cifar = CIFAR10.__new__(CIFAR10)
    cifar.data = data.images.permute(0, 2, 3, 1).contiguous().numpy()
    cifar.targets, cifar.transform, cifar.target_transform = data.labels.tolist(), transform, None
    return cifar


class ConventionalModule(pl.LightningModule):
    """A training step as in the template's MNISTLitModule."""

    def __init__(self, module: Classifier, classes: int) -> None:
        super().__init__()
        self.network, self.build_optimizer = module.network, module.build_optimizer
        self.train_loss = torchmetrics.MeanMetric()
        self.train_accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=classes)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch and log both metrics."""
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        self.train_loss(loss)
        self.train_accuracy(logits.argmax(1), labels)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the same optimizer as tempo."""
        return self.build_optimizer(self.network)


class StepClock(pl.Callback):
    """Measure `steps` optimizer steps after `warm_up_steps`."""

    def __init__(self, *, warm_up_steps: int, steps: int, images_per_step: int) -> None:
        self.warm_up_steps, self.last_step = warm_up_steps, warm_up_steps + steps
        self.cost = Cost(images=steps * images_per_step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Start after the warm-up, stop after the last step."""
        if trainer.global_step == self.warm_up_steps:
            self.cost.start()
        elif trainer.global_step == self.last_step:
            self.cost.stop()
