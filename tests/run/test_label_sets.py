"""Images that have several classes, or none: from a table to metrics, checkpoint and predictions."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as sklearn
from torch import Tensor, nn
from torch.utils.data import Dataset

from tempo.errors import UserError
from tempo.record.metric_names import CLASSIFICATION_METRICS
from tempo.run.evaluate import evaluate
from tempo.run.predict import predict
from tempo.task.evaluation import EvaluationSums
from tempo.task.losses import LossOfBatch, OneVsAllCrossEntropy, check_takes_labels
from tests.conftest import Train
from tests.own_jobs import run_own

CLASSES = ("red", "green", "blue")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images whose bright channels are their classes, and a table of them."""
    rng, rows = np.random.default_rng(3), ["file,colours"]
    for number, sets in enumerate(list(itertools.product((0, 1), repeat=3)) * 12):
        pixels = rng.integers(0, 120, (8, 8, 3)) + 120 * np.array(sets)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'|'.join(np.array(CLASSES)[np.array(sets, dtype=bool)])}")
    (tmp_path / "train.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def job(root: Path, *changes: str) -> list[str]:
    table = ["data=table", f"data.root={root}", f"data.cache={root / 'cache'}", 'data.label_separator="|"']
    batch = [
        "data.total_batch_size=16",
        "data.val_size=16",
        "data.test_size=16",
        "model=mlp",
        "optimizer=adam",
    ]
    return [*table, *batch, "trainer=cpu", "trainer.threads=1", "trainer.epochs=6", *changes]


def test_a_run_learns_them_and_its_numbers_hold(train: Train, root: Path) -> None:
    settings = job(root, "loss=bce", "metrics=[f1,auroc]", "objective=val/f1", "data.augment.flip=true")
    found = train(*settings, folder="memory", small=())
    record = found.record
    assert record.data["label_sets"] is True
    assert record.data["class_names"] == ["blue", "green", "red"]
    assert record.data["class_counts"]["test"] == [8, 8, 8]
    assert record.metrics["test"]["accuracy"] > 0.8
    assert evaluate(found.folder).against_record == "the record's numbers"
    assert not (found.folder / "confusion.png").exists()
    files = train(*settings, "data.store=files", folder="files", small=()).record
    assert files.weights_sha256 == record.weights_sha256
    assert files.metrics == record.metrics
    truth = {row["file"]: row["colours"] for row in csv.DictReader((root / "train.csv").read_text().split())}
    predicted = predict(found.folder, str(root))
    right = [set(row[1].split("|")) == set(truth[row[0]].split("|")) for row in predicted.rows]
    assert sum(right) / len(right) > 0.8
    mixed = train(*settings, "data.mixup=0.2", folder="mixed", small=()).record
    assert mixed.weights_sha256 != record.weights_sha256


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ([], "the loss compares with one class per image; set loss=bce"),
        (["loss=bce", "loss.weights=balanced"], "set loss.weights=null"),
        (["loss=bce", "metrics=[top5]"], "metrics has top5, which needs one class per image"),
    ],
)
def test_what_needs_one_class_per_image_is_refused(
    train: Train, root: Path, changes: list[str], line: str
) -> None:
    with pytest.raises(UserError) as refused:
        train(*job(root, *changes), small=())
    assert line in str(refused.value)


def test_metrics_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 2, (90, 5), generator=generator, dtype=torch.uint8)
    labels[:, 4] = 0  # a class without images is left out of the averages
    logits = labels + torch.randn(90, 5, generator=generator) - 0.5
    names = [name for name, metric in CLASSIFICATION_METRICS.items() if metric.of_label_sets]
    sums, loss = EvaluationSums(5, names, has_label_sets=True), OneVsAllCrossEntropy(num_classes=5)
    for part in (slice(0, 64), slice(64, 90)):
        sums.add(logits[part], labels[part], loss, images=torch.zeros(0))
    found = sums.close()
    truth, likely, values = (
        labels[:, :4].numpy(),
        (logits > 0)[:, :4].numpy(),
        logits.sigmoid()[:, :4].numpy(),
    )
    expected = {
        "loss": float(nn.BCEWithLogitsLoss()(logits, labels.float())),
        "accuracy": sklearn.accuracy_score(labels.numpy(), (logits > 0).numpy()),
        "f1": sklearn.f1_score(truth, likely, average="macro"),
        "precision": sklearn.precision_score(truth, likely, average="macro"),
        "recall": sklearn.recall_score(truth, likely, average="macro"),
        "specificity": sklearn.recall_score(1 - truth, ~likely, average="macro"),
        "jaccard": sklearn.jaccard_score(truth, likely, average="macro"),
        "auroc": sklearn.roc_auc_score(truth, values, average="macro"),
        "average_precision": sklearn.average_precision_score(truth, values, average="macro"),
    }
    assert found == pytest.approx(expected, abs=1e-6)
    assert sums.items == 90


class Coloured(Dataset[Any]):
    """Images and float rows of 0 and 1, as users' datasets have them."""

    classes = CLASSES

    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sets = torch.tensor([index & 1, index >> 1 & 1, index >> 2 & 1], dtype=torch.float32)
        return torch.rand(3, 8, 8) + sets.view(3, 1, 1), sets


def coloured() -> tuple[Coloured, Coloured]:
    """Return a training and a test set."""
    return Coloured(), Coloured()


def test_a_dataset_of_a_users_may_give_them(tmp_path: Path) -> None:
    network = {"_target_": "tempo.model.mlp.MLP", "hidden": [16]}
    data = {"_target_": f"{__name__}.coloured"}
    found = run_own(tmp_path / "run", network, data, "loss=bce", "optimizer=adam", "optimizer.lr=0.01")
    assert found.record.metrics["test"]["accuracy"] > 0.8


def test_a_loss_of_torch_takes_them() -> None:
    loss = LossOfBatch(nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0])))
    check_takes_labels(loss, True)
    logits, labels = torch.randn(4, 2), torch.tensor([[0, 1], [1, 1], [0, 0], [1, 0]], dtype=torch.uint8)
    assert torch.isfinite(loss(logits, labels))
