"""metrics.csv keeps the rows that a resumed run does not write again."""

from __future__ import annotations

import csv
from pathlib import Path

from tempo.trainer.metrics_csv import COLUMNS, MetricsFile


def test_rows_after_the_resumed_state_are_removed(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.start(0, -1)
    for step in range(1, 6):
        file.append({"step": step, "epoch": step / 2, "seconds": 0.1, "lr": 1e-3, "train/loss": 1 / 3})
    file.path.write_text(file.path.read_text() + "6,3.0,0.", encoding="utf-8")  # killed while writing
    assert [row["step"] for row in file.rows()] == ["1", "2", "3", "4", "5"]

    MetricsFile(tmp_path).start(3, 3)
    rows = list(csv.DictReader(file.path.read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["train/loss"]) == 1 / 3
    assert rows[0]["val/loss"] == ""
    file.append({"step": 3, "epoch": 1.5, "seconds": 0.2, "val/loss": 0.1, "val/accuracy": 0.9})
    MetricsFile(tmp_path).start(3, 3)
    assert len(file.rows()) == 4
    MetricsFile(tmp_path).start(3, 2)  # killed between the row of a validation and its checkpoint
    assert [row["val/loss"] for row in file.rows()] == [""] * 3
    MetricsFile(tmp_path).start(0, -1)
    assert MetricsFile(tmp_path).rows() == []
