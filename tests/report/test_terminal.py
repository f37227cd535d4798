"""The short form of a report on terminals of several widths."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.example_runs import screen_text, weight_decay_sweep, write_run

ACCURACIES = {1e-5: (0.91, 0.92), 1e-4: (0.95, 0.96), 1e-3: (0.80, 0.83)}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    weight_decay_sweep(tmp_path / "sweep", list(ACCURACIES), (0, 1), ACCURACIES)
    return tmp_path / "sweep"


def heads_and_rows(text: str) -> tuple[str, list[list[str]]]:
    lines = text.splitlines()
    heads = " ".join(line for line in lines if line.startswith("┃"))
    return heads, [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]


@pytest.mark.parametrize("width", [50, 80, 160])
def test_the_best_is_first_and_the_table_fits(
    width: int, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempo.report.write_report.FILE_WIDTH", width)
    text = screen_text(sweep)
    heads, rows = heads_and_rows(text)
    assert [row[:2] for row in rows] == [["best", "1e-4"], ["2", "1e-5"], ["3", "1e-3"]]
    assert all("95.50 ± 0.71" in row for row in rows[:1])  # the ranking metric stays, on one line
    assert max(len(line) for line in text.splitlines() if line[:1] in "┏┃┡│└") <= width
    assert ("loss" in heads) == (width > 50)
    assert "not completed" not in heads


def test_verdicts_are_short_sentences(sweep: Path) -> None:
    lines = screen_text(sweep).splitlines()
    assert "wd=1e-4 is 4.00 points better than wd=1e-5 in each of 2 seeds" in lines
    assert "wd=1e-4 beats wd=1e-3 by 14.00 ± 12.71 points" in lines
    assert "± is the 95 % interval of the difference in validation accuracy" in lines


def test_a_comparison_of_smoke_runs_says_so(tmp_path: Path) -> None:
    for wd, val in ((1e-4, 0.9), (1e-5, 0.8)):
        write_run(tmp_path / f"{wd}", val=val, optimizer__wd=wd, scale="smoke")
    line = next(line for line in screen_text(tmp_path).splitlines() if "better than" in line)
    assert line.endswith("in a single seed; run more seeds [SMOKE: not comparable]")
