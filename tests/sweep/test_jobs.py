"""What a job of a sweep still needs, and what happens to the files in its folder."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tempo.errors import UserError
from tempo.record.folder_lock import FolderLock
from tempo.record.run_json import RunRecord
from tempo.report.load_runs import load
from tempo.sweep.jobs import Job, difference, distinct_jobs, write_sweep
from tempo.sweep.progress import Progress, duration, say

CONFIG = {"seed": 0, "name": "x", "optimizer": {"lr": 0.1}, "resume": None}


def job_in(sweep: Path, slug: str = "seed=0") -> Job:
    return Job(slug, ("seed=0",), sweep / slug, CONFIG)


def write_record(job: Job, status: str, **changes: object) -> None:
    values = {"config": CONFIG, "config_hash": job.config_hash, "overrides": ["seed=0"], "seed": 0}
    job.folder.mkdir(parents=True, exist_ok=True)
    RunRecord(**(values | {"status": status} | changes)).write(job.folder)  # type: ignore[arg-type]


def status_and_reason(job: Job) -> tuple[str, str]:
    record = RunRecord.read(job.folder)
    return record.status, record.reason


@pytest.mark.parametrize(
    ("status", "without_checkpoint", "with_checkpoint"),
    [
        ("completed", "nothing", "nothing"),
        ("diverged", "nothing", "nothing"),
        ("failed", "run", "resume"),
        ("running", "run", "resume"),
        ("interrupted", "run", "resume"),
    ],
)
def test_the_work_left(tmp_path: Path, status: str, without_checkpoint: str, with_checkpoint: str) -> None:
    job = job_in(tmp_path)
    assert job.need() == "run"
    write_record(job, status)
    assert job.need() == without_checkpoint
    (job.folder / "checkpoints").mkdir()
    (job.folder / "checkpoints" / "previous.ckpt").touch()
    assert job.need() == with_checkpoint
    write_record(job, status, config_hash="another")
    assert job.need() == "run"


def test_a_damaged_record_is_not_a_result(tmp_path: Path) -> None:
    job = job_in(tmp_path / "sweep")
    write_record(job, "completed")
    (job.folder / "run.json").write_text('{"schema_version": 1, "status": "comp')
    assert job.need() == "run"
    assert "cannot be read" in job.make_room()
    assert (tmp_path / "sweep.replaced" / "seed=0~1" / "run.json").exists()


def test_a_run_of_another_configuration_is_moved_aside(tmp_path: Path) -> None:
    job = job_in(tmp_path / "sweep")
    for attempt in (1, 2):
        write_record(job, "completed", config_hash="another", config={**CONFIG, "optimizer": {"lr": 0.2}})
        assert "optimizer.lr was 0.2 and is now 0.1" in job.make_room()
        assert not job.folder.exists()
        assert (tmp_path / "sweep.replaced" / f"seed=0~{attempt}" / "run.json").exists()


def test_a_failed_run_is_overwritten_and_nothing_is_deleted(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    write_record(job, "failed")
    (job.folder / "notes.txt").write_text("why it failed")
    assert job.make_room() == ""
    assert (job.folder / "notes.txt").exists()


@pytest.mark.parametrize("name", ["metrics.csv", "thesis.tex"])
def test_files_without_a_record_are_moved_aside(tmp_path: Path, name: str) -> None:
    job = job_in(tmp_path / "sweep")
    for first in (".hydra/config.yaml", "console.log", ".lock", "train.log"):
        (job.folder / first).parent.mkdir(parents=True, exist_ok=True)
        (job.folder / first).touch()
    assert job.make_room() == "", "a run writes these before its record"
    (job.folder / name).write_text("years of work")
    assert "without a run.json" in job.make_room()
    assert (tmp_path / "sweep.replaced" / "seed=0~1" / name).read_text() == "years of work"
    assert not job.folder.exists()


def test_the_reason_of_a_dead_job_is_recorded(tmp_path: Path) -> None:
    without_record, running = job_in(tmp_path), job_in(tmp_path, "seed=1")
    assert without_record.record_reason("killed by SIGSEGV")
    write_record(running, "running", steps=7)
    assert running.record_reason("killed by SIGKILL")
    assert status_and_reason(without_record) == ("failed", "killed by SIGSEGV")
    assert status_and_reason(running) == ("interrupted", "killed by SIGKILL")
    assert RunRecord.read(running.folder).steps == 7


def test_a_new_attempt_does_not_keep_the_old_reason(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    write_record(job, "failed", reason="out of memory")
    (job.folder / "metrics.csv").touch()
    job.begin()
    assert (job.record(), job.need(), job.make_room()) == (None, "run", "")
    assert job.record_reason("killed by SIGKILL")
    assert status_and_reason(job) == ("failed", "killed by SIGKILL")


def test_the_record_of_a_running_run_is_left_alone(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    write_record(job, "running")
    with FolderLock(job.folder, what="another run", remedy="wait"):
        assert not job.record_reason("another run is already running")
    assert status_and_reason(job) == ("running", "")


def test_difference_names_the_first_key() -> None:
    assert difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == "a.c was 2 and is now 3"
    assert difference({"resume": None}, {"resume": "x"}) == ""


def test_jobs_of_one_configuration_are_one_job(tmp_path: Path) -> None:
    other = Job("seed=1", ("seed=1",), tmp_path / "seed=1", {**CONFIG, "seed": 1})
    jobs = [job_in(tmp_path, "a"), other, job_in(tmp_path, "b")]
    assert [job.slug for job in distinct_jobs(jobs)] == ["a", "seed=1"]


def test_the_report_reads_what_the_sweep_writes(tmp_path: Path) -> None:
    first, second = job_in(tmp_path, "seed=0"), job_in(tmp_path, "seed=1")
    write_record(first, "completed")
    command = ["src/train.py", "-m", "model=mlp", "seed=0,1"]
    for job in (first, second):  # the second command keeps the jobs of the first
        write_sweep(tmp_path, command, ["seed"], [job])
    jobs = json.loads((tmp_path / "sweep.json").read_text())["jobs"]
    assert [job["slug"] for job in jobs] == ["seed=0", "seed=1"]
    found = load([tmp_path])
    assert [run.folder.name for run in found.runs] == ["seed=0"]
    assert [run.folder.name for run in found.unreadable] == ["seed=1"]
    assert found.unreadable[0].command == "python src/train.py model=mlp seed=0"


def test_one_sweep_at_a_time(tmp_path: Path) -> None:
    lock, second = (FolderLock(tmp_path, what="the same sweep", remedy="") for _ in range(2))
    with lock, pytest.raises(UserError, match=f"process {os.getpid()}"), second:
        pass
    with second:
        pass


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from tempo.record.folder_lock import FolderLock\n"
        "FolderLock(Path(sys.argv[1]), what='', remedy='').__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment).returncode == -9
    with FolderLock(tmp_path, what="a sweep", remedy=""):
        pass


def test_a_terminal_has_one_bar_below_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    progress = Progress(total=3, done_before=1)
    with progress.bar():
        progress.start("lr=0.1")
        say(progress.end("lr=0.1", None))
        say("[brackets] stay")
        progress.start("lr=0.2")
    shown = terminal.getvalue()
    assert "2 of 3 jobs" in shown
    assert "0 s left; running lr=0.2" in shown
    assert "job 2/3 lr=0.1: ended without a record in 0 s\n" in shown  # the bar has the time left
    assert "[brackets] stay" in shown
    say("after")
    assert terminal.getvalue().endswith("after\n")


def test_time_left_follows_the_mean_of_the_jobs_that_ended() -> None:
    now = 0.0
    progress = Progress(total=12, done_before=2, n_at_once=2, clock=lambda: now)
    for slug in ("a", "b"):
        progress.start(slug)
    now = 10.0
    assert progress.end("a", None) == "job 3/12 a: ended without a record in 10 s; 45 s left"
    now = 20.0
    # 8 jobs left, 2 at a time, 15 s each on average
    assert progress.end("b", None).endswith("job 4/12 b: ended without a record in 20 s; 60 s left")
    assert progress.left() == "60 s"
    words = ["0 s", "99 s", "2 min", "1 h 0 min", "1 h 20 min"]
    assert [duration(seconds) for seconds in (0.4, 99, 100, 3599, 4800)] == words
