"""Which differences of two records count, and the verdict on them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tempo.record.compare_records import causes, judge, result_differences, row_differences
from tempo.record.run_json import RunRecord

CURVES = {
    "step": np.array([5.0, 5.0, 10.0]),
    "seconds": np.array([1.0, 1.0, 2.0]),
    "train/loss": np.array([2.0, math.nan, 1.0]),
    "val/loss": np.array([math.nan, 3.0, math.nan]),
}
RECORD = RunRecord(
    config={"trainer": {"threads": None, "deterministic": True}, "optimizer": {"lr": 0.1}},
    config_hash="ab",
    overrides=[],
    seed=0,
    status="completed",
    steps=10,
    n_evaluated=7,
    metrics={"test": {"loss": 0.5, "accuracy": 0.9}},
    weights_sha256="aa",
    device="CPU",
    git={"commit": "a" * 40, "dirty": False},
    versions={"torch": "2.14.1"},
    environment={"threads": {"intra_op": 1, "inter_op": 1}, "variables": {}},
)


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


def test_rows_of_one_run_only_and_the_clock() -> None:
    assert list(row_differences(CURVES, CURVES | {"seconds": CURVES["seconds"] * 3})) == []
    shorter = {name: values[:2] for name, values in CURVES.items()}
    (only,) = row_differences(CURVES, shorter)
    assert (only.where, only.recorded, only.found) == ("metrics.csv, number of rows", 3, 2)
    assert [difference.found for difference in row_differences(shorter, CURVES)] == [3]
    assert list(row_differences(shorter, CURVES, up_to=5)) == []


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
        ({"init_from": {"weights_sha256": "cc"}}, "init_from.weights_sha256"),
    ],
)
def test_a_changed_result_is_named(change: dict[str, Any], where: str) -> None:
    changed = result_differences(RECORD, replace(RECORD, **change))
    assert [difference.where for difference in changed] == [where]
    assert list(result_differences(RECORD, RECORD)) == []


def test_a_diverged_run_diverges_at_the_same_step() -> None:
    def ended(reason: str) -> RunRecord:
        return replace(RECORD, status="diverged", reason=reason, objective={"value": math.nan})

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
        ({"git": {"commit": "a" * 40, "diff_sha256": "cd" * 32}}, "changes: none -> cdcdcdcdcdcd"),
        ({"git": {"commit": "a" * 40, "untracked": {"src/x.py": "1"}}}, "git: none -> src/x.py (1)"),
        ({"config": {**RECORD.config, "optimizer": {"lr": 0.2}}}, "optimizer.lr: 0.1 -> 0.2"),
    ],
)
def test_a_cause_is_named(change: dict[str, Any], words: str) -> None:
    assert causes(RECORD, RECORD, same_source=False) == []
    (line,) = causes(RECORD, replace(RECORD, **change), same_source=False)
    assert words in line


def test_what_is_not_a_cause() -> None:
    threads = {"threads": {"intra_op": 1, "inter_op": 4}, "variables": {"OMP_NUM_THREADS": "8"}}
    assert causes(RECORD, replace(RECORD, environment=threads), same_source=False) == []
    assert causes(RECORD, replace(RECORD, git={"commit": "b" * 40}), same_source=True) == []


def test_the_verdict_and_its_exit_code() -> None:
    near = replace(RECORD, metrics={"test": {"loss": 0.5, "accuracy": 0.905}}, weights_sha256="bb")
    near_by = list(result_differences(RECORD, near))
    reasons = ["torch: 1 -> 2"]
    assert judge([], [], 0.01, []).exit_code == 0
    assert judge([], reasons, 0.01, []).line() == "identical, although torch: 1 -> 2"
    verdict = judge(near_by, reasons, 0.01, [])
    assert (verdict.word, verdict.exit_code) == ("same within", 3)
    assert verdict.line().startswith("same within 0.01, because torch: 1 -> 2 (largest difference 0.005,")
    assert judge(near_by, reasons, 0.004, []).exit_code == 4
    unexplained = judge(near_by, [], 0.01, [])
    assert unexplained.exit_code == 4
    assert unexplained.line().startswith("different: metrics.test.accuracy is 0.905, recorded 0.9; nothing")
