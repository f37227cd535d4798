"""Steps and seconds to a target, from curves that are written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tempo.errors import UserError
from tempo.report.load_runs import load
from tempo.report.sections import content_of
from tempo.report.target_figure import target_figures
from tempo.report.write_report import text_of, write_report
from tests.report.example_runs import write_run

HEAD = "step,epoch,seconds,lr,momentum,train/loss,train/accuracy,val/loss,val/accuracy\n"


def runs(folder: Path) -> Path:
    """Two rates, two seeds: the first reaches 0.5 at step 20 and 30, the second with one seed only."""
    curves = {
        (0.1, 0): [0.3, 0.6, 0.4],
        (0.1, 1): [0.3, 0.49, 0.5],
        (0.2, 0): [0.1, 0.2, 0.9],
        (0.2, 1): [0.1] * 3,
    }
    for (lr, seed), accuracies in curves.items():
        path = folder / f"{lr},{seed}"
        write_run(path, seed=seed, optimizer={"lr": lr})
        rows = [
            f"{10 * (n + 1)},{n + 1},{2.5 * (n + 1)},,,,,{1 - accuracy},{accuracy}"
            for n, accuracy in enumerate(accuracies)
        ]
        training = [f"{10 * n + 5},{n + 0.5},{2.5 * n + 1},0.1,,0.7,0.99,," for n in range(3)]
        lines = sorted([*rows, *training], key=lambda row: float(row.split(",")[0]))
        (path / "metrics.csv").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("target", ["val/accuracy=0.5", "val/loss=0.5"])
def test_the_first_row_that_is_good_enough_counts(tmp_path: Path, target: str) -> None:
    folder = runs(tmp_path)
    content = content_of([folder], load([folder]), target=target)
    table = content.to_target
    assert table is not None
    assert table.head == ("lr", "reached", "steps", "epochs", "training seconds")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["0.1", "2 of 2 runs", "25 ± 7.07", "2.5 ± 0.707", "6.25 ± 1.77"],
        ["0.2", "1 of 2 runs", "30", "3", "7.5"],
    ]


def test_every_form_of_the_report_has_it(tmp_path: Path) -> None:
    folder = runs(tmp_path / "runs")
    content = content_of([folder], load([folder]), target="val/accuracy=0.5")
    page = write_report(content, tmp_path / "report")
    title = "Time to a validation accuracy of 50.00 %"
    assert title in page.read_text(encoding="utf-8")
    assert f"## {title}" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "lr 0.1, reached 2 of 2 runs, steps 25 ± 7.07" in text_of(content)
    assert (tmp_path / "report" / "figures" / "target.png").stat().st_size > 5000
    assert "figures/target.png" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    plain = content_of([folder], load([folder]))
    assert "Time to a " not in write_report(plain, tmp_path / "plain").read_text(encoding="utf-8")


def test_the_figure_has_seconds_and_circles_where_the_target_is_reached(tmp_path: Path) -> None:
    folder = runs(tmp_path)
    content = content_of([folder], load([folder]), target="val/accuracy=0.5")
    assert content.target is not None
    (drawing,) = target_figures(content.summary, content.target)
    assert drawing.figure is not None
    (axes,) = drawing.figure.axes
    circles = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert circles == [[[5.0, 0.6]], [[7.5, 0.5]], [[7.5, 0.9]]]
    curves = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "."]
    assert [[2.5, 0.3], [5.0, 0.6], [7.5, 0.4]] in curves
    assert len(curves) == 4


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("0.5", "is not a metric and a number; write e.g. --target val/accuracy=0.5"),
        ("val/accuracy=good", "is not a metric and a number"),
        ("val/accuracy=nan", "is not a metric and a number"),
        ("val/accuracy=50", "e.g. --target val/accuracy=0.5"),
        ("val/acuracy=0.5", "Did you mean 'val/accuracy'?"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, target: str, part: str) -> None:
    folder = runs(tmp_path)
    with pytest.raises(UserError) as caught:
        _ = content_of([folder], load([folder]), target=target).to_target
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
