"""Run jobs as Ray tasks, on this machine or on a cluster: `hydra/launcher=ray`."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tempo.config.check import check
from tempo.config.resolve_interpolations import composed
from tempo.config.schema import key
from tempo.distributed.interrupt_counter import StopSignals
from tempo.distributed.ray_cluster import keep_to_this_machine
from tempo.errors import UserError
from tempo.paths import PROJECT, python_path
from tempo.sweep.launcher.base_launcher import IsolatingLauncher, Outcome, Overrides, read_settings
from tempo.sweep.launcher.job_process import GRACE_SECONDS, JobProcess, PackedJob

_CONNECT_SECONDS = 5.0
_DYING_SECONDS = 1.0
"""Wait after a worker was killed: its run ends a moment later, and locks its folder until then."""
_LOOK_SECONDS = 0.1
_INTERRUPTED = Outcome("interrupted", "interrupted")


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """The keys of conf/hydra/launcher/ray.yaml."""

    address: str | None = None
    n_jobs: int | None = key(None, at_least=1)
    cpus_per_process: int = key(1, at_least=1)
    gpus_per_process: Literal["auto"] | int | float = key("auto", at_least=0)


class RayLauncher(IsolatingLauncher):
    """Pass jobs to Ray, as many at a time as its CPUs allow; each job runs in its own process.

    If a worker or a node dies, only its jobs fail. The jobs end with this process; rerun the command to
    resume them.

    Raises:
        UserError: Ray is not installed, its cluster cannot be reached, or a setting cannot work.
    """

    one_by_one = True

    def __init__(self, **settings: Any) -> None:
        self.settings = read_settings(RaySettings, settings)
        if importlib.util.find_spec("ray") is None:
            raise UserError("the package ray is not installed: pip install -e '.[ray]'")
        _check_reachable(self.settings.address)

    @contextmanager
    def session(self, folder: Path) -> Iterator[Mapping[str, str]]:
        """Connect to the cluster, or start one on this machine that ends with the sweep."""
        # Send no usage statistics, and hide GPUs from jobs that asked for none. Ray reads these on import.
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
        address, cpus = self.settings.address, self.settings.cpus_per_process
        if address in (None, "local"):
            keep_to_this_machine()
        self.ray: Any = importlib.import_module("ray")
        logging.getLogger("ray").setLevel(logging.ERROR)
        path = python_path(os.environ.get("PYTHONPATH"))
        try:
            self.ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
                runtime_env={"env_vars": {"PYTHONPATH": path, PROJECT: os.environ.get(PROJECT, "")}},
            )
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise UserError(
                f"Ray at hydra.launcher.address={address} refused: {str(error).strip()}; if it asks for "
                "a token, put RAY_AUTH_MODE=token in front, or set null to start Ray on this machine"
            ) from error
        try:
            self.nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
            room = sum(int(node.get("CPU", 0) // cpus) for node in self.nodes)
            self.n_jobs = min(self.settings.n_jobs or max(1, room), max(1, room))
            yield {}
        finally:
            self.ray.shutdown()

    def run_jobs(self, jobs: Iterable[Overrides], first_number: int = 0) -> Iterator[tuple[int, Outcome]]:
        """Run the jobs, each when there is room; see `IsolatingLauncher.run_jobs`.

        Raises:
            UserError: a job asks for more than any node has.
        """
        waiting = enumerate(jobs)
        running: dict[int, Any] = {}
        kill_at = math.inf
        with StopSignals() as signals:
            while True:
                while len(running) < self.n_jobs and not signals.asked:
                    index, overrides = next(waiting, (0, None))
                    if overrides is None:
                        break
                    running[index] = self._start(overrides, first_number + index)
                if not running:
                    break
                if signals.asked and kill_at == math.inf:
                    kill_at = time.monotonic() + GRACE_SECONDS
                    for task in running.values():
                        self.ray.cancel(task, force=False)
                if signals.insisted or time.monotonic() > kill_at:
                    break
                done, _ = self.ray.wait(list(running.values()), timeout=_LOOK_SECONDS)
                for index in [index for index, task in running.items() if task in done]:
                    yield index, self._outcome(running.pop(index))
            for index in running:  # Ray ends with the sweep and kills these jobs
                yield index, _INTERRUPTED
            if signals.asked:
                raise KeyboardInterrupt

    def _start(self, overrides: Overrides, number: int) -> Any:
        config = self.compose(overrides, number)
        trainer, settings = check(composed(config)).trainer, self.settings
        if trainer.num_nodes > 1:
            raise UserError(
                f"trainer.num_nodes={trainer.num_nodes}, but under hydra/launcher=ray the processes of a "
                "job share one node; set trainer.num_nodes=1, or use hydra/launcher=slurm"
            )
        gpus = settings.gpus_per_process
        if gpus == "auto":
            any_gpu = any(node.get("GPU", 0) for node in self.nodes)
            gpus = int(trainer.accelerator == "gpu" or (trainer.accelerator == "auto" and any_gpu))
        asked = {"CPU": settings.cpus_per_process * trainer.devices, "GPU": gpus * trainer.devices}
        if not any(all(node.get(key, 0) >= value for key, value in asked.items()) for node in self.nodes):
            most = {key: max(node.get(key, 0) for node in self.nodes) for key in asked}
            raise UserError(
                f"a job asks for {asked['CPU']} CPUs and {asked['GPU']:g} GPUs, but Ray's nodes have at most "
                f"{most['CPU']:g} and {most['GPU']:g}; set fewer trainer.devices, or "
                "hydra.launcher.cpus_per_process=1"
            )
        job = json.dumps(asdict(PackedJob.pack(config, self.task_function)))
        # If a worker dies, Ray would run its task again, up to three times; rerunning the command resumes it.
        options = {"max_retries": 0, "num_cpus": asked["CPU"], "num_gpus": asked["GPU"]}
        return self.ray.remote(**options)(run_on_node).remote(job, settings.cpus_per_process)

    def _outcome(self, task: Any) -> Outcome:
        errors = self.ray.exceptions
        try:
            return Outcome.from_json(self.ray.get(task))
        except errors.TaskCancelledError:
            return _INTERRUPTED
        except errors.RayError as error:
            time.sleep(_DYING_SECONDS)
            words = " ".join(str(error).split()).partition(". ")[0]
            return Outcome("failed", f"the Ray worker died, {type(error).__name__}: {words[:200]}")


def run_on_node(job: str, threads: int) -> str:
    """Run a packed job in a separate process, as Ray's worker serves many jobs; return the outcome as JSON.

    When Ray cancels the task, the job saves its state and ends. Ray's variables are hidden from the job,
    which may start its own Ray, but it sees the GPUs assigned to it.
    """
    # Ray cancels with Python's KeyboardInterrupt, which does nothing if SIGINT is ignored. A shell script
    # ignores it in a sweep that it starts in the background, and Ray's workers inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    process = JobProcess.on_node(
        PackedJob(**json.loads(job)), {**environment, "OMP_NUM_THREADS": str(threads)}
    )
    ended = False
    while not ended:
        try:
            ended = process.is_over()
            time.sleep(0 if ended else _LOOK_SECONDS)
        except KeyboardInterrupt:  # Ray cancels in this way, at any instruction
            process.stop(_INTERRUPTED, GRACE_SECONDS)
    return process.outcome().to_json()


def _check_reachable(address: str | None) -> None:
    """Refuse an address that does not answer; Ray itself would try for minutes."""
    if address in (None, "auto", "local"):
        return
    host, _, port = str(address).rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"hydra.launcher.address={address} cannot be reached ({error}); set <host>:6379 of a running "
            "Ray, auto, or null to start Ray on this machine"
        ) from error
