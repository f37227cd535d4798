"""Metrics that `metrics=[..]` adds, against scikit-learn."""

from __future__ import annotations

import pytest
import torch
from sklearn import metrics as sklearn
from torch.nn import functional as F

from tempo.errors import UserError
from tempo.record.metric_names import CLASSIFICATION_METRICS, mode_in_name
from tempo.run.evaluate import evaluate
from tempo.task.evaluation import EvaluationSums
from tempo.task.losses import CrossEntropy
from tests.conftest import Train
from tests.jobs import checked_job

NO_IMAGES = torch.empty(0)


def test_metrics_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 7, (200,), generator=generator)
    logits = 2 * F.one_hot(labels, 7) + 1.5 * torch.randn(200, 7, generator=generator)
    sums = EvaluationSums(7, CLASSIFICATION_METRICS)
    loss = CrossEntropy(num_classes=7)
    for start in (0, 150):  # two batches of different sizes
        sums.add(logits[start : start + 150], labels[start : start + 150], loss, NO_IMAGES)
    found, shares, best = sums.close(), logits.softmax(1).numpy(), logits.argmax(1).numpy()
    truth = labels.numpy()
    expected = {
        "accuracy": sklearn.accuracy_score(truth, best),
        "f1": sklearn.f1_score(truth, best, average="macro"),
        "precision": sklearn.precision_score(truth, best, average="macro"),
        "recall": sklearn.recall_score(truth, best, average="macro"),
        "balanced_accuracy": sklearn.balanced_accuracy_score(truth, best),
        "jaccard": sklearn.jaccard_score(truth, best, average="macro"),
        "top5": sklearn.top_k_accuracy_score(truth, shares, k=5),
        "kappa": sklearn.cohen_kappa_score(truth, best),
        "mcc": sklearn.matthews_corrcoef(truth, best),
        "auroc": sklearn.roc_auc_score(truth, shares, multi_class="ovr"),
        "average_precision": sklearn.average_precision_score(F.one_hot(labels).numpy(), shares),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert found.keys() == {"loss", "accuracy", *CLASSIFICATION_METRICS}
    assert all(mode_in_name(name) for name in CLASSIFICATION_METRICS)
    kept = labels != 3  # a class without images is left out of the average
    sums.add(logits[kept], labels[kept], loss, NO_IMAGES)
    curves = [sklearn.roc_auc_score(truth[kept] == c, shares[kept][:, c]) for c in range(7) if c != 3]
    assert sums.close()["auroc"] == pytest.approx(sum(curves) / 6, abs=1e-6)


def test_they_are_recorded_choose_the_state_and_change_no_weight(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = train("trainer.epochs=3", folder="plain")
    found = train("trainer.epochs=3", "metrics=[f1,auroc]", "objective=val/f1")
    record = found.record
    assert found.checkpoint()["state_dict"].keys() == plain.checkpoint()["state_dict"].keys()
    for name, tensor in plain.checkpoint()["state_dict"].items():
        assert torch.equal(found.checkpoint()["state_dict"][name], tensor)
    assert (
        record.metrics["val"].keys() == record.metrics["test"].keys() == {"loss", "accuracy", "f1", "auroc"}
    )
    assert record.objective == {"name": "val/f1", "mode": "max", "value": record.metrics["val"]["f1"]}
    assert record.selected["by"] == "val/f1"
    rows = [row["val/f1"] for row in found.rows() if "val/f1" in row]
    assert record.selected["value"] == max(rows)
    assert "auroc 0." in capsys.readouterr().out
    assert evaluate(found.folder).against_record == "the record's numbers"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["metrics=[F1s]"], "metrics has 'F1s', which is unknown. Did you mean 'f1'?"),
        (["metrics=[auc]"], "Did you mean 'auroc'?"),
        (["metrics=f1"], "metrics='f1' is not a list such as [first, second] or null"),
        (["metrics=[loss]"], "metrics has loss, which a classifier always has"),
        (["metrics=[f1,f1]"], "set metrics=[f1]"),
        (["objective=val/f1"], "objective=val/f1 is not computed; add metrics=[f1]"),
        (["objective=train/f1", "metrics=[f1]"], "objective=train/f1 is not a metric of a classifier"),
    ],
)
def test_a_metric_that_is_not_there_is_one_line(overrides: list[str], line: str) -> None:
    with pytest.raises(UserError) as caught:
        checked_job(["model=mlp", *overrides])
    assert line in str(caught.value)


def test_top5_of_few_classes() -> None:
    with pytest.raises(UserError, match="always 1 with 5 classes"):
        EvaluationSums(5, ["top5"])
