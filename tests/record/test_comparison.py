"""What counts as the same: tables of records that differ in one thing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tempo.record.comparison import (
    EXIT_CODES,
    causes,
    judge,
    result_differences,
    row_differences,
)
from tempo.record.run_json import RunRecord

CURVES = {
    "step": np.array([5.0, 5.0, 10.0]),
    "seconds": np.array([1.0, 1.0, 2.0]),
    "train/loss": np.array([2.0, math.nan, 1.0]),
    "val/loss": np.array([math.nan, 3.0, math.nan]),
}


def record(**values: Any) -> RunRecord:
    return RunRecord(
        config={"trainer": {"threads": None, "deterministic": True}, "optimizer": {"lr": 0.1}},
        config_hash="ab",
        overrides=[],
        seed=0,
        status="completed",
        steps=10,
        metrics={"test": {"loss": 0.5, "accuracy": 0.9}},
        weights_sha256="aa",
        device="CPU",
        git={"commit": "a" * 40, "dirty": False},
        versions={"torch": "2.14.1"},
        environment={"threads": {"intra_op": 1, "inter_op": 1}, "variables": {}},
        **values,
    )


def test_the_clock_is_not_compared() -> None:
    assert list(row_differences(CURVES, CURVES | {"seconds": CURVES["seconds"] * 3})) == []


@pytest.mark.parametrize(
    ("column", "values", "where", "size"),
    [
        ("train/loss", [2.0, math.nan, 1.5], "metrics.csv, step 10, train/loss", 1 / 3),
        ("val/loss", [math.nan, 3.0 + 1e-9, math.nan], "metrics.csv, step 5, val/loss", 1e-9 / 3),
        ("train/loss", [2.0, math.nan, math.inf], "metrics.csv, step 10, train/loss", math.inf),
        ("val/loss", [1.0, 3.0, math.nan], "metrics.csv, step 5, val/loss", math.inf),
        ("step", [5.0, 5.0, 11.0], "metrics.csv, next row's step", math.inf),
    ],
)
def test_the_first_cell_that_differs(column: str, values: list[float], where: str, size: float) -> None:
    first = next(row_differences(CURVES, CURVES | {column: np.array(values)}))
    assert first.where == where
    assert first.size == pytest.approx(size, rel=1e-6)


def test_rows_that_one_run_lacks() -> None:
    shorter = {name: values[:2] for name, values in CURVES.items()}
    (only,) = row_differences(CURVES, shorter)
    assert (only.where, only.recorded, only.found) == ("metrics.csv, number of rows", 3, 2)
    assert [each.found for each in row_differences(shorter, CURVES)] == [3]
    assert list(row_differences(shorter, CURVES, up_to=5)) == []
    assert list(row_differences(CURVES, shorter, up_to=5)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"status": "diverged"}, "status"),
        ({"steps": 11}, "steps"),
        ({"metrics": {"test": {"loss": 0.5, "accuracy": 0.91}}}, "metrics.test.accuracy"),
        ({"metrics": {"test": {"loss": 0.5}}}, "metrics.test.accuracy"),
        ({"weights_sha256": "bb"}, "weights_sha256"),
        ({"n_evaluated": 5}, "n_evaluated"),
        ({"selected": {"by": "last"}}, "selected.by"),
        ({"reason": "diverged at step 4: loss nan"}, "reason"),
    ],
)
def test_a_changed_result_is_named(change: dict[str, Any], where: str) -> None:
    one = replace(record(), n_evaluated=7)
    assert [each.where for each in result_differences(one, replace(one, **change))] == [where]
    assert list(result_differences(one, one)) == []


def test_a_diverged_run_diverges_at_the_same_step() -> None:
    def ended(reason: str) -> RunRecord:
        return replace(record(), status="diverged", reason=reason, objective={"value": math.nan})

    one = ended("diverged at step 12: loss 100")
    assert list(result_differences(one, ended("diverged at step 12: loss 100"))) == []
    (near,) = result_differences(one, ended("diverged at step 12: loss 101"))
    assert near.size == pytest.approx(1 / 101)
    (other,) = result_differences(one, ended("diverged at step 13: loss 100"))
    assert (other.recorded, other.found, other.size) == (12, 13, math.inf)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"versions": {"torch": "2.15.0"}}, "torch: 2.14.1 -> 2.15.0"),
        ({"device": "another CPU"}, "device: CPU -> another CPU"),
        ({"world_size": 2}, "processes: 1 -> 2"),
        ({"environment": {"threads": {"intra_op": 2}, "variables": {}}}, "threads.intra_op: 1 -> 2"),
        ({"environment": {"threads": {"intra_op": 1}, "variables": {"MKL_CBWR": "AVX2"}}}, "MKL_CBWR"),
        ({"git": {"commit": "b" * 40}}, "commit: aaaaaaaaaa -> bbbbbbbbbb"),
        (
            {"git": {"commit": "a" * 40, "diff_sha256": "cd" * 32}},
            "changes: none -> cdcdcdcdcdcd",
        ),
        ({"git": {"commit": "a" * 40, "untracked": {"src/x.py": "1"}}}, "src/x.py"),
    ],
)
def test_what_else_differs_is_said(change: dict[str, Any], words: str) -> None:
    one = record()
    assert causes(one, one, same_source=False) == []
    (said,) = causes(one, replace(one, **change), same_source=False)
    assert words in said


def test_threads_are_those_that_computed() -> None:
    one = record()
    variables = {"OMP_NUM_THREADS": "8"}
    other = replace(one, environment={"threads": {"intra_op": 1, "inter_op": 4}, "variables": variables})
    assert causes(one, other, same_source=False) == []


def test_a_commit_with_the_same_source_is_no_cause_and_a_record_without_threads_is_one() -> None:
    one = replace(record(), environment={})
    other = replace(record(), git={"commit": "b" * 40})
    assert causes(one, other, same_source=True) == ["threads: not recorded"]
    dirty = replace(one, git={"commit": "a" * 40, "dirty": True})
    assert "uncommitted changes: recorded without their diff" in causes(dirty, one, same_source=True)


def test_words_and_exit_codes() -> None:
    one = record()
    near = replace(one, metrics={"test": {"loss": 0.5, "accuracy": 0.905}}, weights_sha256="bb")
    near_by = list(result_differences(one, near))
    assert judge([], [], 0.01, []).exit_code == 0
    assert judge([], ["torch: 1 -> 2"], 0.01, []).line() == "identical, although torch: 1 -> 2"
    verdict = judge(near_by, ["torch: 1 -> 2"], 0.01, [])
    assert (verdict.word, verdict.exit_code) == ("same within", 3)
    assert verdict.line().startswith("same within 0.01, because torch: 1 -> 2 (largest difference 0.005,")
    assert judge(near_by, ["torch: 1 -> 2"], 0.004, []).exit_code == 4
    unexplained = judge(near_by, [], 0.01, [])
    assert unexplained.exit_code == EXIT_CODES["different"] == 4
    assert unexplained.line().startswith("different: metrics.test.accuracy is 0.905, recorded 0.9; nothing")
