"""A run that is killed between its last step and its last word."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl

from tests.conftest import Train, Trained
from tests.run.test_resume import STEP_BY_STEP, assert_same, copy_as_running


def test_killed_before_the_last_validation(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within an epoch it comes after Lightning's loop, whose last checkpoint is a moment older."""
    overrides = [*STEP_BY_STEP, "trainer.max_steps=13"]
    expected = train(*overrides, folder="whole")

    def killed(*_: Any, **__: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(pl.Trainer, "validate", killed)
        with pytest.raises(ConnectionResetError):
            train(*overrides, folder="cut")
    folder = copy_as_running(Trained(expected.folder.with_name("cut"), None), "killed")
    resumed = train(*overrides, f"resume={folder}", folder="killed")
    assert_same(resumed, expected)
