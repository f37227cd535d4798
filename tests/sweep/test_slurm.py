"""Sweeps on a real SLURM: jobs that are killed, jobs out of time, a command that is killed itself."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tempo.config.schema import TrainerConfig
from tempo.errors import UserError
from tempo.record.run_json import RunRecord
from tempo.sweep.launcher.slurm_launcher import SlurmLauncher, SlurmSettings
from tests.sweep import slurm_cluster
from tests.sweep.command import finish, start, statuses, wait_until

on_a_cluster = pytest.mark.skipif(bool(slurm_cluster.why_not()), reason=f"SLURM: {slurm_cluster.why_not()}")
ON_SLURM = (
    "trainer=cpu",
    "trainer.threads=1",
    "hydra.sweeper.report=false",
    "hydra/launcher=slurm",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.timeout_minutes=3",
    "hydra.launcher.signal_delay_s=20",
)


def test_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = importlib.util.find_spec
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None if name == "submitit" else find(name))
        with pytest.raises(UserError, match=r"submitit is not installed: pip install -e '\.\[slurm\]'"):
            SlurmLauncher()
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"needs sbatch, srun, .* not found on the PATH"):
        SlurmLauncher()


def test_devices_and_nodes_become_tasks_and_nodes() -> None:
    submitit = pytest.importorskip("submitit.slurm.slurm")
    given = SlurmSettings(partition="a", srun_args=["--cpu-bind=cores"])
    trainer = TrainerConfig(devices=4, num_nodes=2, accelerator="gpu")
    script = submitit._make_sbatch_string("python job", "/folder", map_count=3, **given.parameters(trainer))
    asked = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    expected = {"nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "partition=a", "array=0-2%3", "requeue"}
    assert expected | {"time=240", "signal=USR2@90", "cpus-per-task=4"} <= asked
    assert "--kill-on-bad-exit=1 --cpus-per-task=4 --cpu-bind=cores python job" in script
    alone = given.parameters(TrainerConfig(accelerator="cpu"))
    assert (alone["gpus_per_node"], alone["srun_args"][0]) == (None, "--cpus-per-task=4")
    # The run itself starts these workers.
    workers = given.parameters(replace(trainer, num_nodes=1, method="ps_async"))
    assert [workers[key] for key in ("ntasks_per_node", "cpus_per_task", "gpus_per_node")] == [1, 16, 4]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Mapping[str, str]]:
    with slurm_cluster.cluster() as environment:
        yield {key: environment[key] for key in ("PATH", "SLURM_CONF")}


def submitted(sweep: Path) -> dict[str, str]:
    """Return the id of the job that was submitted last, by slug."""
    path = sweep / "slurm" / "jobs.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {slug: entry["job"] for slug, entry in found.items()}


def leave_ids_open(sweep: Path) -> None:
    """Remove the ids, as if the command was killed after sbatch but before it wrote them."""
    path = sweep / "slurm" / "jobs.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    for entry in found.values():
        entry["job"] = "?_" + entry["job"].partition("_")[2]
    path.write_text(json.dumps(found), encoding="utf-8")


def output_of(slurm: Mapping[str, str], *command: str) -> str:
    """Return the output of one of SLURM's commands."""
    environment = {**os.environ, **slurm}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


def kill_watcher(sweep: Path, slug: str) -> None:
    """Kill the process that watches a run, which dies with it: nothing is left to say why."""
    run = (sweep / slug / ".lock").read_text(encoding="utf-8").strip()
    os.kill(int(Path("/proc", run, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]), 9)


@on_a_cluster
def test_no_death_costs_a_result(slurm: Mapping[str, str], tmp_path: Path) -> None:
    """Job 0 is cancelled and then killed, job 1 runs out of time, the command is killed: the same weights."""
    sweep = tmp_path / "sweep"
    what = ("seed=0,1,2", "-m", "trainer.epochs=40")
    arguments = (*what, *ON_SLURM, f"hydra.sweep.dir={sweep}")

    def has_checkpoint(seed: int) -> bool:
        return (sweep / f"seed={seed}" / "checkpoints" / "last.ckpt").exists()

    command = start(*arguments, environment=slurm)
    wait_until(lambda: has_checkpoint(0) and has_checkpoint(1))
    first = submitted(sweep)
    command.kill()
    finish(command)
    leave_ids_open(sweep)
    output_of(slurm, "scancel", first["seed=0"])
    output_of(slurm, "scancel", "--signal=USR2", first["seed=1"])  # as at the end of its time
    state = ("squeue", "--noheader", "--states=all", "--format=%T", "--jobs")
    wait_until(lambda: output_of(slurm, *state, first["seed=0"]) == "CANCELLED")
    assert RunRecord.read(sweep / "seed=0").status == "interrupted", "its state is saved"

    command = start(*arguments, environment=slurm)
    wait_until(lambda: submitted(sweep).get("seed=0", "?_0") not in (first["seed=0"], "?_0"))
    again = submitted(sweep)
    assert {slug for slug, job in again.items() if job == first[slug]} == {"seed=1", "seed=2"}
    wait_until(lambda: len(RunRecord.read(sweep / "seed=0").sessions) == 2)
    kill_watcher(sweep, "seed=0")
    code, output = finish(command)
    assert code == 1, output
    assert re.search(rf"[12] jobs? found in the queue: .*{first['seed=1']}", output)  # the third may be over
    assert statuses(sweep) == {"seed=0": "interrupted", "seed=1": "completed", "seed=2": "completed"}
    assert f"SLURM job {again['seed=0']} was ended from outside" in RunRecord.read(sweep / "seed=0").reason

    code, output = finish(start(*arguments, environment=slurm))
    assert code == 0, output
    assert "3 jobs, 2 finished before, 1 to resume" in output

    whole = tmp_path / "whole"
    local = ("trainer=cpu", "trainer.threads=1", "hydra.sweeper.report=false")
    code, output = finish(start(*what[1:], *local, "seed=0,1", f"hydra.sweep.dir={whole}"))
    assert code == 0, output
    for slug, sessions in (("seed=0", 3), ("seed=1", 2)):
        cut, uncut = RunRecord.read(sweep / slug), RunRecord.read(whole / slug)
        assert len(cut.sessions) == sessions
        assert (cut.config_hash, cut.weights_sha256) == (uncut.config_hash, uncut.weights_sha256)


def state_at_the_end(slurm: Mapping[str, str], job: str) -> str:
    """Return the last state in SLURM, which learns of a job's end later than the job's folder."""
    deadline, state = time.monotonic() + 60, "RUNNING"
    while state in ("PENDING", "RUNNING", "COMPLETING") and time.monotonic() < deadline:
        state = output_of(slurm, "squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}")
        time.sleep(0.1)
    return state


@on_a_cluster
def test_a_command_that_is_killed_by_the_time_sbatch_answers_leaves_no_second_job(
    slurm: Mapping[str, str], tmp_path: Path
) -> None:
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    real = shutil.which("sbatch", path=slurm["PATH"])
    sbatch.write_text(f'#!/bin/sh\n{real} "$@" > {tmp_path}/answer; kill -9 $PPID\n', encoding="utf-8")
    sbatch.chmod(0o755)
    sweep = tmp_path / "sweep"
    arguments = ("-m", "trainer.epochs=1", *ON_SLURM, f"hydra.sweep.dir={sweep}")
    killing = {**slurm, "PATH": f"{sbatch.parent}:{slurm['PATH']}"}
    code, _ = finish(start(*arguments, environment=killing))
    assert code == -9
    lost = (tmp_path / "answer").read_text(encoding="utf-8").split()[-1]

    code, output = finish(start(*arguments, environment=slurm))
    assert code == 0, output
    assert statuses(sweep) == {"job": "completed"}
    assert state_at_the_end(slurm, lost) == "CANCELLED"
    assert state_at_the_end(slurm, submitted(sweep)["job"]) == "COMPLETED"


@on_a_cluster
def test_processes_on_two_nodes_are_one_run_that_is_requeued(
    slurm: Mapping[str, str], tmp_path: Path
) -> None:
    arguments = (*ON_SLURM[1:], "trainer=ddp_cpu", "trainer.num_nodes=2", "trainer.epochs=30")
    here = "hydra.launcher.setup=['export MASTER_ADDR=127.0.0.1']"  # the nodes have no names of their own
    command = start(
        "-m", "trainer.devices=1", *arguments, here, f"hydra.sweep.dir={tmp_path}", environment=slurm
    )
    wait_until((tmp_path / "job" / "checkpoints" / "last.ckpt").exists)
    output_of(slurm, "scancel", "--signal=USR2", submitted(tmp_path)["job"])
    code, output = finish(command)
    assert code == 0, output
    record = RunRecord.read(tmp_path / "job")
    assert (record.world_size, record.n_evaluated) == (2, 359)
    assert (record.status, len(record.sessions)) == ("completed", 2)
    assert [path.name for path in (tmp_path / "job" / "ranks").iterdir()] == ["rank1.log"]


@on_a_cluster
def test_what_sbatch_refuses_is_one_line(slurm: Mapping[str, str], tmp_path: Path) -> None:
    arguments = ("-m", "seed=0", *ON_SLURM, f"hydra.sweep.dir={tmp_path}")
    code, output = finish(start(*arguments, "hydra.launcher.partition=gpu", environment=slurm))
    assert code == 1
    assert "sbatch has refused" in output.splitlines()[-1]
    assert "invalid partition specified: gpu" in output.splitlines()[-1]
    assert "Traceback" not in output
