"""What a sweep says at its end, in the process of the test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from tempo.errors import UserError
from tempo.record.folder_lock import FolderLock
from tempo.record.run_json import RunRecord
from tempo.sweep.grid import Grid
from tempo.sweep.grid_sweeper import GridSettings, GridSweeper
from tempo.sweep.jobs import Job
from tempo.sweep.launcher.base_launcher import IsolatingLauncher, Outcome

KILLED = Outcome("failed", "killed by SIGSEGV")


class Ours(IsolatingLauncher):
    """Yields the given outcomes."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = outcomes

    def run_jobs(self, jobs: Iterable[Sequence[str]], first_number: int = 0) -> Iterator[tuple[int, Outcome]]:
        for index, _ in enumerate(jobs):
            yield index, self.outcomes[index]


class Foreign(Launcher):
    """Returns the given end, or raises it."""

    def __init__(self, end: Any) -> None:
        self.end = end

    def setup(self, **kwargs: Any) -> None:
        pass

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if isinstance(self.end, Exception):
            raise self.end
        return self.end  # type: ignore[no-any-return]


def failed(error: Exception) -> JobReturn:
    result = JobReturn()
    result.status, result.return_value = JobStatus.FAILED, error
    return result


def sweep_of(folder: Path, launcher: Launcher, n: int = 1, report: bool = False) -> list[Any]:
    """Run a grid of `n` seeds, whose jobs do nothing but end as the launcher says."""
    sweeper = GridSweeper()
    sweeper.settings = GridSettings(report=report)
    sweeper.folder, sweeper.chosen_launcher = folder, launcher
    folder.mkdir(exist_ok=True)
    jobs = [Job(f"seed={n}", (f"seed={n}",), folder / f"seed={n}", {"seed": n}) for n in range(n)]
    return sweeper._run(Grid(("seed",), (), ()), jobs)


def interrupted(folder: Path, status: str = "interrupted") -> None:
    """Leave the folder of a job that stopped after a checkpoint."""
    job = Job("seed=0", ("seed=0",), folder / "seed=0", {"seed": 0})
    (job.folder / "checkpoints").mkdir(parents=True)
    (job.folder / "checkpoints" / "last.ckpt").touch()
    record = RunRecord(config={"seed": 0}, config_hash=job.config_hash, overrides=[*job.overrides], seed=0)
    record.status, record.reason = status, "SIGINT"
    record.write(job.folder)


@pytest.mark.parametrize("report", [False, True])
def test_all_failures_are_listed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], report: bool
) -> None:
    with pytest.raises(UserError, match="25 of 25 jobs have no result"):
        sweep_of(tmp_path, Ours(*[KILLED] * 25), n=25, report=report)
    output = capsys.readouterr().out
    assert output.count("  rerun: python ") == 25
    assert " seed=24\n" in output
    if report:
        assert f"<title>{tmp_path.name}" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    else:
        assert output.count(": killed by SIGSEGV\n  rerun: python ") == 25


@pytest.mark.parametrize("end", [[], RuntimeError("no queue")])
def test_jobs_that_a_foreign_launcher_leaves_without_a_record_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], end: Any
) -> None:
    with pytest.raises(UserError, match="2 of 2 jobs have no result"):
        sweep_of(tmp_path, Foreign(end), n=2)
    assert capsys.readouterr().out.count("no run.json\n  rerun: ") == 2


def test_a_script_that_writes_no_records_has_not_failed(tmp_path: Path) -> None:
    assert sweep_of(tmp_path, Ours(Outcome("completed"))) == [None]


@pytest.mark.parametrize("status", ["interrupted", "failed"])
@pytest.mark.parametrize("foreign", [False, True])
def test_a_resumed_job_says_why_it_ended_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], foreign: bool, status: str
) -> None:
    interrupted(tmp_path, status)
    ours = Ours(Outcome("failed", "no such GPU"))
    with pytest.raises(UserError, match="1 of 1"):
        sweep_of(tmp_path, Foreign([failed(UserError("no such GPU"))]) if foreign else ours)
    output = capsys.readouterr().out
    assert "no such GPU\n  rerun: " in output
    assert "SIGINT" not in output
    record = RunRecord.read(tmp_path / "seed=0")
    assert (record.status, record.reason) == (status, "no such GPU")


def test_a_job_that_another_run_holds_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(tmp_path)
    launcher = Ours(Outcome("failed", "another run is already running in x"))
    with FolderLock(tmp_path / "seed=0", what="", remedy=""), pytest.raises(UserError, match="1 of 1"):
        sweep_of(tmp_path, launcher)
    output = capsys.readouterr().out
    assert "seed=0: failed (another run is already running in x)" in output
    assert "another run is already running in x\n  rerun: " in output
    assert RunRecord.read(tmp_path / "seed=0").reason == "SIGINT"


def test_a_stopped_job_keeps_the_reason_that_it_wrote(tmp_path: Path) -> None:
    interrupted(tmp_path)
    with pytest.raises(UserError, match="1 of 1"):
        sweep_of(tmp_path, Ours(Outcome("interrupted", "interrupted")))
    assert RunRecord.read(tmp_path / "seed=0").reason == "SIGINT"
