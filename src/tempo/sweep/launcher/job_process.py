"""Run a job in its own process: forked from the sweep, or started on the node of a cluster.

As a program, this file runs the packed job that it reads as JSON from standard input:
`python -m tempo.sweep.launcher.job_process <file descriptor for the outcome>`.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from hydra._internal.callbacks import Callbacks
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from tempo.config.resolve_interpolations import announced, composed, hydra_knows
from tempo.distributed.child_process import ChildProcess, exit_reason
from tempo.distributed.process_group import position, take_names_of_torchrun
from tempo.errors import INTERRUPTED_CODE
from tempo.paths import register_resolvers
from tempo.record.run_folder import Need, need_of, quoted, readable_record
from tempo.record.run_json import config_hash
from tempo.sweep.jobs import CONSOLE_FILE
from tempo.sweep.launcher.base_launcher import Outcome, run_to_outcome

GRACE_SECONDS = 30.0
"""Time for a job to save its state after it is asked to stop."""
_LONGEST_MESSAGE = 1 << 15
"""Limit in bytes: a pipe holds 64 KiB, and it is read only after the job has ended."""


class JobProcess:
    """A running job: its process, and the pipe through which the process sends its outcome."""

    def __init__(self, start: Callable[[int], ChildProcess]) -> None:
        """Start a job; `start` receives the descriptor to which the process must write its outcome."""
        self.began = time.monotonic()
        self.kill_at: float | None = None
        self._stopped: Outcome | None = None
        self._pipe, writer = os.pipe()
        try:
            self._process = start(writer)
        finally:
            os.close(writer)

    @classmethod
    def fork(
        cls,
        compose: Callable[[], DictConfig],
        run: Callable[[DictConfig], JobReturn],
        environment: Mapping[str, str],
    ) -> JobProcess:
        """Fork a job from this process, which has already imported its modules."""

        def whole_life(writer: int) -> int:
            os.environ.update(environment)

            def run_job() -> JobReturn:
                config = compose()
                _redirect(folder_of(config) / CONSOLE_FILE)
                return run(config)

            return _send(writer, run_to_outcome(run_job))

        return cls(lambda writer: ChildProcess.fork(lambda: whole_life(writer)))

    @classmethod
    def on_node(cls, job: PackedJob, environment: Mapping[str, str] | None = None) -> JobProcess:
        """Start a packed job in a new interpreter on this machine."""
        module, text = "tempo.sweep.launcher.job_process", json.dumps(asdict(job))
        # SLURM sends SIGUSR2 to all processes of a job, but only the watching one should react. The new
        # process inherits the mask, and unblocks signals once it ignores this one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        try:
            return cls(
                lambda writer: ChildProcess.run_module(
                    module, str(writer), environment=environment, text_input=text, pass_fds=(writer,)
                )
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self, outcome: Outcome, grace_seconds: float, number: int = signal.SIGTERM) -> None:
        """Ask the job to save its state and end; unless it completes, `outcome` is its outcome."""
        if self._stopped is None:
            self._stopped = outcome
            self.kill_at = time.monotonic() + grace_seconds
            self._process.send(number)

    def kill(self) -> None:
        """Kill the job and the processes it has started."""
        self._process.kill()

    def is_over(self) -> bool:
        """Whether the process has ended; kill it here if its time is up.

        The end of its pipe is no evidence, because a process that the job forked may keep the pipe open.
        """
        if self.kill_at is not None and time.monotonic() > self.kill_at:
            self.kill()
        return self._process.exit_code() is not None

    def outcome(self) -> Outcome:
        """Return the outcome of a job that is over; call it once."""
        code = self._process.exit_code()
        assert code is not None
        self.kill()  # also any processes that the job left behind
        text = self._received()
        sent = Outcome.from_json(text) if text and code >= 0 else None
        if sent is not None and (sent.kind == "completed" or self._stopped is None):
            return sent
        if self._stopped is not None:
            return replace(self._stopped, ended_unix=time.time())
        return Outcome(
            "failed", exit_reason(code) if code < 0 else f"the process ended with {exit_reason(code)}"
        )

    def _received(self) -> bytes:
        os.set_blocking(self._pipe, False)
        try:
            return os.read(self._pipe, 2 * _LONGEST_MESSAGE)
        except BlockingIOError:
            return b""
        finally:
            os.close(self._pipe)


@dataclass(frozen=True)
class PackedJob:
    """A job for any machine that can access the sweep's folder.

    The sweep's own machine composes it, so edits to conf/ while the job waits do not affect it. `config` is
    YAML including the `hydra` node; interpolations are resolved on the job's machine. The task is a function
    in the file `script`.
    """

    config: str
    script: str
    function: str = "main"

    @classmethod
    def pack(cls, config: DictConfig, task: TaskFunction) -> PackedJob:
        """Pack the composed configuration of a job and the launcher's task."""
        function: Any = inspect.unwrap(task)
        return cls(OmegaConf.to_yaml(config), function.__code__.co_filename, function.__name__)

    def run_here(self) -> Outcome:
        """Run or resume the job in this process; if it already has a result, return that."""
        take_names_of_torchrun()
        register_resolvers()
        setup_globals()
        typed = OmegaConf.create({"hydra": OmegaConf.structured(HydraConf)})  # Hydra requires this type
        OmegaConf.set_struct(typed.hydra, False)
        config = OmegaConf.merge(typed, OmegaConf.create(self.config))
        assert isinstance(config, DictConfig)
        # Relative paths in the configuration are meant from the folder in which the sweep was started.
        os.chdir(config.hydra.runtime.cwd)
        folder = folder_of(config)
        need = need_of(folder, config_hash(composed(config)))
        if need == "nothing" and (record := readable_record(folder)) is not None:
            return Outcome("completed", value=record.objective.get("value"))
        here = position()
        rank = here.rank if here else 0
        _redirect(folder / (CONSOLE_FILE if rank == 0 else f"ranks/rank{rank}.log"))
        _adapt(config, folder, need, rank)
        return run_to_outcome(lambda: self._run(config))

    def _run(self, config: DictConfig) -> JobReturn:
        sys.argv = [self.script, *config.hydra.overrides.task]
        # Not under the name __main__, which would start the script's own command line.
        spec = importlib.util.spec_from_file_location("tempo_script", self.script)
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        return run_job(
            # Hydra uses only the callbacks of the context, so no loader is needed.
            hydra_context=HydraContext(cast(ConfigLoader, None), Callbacks(config)),
            task_function=inspect.unwrap(getattr(script, self.function)),
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


def _adapt(config: DictConfig, folder: Path, need: Need, rank: int) -> None:
    """Adapt a packed configuration to this process: resume if needed, and write files only on rank 0."""
    with read_write(config), read_write(config.hydra), open_dict(config):
        if need == "resume":
            config.resume = str(folder)
            kept = [text for text in config.hydra.overrides.task if not text.startswith("resume=")]
            config.hydra.overrides.task = [*kept, f"resume={quoted(str(folder))}"]
        if rank > 0:
            config.hydra.output_subdir, config.hydra.job_logging = None, {"root": None}


def folder_of(config: DictConfig) -> Path:
    """Return the folder of a composed job."""
    sweep = config.hydra.sweep
    if not OmegaConf.is_interpolation(sweep, "subdir"):
        return Path(sweep.dir) / sweep.subdir
    with hydra_knows(announced(config)):  # Hydra's own sweepers name it ${hydra:job.num}
        return Path(sweep.dir) / str(sweep.subdir)


@contextmanager
def output_in(path: Path) -> Iterator[None]:
    """Redirect the output of this process and its children to a file, for one job in the sweep's process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [(os.dup(number), number) for number in (1, 2)]
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        _point_at([(file, number) for _, number in kept])
        yield
    finally:
        _point_at(kept)
        for number in (file, *(copy for copy, _ in kept)):
            os.close(number)


def _point_at(targets: Sequence[tuple[int, int]]) -> None:
    """Write out the streams, then let each descriptor of (source, descriptor) be its source."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for source, number in targets:
        os.dup2(source, number)


def _redirect(path: Path) -> None:
    """Redirect the output of the job and its children to a file, line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _send(writer: int, outcome: Outcome) -> int:
    """Send the outcome to the parent; return the exit code that goes with it."""
    if outcome.kind == "failed":
        print(outcome.reason, file=sys.stderr)  # becomes the last line of the job's console.log
    text = outcome.to_json()
    if len(text) > _LONGEST_MESSAGE:
        text = replace(outcome, reason=outcome.reason[:1000], value=None).to_json()
    with suppress(BrokenPipeError):
        os.write(writer, text.encode())
    return {"completed": 0, "interrupted": INTERRUPTED_CODE}.get(outcome.kind, 1)


def main() -> None:
    """Run the packed job from standard input in this process."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # Ray's workers block signals as well
    writer = int(sys.argv[1])
    # Processes that the job starts must not inherit the pipe.
    os.set_inheritable(writer, False)
    job = PackedJob(**json.loads(sys.stdin.buffer.read()))
    try:
        outcome = job.run_here()
    except Exception as error:  # noqa: BLE001 - the sweep records it
        traceback.print_exc()
        outcome = Outcome("failed", f"{type(error).__name__}: {error}")
    code = _send(writer, outcome)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # as in a forked job: do not wait for threads that the job has left


if __name__ == "__main__":
    main()
