"""Tuned against default: which is kept, and the epochs to the same accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tempo.data.images import ImageData
from tempo.data.run_data_module import ImageDataModule
from tempo.errors import UserError
from tempo.record.run_json import RunRecord
from tempo.report.load_runs import Run
from tempo.tuning.verdict import (
    comparison_json,
    comparison_lines,
    epochs_to,
    train_size_for_verdict,
    verdict,
)


def run_with(seed: int, losses: list[float], accuracies: list[float], test: float) -> Run:
    record = RunRecord(config={}, config_hash="", overrides=[], seed=seed, status="completed")
    record.metrics = {"test": {"accuracy": test}, "val": {"loss": losses[-1], "accuracy": accuracies[-1]}}
    record.selected = {"by": "last", "value": None, "step": 3}
    epochs = np.arange(1.0, len(losses) + 1)
    curves = {"epoch": epochs, "val/loss": np.array(losses), "val/accuracy": np.array(accuracies)}
    return Run(Path(f"run{seed}"), record, curves, Path())


def recorded(runs: Sequence[Run]) -> list[dict[str, float]]:
    """The validation of the state that is tested, in place of a test on unused images."""
    return [{**run.record.metrics["val"], "images": 9.0} for run in runs]


GOOD = [run_with(seed, [1.0, 0.5, 0.20], [0.5, 0.8, 0.95], 0.94 + seed / 100) for seed in (0, 1)]
BAD = [run_with(seed, [1.0, 0.9, 0.40], [0.4, 0.6, 0.80], 0.80 + seed / 100) for seed in (0, 1)]


def test_the_default_stays_only_if_it_is_clearly_better() -> None:
    for tuned, default, kept in ((GOOD, BAD, "tuned"), (BAD, GOOD, "default"), (GOOD, GOOD, "tuned")):
        judged = verdict(tuned, default, "val/loss", recorded)
        assert judged is not None
        assert judged.chosen.label == kept
    assert verdict([], [], "val/loss", recorded) is None
    assert verdict(GOOD[:1], BAD[:1], "val/loss", recorded) is None


def test_each_is_judged_by_the_state_that_it_tests() -> None:
    """The default's last loss is worse than its best state's, but the best state is tested."""
    best = [run_with(seed, [1.0, 0.1, 0.40], [0.4, 0.9, 0.80], 0.8) for seed in (0, 1)]
    for run in best:
        run.record.metrics["val"] = {"loss": 0.1, "accuracy": 0.9}
        run.record.selected = {"by": "val/accuracy", "value": 0.9, "step": 2}
    judged = verdict(GOOD, best, "val/loss", recorded)
    assert judged is not None
    assert judged.chosen.label == "default"
    assert judged.why.startswith(
        "the best loss on 9 images that chose nothing, at the state that is tested "
        "(tuned: the last, default: the best by validation accuracy); "
    )


def images(count: int) -> ImageData:
    labels = torch.arange(count) % 2
    return ImageData(torch.zeros(count, 1, 1, 1, dtype=torch.uint8), labels, ("a", "b"), "data")


@pytest.mark.parametrize(("train", "unused", "size"), [(80, 0, 70), (80, 4, 74), (80, 10, 80), (20, 40, 20)])
def test_as_many_images_as_validation_has_are_left_for_the_verdict(
    train: int, unused: int, size: int
) -> None:
    assert (
        train_size_for_verdict(ImageDataModule(images(train), images(10), images(9), "", unused=unused))
        == size
    )


def test_too_few_images_for_a_verdict_are_one_line() -> None:
    with pytest.raises(UserError, match=r"leave only 5 for training; set data.val_size=0.1, or tune.compare"):
        train_size_for_verdict(ImageDataModule(images(15), images(10), images(9), ""))


def test_the_comparison_in_tune_json() -> None:
    kept = comparison_json(GOOD, BAD, verdict(GOOD, BAD, "val/loss", recorded))
    assert kept is not None
    assert kept["verdict"]["chosen"] == "tuned"
    assert kept["tuned"]["test/accuracy"] == pytest.approx({"mean": 0.945, "sd": 0.01 / 2**0.5, "n": 2})
    equal = kept["epochs to equal validation accuracy"]
    assert equal == {"accuracy": pytest.approx(0.8), "tuned": 2, "default": 3}
    assert comparison_json([], [], None) is None


def test_epochs_to_equal_accuracy() -> None:
    assert epochs_to(GOOD, 0.80) == 2
    assert epochs_to(BAD, 0.80) == 3
    assert epochs_to(BAD, 0.81) is None


def test_an_interval_if_the_differences_vary() -> None:
    """Differences 0.14 and 0.15: 14.5 points, t(1) = 12.706 times 0.7071 / sqrt(2)."""
    tuned = [GOOD[0], run_with(1, [1.0, 0.5, 0.20], [0.5, 0.8, 0.95], 0.96)]
    assert comparison_lines(tuned, BAD, "9 epochs")[2].startswith(
        "tuned beats default by 14.50 ± 6.35 percentage points"
    )


def test_the_lines_of_the_comparison() -> None:
    lines = comparison_lines(GOOD, BAD, "9 epochs in 4 runs, 3 s")
    assert lines[0] == (
        "tuned: test accuracy 94.50 ± 0.71 %, 2 of 2 seeds completed; "
        "the whole procedure took 9 epochs in 4 runs, 3 s"
    )
    assert lines[2] == (
        "tuned is 14.00 percentage points better than default in each of 2 seeds (test accuracy): "
        "no interval from equal differences"
    )
    assert lines[3].endswith("highest after 3 epochs, 80.00 %: tuned reaches it after 2")
