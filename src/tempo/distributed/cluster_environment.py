"""Where Lightning reads this process's place in its group."""

from __future__ import annotations

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from tempo.distributed.process_group import started_by_srun


def cluster_environment() -> ClusterEnvironment:
    """The names of torchrun or of srun, whichever started the processes of this run.

    Lightning's own search takes any process in a SLURM allocation for a task of srun, gives advice wherever
    srun is installed, and would requeue a job by itself, beside the launcher of the sweep.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return SLURMEnvironment(auto_requeue=False) if started_by_srun() else LightningEnvironment()
