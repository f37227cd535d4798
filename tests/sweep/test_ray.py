"""A sweep on a Ray of this machine: a killed worker, a stopped sweep, the command rerun."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import pytest

from tempo.record.run_json import RunRecord
from tests.sweep.command import (
    all_ended,
    finish,
    has_checkpoint,
    hold_each,
    is_asked_to_stop,
    release,
    start,
    statuses,
    wait_until,
)

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
ON_RAY = ("trainer=cpu", "hydra.sweeper.report=false", "hydra/launcher=ray", "hydra.launcher.n_jobs=2")


def test_a_killed_worker_is_one_failed_job_and_a_stopped_sweep_resumes(tmp_path: Path) -> None:
    arguments = ("-m", "seed=0,1", "trainer.epochs=60", *ON_RAY, f"hydra.sweep.dir={tmp_path}")
    jobs = [tmp_path / "seed=0", tmp_path / "seed=1"]
    # What inherits an ignored SIGINT is harder to stop.
    command = start(*arguments, in_background=True)
    first, second = hold_each(jobs, has_checkpoint)
    os.kill(parent_of(first), signal.SIGKILL)  # Ray's worker
    wait_until(lambda: all_ended([first]))
    command.send_signal(signal.SIGINT)
    wait_until(
        lambda: is_asked_to_stop(second, signal.SIGTERM)
    )  # on a busy machine it would else be over before
    release([second])
    code, output = finish(command)
    assert code == 130, output
    assert statuses(tmp_path) == {"seed=0": "interrupted", "seed=1": "interrupted"}
    assert "Ray worker died" in RunRecord.read(tmp_path / "seed=0").reason
    assert RunRecord.read(tmp_path / "seed=1").reason == "SIGTERM"
    wait_until(lambda: all_ended([first, second]), 10)

    code, output = finish(start(*arguments))
    assert code == 0, output
    assert "2 to resume" in output
    assert statuses(tmp_path) == {"seed=0": "completed", "seed=1": "completed"}


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
