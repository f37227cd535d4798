"""One experiment of each kind, run in its smoke form and shorter: its policy, its network, its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tempo.report.load_runs import load
from tempo.report.sections import content_of
from tests.conftest import Train, Trained

SHORTER = (
    "trainer=cpu",
    "trainer.threads=1",
    "trainer.max_steps=4",
    "trainer.log_every_n_steps=1",
    "data.total_batch_size=16",
    "data.train_size=64",
)
POSITIONS = [0, 1 / 3, 2 / 3, 1]


def steps_of(run: Trained, column: str) -> list[float]:
    return [row[column] for row in run.rows() if "train/loss" in row]


def test_a_row_with_the_step_policy(train: Train) -> None:
    run = train("experiment=radiuk2020/table1_row01_resnet56_cifar10_step_100", "scale=smoke", small=SHORTER)
    assert run.record.status == "completed"
    # The rate falls at 50 % and at 75 % of the run.
    assert steps_of(run, "lr") == pytest.approx([0.1, 0.1, 0.01, 0.001])
    group = run.checkpoint()["optimizer_states"][0]["param_groups"][0]
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 1e-4, False)
    # The 853,018 of ResNet-56 for colour images, less two channels of its first convolution.
    assert run.record.parameters["total"] == 853_018 - 2 * 3 * 3 * 16
    assert run.record.metrics.keys() == {"train", "test"}  # no images are set aside
    assert run.record.selected["by"] == "last"


def test_a_row_with_1cycle_beside_the_paper(train: Train) -> None:
    run = train(
        "experiment=radiuk2020/table1_row11_densenet40_cifar10_1cycle_100", "scale=smoke", small=SHORTER
    )
    corners = [0, 0.45, 0.9, 1]
    assert steps_of(run, "lr") == pytest.approx(np.interp(POSITIONS, corners, [0.1, 4, 0.1, 0.001]))
    assert steps_of(run, "momentum") == pytest.approx(np.interp(POSITIONS, corners, [0.95, 0.85, 0.95, 0.95]))
    # The 1,019,722 of DenseNet-40 for colour images, less two channels of its first convolution.
    assert run.record.parameters["total"] == 1_019_722 - 2 * 3 * 3 * 16
    content = content_of([run.folder], load([run.folder]))
    (row,) = content.paper
    assert (row.item, row.mean, row.sd) == ("Table 1, row 11", 0.915, 0.003)
    assert row.ours.mean == run.record.metrics["test"]["accuracy"]
    assert np.isnan(row.difference), "a smoke run compares with nothing"
    assert content.smoke


def test_the_values_of_a_figure_have_equal_epochs(train: Train, tmp_path: Path) -> None:
    """Figure 4b: half the batch, twice the steps, so that the run times are similar."""
    steps = {}
    for size in (16, 32):
        values = (f"data.total_batch_size={size}", "trainer.max_steps=null", "trainer.epochs=2")
        run = train("experiment=radiuk2020/figure4b", "scale=smoke", *values, folder=f"{size}", small=SHORTER)
        assert run.record.epochs == 2
        steps[size] = run.record.steps
    assert steps == {16: 8, 32: 4}
    content = content_of([tmp_path], load([tmp_path]))
    assert [row.setting for row in content.paper] == ["total_batch_size=16", "total_batch_size=32"]
    assert all(row.says == "the accuracies are within one standard deviation" for row in content.paper)
