"""Processes of jobs and what they leave behind, without a training run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from tempo.sweep.launcher.base import failure
from tempo.sweep.launcher.local import LocalLauncher

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


class Calling(LocalLauncher):
    """Each job calls a function and returns its value."""

    def __init__(self, folder: Path, *functions: Callable[[], Any], n_jobs: int = 1) -> None:
        super().__init__(n_jobs=n_jobs, gpus=None, threads=1, timeout_minutes=None, preload=[])
        self.folder, self.functions = folder, functions

    def compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        place = {"dir": str(self.folder), "subdir": str(number)}
        return OmegaConf.create({"hydra": {"sweep": place}, "number": number})

    def run(self, config: DictConfig) -> JobReturn:
        result = JobReturn()
        result.status = JobStatus.COMPLETED
        result.return_value = self.functions[config.number]()
        return result

    def results(self) -> Sequence[JobReturn]:
        return self.launch([()] * len(self.functions), initial_job_idx=0)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_results_come_in_the_order_of_the_jobs(tmp_path: Path) -> None:
    waits = [lambda seconds=seconds: time.sleep(seconds) or seconds for seconds in (0.3, 0.0, 0.1)]
    launcher = Calling(tmp_path, *waits, n_jobs=3)
    ended = list[int]()
    launcher.ended = lambda index, result: ended.append(index)
    assert [each.return_value for each in launcher.results()] == [0.3, 0.0, 0.1]
    assert sorted(ended) == [0, 1, 2]


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

    (result,) = Calling(tmp_path, leaves_one_behind).results()
    left = int(note.read_text())
    try:
        assert is_alive(left), "the launcher has waited for it"
    finally:
        os.kill(left, signal.SIGKILL)
    if is_killed:
        assert str(failure(result)) == "killed by SIGKILL"
    else:
        assert result.return_value == "done"


def test_what_a_job_has_left_in_its_group_is_ended(tmp_path: Path) -> None:
    reader, writer = os.pipe()

    def leaves_one_behind() -> None:
        if os.fork() == 0:
            time.sleep(20)
            os.write(writer, b"still here")
            os._exit(0)

    Calling(tmp_path, leaves_one_behind).results()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b""
