"""Sizes that are said before any data is read are those of the run."""

from __future__ import annotations

import pytest

from tempo.config.run_length import planned_images, planned_steps
from tempo.run.build_data import build_data, build_plan, total_steps
from tests.jobs import checked_job


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["trainer.limit_train_steps=3"],
        ["trainer.limit_train_steps=1000"],
        ["trainer.limit_train_steps=2", "data.train_size=320", "data.val_size=7"],
        ["debug=limit"],
        ["debug=overfit"],
        ["data.total_batch_size=1294"],
        ["data.val_size=0", "objective=test/loss", "checkpoint.select=last", "trainer.epochs=3"],
        ["data.val_size=1", "data.train_size=200", "data.total_batch_size=100", "trainer.epochs=5"],
        ["data.val_size=0.333", "data.train_size=900", "data.total_batch_size=7"],
        ["trainer.max_steps=7"],
    ],
    ids=" ".join,
)
def test_planned_steps_are_those_of_the_data_that_is_read(overrides: list[str]) -> None:
    config, _ = checked_job(overrides)
    data = build_data(config)
    plan = build_plan(config, data, 1, 0)
    assert planned_steps(config) == total_steps(config, plan.steps_per_epoch)
    if config.trainer.limit_train_steps is None:
        assert planned_images(config) == data.items


def test_unknown_sizes_stay_unknown() -> None:
    config, _ = checked_job(["data=folder", "data.root=/nowhere"])
    assert planned_images(config) is None
    assert planned_steps(config) is None
