"""A rank that raises in the middle of training: the cause is told, and the sweep around it goes on."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tempo.errors import UserError
from tempo.record.run_json import RunRecord
from tempo.run.process_launch import launch_group
from tempo.run.run_request import RunRequest
from tests.jobs import SMALL, checked_job
from tests.script_process import run_script

NETWORK = """
import os
from tempo.model.mlp import MLP

class Fragile(MLP):
    def __init__(self, *, input_shape, num_classes, breaks: bool):
        super().__init__(input_shape=input_shape, num_classes=num_classes, hidden=(16,))
        self.breaks, self.calls = breaks, 0

    def forward(self, images):
        self.calls += 1
        if self.breaks and os.environ["RANK"] == "1" and self.calls == 4:
            raise MemoryError("out of memory on this device")
        return super().forward(images)
"""


def test_the_cause_is_named_and_the_next_job_runs(tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(NETWORK, encoding="utf-8")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    option = "_target_: fragile.Fragile\nbreaks: false\n"
    (tmp_path / "conf" / "model" / "fragile.yaml").write_text(option, encoding="utf-8")
    job = ["model=fragile", *SMALL[2:], "trainer=ddp_cpu", "trainer.max_steps=8"]
    given = [f"hydra.searchpath=[file://{tmp_path}/conf]", f"hydra.sweep.dir={tmp_path}/sweep"]
    given += ["hydra/launcher=local", "model.breaks=true,false", "-m"]
    done = run_script("train.py", *job, *given, environment={"PYTHONPATH": str(tmp_path)})
    assert done.code == 1, done.err
    broken, whole = (RunRecord.read(tmp_path / "sweep" / f"breaks={word}") for word in ("True", "False"))
    assert (broken.status, whole.status) == ("failed", "completed"), done.out + done.err
    assert broken.reason == "rank 1: MemoryError: out of memory on this device"
    assert whole.world_size == 2
    assert broken.reason in done.out.replace("\n", " ")
    printed = (tmp_path / "sweep" / "breaks=True" / "console.log").read_text(encoding="utf-8")
    assert "Traceback" not in done.out + done.err + printed
    assert "fragile.py" in (tmp_path / "sweep" / "breaks=True" / "ranks" / "rank1.log").read_text()


def test_a_group_that_dies_at_once_is_not_taken_for_the_session_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of an interrupted run would end the resumed one without a word."""
    config, choices = checked_job([*SMALL, "trainer=ddp_cpu"])
    record = RunRecord(config=dict(config.values), config_hash="", overrides=[], seed=0, status="interrupted")
    record.write(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    failing = shutil.which("false")
    assert failing is not None
    monkeypatch.setattr(sys, "executable", failing)
    with pytest.raises(UserError, match=r"failed: exit code 1 before the first record"):
        launch_group(RunRequest(config=config, folder=tmp_path, overrides=[], choices=choices))
    assert (tmp_path / "run.json").read_bytes() == before
