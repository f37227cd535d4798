"""metrics.csv keeps the rows that a resumed run does not write again, and notices those that were lost."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tempo.trainer.metrics_csv import COLUMNS, MetricsFile, Written


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def ten_rows(folder: Path) -> tuple[MetricsFile, Written]:
    """Rows of steps 1 to 10, of which a checkpoint at step 8 has the first nine."""
    file = MetricsFile(folder)
    file.start(0, -1)
    for step in range(1, 9):
        file.append({"step": step, "epoch": step / 2, "seconds": 0.1, "lr": 1e-3, "train/loss": 1 / 3})
    file.append({"step": 8, "epoch": 4.0, "seconds": 0.1, "val/loss": float("nan"), "val/accuracy": 0.5})
    saved = file.written
    for step in (9, 10):
        file.append({"step": step, "epoch": step / 2, "seconds": 0.1, "lr": 1e-3, "train/loss": 1 / 3})
    return file, saved


def test_rows_after_the_resumed_state_are_removed(tmp_path: Path) -> None:
    file, saved = ten_rows(tmp_path)
    file.path.write_text(file.path.read_text() + "11,3.0,0.", encoding="utf-8")  # killed while writing
    before = file.path.read_text()

    resumed = MetricsFile(tmp_path)
    assert resumed.start(8, 8, saved) == ""
    assert resumed.written == saved
    assert file.path.read_text() == "".join(before.splitlines(keepends=True)[:10])
    found = rows(tmp_path)
    assert tuple(found[0]) == COLUMNS
    assert [row["step"] for row in found] == [*map(str, range(1, 9)), "8"]
    assert float(found[0]["train/loss"]) == 1 / 3
    assert found[0]["val/loss"] == ""

    resumed.append({"step": 9, "epoch": 1.5, "seconds": 0.2})
    assert MetricsFile(tmp_path).start(9, 8, resumed.written) == ""
    assert (
        MetricsFile(tmp_path).start(8, 7, None) == ""
    )  # an older checkpoint, before the row of a validation
    assert [row["val/loss"] for row in rows(tmp_path)] == [""] * 8
    assert MetricsFile(tmp_path).start(0, -1) == ""
    assert rows(tmp_path) == []


def cut(size: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def put(at: int, text: bytes) -> Callable[[Path], None]:
    """Put text over that at a place in the third row, which is of step 3."""

    def change(path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        lines[3] = lines[3][:at] + text + lines[3][at + len(text) :]
        path.write_bytes(b"".join(lines))

    return change


# (the damage, the rows that are left, what is said)
DAMAGE: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "halved": (lambda path: cut(path.stat().st_size // 2)(path), 4, "damaged: 5 of the 9 rows before step 8"),
    "emptied": (cut(0), 0, "damaged: 9 of the 9 rows"),
    "deleted": (lambda path: path.unlink(), 0, "damaged: 9 of the 9 rows"),
    "filled with NUL": (
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        0,
        "damaged: 9 of the 9 rows",
    ),
    "random": (lambda path: path.write_bytes(bytes(range(256)) * 9), 0, "damaged: 9 of the 9 rows"),
    "a torn number": (put(0, b"x"), 8, "damaged: 1 of the 9 rows"),
    "a negative step": (put(0, b"-"), 8, "damaged: 1 of the 9 rows"),
    "a lost line's end": (
        lambda path: path.write_text(path.read_text().replace("\n3,", ",3,")),
        7,
        "damaged: 2 of the 9 rows",
    ),
    "a byte outside UTF-8": (put(4, b"\xff"), 8, "damaged: 1 of the 9 rows"),
    "another digit": (put(4, b"9"), 9, "was changed after step 8 was saved"),
    "a torn head": (lambda path: path.write_bytes(path.read_bytes()[9:]), 9, ""),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("is_old", [False, True], ids=["", "of an older checkpoint"])
def test_damage_is_said_and_what_can_be_read_is_kept(name: str, is_old: bool, tmp_path: Path) -> None:
    damage, left, words = DAMAGE[name]
    file, saved = ten_rows(tmp_path)
    damage(file.path)
    resumed = MetricsFile(tmp_path)
    line = resumed.start(8, 8, None if is_old else saved)
    if not is_old:
        assert words in line
        assert str(file.path) in line or not words
    elif "unreadable" in line:
        assert "rows before step 8 are missing or unreadable" in line
    assert len(rows(tmp_path)) == left
    assert all(int(row["step"]) <= 8 for row in rows(tmp_path))
    resumed.append({"step": 9, "epoch": 1.0, "seconds": 0.2})
    assert len(rows(tmp_path)) == left + 1
    assert MetricsFile(tmp_path).start(9, 9, resumed.written) == "", "it is said once"
