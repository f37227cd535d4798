"""Write `metrics.csv` in a run's folder: one row per training interval, one per validation."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.read_file import MOST_TABLE_BYTES, open_regular, read_text
from tempo.trainer.checkpoint_file import flush_to_disk

FILE_NAME = "metrics.csv"
STEP_COLUMNS = ("step", "epoch", "seconds", "lr", "momentum")
COLUMNS = (
    *STEP_COLUMNS,
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "test/loss",
    "test/accuracy",
)
"""Columns of a classifier's file. Others start with STEP_COLUMNS and gain a column for each new metric."""
_LONGEST_LINE = 1 << 16
"""Limit for reading a line, since a file of zeros has none; a row has some hundred bytes."""


def columns_of(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return the columns of a classifier's file with further metrics of validation and test."""
    return (*COLUMNS, *(f"{split}/{name}" for name in metrics for split in ("val", "test")))


class Written(NamedTuple):
    """How much of a metrics.csv a checkpoint belongs to: its rows, and the SHA-256 of them and the head."""

    rows: int
    sha256: str


class MetricsFile:
    """Appends rows; `step` is the number of optimizer steps done, `seconds` the time spent in training."""

    def __init__(self, folder: Path, columns: tuple[str, ...] = COLUMNS) -> None:
        self.path = folder / FILE_NAME
        self.columns = columns
        self._rows = 0
        self._sha256 = hashlib.sha256()

    @property
    def written(self) -> Written:
        """The rows so far."""
        return Written(self._rows, self._sha256.hexdigest())

    def start(self, steps_done: int, validated_step: int, saved: Written | None = None) -> str:
        """Begin a new file, or keep the rows that a resumed run will not write again.

        `steps_done` and `validated_step` are the steps of the resumed state and of its last validation.
        `saved` are the rows when it was saved, if known: the file is cut after them. If it no longer begins
        with them, keep the rows that can be read, and return a line that says what is lost.

        Raises:
            UserError: the file is not a regular file, is too large or cannot be read.
        """
        if not steps_done:
            self._replace([])
            return ""
        try:
            if saved is not None and self._is_cut_after(saved):
                return ""
            text = read_text(self.path, MOST_TABLE_BYTES, errors="replace") if self.path.exists() else ""
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be read ({error.strerror}); restore it, or delete it to resume the run "
                "without its rows"
            ) from error
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last line may have been cut by a kill
        rows = self._rows_in(lines)
        kept = [row for row in rows if int(row["step"]) <= steps_done]
        kept = [row for row in kept if not _is_validation(row) or int(row["step"]) <= validated_step]
        self._replace(kept)
        lost = (len(lines) - 1 - len(rows)) if saved is None else saved.rows - len(kept)
        if lost > 0:
            rows_before = "" if saved is None else f" of the {saved.rows}"
            return (
                f"{self.path} is damaged: {lost}{rows_before} rows before step {steps_done} are missing or "
                "unreadable; the run goes on without them, with the same training"
            )
        if saved is not None and self.written != saved:
            return f"{self.path} was changed after step {steps_done} was saved; its rows are kept as they are"
        return ""

    def append(self, values: Mapping[str, float | int]) -> None:
        """Add one row; columns without a value stay empty."""
        if added := tuple(name for name in values if name not in self.columns):
            lines = read_text(self.path, MOST_TABLE_BYTES).splitlines()
            rows = self._rows_in(lines)
            self.columns += added
            self._replace(rows)
        line = ",".join(repr(values[name]) if name in values else "" for name in self.columns) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        self._count(line)

    def flush_to_disk(self) -> None:
        """Wait until the rows would survive a power failure."""
        if self.path.exists():
            flush_to_disk(self.path)

    def _replace(self, rows: list[dict[str, str]]) -> None:
        lines = [",".join(row.get(name, "") for name in self.columns) + "\n" for row in rows]
        head = _head(self.columns)
        write_atomically(self.path, "".join([head, *lines]))
        self._rows, self._sha256 = -1, hashlib.sha256()
        for line in (head, *lines):
            self._count(line)

    def _rows_in(self, lines: list[str]) -> list[dict[str, str]]:
        """Return the rows of a file's lines, and take over the columns of its head."""
        columns = _columns_in(lines[0]) if lines else ()
        if not set(self.columns) <= set(columns):  # the head is damaged
            columns = self.columns
        self.columns += tuple(name for name in columns if name not in self.columns)
        return [row for line in lines[1:] if (row := _row(line, columns)) is not None]

    def _count(self, line: str) -> None:
        self._rows += 1
        self._sha256.update(line.encode())

    def _is_cut_after(self, saved: Written) -> bool:
        """Cut the file after the saved rows, which are its beginning; return False if they are not."""
        if not self.path.exists():
            return False
        found, head = hashlib.sha256(), b""
        with open_regular(self.path) as file:
            for _ in range(saved.rows + 1):
                line = file.readline(_LONGEST_LINE)
                head = head or line
                if not line.endswith(b"\n"):
                    return False
                found.update(line)
            size = file.tell()
        if found.hexdigest() != saved.sha256:
            return False
        os.truncate(self.path, size)
        self.columns = _columns_in(head.decode())
        self._rows, self._sha256 = saved.rows, found
        return True


def _head(columns: Iterable[str]) -> str:
    """Return the head line; a metric's name may have a comma or a quote."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(columns)
    return text.getvalue()


def _columns_in(head: str) -> tuple[str, ...]:
    return tuple(next(csv.reader([head]), ()))


def _is_validation(row: Mapping[str, str]) -> bool:
    return any(value for name, value in row.items() if name.startswith("val/"))


def _row(line: str, columns: tuple[str, ...]) -> dict[str, str] | None:
    """Return the cells of a line by column, or None if they are not those of a row."""
    cells = line.split(",")
    try:
        numbers = [float(cell) for cell in cells if cell]
        is_row = len(cells) == len(columns) and len(numbers) > 1 and int(cells[0]) >= 0
    except ValueError:
        return None
    return dict(zip(columns, cells, strict=True)) if is_row else None
