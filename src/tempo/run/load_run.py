"""Load what a run has trained, without its data: the tested network behind its normalization."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from tempo.config.check import check
from tempo.config.recorded_config import completed
from tempo.config.schema import RunConfig
from tempo.data.augment import scale_and_shift
from tempo.data.run_data_module import ImageDataModule
from tempo.distributed.fsdp2 import load_whole
from tempo.errors import UserError
from tempo.record.foreign_folder import check_foreign_config
from tempo.record.run_json import RunRecord
from tempo.run.build_data import build_data
from tempo.run.build_network import build_model
from tempo.task.classifier import Classifier
from tempo.task.losses import probabilities_under
from tempo.trainer.checkpoint_file import load, named_checkpoint, network_weights


class ImageClassifier(nn.Module):
    """The network that a run tested, behind the normalization of its images.

    Attributes:
        network: takes normalized float32 images.
        class_names: in the order of the outputs.
        input_shape: (C, H, W) of the images that it was trained on.
        mean, std: of each channel, in [0, 1].
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        class_names: tuple[str, ...],
        input_shape: tuple[int, ...],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        of_logits: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.network = network
        self.class_names, self.input_shape = class_names, input_shape
        self.mean, self.std = mean, std
        self._of_logits = of_logits
        scale, shift = scale_and_shift(mean, std)
        self.register_buffer("scale", scale.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, classes], float32, of uint8 images [B, C, H, W]; floats are used as they come."""
        if not images.is_floating_point():
            images = images.to(torch.float32) * self.scale + self.shift
        weights = next(self.network.parameters(), images)
        return self.network(images.to(weights.dtype)).float()

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probability of each class, [B, classes], as the loss of the run means it."""
        return self._of_logits(self(images))


def load_run(folder: str | Path, checkpoint: str = "tested") -> nn.Module:
    """Return the network that a run tested, in evaluation mode, as an `ImageClassifier`.

    A LightningModule of your own is returned itself, with its weights. The training data is not read.

    Args:
        folder: of the run.
        checkpoint: "tested" is the one that the run's own test used; also "best", "last", or a file.

    Raises:
        UserError: the folder has no run, no such checkpoint, or names foreign code.
    """
    path = Path(folder).expanduser().absolute()
    record = RunRecord.read(path)
    return load_module(path, record, recorded_run_config(path, record), checkpoint)


def load_state(module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Load the weights of a checkpoint as Lightning does when it resumes.

    The module's own `on_load_checkpoint` is called first, and its `strict_loading` holds. A classifier's hook
    would restore the progress of training too, so it is not called.

    Raises:
        RuntimeError: the weights do not fit.
    """
    if not isinstance(module, Classifier):
        module.on_load_checkpoint(checkpoint)
    load_whole(module, checkpoint["state_dict"], strict=module.strict_loading)


def recorded_run_config(folder: Path, record: RunRecord) -> RunConfig:
    """Return a run's own configuration; UserError if it could run foreign code."""
    check_foreign_config(record.config)
    return check(completed(record, folder))


def load_module(folder: Path, record: RunRecord, config: RunConfig, checkpoint: str = "tested") -> nn.Module:
    """Build the model of a record, load a checkpoint, and switch it to evaluation."""
    data = record.data
    shape = tuple(data["shape"]) if "shape" in data else None
    model = build_model(config.model, config.seed, shape, data.get("classes", 0))
    file = named_checkpoint(folder, checkpoint, record)
    if config.trainer.precision == "64-true":
        model.double()  # before it loads the weights, which float32 would round
    try:
        if isinstance(model, pl.LightningModule):
            load_state(model, load(file))
            return model.eval()
        model.load_state_dict(network_weights(file))
    except RuntimeError as error:
        raise UserError(f"the checkpoint does not fit model {config.model.target}: {error}") from error
    assert shape is not None
    if config.trainer.channels_last:  # the same kernels as in the run
        model.to(memory_format=torch.channels_last)
    names, mean, std = _of_images(record, config)
    classifier = ImageClassifier(
        model,
        class_names=names,
        input_shape=shape,
        mean=mean,
        std=std,
        of_logits=probabilities_under(config.loss.target),
    )
    return classifier.requires_grad_(False).eval()


def _of_images(
    record: RunRecord, config: RunConfig
) -> tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]]:
    """Return class names, mean and std; records of older versions lack them, so their data is read."""
    data = record.data
    if "mean" in data and "class_names" in data:
        return tuple(data["class_names"]), tuple(data["mean"]), tuple(data["std"])
    images = build_data(config)
    if not isinstance(images, ImageDataModule) or images.sha256 != data.get("sha256"):
        raise UserError(
            "the record is of an older version, without normalization and class names, and the images here "
            "are not those of the run; train the run again"
        )
    return (images.classes, *images.mean_and_std)
