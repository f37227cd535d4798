"""Means, intervals, ranks and the sentences about them, compared with numpy and scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tempo.errors import UserError
from tempo.report.load_runs import load
from tempo.report.sections import content_of
from tempo.report.statistics import Comparison, Summary, compare, statistics, summarise
from tempo.report.write_report import text_of
from tests.report.example_runs import weight_decay_sweep, write_run

A = {0: 0.9131, 1: 0.9172, 2: 0.9118}
B = {0: 0.9109, 1: 0.9136, 2: 0.9092}


def summary_of(folder: Path, metric: str | None = None) -> Summary:
    return summarise(load([folder]).runs, metric)


def only_comparison(
    folder: Path, a: dict[int, float], b: dict[int, float], metric: str | None = None
) -> Comparison:
    """Weight decay 1e-4 with the accuracies `a` by seed against 1e-5 with `b`."""
    for wd, values in ((1e-4, a), (1e-5, b)):
        for seed, value in values.items():
            write_run(folder / f"{wd}-{seed}", seed=seed, val=value, optimizer__wd=wd)
    (comparison,) = summary_of(folder, metric).comparisons
    return comparison


def test_mean_and_sd_are_numpys(tmp_path: Path) -> None:
    weight_decay_sweep(tmp_path, [1e-4, 1e-5], [0, 1, 2], {1e-4: A, 1e-5: B})
    summary = summary_of(tmp_path)
    found = statistics(summary.settings[1], "val/accuracy")
    values = list(A.values())
    assert (found.n, found.low, found.high) == (3, 0.9118, 0.9172)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    a, b = summary.settings
    assert compare(a, b, "val/accuracy").words == compare(b, a, "val/accuracy").words


def test_common_seeds_are_paired(tmp_path: Path) -> None:
    comparison = only_comparison(tmp_path, {**A, 5: 0.2}, {**B, 6: 0.1})
    interval = stats.ttest_rel(list(A.values()), list(B.values())).confidence_interval(0.95)
    assert (comparison.paired, comparison.seeds) == (True, (3,))
    assert comparison.difference == pytest.approx((interval.low + interval.high) / 2)
    assert comparison.half_width == pytest.approx((interval.high - interval.low) / 2)
    # By hand: differences 0.22, 0.36, 0.26 points, mean 0.28, sd 0.0721, t(2) = 4.3027: 0.1791.
    assert comparison.words.startswith("wd=1e-4 beats wd=1e-5 by 0.28 ± 0.18 percentage points")


def test_other_seeds_are_compared_after_welch(tmp_path: Path) -> None:
    a, b = {0: 0.95, 1: 0.951, 2: 0.9495}, {7: 0.90, 8: 0.92, 9: 0.911, 10: 0.905}
    comparison = only_comparison(tmp_path, a, b)
    interval = stats.ttest_ind(list(a.values()), list(b.values()), equal_var=False).confidence_interval(0.95)
    assert not comparison.paired
    assert comparison.difference == pytest.approx((interval.low + interval.high) / 2)
    assert comparison.half_width == pytest.approx((interval.high - interval.low) / 2)
    assert "unpaired, n = 3 and 4" in comparison.words


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (
            {0: 0.9, 1: 0.92, 2: 0.91},
            {0: 0.91, 1: 0.9, 2: 0.905},
            "are not distinguishable with 3 seeds: 0.50 ±",
        ),
        ({0: 0.95}, {0: 0.9, 1: 0.91}, "4.50 percentage points better than wd=1e-5 with 1 and 2 seeds"),
        (
            {0: 0.9},
            {0: 0.94, 1: 0.95, 2: 0.96},
            "5.00 percentage points better than wd=1e-4 with 3 and 1 seeds",
        ),
        (
            {0: 0.91},
            {0: 0.9},
            "better than wd=1e-5 in a single seed (validation accuracy): no interval can be",
        ),
        ({0: 0.9}, {0: 0.9}, "wd=1e-5 and wd=1e-4 are equal in a single seed"),
        (A, A, "are equal in each of 3 seeds"),
        # Differences that differ by rounding only: an interval of width 0 would claim certainty.
        (
            A,
            {seed: value - 0.0028 for seed, value in A.items()},
            "wd=1e-4 is 0.28 percentage points better than wd=1e-5 in each of 3 seeds (validation accuracy): "
            "no interval from equal differences",
        ),
        (
            {0: 0.95, 1: 0.95},
            {7: 0.9, 8: 0.9, 9: 0.9},
            "in all of 2 and 3 seeds (validation accuracy): no interval from equal values",
        ),
    ],
)
def test_no_claim_without_an_interval_that_leaves_out_zero(
    tmp_path: Path, a: dict[int, float], b: dict[int, float], words: str
) -> None:
    comparison = only_comparison(tmp_path, a, b)
    assert words in comparison.words
    assert "beats" not in comparison.words
    assert not comparison.distinguishable


def test_the_lower_loss_wins(tmp_path: Path) -> None:
    comparison = only_comparison(tmp_path, A, B, "val/loss")  # the loss falls as the accuracy rises
    assert comparison.better.label == "wd=1e-4"
    assert comparison.difference == pytest.approx(0.0028)
    assert "percentage" not in comparison.words


def test_a_repeated_seed_counts_once(tmp_path: Path) -> None:
    for name, seed, value in (("a", 0, 0.90), ("b", 0, 0.92), ("c", 1, 0.95)):
        write_run(tmp_path / name, seed=seed, val=value)
    (setting,) = summary_of(tmp_path).settings
    found = statistics(setting, "val/accuracy")
    assert (found.n, found.mean) == (2, pytest.approx((0.91 + 0.95) / 2))


def test_diverged_runs_and_other_data_are_told_and_not_averaged(tmp_path: Path) -> None:
    other = {"data": {"name": "cifar10", "sha256": "cd" * 32}}
    for seed, value in A.items():
        write_run(tmp_path / f"a{seed}", seed=seed, val=value)
        status = "diverged" if seed == 2 else "completed"
        write_run(
            tmp_path / f"b{seed}", seed=seed, val=value - 0.1, status=status, fields=other, optimizer__lr=3.0
        )
        write_run(tmp_path / f"c{seed}", seed=seed, val=0.1, status="diverged", optimizer__lr=9.0)
    summary = summary_of(tmp_path)
    assert [statistics(setting, summary.metric).n for setting in summary.settings] == [3, 2, 0]
    (comparison,) = summary.comparisons
    assert "1 of 3 runs of lr=3 diverged and are not in the mean; they ran on different" in comparison.words
    assert summary.ranked[-1].label == "lr=9"


def test_the_metric_is_the_objective_unless_asked(tmp_path: Path) -> None:
    write_run(tmp_path / "a", fields={"objective": {"name": "val/loss", "mode": "min"}})
    assert summary_of(tmp_path).metric == "val/loss"
    assert summary_of(tmp_path, "test/accuracy").metric == "test/accuracy"
    with pytest.raises(UserError, match="Did you mean 'val/accuracy'"):
        summary_of(tmp_path, "val/acuracy")


def test_the_best_is_compared_with_every_other_one(tmp_path: Path) -> None:
    values = {1e-3: {0: 0.5, 1: 0.51}, 1e-4: {0: 0.9, 1: 0.91}, 1e-5: {0: 0.8, 1: 0.8}, 0.0: {0: 0.7, 1: 0.7}}
    weight_decay_sweep(tmp_path, list(values), [0, 1], values)
    comparisons = summary_of(tmp_path).comparisons
    assert [item.better.label for item in comparisons] == ["wd=1e-4"] * 3
    assert [item.other.label for item in comparisons] == ["wd=1e-5", "wd=0", "wd=1e-3"]


def test_a_smoke_run_is_neither_the_best_nor_compared_with_a_full_one(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"smoke{seed}", seed=seed, val=0.99, scale="smoke")
        write_run(tmp_path / f"full{seed}", seed=seed, val=0.90, scale="full")
        write_run(tmp_path / f"other{seed}", seed=seed, val=0.80, scale="full", optimizer__wd=0.0)
    summary = summary_of(tmp_path)
    assert [setting.smoke for setting in summary.ranked] == [False, False, True]
    assert len(summary.comparisons) == 1


def test_equal_means_are_ranked_by_validation_loss(tmp_path: Path) -> None:
    """Neither by the lower value of the key nor by the order in which seeds were added up."""
    values = {1e-5: (0.1, 0.2, 0.3), 1e-4: (0.3, 0.2, 0.1), 1e-3: (0.2, 0.2, 0.1)}
    loss = {1e-5: 0.9, 1e-4: 0.8, 1e-3: 0.1}
    for wd, of_seeds in values.items():
        for seed, value in enumerate(of_seeds):
            metrics = {"val": {"loss": loss[wd], "accuracy": value}}
            write_run(tmp_path / f"{wd}-{seed}", seed=seed, fields={"metrics": metrics}, optimizer__wd=wd)
    summary = summary_of(tmp_path)
    assert [setting.label for setting in summary.ranked] == ["wd=1e-4", "wd=1e-5", "wd=1e-3"]
    assert [item.better.label for item in summary.comparisons] == ["wd=1e-4"] * 2
    assert summary.ties == "Equal means of validation accuracy are ranked by validation loss."
    content = content_of([tmp_path], load([tmp_path]))
    assert summary.ties in text_of(content)
    assert summary.ties in content.legend
    by_loss = summary_of(tmp_path, "val/loss")
    assert (by_loss.ranked[0].label, by_loss.ties) == ("wd=1e-3", "")


def test_the_records_say_which_values_are_the_best(tmp_path: Path) -> None:
    for wd, distance in ((1e-4, 3.0), (1e-5, 1.0)):
        fields = {
            "objective": {"name": "val/distance", "mode": "min", "value": distance},
            "metrics": {"val": {"distance": distance}},
        }
        write_run(tmp_path / str(wd), optimizer__wd=wd, fields=fields)
    summary = summarise(load([tmp_path]).runs)
    assert summary.metric == "val/distance"
    assert [setting.values for setting in summary.ranked] == [(1e-5,), (1e-4,)]
