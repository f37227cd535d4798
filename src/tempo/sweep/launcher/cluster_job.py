"""A job that carries its composed configuration: any machine that sees the sweep's folder can run it.

As a program it runs the job that comes as JSON on its standard input, and says there what became of it:
`python -m tempo.sweep.launcher.cluster_job`.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast

from hydra._internal.callbacks import Callbacks
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from tempo.config.resolve import composed
from tempo.distributed.child_process import die_with_parent
from tempo.distributed.process_group import place, take_names_of_torchrun
from tempo.paths import register_resolvers
from tempo.record.run_folder import Need, need_of, quoted, readable_record
from tempo.record.run_json import config_hash
from tempo.sweep.jobs import CONSOLE_FILE
from tempo.sweep.launcher.base import JobEnded, JobInterrupted, JobKilled, failed, failure
from tempo.sweep.launcher.forked_job import ForkedJob

_OF_THE_CLUSTER = (signal.SIGUSR2,)
"""What SLURM sends to all processes of a job, to be heard by the one that watches over the run."""
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Outcome:
    """What became of a job, as plain values."""

    kind: Literal["completed", "ended", "interrupted", "killed"]
    reason: str = ""
    value: Any = None
    ended_unix: float = 0.0

    @classmethod
    def of(cls, result: JobReturn) -> Outcome:
        """What a process's end says."""
        error, now = failure(result), time.time()
        if error is None:
            return cls("completed", value=result.return_value, ended_unix=now)
        names: dict[type, Any] = {JobInterrupted: "interrupted", JobKilled: "killed"}
        kind = names.get(type(error), "ended")
        return cls(kind, str(error), ended_unix=now)

    @classmethod
    def from_json(cls, text: str | bytes) -> Outcome:
        """Inverse of `to_json`."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    def result(self) -> JobReturn:
        """As a launcher returns it."""
        if self.kind != "completed":
            kinds = {"interrupted": JobInterrupted, "killed": JobKilled}
            return failed(kinds.get(self.kind, JobEnded)(self.reason))
        result = JobReturn()
        result.status, result.return_value = JobStatus.COMPLETED, self.value
        return result


@dataclass(frozen=True)
class ClusterJob:
    """One job: composed where the sweep runs, so nothing that is changed while it waits can reach it.

    `config` is YAML with the `hydra` node in it; interpolations are resolved where the job runs. The task is
    the function `main` of `script`.
    """

    config: str
    script: str

    @classmethod
    def of(cls, config: DictConfig, task: TaskFunction) -> ClusterJob:
        """Made of what a launcher has."""
        return cls(OmegaConf.to_yaml(config), inspect.unwrap(task).__code__.co_filename)

    def start(self, environment: Mapping[str, str]) -> ForkedJob | Outcome:
        """Fork the process that runs it, or goes on with it; or the outcome of a run that is over."""
        take_names_of_torchrun()
        register_resolvers()
        setup_globals()
        typed = OmegaConf.create({"hydra": OmegaConf.structured(HydraConf)})  # as Hydra asks for
        OmegaConf.set_struct(typed.hydra, False)
        config = OmegaConf.merge(typed, OmegaConf.create(self.config))
        assert isinstance(config, DictConfig)
        folder = Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
        need = need_of(folder, config_hash(composed(config)))
        if need == "nothing" and (record := readable_record(folder)) is not None:
            return Outcome("completed", value=record.objective.get("value"), ended_unix=time.time())
        signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_CLUSTER)
        try:
            return self._forked(config, folder, need, environment)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_CLUSTER)

    def _forked(
        self, config: DictConfig, folder: Path, need: Need, environment: Mapping[str, str]
    ) -> ForkedJob:
        here = place()
        rank = here.rank if here else 0
        return ForkedJob(
            index=0,
            slot=0,
            compose=lambda: _prepared(config, folder, need, rank),
            run=self._run,
            environment=environment,
            console=CONSOLE_FILE if rank == 0 else f"ranks/rank{rank}.log",
        )

    def _run(self, config: DictConfig) -> JobReturn:
        sys.argv = [self.script, *config.hydra.overrides.task]
        spec = importlib.util.spec_from_file_location("tempo_script", self.script)
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        return run_job(
            # Of a context it looks at the callbacks alone: there is nothing to load.
            hydra_context=HydraContext(cast(ConfigLoader, None), Callbacks(config)),
            task_function=inspect.unwrap(script.main),
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


def _prepared(config: DictConfig, folder: Path, need: Need, rank: int) -> DictConfig:
    """The configuration of this process, which stands where the sweep was started."""
    for number in _OF_THE_CLUSTER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_CLUSTER)
    os.chdir(config.hydra.runtime.cwd)
    with read_write(config), read_write(config.hydra), open_dict(config):
        if need == "resume":
            config.resume = str(folder)
            kept = [each for each in config.hydra.overrides.task if not each.startswith("resume=")]
            config.hydra.overrides.task = [*kept, f"resume={quoted(str(folder))}"]
        if rank > 0:
            config.hydra.output_subdir, config.hydra.job_logging = None, {"root": None}
    return config


def wait_for(job: ForkedJob, while_waiting: Callable[[], None] = lambda: None) -> Outcome:
    """Wait for the end of the job's process."""
    while not job.is_over():
        while_waiting()
        time.sleep(_LOOK_SECONDS)
    return Outcome.of(job.collect())


def main() -> None:
    """Run the job of the standard input; SIGTERM is passed on to it, so that it saves its state."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # Ray's processes do not listen
    die_with_parent()
    running = ClusterJob(**json.loads(sys.stdin.buffer.readline())).start({})
    if isinstance(running, Outcome):
        print(running.to_json())
        return

    def pass_on(number: int, frame: FrameType | None) -> None:
        running.send(signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    print(wait_for(running).to_json())


if __name__ == "__main__":
    main()
