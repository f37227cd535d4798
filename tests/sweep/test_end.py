"""What a sweep says at its end, in the process of the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from tempo.errors import UserError
from tempo.record.folder_lock import FolderLock
from tempo.record.run_json import RunRecord
from tempo.sweep.grid import Grid
from tempo.sweep.grid_sweeper import GridSweeper
from tempo.sweep.jobs import Job
from tempo.sweep.launcher.base import (
    IsolatingLauncher,
    JobEnded,
    JobInterrupted,
    JobKilled,
    failed,
)


class Ours(IsolatingLauncher):
    """Ends each job as told."""

    def __init__(self, *ends: JobReturn) -> None:
        super().__init__()
        self.ends = ends

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        for index in range(len(job_overrides)):
            self.started(index)
            self.ended(index, self.ends[index])
        return self.ends


class Foreign(Launcher):
    """Returns what it is told, or raises it."""

    def __init__(self, end: Any) -> None:
        self.end = end

    def setup(self, **kwargs: Any) -> None:
        pass

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if isinstance(self.end, Exception):
            raise self.end
        return self.end  # type: ignore[no-any-return]


def sweep_of(folder: Path, launcher: Launcher, n: int = 1, report: bool = False) -> tuple[GridSweeper, Any]:
    sweeper = GridSweeper(params={}, rows=[], max_jobs=9, report=report)
    sweeper.folder, sweeper.chosen_launcher = folder, launcher
    folder.mkdir(exist_ok=True)
    jobs = [Job(f"seed={n}", (f"seed={n}",), folder / f"seed={n}", {"seed": n}) for n in range(n)]
    return sweeper, lambda: sweeper._run(Grid(("seed",), (), ()), jobs)


def interrupted(folder: Path, status: str = "interrupted") -> None:
    one = Job("seed=0", ("seed=0",), folder / "seed=0", {"seed": 0})
    (one.folder / "checkpoints").mkdir(parents=True)
    (one.folder / "checkpoints" / "last.ckpt").touch()
    RunRecord(
        config={"seed": 0},
        config_hash=one.config_hash,
        overrides=["seed=0"],
        seed=0,
        status=status,
        reason="SIGINT",
    ).write(one.folder)


def test_all_failures_are_listed_without_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, run = sweep_of(tmp_path, Ours(*[failed(JobKilled("killed by SIGSEGV"))] * 25), n=25)
    with pytest.raises(UserError, match="25 of 25 jobs without a result"):
        run()
    output = capsys.readouterr().out
    assert output.count(": killed by SIGSEGV\n  again: python ") == 25
    assert " seed=24\n" in output


def test_a_report_lists_all_failures_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, run = sweep_of(tmp_path, Ours(*[failed(JobKilled("killed by SIGSEGV"))] * 25), n=25, report=True)
    with pytest.raises(UserError, match="25 of 25"):
        run()
    assert capsys.readouterr().out.count("  again: python ") == 25
    assert f"<title>{tmp_path.name}" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("end", [[], RuntimeError("no queue")])
def test_no_record_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str], end: Any) -> None:
    _, run = sweep_of(tmp_path, Foreign(end), n=2)
    with pytest.raises(UserError, match="2 of 2 jobs without a result"):
        run()
    assert capsys.readouterr().out.count("no run.json\n  again: ") == 2


def test_a_script_without_records_is_no_failure(tmp_path: Path) -> None:
    _, run = sweep_of(tmp_path, Ours(JobReturn()))
    assert run() == [None]


@pytest.mark.parametrize("status", ["interrupted", "failed"])
@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("error", [UserError("no such GPU"), JobEnded("no such GPU")])
def test_a_resumed_job_says_why_it_ended_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, foreign: bool, status: str
) -> None:
    interrupted(tmp_path, status)
    _, run = sweep_of(tmp_path, Foreign([failed(error)]) if foreign else Ours(failed(error)))
    with pytest.raises(UserError, match="1 of 1"):
        run()
    output = capsys.readouterr().out
    assert "no such GPU\n  again: " in output
    assert "SIGINT" not in output
    record = RunRecord.read(tmp_path / "seed=0")
    assert (record.status, record.reason) == (status, "no such GPU")


def test_a_job_that_another_run_holds_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(tmp_path)
    end = failed(UserError("another run is at work in x"))
    _, run = sweep_of(tmp_path, Ours(end))
    with FolderLock(tmp_path / "seed=0", what="", remedy=""), pytest.raises(UserError, match="1 of 1"):
        run()
    output = capsys.readouterr().out
    assert "seed=0: failed (another run is at work in x)" in output
    assert "another run is at work in x\n  again: " in output
    assert RunRecord.read(tmp_path / "seed=0").reason == "SIGINT"


def test_a_stopped_job_keeps_what_it_said(tmp_path: Path) -> None:
    interrupted(tmp_path)
    _, run = sweep_of(tmp_path, Ours(failed(JobInterrupted("interrupted"))))
    with pytest.raises(UserError, match="1 of 1"):
        run()
    assert RunRecord.read(tmp_path / "seed=0").reason == "SIGINT"
