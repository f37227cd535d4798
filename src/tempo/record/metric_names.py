"""What the name of a metric says: its split, its best value, and which class of torchmetrics computes it."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

from tempo.errors import UserError

Mode = Literal["min", "max"]
SPLITS = ("train", "val", "test")
_LOW_IS_GOOD = frozenset(
    {"loss", "mse", "rmse", "mae", "mape", "msle", "error", "err", "nll", "bce", "ce", "perplexity", "ppl"}
    | {"fid", "kid", "kl", "wer", "cer", "brier", "ece", "lpips", "elbo", "hausdorff", "eer"}
)
_HIGH_IS_GOOD = frozenset(
    {"accuracy", "acc", "f1", "fbeta", "auroc", "auc", "ap", "map", "precision", "recall", "sensitivity"}
    | {"specificity", "iou", "miou", "jaccard", "dice", "r2", "bleu", "rouge", "psnr", "ssim", "kappa", "mcc"}
    | {"top1", "top5", "score", "spearman", "pearson", "reward", "return"}
)
_SHARES = frozenset({"accuracy", "acc", "top1", "top5"})


class ClassificationMetric(NamedTuple):
    """A class of `torchmetrics.classification`, its arguments, and whether it takes probabilities.

    `of_label_sets` is the class for images that may have several classes, None if there is none.
    """

    kind: str
    arguments: dict[str, Any] = {}  # noqa: RUF012 - never changed
    of_probabilities: bool = False
    of_label_sets: str | None = None


_MACRO, _EACH = {"average": "macro"}, {"average": "none"}
CLASSIFICATION_METRICS = {
    "f1": ClassificationMetric("MulticlassF1Score", _MACRO, of_label_sets="MultilabelF1Score"),
    "precision": ClassificationMetric("MulticlassPrecision", _MACRO, of_label_sets="MultilabelPrecision"),
    "recall": ClassificationMetric("MulticlassRecall", _MACRO, of_label_sets="MultilabelRecall"),
    "specificity": ClassificationMetric(
        "MulticlassSpecificity", _MACRO, of_label_sets="MultilabelSpecificity"
    ),
    "balanced_accuracy": ClassificationMetric("MulticlassAccuracy", _MACRO),
    "jaccard": ClassificationMetric("MulticlassJaccardIndex", _MACRO, of_label_sets="MultilabelJaccardIndex"),
    "top5": ClassificationMetric("MulticlassAccuracy", {"average": "micro", "top_k": 5}),
    "kappa": ClassificationMetric("MulticlassCohenKappa"),
    "mcc": ClassificationMetric("MulticlassMatthewsCorrCoef"),
    "auroc": ClassificationMetric(
        "MulticlassAUROC", _EACH, of_probabilities=True, of_label_sets="MultilabelAUROC"
    ),
    "average_precision": ClassificationMetric(
        "MulticlassAveragePrecision", _EACH, of_probabilities=True, of_label_sets="MultilabelAveragePrecision"
    ),
    "ece": ClassificationMetric("MulticlassCalibrationError", of_probabilities=True),
}
"""Metrics that `metrics=[..]` adds to loss and accuracy. Those of single classes are averaged
over the classes that have images, each counting the same."""


def metric_mode(metric: str, asked: str = "auto") -> Mode:
    """Return "min" or "max": which value of `<split>/<name>` is the best.

    With "auto" the words of the name decide: `val/rmse` is to be low, `val/f1_macro` high.

    Raises:
        UserError: no word, or two that disagree, say so.
    """
    mode = asked if asked in ("min", "max") else mode_in_name(metric)
    if mode is None:
        raise UserError(
            f"objective={metric} does not say whether low or high values are good; set objective_mode=min or "
            "objective_mode=max"
        )
    return "min" if mode == "min" else "max"


def mode_in_name(metric: str) -> Mode | None:
    """Return what the words of a name say about its best value; None if they say nothing, or disagree."""
    words = _words(metric)
    low, high = bool(words & _LOW_IS_GOOD), bool(words & _HIGH_IS_GOOD)
    if low == high:
        return None
    return "min" if low else "max"


def is_share(metric: str) -> bool:
    """Whether a metric is a share in [0, 1], shown in per cent: an accuracy."""
    return bool(_words(metric) & _SHARES)


def _words(metric: str) -> set[str]:
    name = metric.partition("/")[2] or metric
    return set(re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))
