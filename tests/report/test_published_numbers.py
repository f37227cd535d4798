"""Rows of a paper beside our results: numbers, differences, words, and the rows that were not run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.report.comparability import differences
from tempo.report.load_runs import load
from tempo.report.markdown import markdown
from tempo.report.published_numbers import PaperRow, expected, paper_rows, paper_table
from tempo.report.statistics import summarise
from tests.jobs import compose_job
from tests.report.example_runs import write_run

RESULTS = ROOT / "docs" / "results"
ROW_5 = "table1_row05_resnet56_cifar10_1cycle_50"


def node(item: str, mean: float | None = 0.895, **more: Any) -> dict[str, Any]:
    return {
        "source": "radiuk2020",
        "item": item,
        "metric": "test/accuracy",
        "mean": mean,
        "sd": 0.002,
        **more,
    }


def rows_of(folder: Path) -> list[PaperRow]:
    return paper_rows(summarise(load([folder]).runs))


def write_row(folder: Path, *overrides: str, row: str = f"radiuk2020/{ROW_5}", **more: Any) -> None:
    """A run of a row of Table 1, as `src/train.py experiment=<row> <overrides>` records it."""
    values, choices = compose_job([f"experiment={row}", *overrides])
    seed = values.pop("seed")
    write_run(folder, seed=seed, fields={"choices": choices, **more.pop("fields", {})}, **values, **more)


def test_ours_beside_the_papers_with_the_difference(tmp_path: Path) -> None:
    """A device, a number of processes or the rounding may be another one."""
    elsewhere = ("trainer.devices=4", "trainer.precision=bf16-mixed", "data.root=/elsewhere", "name=mine")
    for seed, value in ((0, 0.88), (1, 0.90), (2, 0.89)):
        write_row(tmp_path / f"r{seed}", f"seed={seed}", *elsewhere, test=value)
    (row,) = rows_of(tmp_path)
    assert row.ours.mean == pytest.approx(0.89)
    assert row.ours.sd == pytest.approx(0.01)
    assert row.difference == pytest.approx(-0.005)
    assert row.words == (
        "radiuk2020, Table 1, row 5 (test accuracy %): ours 89.00 ± 1.00 (n = 3), paper 89.50 ± 0.20: "
        "-0.50 percentage points"
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.epochs=1"], "trainer.epochs=1 (row: 50)"),
        (["data.total_batch_size=128"], "data.total_batch_size=128 (row: 512)"),
        (["optimizer.wd=0"], "optimizer.wd=0 (row: 1e-4)"),
        (["data.augment.flip=false"], "data.augment.flip=false (row: true)"),
        (["data.val_size=5000"], "data.val_size=5000 (row: 0)"),
        (["ema.decay=0.9"], "ema.decay=0.9 (row: null)"),
        (["scheduler.max_lr=2"], "scheduler.max_lr=2 (row: 1)"),
        (["model=resnet20"], "model.depth=20 (row: 56)"),
        (["model=mlp"], "model=mlp (row: resnet56)"),
        (
            ["data=digits", "model=mlp", "trainer.epochs=1"],
            "data=digits (row: cifar10), model=mlp (row: ",
        ),
        (["data=cifar10_32x32"], "data=cifar10_32x32 (row: cifar10)"),
    ],
)
def test_a_run_with_another_setting_is_not_compared(tmp_path: Path, overrides: list[str], said: str) -> None:
    write_row(tmp_path / "a", *overrides)
    (row,) = rows_of(tmp_path)
    assert math.isnan(row.difference)
    assert row.verdict.startswith("not comparable: ")
    assert said in row.verdict


def test_one_run_of_another_setting_among_the_seeds_is_enough(tmp_path: Path) -> None:
    write_row(tmp_path / "a")
    write_row(tmp_path / "b", "seed=1", fields={"data": {"sha256": "0"}})
    (row,) = rows_of(tmp_path)
    assert row.difference == pytest.approx(-0.005)  # CIFAR's readers have verified the checksums
    write_row(tmp_path / "c", "seed=2", "trainer.max_steps=9")
    assert all(math.isnan(row.difference) for row in rows_of(tmp_path) if row.ours.n == 1)


def test_runs_of_mnist_are_those_of_the_official_images() -> None:
    """The committed records, made before this rule: the setting of their row, on the official images."""
    (run,) = load([RESULTS / "mnist2024" / "adam" / "experiment=mnist2024-adam,seed=0"]).runs
    assert differences(run, "mnist2024/adam") == []
    assert differences(run, "mnist2024/sgd") == ["optimizer=adam (row: sgd)"]
    run.record.data["sha256"] = "0" * 64
    assert differences(run, "mnist2024/adam") == ["the images are not the official ones (SHA-256)"]


def test_a_row_that_conf_does_not_have_is_not_compared(tmp_path: Path) -> None:
    write_row(tmp_path / "a", "paper.item=Table 9")
    write_row(tmp_path / "b", "paper.source=../experiment/radiuk2020", "seed=1")
    assert {row.verdict for row in rows_of(tmp_path)} == {
        "not comparable: conf/experiment/radiuk2020 has no such row",
        "not comparable: conf/experiment/../experiment/radiuk2020 has no such row",
    }


def test_rows_are_in_the_papers_order_and_one_setting_may_be_two_of_them(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write_run(tmp_path / f"r{number}", optimizer__wd=number / 100, paper=node(f"Table 1, row {number}"))
    write_run(tmp_path / "same", optimizer__wd=0.01, paper=node("Figure 3a"), test=0.8)
    assert [(row.item, row.ours.mean) for row in rows_of(tmp_path)] == [
        ("Figure 3a", 0.8),
        *((f"Table 1, row {number}", 0.89) for number in (1, 2, 10)),
    ]


def test_a_run_of_a_search_is_the_row_whose_values_it_has(tmp_path: Path) -> None:
    rows = [{"where": {"optimizer.wd": wd}, "item": f"wd {wd}", "mean": wd} for wd in (0.1, 0.2)]
    paper = node("the search", None, rows=rows)
    for wd in (0.1, 0.2, 0.3):
        write_run(tmp_path / f"r{wd}", optimizer__wd=wd, test=0.5, paper=paper)
    assert [(row.item, row.mean) for row in rows_of(tmp_path)] == [("wd 0.1", 0.1), ("wd 0.2", 0.2)]


def test_a_number_on_other_data_is_shown_and_not_compared(tmp_path: Path) -> None:
    where = "frames that are not public"
    write_run(tmp_path / "a", paper=node("Table 2", other_data=where))
    (row,) = rows_of(tmp_path)
    assert math.isnan(row.difference)
    assert row.words.endswith("paper 89.50 ± 0.20: not comparable: the paper's data are " + where)


def test_rows_of_a_search_that_were_not_run_say_how(tmp_path: Path) -> None:
    found = expected("frugal/search")
    (second,) = [row for row in found if row.mean == 0.9207 and "search_" not in row.command]
    assert second.item == "automatic search, trial 2 (lr 1e-4)"
    assert second.command == "python src/train.py experiment=frugal/search optimizer.lr=1e-4"
    assert {row.mean for row in found} == {0.9120, 0.9207, 0.9111, 0.9186}


def test_a_smoke_run_is_never_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "a", scale="smoke", paper=node("Table 1, row 1"))
    (row,) = rows_of(tmp_path)
    assert math.isnan(row.difference)
    assert "SMOKE: not comparable" in row.words
    assert "SMOKE: not comparable" in markdown(paper_table([row]))


def test_words_without_a_number_are_quoted(tmp_path: Path) -> None:
    write_run(tmp_path / "a", paper=node("Figure 9", None, sd=None, says="1e-5 is best"))
    write_run(tmp_path / "b", optimizer__wd=1e-5, paper=node("Figure 9", None, sd=None, says="1e-5 is best"))
    first, second = rows_of(tmp_path)
    assert first.verdict == "the paper gives no exact number"
    assert "1e-5 is best" in markdown(paper_table([first]))
    assert first.words.startswith("radiuk2020, Figure 9, wd=1e-5 (test accuracy %): ours ")
    assert second.words.startswith("radiuk2020, Figure 9, wd=1e-4 (test accuracy %): ours ")
    assert first.words.endswith(', paper says "1e-5 is best": the paper gives no exact number')


@pytest.mark.parametrize("wrong", [None, "radiuk2020", [], {"item": "x"}])
def test_a_node_without_a_paper_gives_no_row(tmp_path: Path, wrong: Any) -> None:
    write_run(tmp_path / "a", paper=wrong)
    assert rows_of(tmp_path) == []


def test_rows_that_were_not_run_come_with_their_command(tmp_path: Path) -> None:
    folder = tmp_path / "radiuk2020"
    folder.mkdir()
    text = (
        "# @package _global_\npaper: {{source: radiuk2020, item: '{}', metric: test/accuracy, mean: 0.9}}\n"
    )
    (folder / "table1_row1.yaml").write_text(text.format("Table 1, row 1"))
    (folder / "table1_row2.yaml").write_text(text.format("Table 1, row 2"))
    (folder / "figure3a.yaml").write_text(text.format("Figure 3a"))
    (folder / "table1.yaml").write_text("# a sweep over the others, no number of its own\nseed: 0\n")

    rows = expected("radiuk2020/table1", tmp_path)

    assert [row.item for row in rows] == ["Table 1, row 1", "Table 1, row 2"]
    assert rows[0].verdict == "not run: python src/train.py experiment=radiuk2020/table1_row1"
    assert len(expected("radiuk2020", tmp_path)) == 3
    with pytest.raises(UserError, match="Did you mean 'radiuk2020'"):
        expected("radiuk2002", tmp_path)
    with pytest.raises(UserError, match="names no experiment"):
        expected("radiuk2020/table7", tmp_path)
