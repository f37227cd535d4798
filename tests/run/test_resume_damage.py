"""A stopped run goes on although its record, rows or checkpoints are damaged, or of another run."""

from __future__ import annotations

import json
import shutil

import pytest

from tempo.command_line.arguments import resumed
from tempo.errors import UserError
from tempo.record import foreign_folder
from tests.conftest import Train
from tests.jobs import SMALL
from tests.run.test_resume import STEP_BY_STEP, assert_same, copy_as_running

THREE_EPOCHS = ["trainer.epochs=3", "trainer.log_every_n_steps=1"]


def test_damaged_rows_cost_no_training_and_are_said(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    overrides = [*STEP_BY_STEP, "trainer.epochs=3"]
    expected = train(*overrides, folder="whole")
    folder = copy_as_running(expected, "killed")
    metrics = folder / "metrics.csv"
    metrics.write_bytes(bytes(200) + metrics.read_bytes()[200:])
    resumed = train(*overrides, f"resume={folder}", folder="killed")
    assert resumed.record.weights_sha256 == expected.record.weights_sha256
    assert resumed.record.metrics == expected.record.metrics
    lines = [record.message for record in caplog.records if "metrics.csv is damaged" in record.message]
    assert len(lines) == 1
    assert "are missing or unreadable" in lines[0]
    assert resumed.record.sessions[-1]["metrics_csv"] == lines[0]
    assert 0 < len(resumed.rows()) < len(expected.rows())


def test_a_lost_record_costs_no_training(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train(*THREE_EPOCHS, folder="whole")
    monkeypatch.setattr(foreign_folder, "_typed", [])
    for content in (None, b"", b'{"config": {"seed', bytes(80)):
        folder = copy_as_running(expected, "killed")
        (folder / "run.json").unlink() if content is None else (folder / "run.json").write_bytes(content)
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(json.dumps([*SMALL, *THREE_EPOCHS]))
        assert resumed([f"resume={folder}"]) == [*SMALL, *THREE_EPOCHS, f"resume='{folder}'"]
        found = train(*THREE_EPOCHS, f"resume={folder}", folder="killed")
        assert_same(found, expected)
        assert found.record.run_id == expected.record.run_id
        shutil.rmtree(folder)


def test_checkpoints_of_another_run_are_not_used(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    expected, other = train(*THREE_EPOCHS, folder="whole"), train(*THREE_EPOCHS, folder="other")
    assert expected.record.config_hash == other.record.config_hash
    assert expected.record.run_id != other.record.run_id
    folder = copy_as_running(expected, "mixed")
    last = folder / "checkpoints" / "last.ckpt"
    last.unlink()  # best.ckpt may be another name of the same file
    shutil.copy(other.folder / "checkpoints" / "last.ckpt", last)
    found = train(*THREE_EPOCHS, f"resume={folder}", folder="mixed")
    assert_same(found, expected)
    assert f"{last} belongs to another run of the same configuration; skipped" in caplog.text
    for name in ("last.ckpt", "previous.ckpt"):
        assert found.checkpoint(name.removesuffix(".ckpt"))["run_id"] == expected.record.run_id

    shutil.rmtree(folder / "checkpoints")
    (folder / "run.json").unlink()
    shutil.copytree(other.folder / "checkpoints", folder / "checkpoints")
    with pytest.raises(UserError, match=r"neither its run\.json nor a usable"):
        train(*THREE_EPOCHS, "seed=3", f"resume={folder}", folder="mixed")
