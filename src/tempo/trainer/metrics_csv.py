"""Write `metrics.csv` in a run's folder: one row per training interval, one per validation."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from tempo.record.atomic_write import write_atomically
from tempo.record.read_file import MOST_TABLE_BYTES, read_text
from tempo.trainer.checkpoint_file import flush_to_disk

FILE_NAME = "metrics.csv"
COLUMNS = (
    "step",
    "epoch",
    "seconds",
    "lr",
    "momentum",
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "test/loss",
    "test/accuracy",
)


class MetricsFile:
    """Appends rows; `step` is the number of optimizer steps done, `seconds` the time spent in training."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def start(self, steps_done: int, validated_step: int) -> None:
        """Begin a new file, or keep the rows that a resumed run will not write again.

        `steps_done` and `validated_step` are the steps of the resumed state and of its last validation.
        """
        kept = [row for row in self.rows() if int(row["step"]) <= steps_done] if steps_done else []
        kept = [row for row in kept if not row["val/loss"] or int(row["step"]) <= validated_step]
        lines = [",".join(COLUMNS), *(",".join(row[name] for name in COLUMNS) for row in kept)]
        write_atomically(self.path, "\n".join(lines) + "\n")

    def append(self, values: Mapping[str, float | int]) -> None:
        """Add one row; columns without a value stay empty."""
        row = [repr(values[name]) if name in values else "" for name in COLUMNS]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(",".join(row) + "\n")

    def flush_to_disk(self) -> None:
        """Wait until the rows would survive a power failure."""
        if self.path.exists():
            flush_to_disk(self.path)

    def rows(self) -> list[dict[str, str]]:
        """Return the complete rows; a line that a killed process left unfinished is skipped."""
        if not self.path.exists():
            return []
        text = read_text(self.path, MOST_TABLE_BYTES)
        whole = text[: text.rfind("\n") + 1].splitlines()  # an unfinished number could look complete
        return [row for row in csv.DictReader(whole) if None not in row and None not in row.values()]
