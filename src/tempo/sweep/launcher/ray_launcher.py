"""Jobs of a sweep as tasks of Ray, on this machine or on a cluster: `hydra/launcher=ray`."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from hydra.core.utils import JobReturn

from tempo.config.resolve import composed
from tempo.config.signature import check_types, signature_of
from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.sweep.launcher.base import Interrupts, IsolatingLauncher, JobInterrupted, JobKilled, failed
from tempo.sweep.launcher.cluster_job import ClusterJob, Outcome
from tempo.sweep.launcher.ray_work import run_apart

_CONNECT_SECONDS = 5.0
GRACE_SECONDS = 30.0
"""What a job gets to save its state when it is asked to stop."""
_DYING_SECONDS = 1.0
"""A run dies with its worker, a moment later: until then it holds its folder."""
_LOOK_SECONDS = 0.1
_SOURCE = str(ROOT / "src")


class RayLauncher(IsolatingLauncher):
    """Hands jobs to Ray, as many at a time as there is room for; each runs in a process of its own.

    A worker or a node that dies is one failed job. When this process ends, so do its jobs: the same command
    goes on with them.

    Raises:
        UserError: Ray is not installed or its cluster cannot be reached; a setting that cannot work.
    """

    one_by_one = True

    def __init__(
        self,
        address: str | None,
        n_jobs: int | None,
        cpus_per_process: int,
        gpus_per_process: Literal["auto"] | int | float,
    ) -> None:
        super().__init__()
        values = {
            "address": address,
            "n_jobs": n_jobs,
            "cpus_per_process": cpus_per_process,
            "gpus_per_process": gpus_per_process,
        }
        schema = f"{type(self).__module__}.{type(self).__qualname__}"
        check_types("hydra.launcher", values, signature_of(schema) or {})
        least = {"n_jobs": 1, "cpus_per_process": 1, "gpus_per_process": 0}
        for key, bound in least.items():
            value: Any = values[key]
            if value not in (None, "auto") and value < bound:
                raise UserError(
                    f"hydra.launcher.{key}={value} must be at least {bound}: e.g. hydra.launcher.{key}=1"
                )
        if importlib.util.find_spec("ray") is None:
            raise UserError("the package ray is not installed: pip install -e '.[ray]'")
        _check_reachable(address)
        self.address = address
        self.most_jobs = n_jobs
        self.cpus, self.gpus = cpus_per_process, gpus_per_process

    @contextmanager
    def session(self, folder: Path) -> Iterator[Mapping[str, str]]:
        """Connect to the cluster, or start one on this machine that ends with the sweep."""
        # Nothing is sent to anybody, and a job that asked for no GPU sees none. Read when Ray is imported.
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
        self.ray: Any = importlib.import_module("ray")
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            self.ray.init(
                address=self.address or "local",
                include_dashboard=None if self.address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
                runtime_env={"env_vars": {"PYTHONPATH": self._path()}},
            )
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise UserError(
                f"Ray at hydra.launcher.address={self.address}: {str(error).strip()}; where it asks for a "
                "token, RAY_AUTH_MODE=token in front; null starts one here"
            ) from error
        try:
            self.nodes = [each["Resources"] for each in self.ray.nodes() if each["Alive"]]
            room = sum(int(each.get("CPU", 0) // self.cpus) for each in self.nodes)
            self.n_jobs = min(self.most_jobs or math.inf, max(1, room))  # type: ignore[assignment]
            self.work = self.ray.remote(max_retries=0)(run_apart)
            yield {}
        finally:
            self.ray.shutdown()

    def launch(self, job_overrides: Iterable[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; each is taken from `job_overrides` when one of `n_jobs` places is free.

        Raises:
            UserError: a job asks for more than any node has.
            KeyboardInterrupt: the user stopped the sweep; the running jobs have saved their state.
        """
        waiting = enumerate(job_overrides)
        running: dict[int, Any] = {}
        results: dict[int, JobReturn] = {}
        cancelled_at: float | None = None
        with Interrupts() as interrupts:
            while True:
                while len(running) < self.n_jobs and not interrupts.count:
                    index, overrides = next(waiting, (0, None))
                    if overrides is None:
                        break
                    running[index] = self._start(index, overrides, initial_job_idx + index)
                if not running:
                    break
                if interrupts.count and cancelled_at is None:
                    cancelled_at = time.monotonic()
                    for each in running.values():
                        self.ray.cancel(each, force=False)
                too_late = cancelled_at is not None and time.monotonic() > cancelled_at + GRACE_SECONDS
                if too_late or interrupts.count > 1:
                    break
                done, _ = self.ray.wait(list(running.values()), timeout=_LOOK_SECONDS)
                for index in [index for index, each in running.items() if each in done]:
                    results[index] = self._result(running.pop(index), cancelled_at is not None)
                    self.ended(index, results[index])
            if interrupts.count:
                for index in running:
                    self.ended(index, failed(JobInterrupted("interrupted")))
                raise KeyboardInterrupt
        return [results[index] for index in sorted(results)]

    def _start(self, index: int, overrides: Sequence[str], number: int) -> Any:
        config = self.compose(overrides, number)
        trainer = composed(config)["trainer"]
        if trainer["num_nodes"] > 1:
            raise UserError(
                f"trainer.num_nodes={trainer['num_nodes']}: under hydra/launcher=ray a job has its processes "
                "on one node; trainer.num_nodes=1, or hydra/launcher=slurm"
            )
        gpus = self.gpus
        if gpus == "auto":
            there = any(node.get("GPU", 0) for node in self.nodes)
            gpus = int(trainer["accelerator"] == "gpu" or (trainer["accelerator"] == "auto" and there))
        asked = {"CPU": self.cpus * trainer["devices"], "GPU": gpus * trainer["devices"]}
        if not any(all(node.get(key, 0) >= value for key, value in asked.items()) for node in self.nodes):
            most = {key: max(node.get(key, 0) for node in self.nodes) for key in asked}
            raise UserError(
                f"a job asks for {asked['CPU']} CPUs and {asked['GPU']:g} GPUs, and Ray's nodes have at most "
                f"{most['CPU']:g} and {most['GPU']:g}: fewer trainer.devices, or "
                "hydra.launcher.cpus_per_process=1"
            )
        job = json.dumps(ClusterJob.of(config, self.task_function).__dict__)
        self.started(index)
        options = {"num_cpus": asked["CPU"], "num_gpus": asked["GPU"]}
        return self.work.options(**options).remote(job, _SOURCE, self.cpus)

    def _result(self, task: Any, is_cancelled: bool) -> JobReturn:
        errors = self.ray.exceptions
        try:
            said = self.ray.get(task)
        except errors.TaskCancelledError:
            return failed(JobInterrupted("interrupted"))
        except errors.RayError as error:
            time.sleep(_DYING_SECONDS)
            words = " ".join(str(error).split()).partition(". ")[0]
            return failed(JobKilled(f"the Ray worker died, {type(error).__name__}: {words[:200]}"))
        if not said["outcome"]:
            return failed(JobKilled(f"the process that watches over the run died, exit code {said['code']}"))
        return Outcome.from_json(said["outcome"]).result()

    def _path(self) -> str:
        return os.pathsep.join(filter(None, [_SOURCE, os.environ.get("PYTHONPATH")]))


def _check_reachable(address: str | None) -> None:
    """Refuse an address at which nobody listens: Ray itself would try for minutes."""
    if address in (None, "auto", "local"):
        return
    host, _, port = str(address).rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"hydra.launcher.address={address} cannot be reached ({error}): <host>:6379 of a Ray that is up, "
            "auto, or null for one on this machine"
        ) from error
