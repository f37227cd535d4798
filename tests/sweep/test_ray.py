"""A sweep on a Ray of this machine: a killed worker, a stopped sweep, the command rerun."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import pytest

from tempo.record.run_json import RunRecord
from tests.sweep.command import finish, start, statuses, wait_until

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
ON_RAY = ("trainer=cpu", "hydra.sweeper.report=false", "hydra/launcher=ray", "hydra.launcher.n_jobs=2")


def test_a_killed_worker_is_one_failed_job_and_a_stopped_sweep_resumes(tmp_path: Path) -> None:
    arguments = ("-m", "seed=0,1", "trainer.epochs=120", *ON_RAY, f"hydra.sweep.dir={tmp_path}")
    paused: dict[str, int] = {}

    def pause_both() -> bool:
        """Hold each run from its first checkpoint: the faster one must not end before the other is killed."""
        for name in {"seed=0", "seed=1"} - paused.keys():
            if (tmp_path / name / "checkpoints" / "last.ckpt").exists():
                paused[name] = int((tmp_path / name / ".lock").read_text(encoding="utf-8"))
                os.kill(paused[name], signal.SIGSTOP)
        return len(paused) == 2

    # As a shell script starts `command &`: what inherits an ignored SIGINT is harder to stop.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    command = start(*arguments)
    signal.signal(signal.SIGINT, handler)
    wait_until(pause_both)
    os.kill(parent_of(paused["seed=0"]), signal.SIGKILL)  # Ray's worker
    wait_until(lambda: not Path("/proc", str(paused["seed=0"])).exists())
    command.send_signal(signal.SIGINT)
    wait_until(lambda: is_asked_to_stop(paused["seed=1"]))  # on a busy machine it would else be over before
    os.kill(paused["seed=1"], signal.SIGCONT)
    code, output = finish(command)
    assert code == 130, output
    assert statuses(tmp_path) == {"seed=0": "interrupted", "seed=1": "interrupted"}
    assert "Ray worker died" in RunRecord.read(tmp_path / "seed=0").reason
    assert RunRecord.read(tmp_path / "seed=1").reason == "SIGTERM"
    wait_until(lambda: not any(Path("/proc", str(process)).exists() for process in paused.values()), 10)

    code, output = finish(start(*arguments))
    assert code == 0, output
    assert "2 to resume" in output
    assert statuses(tmp_path) == {"seed=0": "completed", "seed=1": "completed"}


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def is_asked_to_stop(process: int) -> bool:
    """Whether SIGTERM waits for a held process."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    pending = next(line for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(pending.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
