"""Test accuracy by epoch is a picture: it changes nothing and is the test's own number."""

from __future__ import annotations

from tests.conftest import Train

JOB = ("trainer.epochs=4", "model=densenet40", "model.depth=10", "model.dropout=0.2", "ema.decay=0.5")


def test_the_curve_ends_at_the_result_and_changes_nothing(train: Train) -> None:
    plain = train(*JOB, "checkpoint.select=last", folder="plain")
    drawn = train(*JOB, "checkpoint.select=last", "trainer.test_every_n_epochs=2", folder="drawn")
    rows = [row for row in drawn.rows() if "test/loss" in row]
    assert [row["epoch"] for row in rows] == [2.0, 4.0]
    assert {name: rows[-1][f"test/{name}"] for name in ("loss", "accuracy")} == drawn.record.metrics["test"]
    assert rows[0]["test/loss"] != rows[1]["test/loss"]
    assert drawn.record.weights_sha256 == plain.record.weights_sha256
    assert drawn.record.metrics == plain.record.metrics
    assert [row for row in drawn.curves() if "test/loss" not in row] == plain.curves()
