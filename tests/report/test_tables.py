from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tempo.report.content import content_of
from tempo.report.html_page import write_page
from tempo.report.load_runs import load
from tempo.report.markdown import write_markdown
from tempo.report.tables import write_csv
from tempo.report.write_report import build_report
from tests.report.example_runs import screen_text, weight_decay_sweep, write_run

ACCURACIES = {1e-4: {0: 0.91, 1: 0.92, 2: 0.915}, 0.0: {0: 0.90, 1: 0.905, 2: 0.895}}


def written(folder: Path) -> tuple[str, str, str]:
    """`results.csv`, `report.md` and `report.html` of a folder, without its figures."""
    content, out = content_of([folder], load([folder])), folder / "report"
    out.mkdir()
    write_csv(content.summary, out / "results.csv")
    write_markdown(content, [], out / "report.md")
    write_page(content, [], out / "report.html")
    table, text, page = (out / name for name in ("results.csv", "report.md", "report.html"))
    return table.read_text(), text.read_text(), page.read_text()


def test_results_csv_has_a_row_a_run_with_raw_numbers(tmp_path: Path) -> None:
    weight_decay_sweep(tmp_path / "s", list(ACCURACIES), [0, 1, 2], ACCURACIES)
    write_run(tmp_path / "s/bad", status="failed", fields={"metrics": {}, "reason": 'a "quote", a comma'})
    rows = list(csv.DictReader(io.StringIO(written(tmp_path / "s")[0])))
    assert len(rows) == 7
    by_run = {
        (float(row["optimizer.wd"]), int(row["seed"])): row for row in rows if row["status"] == "completed"
    }
    for wd, values in ACCURACIES.items():
        for seed, accuracy in values.items():
            assert float(by_run[wd, seed]["val/accuracy"]) == accuracy
            assert float(by_run[wd, seed]["train_seconds"]) == 20 + seed
            assert float(by_run[wd, seed]["images_per_second"]) == 3200
            assert by_run[wd, seed]["folder"].endswith(f"seed={seed}")
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert failed["val/accuracy"] == ""
    assert failed["reason"] == 'a "quote", a comma'


def test_report_md_says_means_comparisons_failures_and_environment(tmp_path: Path) -> None:
    weight_decay_sweep(tmp_path / "s", list(ACCURACIES), [0, 1, 2], ACCURACIES)
    reason = "RuntimeError: tensor | shape\nmismatch"
    write_run(tmp_path / "s/bad", status="failed", overrides=["optimizer.lr=9"], fields={"reason": reason})
    build_report([tmp_path / "s"], tmp_path / "out")
    text = (tmp_path / "out/report.md").read_text()
    assert "| 1e-4 | 3 | 91.50 ± 0.50 |" in text
    assert "wd=1e-4 beats wd=0 by 1.50 ± 1.24 percentage points" in text  # t(2) 4.3027 x sd 0.5 / sqrt(3)
    assert "tensor \\| shape mismatch" in text
    assert "python src/train.py model=resnet20 optimizer.lr=9" in text
    assert "| optimizer.momentum | 0.9 |" in text
    assert "a test device" in text
    for line in text.splitlines():
        if line.startswith("!["):
            picture = tmp_path / "out" / line.partition("](")[2].rstrip(")")
            assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_terminal_shows_the_same_numbers(tmp_path: Path) -> None:
    weight_decay_sweep(tmp_path / "s", list(ACCURACIES), [0, 1, 2], ACCURACIES)
    write_run(tmp_path / "s/cut", status="interrupted", overrides=["optimizer.wd=1e-4"])
    (tmp_path / "s/half").mkdir()
    (tmp_path / "s/half/run.json").write_text("{")
    text = screen_text(tmp_path / "s", "val/accuracy")
    assert "8 runs of 2 settings: 6 completed, 1 interrupted, 1 not readable." in text
    assert "91.50 ± 0.50" in text
    assert "wd=1e-4 beats wd=0" in text
    assert "again: python src/train.py model=resnet20 optimizer.wd=1e-4" in text
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
def test_runs_without_a_result_alone_make_a_report(tmp_path: Path, status: str) -> None:
    write_run(tmp_path / "s/a", status=status, fields={"metrics": {}})
    page = build_report([tmp_path / "s"], tmp_path / "out")
    assert status in page.read_text()


def test_smoke_runs_are_labelled_in_every_output(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a", scale="smoke")
    said = "SMOKE: not comparable"
    assert said in screen_text(tmp_path / "s")
    table, text, page = written(tmp_path / "s")
    assert page.count(said) >= 3  # banner, settings, runs
    assert said in text
    assert "smoke" in table


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    weight_decay_sweep(tmp_path / "s", list(ACCURACIES), [0, 1, 2], ACCURACIES)
    first, second = (build_report([tmp_path / "s"], tmp_path / name) for name in ("out", "two"))
    assert first.read_bytes() == second.read_bytes()
