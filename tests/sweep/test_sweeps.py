"""Whole sweeps as a user starts them: jobs that fail, processes that are killed, the next start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tempo.paths import ROOT
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
    train,
    wait_until,
)

SHORT = ("trainer.max_steps=4", "hydra.sweeper.report=false")
LONG = ("trainer.epochs=20", "hydra.sweeper.report=false", "hydra/launcher=local")
needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")


def test_no_job_stops_another_in_one_process(tmp_path: Path) -> None:
    sources = "data._target_=faults.exits,faults.raises,tempo.data.digits.digits"
    arguments = (sources, "-m", "optimizer.lr=1e9,0.1", *SHORT, f"hydra.sweep.dir={tmp_path}")
    code, output = train(*arguments)
    expected = {
        "_target_=faults.exits,lr=1e9": "failed",
        "_target_=faults.exits,lr=0.1": "failed",
        "_target_=faults.raises,lr=1e9": "failed",
        "_target_=faults.raises,lr=0.1": "failed",
        "_target_=tempo.data.digits.digits,lr=1e9": "diverged",
        "_target_=tempo.data.digits.digits,lr=0.1": "completed",
    }
    assert (code, statuses(tmp_path)) == (1, expected), output
    assert "job 6/6 _target_=tempo.data.digits.digits,lr=0.1: completed val/accuracy" in output
    assert output.splitlines()[-1].startswith("4 of 6 jobs have no result")
    assert "schedule" not in output  # the output of a job is in its folder
    console = {path.parent.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*/console.log")}
    assert "cost      4 steps in" in console["_target_=tempo.data.digits.digits,lr=0.1"]
    assert "Traceback" in console["_target_=faults.raises,lr=0.1"]

    code, output = train(*arguments)
    assert code == 1
    assert "6 jobs, 2 finished before" in output
    assert output.count(": failed (") == 4


def test_diverged_jobs_are_results_and_the_end_is_a_report(tmp_path: Path) -> None:
    code, output = train("-m", "optimizer.lr=1e9,0.1", "trainer.max_steps=4", f"hydra.sweep.dir={tmp_path}")
    assert code == 0, output
    assert "test accuracy" in output
    assert (tmp_path / "report" / "report.html").exists()


def test_another_configuration_runs_again_and_nothing_is_lost(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    place = f"hydra.sweep.dir={sweep}"
    assert train("-m", "seed=range(1)", *SHORT, place)[0] == 0
    weights = RunRecord.read(sweep / "seed=0").weights_sha256
    code, output = train("-m", "seed=range(1)", *SHORT, "optimizer.wd=0", place)
    assert code == 0
    assert "seed=0: runs again, optimizer.wd was 0.0001 and is now 0" in output
    assert RunRecord.read(tmp_path / "sweep.replaced" / "seed=0~1").weights_sha256 == weights
    assert RunRecord.read(sweep / "seed=0").config["optimizer"]["wd"] == 0


def test_processes_that_die_are_named(tmp_path: Path) -> None:
    faults = "faults.crashes,faults.is_killed,faults.exits,faults.sleeps"
    sources = f"data._target_={faults},tempo.data.digits.digits"
    limits = ("hydra.launcher.n_jobs=2", "hydra.launcher.timeout_minutes=0.15")
    place = f"hydra.sweep.dir={tmp_path}"
    code, output = train("-m", sources, *SHORT, "hydra/launcher=local", *limits, place)
    records = [(path.parent.name, RunRecord.read(path.parent)) for path in tmp_path.glob("*/run.json")]
    found = {slug.rpartition(".")[2]: record for slug, record in records}
    assert code == 1, output
    assert {name: (record.status, record.reason) for name, record in found.items()} == {
        "crashes": ("failed", "killed by SIGSEGV"),
        "is_killed": ("failed", "killed by SIGKILL"),
        "exits": ("failed", "SystemExit: 3"),
        "sleeps": ("interrupted", "stopped by hydra.launcher.timeout_minutes=0.15; rerun to resume"),
        "digits": ("completed", ""),
    }
    console = tmp_path / "_target_=tempo.data.digits.digits" / "console.log"
    assert "mlp_digits: completed" in console.read_text(encoding="utf-8")
    assert "mlp_digits" not in output


@needs_proc
def test_interrupted_sweeps_resume_and_end_as_if_never_interrupted(tmp_path: Path) -> None:
    sweep, place = tmp_path / "sweep", f"hydra.sweep.dir={tmp_path / 'sweep'}"
    jobs = [sweep / f"seed={seed}" for seed in (0, 1)]
    first = start("-m", "seed=0,1", *LONG, place)
    held = hold_each(jobs, has_checkpoint)
    code, output = train("-m", "seed=0,1", *LONG, place)
    assert code == 1
    assert f"already running in {sweep} (process {first.pid})" in output.splitlines()[-1]
    first.send_signal(signal.SIGINT)
    wait_until(lambda: all(is_asked_to_stop(process, signal.SIGINT) for process in held))
    release(held)
    code, output = finish(first)
    assert code == 130, output
    assert set(statuses(sweep).values()) == {"interrupted"}
    assert "resume with: python src/train.py -m" in output

    steps = {job: RunRecord.read(job).steps for job in jobs}
    second = start("-m", "seed=0,1", *LONG, place)
    hold_each(jobs, lambda job: RunRecord.read(job).steps > steps[job])
    processes = second.family()
    second.kill()
    finish(second)
    wait_until(lambda: all_ended(processes), seconds=10)
    assert set(statuses(sweep).values()) == {"running"}
    full_disk = RunRecord.read(jobs[1])
    full_disk.status, full_disk.reason = "failed", "OSError: No space left on device"
    full_disk.write(jobs[1])

    code, output = train("-m", "seed=0,1,2", *LONG, place)
    assert code == 0, output
    assert "3 jobs, 2 to resume" in output
    assert set(statuses(sweep).values()) == {"completed"}

    before = {path: path.read_bytes() for path in sweep.glob("*/run.json")}
    code, output = train("-m", "seed=0,1,2", *LONG, place)
    assert (code, "3 jobs, 3 finished before" in output) == (0, True)
    assert {path: path.read_bytes() for path in sweep.glob("*/run.json")} == before

    code, output = train("seed=0", LONG[0], f"hydra.run.dir={tmp_path / 'alone'}")
    alone, cut, failed = map(RunRecord.read, (tmp_path / "alone", *jobs))
    assert len(cut.sessions) == len(failed.sessions) == 3
    assert (alone.weights_sha256, alone.config_hash) == (cut.weights_sha256, cut.config_hash)


def test_plugins_load_nothing_heavy() -> None:
    program = "import sys; from hydra.core.plugins import Plugins; Plugins.instance(); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "hydra_plugins.tempo.plugins" in loaded, done.stderr
    assert {"torch", "numpy", "pandas", "matplotlib", "optuna"} & loaded == set()
    assert done.stderr == ""
