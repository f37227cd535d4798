"""Losses of a classifier of images: cross-entropy, binary cross-entropy of each class, squared error."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tempo.errors import UserError

Weights = Sequence[float] | Literal["balanced"] | None


class ImageLoss(nn.Module):
    """Mean over images of w[label] x the loss of an image.

    The sum is divided by the number of images, not by the sum of their weights as in torch, so it does not
    depend on how a batch is split into micro-batches and over devices.

    Args:
        num_classes: number of classes.
        class_counts: training images of each class, if known; "balanced" needs them.
        weights: w of each class; "balanced" = images / (classes x images of the class), whose mean over the
            training images is 1; None = 1 each.

    Raises:
        UserError: not one positive weight per class.
    """

    static_graph: ClassVar[bool] = True
    starts_at_chance: ClassVar[bool] = False
    """Whether guessing among C classes costs ln C."""
    takes_label_sets: ClassVar[bool] = False
    """Whether an image may have several classes, or none."""

    def __init__(
        self,
        num_classes: int,
        class_counts: Sequence[int] | None = None,
        weights: Sequence[float] | Literal["balanced"] | None = None,
    ) -> None:
        super().__init__()
        self.weights: Tensor | None
        # Not part of a checkpoint: it follows from the configuration and the data.
        self.register_buffer("weights", _class_weights(num_classes, class_counts, weights), persistent=False)

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        """Return what this loss trains the outputs `[B, C]` to say of each class, in [0, 1]."""
        return logits.softmax(1)

    @abstractmethod
    def of_images(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the unweighted loss of each image, `[B]`, of logits `[B, C]` and int64 labels `[B]`."""

    def per_image(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted loss of each image, `[B]`."""
        losses = self.of_images(logits, labels)
        if self.weights is None:
            return losses
        # Mixed images have shares of the classes, float `[B, C]`, in place of a label.
        shared = labels.ndim == 2
        return losses * (labels.to(self.weights.dtype) @ self.weights if shared else self.weights[labels])

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the images."""
        return self.per_image(logits, labels).mean()


class CrossEntropy(ImageLoss):
    """Cross-entropy of softmax(logits) and the label.

    `label_smoothing` = s moves the share s of the target from the label to all classes alike (Szegedy et al.,
    "Rethinking the Inception architecture", 2016).
    """

    static_graph = True
    starts_at_chance = True

    def __init__(
        self,
        *,
        num_classes: int,
        class_counts: Sequence[int] | None = None,
        label_smoothing: float = 0.0,
        weights: Sequence[float] | Literal["balanced"] | None = None,
    ) -> None:
        super().__init__(num_classes, class_counts, weights)
        if not 0 <= label_smoothing < 1:
            raise UserError(
                f"loss.label_smoothing={label_smoothing} is not in [0, 1); set loss.label_smoothing=0.1"
            )
        self.label_smoothing = label_smoothing

    def of_images(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of each image."""
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the images."""
        if self.weights is None:  # one kernel
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return super().forward(logits, labels)


class OneVsAllCrossEntropy(ImageLoss):
    """Binary cross-entropy (BCE) of each class, mean over classes: with one-hot or multi-hot targets."""

    static_graph = True
    takes_label_sets = True

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        """Return the probability of each class against all others; they need not add up to 1."""
        return logits.sigmoid()

    def of_images(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the classes, for each image."""
        targets = _one_hot(logits, labels)
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)


class SquaredError(ImageLoss):
    """Squared difference of outputs and the one-hot label, mean over classes (Hui and Belkin, 2021)."""

    static_graph = True

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        """Return the outputs themselves, cut to [0, 1]: the mean of a one-hot label is a probability."""
        return logits.clamp(0, 1)

    def of_images(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the classes, for each image."""
        return F.mse_loss(logits, _one_hot(logits, labels), reduction="none").mean(1)


class LossOfBatch(nn.Module):
    """Any other callable `loss(logits, labels)` that returns the mean of a batch, such as a loss of torch."""

    starts_at_chance: ClassVar[bool] = False

    def __init__(self, function: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of the batch.

        Raises:
            UserError: it cannot be computed from logits and labels, or is not a tensor of floats.
        """
        name = getattr(self.function, "__name__", type(self.function).__name__)
        remedy = "choose loss=<option of conf/loss>"
        try:
            value = self.function(logits, labels if labels.ndim == 1 else labels.to(logits.dtype))
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            raise UserError(
                f"loss: {name} cannot be computed from logits {list(logits.shape)} and labels "
                f"{list(labels.shape)} ({str(error).splitlines()[0][:200]}); {remedy}"
            ) from error
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise UserError(f"loss: {name} returned {type(value).__name__}, not a tensor of floats; {remedy}")
        return value.mean()

    def per_image(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the batch's loss for each image, `[B]`."""
        return self(logits, labels).expand(len(labels))


Loss = ImageLoss | LossOfBatch


def probabilities_under(target: str) -> Callable[[Tensor], Tensor]:
    """Return the function from logits to probabilities that suits a loss, by its `_target_`."""
    module, _, name = target.rpartition(".")
    kind = globals().get(name) if module == __name__ else None
    if isinstance(kind, type) and issubclass(kind, ImageLoss):
        return kind.probabilities
    return ImageLoss.probabilities


def check_takes_labels(loss: Loss, has_label_sets: bool) -> None:
    """Raise UserError if images may have several classes, and a loss compares with one."""
    if not has_label_sets or isinstance(loss, LossOfBatch):
        return
    if not loss.takes_label_sets:
        raise UserError(
            "images of these data may have several classes, or none, but the loss compares with one class "
            "per image; set loss=bce"
        )
    if loss.weights is not None:
        raise UserError(
            "loss.weights weighs an image by its one class, but these images may have several, or none; "
            "set loss.weights=null"
        )


def as_loss(built: Any) -> Loss:
    """Return what conf/loss builds as a loss of a classifier.

    Raises:
        UserError: it is not callable, or has parameters of its own, which no optimizer would train.
    """
    if isinstance(built, ImageLoss):
        return built
    if not callable(built):
        raise UserError(
            f"loss builds a {type(built).__name__}, which is not callable; set loss._target_=<a class>, or "
            "add +loss._partial_=true for a function"
        )
    if isinstance(built, nn.Module) and any(parameter.requires_grad for parameter in built.parameters()):
        raise UserError(
            f"loss: {type(built).__name__} has parameters, which the optimizer of the network would not "
            "train; choose loss=<option of conf/loss>, or write a LightningModule"
        )
    return LossOfBatch(built)


def _class_weights(num_classes: int, class_counts: Sequence[int] | None, weights: Weights) -> Tensor | None:
    if weights is None:
        return None
    if isinstance(weights, str):
        if class_counts is None:
            raise UserError(
                "loss.weights=balanced needs the number of training images of each class, which these data "
                "do not say; set loss.weights=null, or give one number per class"
            )
        total, classes = sum(class_counts), num_classes
        # A class without training images has no loss to weigh.
        return torch.tensor([total / (classes * count) if count else 0.0 for count in class_counts])
    if len(weights) != num_classes or not all(0 < weight < float("inf") for weight in weights):
        raise UserError(
            f"loss.weights has {len(weights)} numbers for {num_classes} classes; give one positive "
            "number per class, or set loss.weights=balanced"
        )
    return torch.tensor([float(weight) for weight in weights])


def _one_hot(logits: Tensor, labels: Tensor) -> Tensor:
    shares = labels if labels.ndim == 2 else F.one_hot(labels, logits.shape[1])
    return shares.to(logits.dtype)
