"""What conf/hydra/launcher/slurm.yaml says, and how sbatch is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tempo.distributed.exchange import exchange_of
from tempo.errors import UserError
from tempo.paths import ROOT


@dataclass(frozen=True, kw_only=True)
class SlurmSettings:
    """The keys of the launcher; None leaves a choice to the cluster."""

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    timeout_minutes: int
    signal_delay_s: int
    max_num_timeout: int
    cpus_per_task: int
    gpus_per_node: Literal["auto"] | int | str | None
    mem: str | None
    array_parallelism: int
    job_name: str
    setup: list[str]
    srun_args: list[str]
    additional_parameters: dict[str, Any]

    def check(self) -> None:
        """Refuse what sbatch would take and nobody means.

        Raises:
            UserError: a number out of its range, or no time between the warning and the end.
        """
        least = {
            "timeout_minutes": 1,
            "signal_delay_s": 1,
            "max_num_timeout": 0,
            "cpus_per_task": 1,
            "array_parallelism": 1,
        }
        for key, bound in least.items():
            if (value := getattr(self, key)) < bound:
                raise UserError(
                    f"hydra.launcher.{key}={value} must be at least {bound}: e.g. "
                    f"hydra.launcher.{key}={max(bound, 4)}"
                )
        if self.signal_delay_s >= 60 * self.timeout_minutes:
            raise UserError(
                f"hydra.launcher.signal_delay_s={self.signal_delay_s} warns a job of "
                f"{self.timeout_minutes} minutes before it begins: hydra.launcher.signal_delay_s="
                f"{max(1, 20 * self.timeout_minutes)}, or a longer hydra.launcher.timeout_minutes"
            )

    def parameters(self, trainer: Mapping[str, Any]) -> dict[str, Any]:
        """Of submitit's SlurmExecutor, for jobs of this layout: a task for each process of the run."""
        nodes, tasks = trainer["num_nodes"], tasks_per_node(trainer)
        cpus = self.cpus_per_task * trainer["devices"] // tasks
        gpus = self.gpus_per_node
        if gpus == "auto":
            gpus = trainer["devices"] if trainer["accelerator"] == "gpu" else None
        # Since SLURM 22.05 srun does not take over what sbatch was told of CPUs.
        srun_args = [f"--cpus-per-task={cpus}", *self.srun_args]
        if nodes * tasks > 1:  # processes that wait for one which has failed would wait for ever
            srun_args = ["--kill-on-bad-exit=1", *srun_args]
        named = asdict(self)
        plain = {key: named[key] for key in ("partition", "account", "qos", "constraint", "mem", "job_name")}
        return {
            **plain,
            "time": self.timeout_minutes,
            "signal_delay_s": self.signal_delay_s,
            "nodes": nodes,
            "ntasks_per_node": tasks,
            "cpus_per_task": cpus,
            "gpus_per_node": gpus,
            "array_parallelism": self.array_parallelism,
            "setup": [*_setup(self.cpus_per_task), *self.setup],
            "srun_args": srun_args,
            "additional_parameters": {"requeue": True, **self.additional_parameters},
        }


def tasks_per_node(trainer: Mapping[str, Any]) -> int:
    """One for each process of the run on a node; one alone where the run itself starts its workers."""
    return exchange_of(trainer).tasks_per_node


def _setup(cpus: int) -> list[str]:
    """Lines of the batch script: where our modules are, and how many threads a process may start."""
    return [
        f'export PYTHONPATH="{ROOT / "src"}${{PYTHONPATH:+:$PYTHONPATH}}"',
        f'export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{cpus}}}"',
        # NumPy's linear algebra would start threads at once, and a process with threads should not fork.
        'export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"',
    ]
