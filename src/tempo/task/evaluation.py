"""Sum up the loss, accuracy and further metrics of one validation or test."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, classification

from tempo.data.label_sets import hits
from tempo.errors import UserError
from tempo.record.metric_names import CLASSIFICATION_METRICS
from tempo.task.losses import Loss
from tempo.task.wrong_images import WrongImages


class EvaluationSums(nn.Module):
    """Sums over evaluated images and all ranks; they are not part of a checkpoint.

    An image with one class is right if the class of the largest logit is its own. With `has_label_sets`, it
    is right if exactly its own classes have logits above 0.

    Attributes:
        confusion_counts: `[classes, classes]` counts of the last evaluation; rows are labels. With
            `has_label_sets`, there are none.
        items: number of images of the last evaluation.
        wrong_images: keeps images of the evaluations while it is set.
    """

    def __init__(self, num_classes: int, names: Iterable[str] = (), *, has_label_sets: bool = False) -> None:
        super().__init__()
        self.has_label_sets = has_label_sets
        self.confusion: Metric = (
            LabelCounts(num_classes)
            if has_label_sets
            else classification.MulticlassConfusionMatrix(num_classes=num_classes)
        )
        self.loss = MeanMetric()
        make = _metric_of_sets if has_label_sets else _metric
        self.others: dict[str, Metric] = nn.ModuleDict(  # type: ignore[assignment]
            {name: make(name, num_classes) for name in names}
        )
        self.confusion_counts: Tensor | None = None
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
            if self.has_label_sets:
                metric.update(logits.sigmoid(), labels.long())
                continue
            takes_probabilities = CLASSIFICATION_METRICS[name].of_probabilities
            metric.update(logits.softmax(1) if takes_probabilities else logits, labels)
        if self.wrong_images is not None and not self.has_label_sets:
            self.wrong_images.add(images, logits, labels)

    def close(self) -> dict[str, float]:
        """Return loss, accuracy and the other metrics since the last call, over all ranks."""
        counts = self.confusion.compute()
        if self.has_label_sets:
            self.items, right, *positives = map(int, counts.tolist())
            # Without an image with a class, or one without it, neither a curve nor a share is defined.
            present = torch.tensor([0 < positive < self.items for positive in positives])
        else:
            self.confusion_counts = counts.cpu()
            self.items, right = int(counts.sum()), int(counts.diagonal().sum())
            present = (counts.sum(1) > 0).cpu()
        found = {"loss": float(self.loss.compute()), "accuracy": right / self.items}
        for name, metric in self.others.items():
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="No (positive|negative) samples")
                value = metric.compute().cpu()
            # A class without images has no curve; torchmetrics would average it in as 0.
            found[name] = float(value if value.ndim == 0 else value[present].mean())
        for metric in (self.confusion, self.loss, *self.others.values()):
            metric.reset()
        return found


class LabelCounts(Metric):
    """Counts for images that may have several classes, int64 `[2 + classes]`: images, right ones, classes."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.counts: Tensor
        self.add_state("counts", torch.zeros(2 + num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits and rows of 0 and 1, both `[B, classes]`."""
        first = torch.stack([torch.tensor(len(labels), device=labels.device), hits(logits, labels).sum()])
        self.counts += torch.cat([first, labels.sum(0, dtype=torch.int64)])

    def compute(self) -> Tensor:
        """Return the counts."""
        return self.counts


def _metric(name: str, num_classes: int) -> Metric:
    kind, arguments, *_ = CLASSIFICATION_METRICS[name]
    if num_classes <= arguments.get("top_k", 1):
        raise UserError(
            f"metrics has {name}, always 1 with {num_classes} classes; leave it out, e.g. metrics=[f1]"
        )
    built: Metric = getattr(classification, kind)(num_classes=num_classes, validate_args=False, **arguments)
    return built


def _metric_of_sets(name: str, num_classes: int) -> Metric:
    kind = CLASSIFICATION_METRICS[name].of_label_sets
    if kind is None:
        known = ", ".join(key for key, metric in CLASSIFICATION_METRICS.items() if metric.of_label_sets)
        raise UserError(
            f"metrics has {name}, which needs one class per image, but these images may have several; "
            f"leave it out, e.g. metrics=[f1]. There are {known}"
        )
    built: Metric = getattr(classification, kind)(num_labels=num_classes, average="none", validate_args=False)
    return built
