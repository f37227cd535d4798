"""A process learns its rank from torchrun or srun, and leaves requeueing to the sweep's launcher."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from tempo.distributed.process_group import cluster_environment

ALLOCATION = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_JOB_NAME": "tempo",
}
TASK = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0"}


def put(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_tasks_of_srun_have_its_ranks_and_do_not_requeue(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, {**ALLOCATION, **TASK})
    found = cluster_environment()
    assert isinstance(found, SLURMEnvironment)
    assert (found.auto_requeue, found.global_rank(), found.world_size()) == (False, 1, 2)


def test_one_process_in_an_allocation_is_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A batch script has the variables of an allocation; Lightning would count its tasks and warn of srun."""
    put(monkeypatch, {**ALLOCATION, "PATH": str(tmp_path)})
    (tmp_path / "srun").touch(mode=0o755)
    assert isinstance(cluster_environment(), LightningEnvironment)
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, plugins=[cluster_environment()])
    assert trainer.world_size == 1


def test_torchrun_in_a_task_of_srun_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, {**ALLOCATION, **TASK, "TORCHELASTIC_RUN_ID": "x"})
    assert isinstance(cluster_environment(), TorchElasticEnvironment)
