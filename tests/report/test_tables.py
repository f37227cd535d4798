"""The same numbers in results.csv, report.md, report.html and the terminal."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tempo.report.html_page import write_page
from tempo.report.load_runs import load
from tempo.report.markdown import write_markdown
from tempo.report.results_table import write_csv
from tempo.report.sections import content_of
from tempo.report.write_report import build_report
from tests.report.example_runs import screen_text, weight_decay_sweep, write_run

ACCURACIES = {1e-4: {0: 0.91, 1: 0.92, 2: 0.915}, 0.0: {0: 0.90, 1: 0.905, 2: 0.895}}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    weight_decay_sweep(tmp_path / "s", list(ACCURACIES), [0, 1, 2], ACCURACIES)
    return tmp_path / "s"


def written(folder: Path) -> tuple[str, str, str]:
    """`results.csv`, `report.md` and `report.html` of a folder, without its figures."""
    content, out = content_of([folder], load([folder])), folder / "report"
    table, text, page = (out / name for name in ("results.csv", "report.md", "report.html"))
    out.mkdir()
    write_csv(content.summary, table)
    write_markdown(content, [], text)
    write_page(content, [], page)
    return table.read_text(), text.read_text(), page.read_text()


def test_results_csv_has_one_row_per_run_with_raw_numbers(sweep: Path) -> None:
    write_run(sweep / "bad", status="failed", fields={"metrics": {}, "reason": 'a "quote", a comma'})
    rows = list(csv.DictReader(written(sweep)[0].splitlines()))
    assert len(rows) == 7
    completed = [row for row in rows if row["status"] == "completed"]
    for row in completed:
        seed = int(row["seed"])
        assert float(row["val/accuracy"]) == ACCURACIES[float(row["optimizer.wd"])][seed]
        assert (float(row["train_seconds"]), float(row["images_per_second"])) == (20 + seed, 3200)
        assert row["folder"].endswith(f"seed={seed}")
    assert len({(row["optimizer.wd"], row["seed"]) for row in completed}) == 6
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert (failed["val/accuracy"], failed["reason"]) == ("", 'a "quote", a comma')


def test_report_md_has_means_comparisons_failures_and_environment(sweep: Path, tmp_path: Path) -> None:
    reason = "RuntimeError: tensor | shape\nmismatch"
    write_run(sweep / "bad", status="failed", overrides=["optimizer.lr=9"], fields={"reason": reason})
    first, second = (build_report([sweep], tmp_path / name) for name in ("out", "two"))
    assert first.read_bytes() == second.read_bytes(), "the same records gave other bytes"
    text = (tmp_path / "out/report.md").read_text()
    for part in (
        "| 1e-4 | 3 | 91.50 ± 0.50 |",
        "wd=1e-4 beats wd=0 by 1.50 ± 1.24 percentage points",  # t(2) 4.3027 x sd 0.5 / sqrt(3)
        "tensor \\| shape mismatch",
        "python src/train.py model=resnet20 optimizer.lr=9",
        "| optimizer.momentum | 0.9 |",
        "a test device",
    ):
        assert part in text
    for line in text.splitlines():
        if line.startswith("!["):
            picture = tmp_path / "out" / line.partition("](")[2].rstrip(")")
            assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_terminal_shows_the_same_numbers(sweep: Path) -> None:
    write_run(sweep / "cut", status="interrupted", overrides=["optimizer.wd=1e-4"])
    (sweep / "half").mkdir()
    (sweep / "half/run.json").write_text("{")
    text = screen_text(sweep, "val/accuracy")
    assert "8 runs of 2 settings: 6 completed, 1 interrupted, 1 not readable." in text
    assert "91.50 ± 0.50" in text
    assert "wd=1e-4 beats wd=0" in text
    assert "rerun: python src/train.py model=resnet20 optimizer.wd=1e-4" in text
    assert "\x1b" not in text


def test_a_sweep_without_a_single_record_still_has_its_report(tmp_path: Path) -> None:
    (tmp_path / "s/job").mkdir(parents=True)
    (tmp_path / "s/job/run.json").write_text("")
    page = build_report([tmp_path / "s"], tmp_path / "out")
    assert "1 not readable" in page.read_text()
    assert "not readable" in (tmp_path / "out/report.md").read_text()
    assert (tmp_path / "out/results.csv").read_text().startswith("seed,status")
    assert "1 not readable" in screen_text(tmp_path / "s")


@pytest.mark.parametrize("status", ["diverged", "failed", "running", "interrupted"])
def test_runs_that_did_not_complete_make_a_report(tmp_path: Path, status: str) -> None:
    write_run(tmp_path / "s/a", status=status, fields={"metrics": {}})
    assert all(status in text for text in written(tmp_path / "s"))


def test_smoke_runs_are_labelled_in_every_output(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a", scale="smoke")
    table, text, page = written(tmp_path / "s")
    assert page.count("SMOKE: not comparable") >= 3  # banner, settings, runs
    assert "SMOKE: not comparable" in text
    assert "smoke" in table
    assert "SMOKE: not comparable" in screen_text(tmp_path / "s")
