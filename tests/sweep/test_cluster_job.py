"""Jobs for other machines: what they carry, and clusters that are not there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from tempo.config.resolve import composed
from tempo.errors import UserError
from tempo.paths import register_resolvers
from tempo.record.run_json import RunRecord, config_hash
from tempo.sweep.launcher.base import JobEnded, JobInterrupted, JobKilled, failed, failure
from tempo.sweep.launcher.cluster_job import ClusterJob, Outcome
from tempo.sweep.launcher.forked_job import ForkedJob
from tempo.sweep.launcher.slurm_launcher import SlurmLauncher
from tempo.sweep.launcher.slurm_settings import SlurmSettings
from tests.jobs import CONF


def settings() -> dict[str, Any]:
    found = OmegaConf.to_container(OmegaConf.load(CONF / "hydra" / "launcher" / "slurm.yaml"))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items() if key != "_target_"}


def test_without_submitit_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "submitit" else find(name))
    with pytest.raises(UserError, match=r"submitit is not installed: pip install -e '\.\[slurm\]'"):
        SlurmLauncher(**settings())


def test_without_sbatch_the_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"needs sbatch, srun, .* not found on the PATH"):
        SlurmLauncher(**settings())


def test_devices_and_nodes_become_tasks_and_nodes() -> None:
    submitit = pytest.importorskip("submitit.slurm.slurm")
    values = {**settings(), "partition": "a", "srun_args": ["--cpu-bind=cores"]}
    trainer = {"devices": 4, "num_nodes": 2, "accelerator": "gpu", "method": "ring"}
    parameters = SlurmSettings(**values).parameters(trainer)
    script = submitit._make_sbatch_string("python job", "/folder", map_count=3, **parameters)
    asked = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    expected = {"nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "partition=a", "array=0-2%3", "requeue"}
    assert expected | {"time=240", "signal=USR2@90", "cpus-per-task=4"} <= asked
    assert "--kill-on-bad-exit=1 --cpus-per-task=4 --cpu-bind=cores python job" in script
    alone = SlurmSettings(**values).parameters(
        {**trainer, "devices": 1, "num_nodes": 1, "accelerator": "cpu"}
    )
    assert (alone["gpus_per_node"], alone["srun_args"][0]) == (None, "--cpus-per-task=4")
    # These workers are started by the run itself.
    workers = SlurmSettings(**values).parameters({**trainer, "num_nodes": 1, "method": "ps_async"})
    assert [workers[key] for key in ("ntasks_per_node", "cpus_per_task", "gpus_per_node")] == [1, 16, 4]


@pytest.mark.parametrize("overrides", [[], ["optimizer.wd=1e-5", "name='1e-5'", "scheduler=onecycle"]])
def test_the_configuration_arrives_as_it_left(overrides: list[str], tmp_path: Path) -> None:
    """A run that is over is found so by the hash of what the job carries."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        place = [f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=job"]
        config = compose("train", overrides=["model=mlp", *overrides, *place], return_hydra_config=True)
    values = composed(config)
    objective = {"name": "val/accuracy", "mode": "max", "value": 0.5}
    record = RunRecord(
        config=values, config_hash=config_hash(values), overrides=[], seed=0, status="completed"
    )
    record.objective = objective
    (tmp_path / "job").mkdir()
    record.write(tmp_path / "job")
    found = ClusterJob(OmegaConf.to_yaml(config), script="unused").start({})
    assert not isinstance(found, ForkedJob), "it would have run again"
    assert (found.kind, found.value) == ("completed", 0.5)


@pytest.mark.parametrize("error", [JobEnded("a"), JobKilled("b"), JobInterrupted("c"), None])
def test_what_became_of_a_job_comes_back(error: JobEnded | None) -> None:
    result = JobReturn()
    result.status, result.return_value = JobStatus.COMPLETED, 0.25
    before = failed(error) if error else result
    after = Outcome.from_json(Outcome.of(before).to_json()).result()
    assert (type(failure(after)), str(failure(after))) == (type(error), str(error))
    assert after.status == before.status
    if error is None:
        assert after.return_value == 0.25
