"""Sum up the loss, accuracy and further metrics of one validation or test."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, classification

from tempo.errors import UserError
from tempo.record.metric_names import CLASSIFICATION_METRICS
from tempo.task.losses import Loss
from tempo.task.wrong_images import WrongImages


class EvaluationSums(nn.Module):
    """Sums over evaluated images and all ranks; they are not part of a checkpoint.

    Attributes:
        confusion_counts: `[classes, classes]` counts of the last evaluation; rows are labels.
        items: number of images of the last evaluation.
        wrong_images: keeps images of the evaluations while it is set.
    """

    def __init__(self, num_classes: int, names: Iterable[str] = ()) -> None:
        super().__init__()
        self.confusion = classification.MulticlassConfusionMatrix(num_classes=num_classes)
        self.loss = MeanMetric()
        self.others: dict[str, Metric] = nn.ModuleDict(  # type: ignore[assignment]
            {name: _metric(name, num_classes) for name in names}
        )
        self.confusion_counts: Tensor
        self.items = 0
        self.wrong_images: WrongImages | None = None

    def use_float64(self) -> None:
        """Sum losses in float64, so that the sum hardly depends on how images are spread over ranks."""
        self.loss.set_dtype(torch.float64)

    def add(self, logits: Tensor, labels: Tensor, loss: Loss, images: Tensor) -> None:
        """Add one batch; `images` are those of the dataset, before they are normalized."""
        self.loss.update(loss.per_image(logits, labels).to(self.loss.dtype))
        self.confusion.update(logits, labels)
        for name, metric in self.others.items():
            takes_probabilities = CLASSIFICATION_METRICS[name].of_probabilities
            metric.update(logits.softmax(1) if takes_probabilities else logits, labels)
        if self.wrong_images is not None:
            self.wrong_images.add(images, logits, labels)

    def close(self) -> dict[str, float]:
        """Return loss, accuracy and the other metrics since the last call, over all ranks."""
        counts = self.confusion.compute()
        self.confusion_counts = counts.cpu()
        self.items = int(counts.sum())
        found = {
            "loss": float(self.loss.compute()),
            "accuracy": int(counts.diagonal().sum()) / self.items,
        }
        present = counts.sum(1) > 0
        for name, metric in self.others.items():
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="No (positive|negative) samples")
                value = metric.compute()
            # A class without images has no curve; torchmetrics would average it in as 0.
            found[name] = float(value if value.ndim == 0 else value[present].mean())
        for metric in (self.confusion, self.loss, *self.others.values()):
            metric.reset()
        return found


def _metric(name: str, num_classes: int) -> Metric:
    kind, arguments, _ = CLASSIFICATION_METRICS[name]
    if num_classes <= arguments.get("top_k", 1):
        raise UserError(
            f"metrics has {name}, always 1 with {num_classes} classes; leave it out, e.g. metrics=[f1]"
        )
    built: Metric = getattr(classification, kind)(num_classes=num_classes, validate_args=False, **arguments)
    return built
