"""Jobs of the tests: composed as a script would, run in this process or in one that may be killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tempo.config.check import check
from tempo.config.json_schema import is_own
from tempo.config.resolve_interpolations import composed
from tempo.config.schema import RunConfig
from tempo.errors import UserError
from tempo.paths import ROOT, register_resolvers

CONF = ROOT / "conf"
THREADS_AT_THE_END = "THREADS_AT_THE_END"
"""In a job's environment: its last line is to name the threads that it has left; Linux knows them."""
# Enough for a second step in each epoch and a step that is left over, in a fraction of a second.
SMALL = (
    "model=mlp",
    "trainer=cpu",
    "data.train_size=320",
    "trainer.log_every_n_steps=7",
    "trainer.threads=1",
)


def trains(experiment: Path) -> bool:
    """Whether a file of conf/experiment is of `src/train.py`; the benchmark's have keys of their own."""
    return "\nscaling:" not in experiment.read_text(encoding="utf-8")


def options(group: str) -> list[str]:
    """Tempo's options of conf/<group> for its own networks, which cannot have `own`."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "own" and is_own(path))


def compose_job(overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Configuration as plain values, and group -> option, as `src/train.py <overrides>` has them."""
    register_resolvers()
    OmegaConf.register_new_resolver("run_folder", lambda *_: "unused", replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=list(overrides), return_hydra_config=True)
    choices = {
        str(key): str(value)
        for key, value in config.hydra.runtime.choices.items()
        if value and not str(key).startswith("hydra")
    }
    return composed(config), choices


def checked_job(overrides: Sequence[str]) -> tuple[RunConfig, dict[str, str]]:
    """Compose and check as `src/train.py <overrides>` does; the typed configuration, and group -> option."""
    values, choices = compose_job(overrides)
    return check(values), choices


def run_job(folder: Path, overrides: Sequence[str], *, pictures: bool = False) -> Any:
    """Compose, check and run in this process; the record."""
    # torch is imported late: the tests of the configuration must not need it.
    from tempo.run import train as training
    from tempo.run.run_request import RunRequest
    from tempo.trainer.optuna_trial import Trial

    config, choices = checked_job(overrides)
    folder.mkdir(parents=True, exist_ok=True)
    trial = Trial.from_environment()
    request = RunRequest(
        config=config, folder=folder, overrides=list(overrides), choices=choices, trial=trial
    )
    with contextlib.nullcontext() if pictures else without_pictures():
        return training.run(request)


def without_pictures() -> AbstractContextManager[Any]:
    """Leave out a run's figures: drawing takes half the time and more of a run as short as those of tests."""
    from tempo.run import train as training

    return patch.multiple(training, draw_curves=_nothing, draw_confusion=_nothing)


def _nothing(*_: Any) -> None:
    """Take the place of a function that draws."""


def _child(folder: str, overrides: Sequence[str], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with Path(folder, f"output{environment.get('RANK', '')}.txt").open("a", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    try:
        record = run_job(Path(folder), overrides)
    except UserError as error:
        sys.exit(str(error))
    if THREADS_AT_THE_END in environment:
        print("threads at the end:", *_names_of_threads(), flush=True)
    sys.exit(130 if record.status == "interrupted" else 0)


def _names_of_threads() -> list[str]:
    names = []
    for each in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # one that has just ended
            names.append(each.read_text(encoding="utf-8").strip())
    return sorted(names)


def fork_server() -> ForkServerContext:
    """The server that processes of tests are forked from: it holds torch, Lightning and Hydra imported."""
    context = multiprocessing.get_context("forkserver")
    # Python 3.11's server does not get sys.path, and passes over what it cannot import.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    context.set_forkserver_preload(
        [
            "tests.jobs",
            "tests.script_process",
            "tempo.command_line.script",
            "tempo.distributed.local_group",
            "tempo.run.train",
            "tempo.run.worker",
            "tempo.scaling.measured_run",
            "tempo.sweep.grid_sweeper",
            "tempo.sweep.launcher.local_launcher",
            "torch.utils.tensorboard",
        ]
    )
    return context


def start_job(
    folder: Path, overrides: Sequence[str], environment: dict[str, str] | None = None
) -> ForkServerProcess:
    """The same in a process of its own, which starts at once: a server holds torch already imported."""
    folder.mkdir(parents=True, exist_ok=True)
    process = fork_server().Process(target=_child, args=(str(folder), list(overrides), environment or {}))
    process.start()
    return process


def finish(process: ForkServerProcess, timeout_seconds: float = 120) -> int:
    """Exit code of a job; a job that hangs is killed and fails the test."""
    process.join(timeout_seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"the job was still running after {timeout_seconds} s")
    return process.exitcode


def signal_at(
    process: ForkServerProcess, reached: Callable[[], bool], number: int, timeout_seconds: float = 120
) -> bool:
    """Send a signal as soon as `reached()`; False where the job was over before."""
    deadline = time.monotonic() + timeout_seconds
    while process.is_alive() and time.monotonic() < deadline:
        if reached():
            assert process.pid is not None
            os.kill(process.pid, number)
            return True
        time.sleep(0.001)
    return False


def kill_at(process: ForkServerProcess, reached: Callable[[], bool]) -> bool:
    """SIGKILL as soon as `reached()`."""
    killed = signal_at(process, reached, signal.SIGKILL)
    finish(process)
    return killed


def rows_written(folder: Path) -> int:
    """Complete rows of metrics.csv."""
    path = folder / "metrics.csv"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


@dataclass
class Group:
    """The processes of one job, as torchrun would start them but for its 5 seconds."""

    processes: list[ForkServerProcess]

    def finish(self, timeout_seconds: float = 120) -> list[int]:
        """Exit codes, rank by rank."""
        return [finish(each, timeout_seconds) for each in self.processes]


def start_group(
    folder: Path,
    overrides: Sequence[str],
    devices: int,
    of_last: Sequence[str] = (),
    environment: dict[str, str] | None = None,
    home_of_last: Path | None = None,
) -> Group:
    """One process a rank, in this environment; `of_last` are overrides that only the last one gets.

    `home_of_last` is that of the last one: what it finds below `~` can be other data.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",
        **(environment or {}),
    }
    overrides = [*overrides, "trainer=ddp_cpu", f"trainer.devices={devices}", "trainer.threads=1"]
    return Group(
        [
            start_job(
                folder,
                [*overrides, *(of_last if rank == devices - 1 else ())],
                {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                | ({"HOME": str(home_of_last)} if home_of_last and rank == devices - 1 else {}),
            )
            for rank in range(devices)
        ]
    )
