"""Jobs in processes of their own and their outcomes, without a training run."""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from tempo.config.resolve_interpolations import composed
from tempo.errors import UserError
from tempo.paths import register_resolvers
from tempo.record.run_json import RunRecord, config_hash
from tempo.sweep.launcher.base_launcher import Outcome, run_to_outcome
from tempo.sweep.launcher.job_process import JobProcess, PackedJob
from tempo.sweep.launcher.local_launcher import LocalLauncher, cores, slot_environments
from tests.jobs import CONF

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


class Calling(LocalLauncher):
    """Each job calls a function and returns its value."""

    def __init__(self, folder: Path, *functions: Callable[[], Any], n_jobs: int = 1) -> None:
        super().__init__(n_jobs=n_jobs, gpus=None, threads=1, preload=[])
        self.folder, self.functions = folder, functions

    def compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        place = {"dir": str(self.folder), "subdir": str(number)}
        return OmegaConf.create({"hydra": {"sweep": place}, "number": number})

    def run(self, config: DictConfig) -> JobReturn:
        result = JobReturn()
        result.status, result.return_value = JobStatus.COMPLETED, self.functions[config.number]()
        return result

    def outcomes(self) -> list[Outcome]:
        found = dict(self.run_jobs([()] * len(self.functions)))
        return [found[index] for index in range(len(self.functions))]


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_jobs_run_at_the_same_time(tmp_path: Path) -> None:
    """Job 2 waits for the end of job 1, and job 0 for that of job 2."""

    def after(number: int) -> int:
        deadline = time.monotonic() + 60
        while not (tmp_path / f"{number} has ended").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return number

    launcher = Calling(tmp_path, lambda: after(2), lambda: 0, lambda: after(1), n_jobs=3)
    ended = []
    for index, outcome in launcher.run_jobs([()] * 3):
        ended.append((index, outcome.value))
        (tmp_path / f"{index} has ended").touch()
    assert ended == [(1, 0), (2, 1), (0, 2)]
    assert [result.return_value for result in launcher.launch([()] * 3, 0)] == [2, 0, 1]


@pytest.mark.parametrize("is_killed", [True, False])
def test_what_a_job_has_forked_holds_nothing_up(tmp_path: Path, is_killed: bool) -> None:
    """The fork has the job's end of the pipe and, in a session of its own, outlives the job's group."""
    note = tmp_path / "process"

    def leaves_one_behind() -> str:
        if (process := os.fork()) == 0:
            os.setsid()
            time.sleep(100)
            os._exit(0)
        time.sleep(0.1)  # for its setsid
        note.write_text(str(process))
        if is_killed:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    (outcome,) = Calling(tmp_path, leaves_one_behind).outcomes()
    left = int(note.read_text())
    try:
        assert is_alive(left), "the launcher has waited for it"
    finally:
        os.kill(left, signal.SIGKILL)
    expected = ("failed", "killed by SIGKILL", None) if is_killed else ("completed", "", "done")
    assert (outcome.kind, outcome.reason, outcome.value) == expected


def test_what_a_job_has_left_in_its_group_is_ended(tmp_path: Path) -> None:
    reader, writer = os.pipe()

    def leaves_one_behind() -> None:
        if os.fork() == 0:
            time.sleep(20)
            os.write(writer, b"still here")
            os._exit(0)

    Calling(tmp_path, leaves_one_behind).outcomes()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b""


def raises(error: BaseException) -> Callable[[], JobReturn]:
    def job() -> JobReturn:
        raise error

    return job


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (RuntimeError("out of luck"), "failed", "RuntimeError: out of luck"),
        (UserError("no such GPU"), "failed", "no such GPU"),
        (SystemExit(3), "failed", "SystemExit: 3"),
        (SystemExit(130), "interrupted", "interrupted"),
        (KeyboardInterrupt(), "interrupted", "interrupted"),
    ],
)
def test_an_outcome_says_how_a_job_ended(
    error: BaseException, kind: str, reason: str, tmp_path: Path
) -> None:
    here = run_to_outcome(raises(error))
    (forked,) = Calling(tmp_path, raises(error)).outcomes()
    for outcome in (here, forked, Outcome.from_json(here.to_json())):
        assert (outcome.kind, outcome.reason, outcome.value) == (kind, reason, None)


@pytest.mark.parametrize("overrides", [[], ["optimizer.wd=1e-5", "name='1e-5'", "scheduler=onecycle"]])
def test_a_packed_configuration_arrives_as_it_left(overrides: list[str], tmp_path: Path) -> None:
    """A run with a result is found by the hash of what the job carries: it returns that and runs nothing."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        place = [f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=job"]
        config = compose("train", overrides=["model=mlp", *overrides, *place], return_hydra_config=True)
    values = composed(config)
    record = RunRecord(
        config=values, config_hash=config_hash(values), overrides=[], seed=0, status="completed"
    )
    record.objective = {"name": "val/accuracy", "mode": "max", "value": 0.5}
    (tmp_path / "job").mkdir()
    record.write(tmp_path / "job")
    process = JobProcess.on_node(PackedJob(OmegaConf.to_yaml(config), script="unused"))
    while not process.is_over():
        time.sleep(0.05)
    outcome = process.outcome()
    assert (outcome.kind, outcome.value) == ("completed", 0.5), outcome.reason


@pytest.mark.parametrize(("script", "function"), [("train", "main"), ("lr_range", "run")])
def test_a_packed_job_names_the_function_of_its_script(script: str, function: str) -> None:
    """The `main` of lr_range.py reads the command line: a job of its sweep is the function that it calls."""
    module = importlib.import_module(script)
    job = PackedJob.pack(OmegaConf.create(), getattr(module, function))
    assert (Path(job.script).name, job.function) == (f"{script}.py", function)
    assert list(inspect.signature(inspect.unwrap(getattr(module, job.function))).parameters) == ["config"]


def test_slots_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def gpus(n_jobs: int, given: Any) -> list[str | None]:
        return [found.get("CUDA_VISIBLE_DEVICES") for found in slot_environments(n_jobs, given, 1)]

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert slot_environments(1, None, None) == [{"OMP_NUM_THREADS": str(cores())}]
    assert slot_environments(cores() + 1, None, None)[0] == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert slot_environments(2, None, None) == [{"OMP_NUM_THREADS": "3"}] * 2
    assert gpus(2, [0, 1, 2]) == ["0,2", "1"]
    assert gpus(3, [4, 5]) == ["4", "5", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert gpus(2, "auto") == ["2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus(2, "auto") == [None, None]
