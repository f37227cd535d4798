from __future__ import annotations

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
from tempo.sweep.launcher.slots import cores, slot_environments
from tempo.sweep.progress import Progress, duration

CONFIG = {"seed": 0, "name": "x", "optimizer": {"lr": 0.1}, "resume": None}


def job(sweep: Path, slug: str = "seed=0") -> Job:
    return Job(slug, ("seed=0",), sweep / slug, CONFIG)


def record(one: Job, status: str, **changes: object) -> RunRecord:
    values = {
        "config": CONFIG,
        "config_hash": one.config_hash,
        "overrides": ["seed=0"],
        "seed": 0,
        "status": status,
    }
    made = RunRecord(**(values | changes))  # type: ignore[arg-type]
    one.folder.mkdir(parents=True, exist_ok=True)
    made.write(one.folder)
    return made


def checkpoint(one: Job) -> None:
    (one.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (one.folder / "checkpoints" / "previous.ckpt").touch()


@pytest.mark.parametrize(
    ("status", "without_state", "with_state"),
    [
        ("completed", "nothing", "nothing"),
        ("diverged", "nothing", "nothing"),
        ("failed", "run", "resume"),
        ("running", "run", "resume"),
        ("interrupted", "run", "resume"),
    ],
)
def test_what_is_left_to_do(tmp_path: Path, status: str, without_state: str, with_state: str) -> None:
    one = job(tmp_path)
    assert one.need() == "run"
    record(one, status)
    assert one.need() == without_state
    checkpoint(one)
    assert one.need() == with_state
    record(one, status, config_hash="another")
    assert one.need() == "run"


def test_a_damaged_record_is_no_result(tmp_path: Path) -> None:
    one = job(tmp_path)
    record(one, "completed")
    (one.folder / "run.json").write_text('{"schema_version": 1, "status": "comp')
    assert one.need() == "run"
    assert "cannot be read" in one.make_room()
    assert (tmp_path.with_name(f"{tmp_path.name}.replaced") / "seed=0~1" / "run.json").exists()


def test_a_run_of_another_configuration_is_kept_aside(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for attempt in (1, 2):
        one = job(sweep)
        record(one, "completed", config_hash="another", config={**CONFIG, "optimizer": {"lr": 0.2}})
        line = one.make_room()
        assert "optimizer.lr was 0.2 and is 0.1 now" in line
        assert not one.folder.exists()
        assert (tmp_path / "sweep.replaced" / f"seed=0~{attempt}" / "run.json").exists()


def test_what_failed_is_written_over_and_nothing_is_deleted(tmp_path: Path) -> None:
    one = job(tmp_path)
    record(one, "failed")
    (one.folder / "notes.txt").write_text("why it failed")
    assert one.make_room() == ""
    assert (one.folder / "notes.txt").exists()


def test_a_stranger_s_folder_is_not_deleted(tmp_path: Path) -> None:
    one = job(tmp_path / "sweep")
    one.folder.mkdir(parents=True)
    (one.folder / "thesis.tex").write_text("years of work")
    one.make_room()
    assert (tmp_path / "sweep.replaced" / "seed=0~1" / "thesis.tex").read_text() == "years of work"


def test_the_dead_are_marked(tmp_path: Path) -> None:
    one, cut = job(tmp_path), job(tmp_path, "seed=1")
    one.mark_dead("killed by SIGSEGV")
    record(cut, "running", steps=7)
    cut.mark_dead("killed by SIGKILL")
    assert (one.record().status, one.record().reason) == ("failed", "killed by SIGSEGV")  # type: ignore[union-attr]
    found = cut.record()
    assert found is not None
    assert (found.status, found.reason, found.steps) == ("interrupted", "killed by SIGKILL", 7)


def test_difference_names_the_first_key() -> None:
    assert difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == "a.c was 2 and is 3 now"
    assert difference({"resume": None}, {"resume": "x"}) == ""


def test_the_report_reads_what_the_sweep_writes(tmp_path: Path) -> None:
    first, second = job(tmp_path, "seed=0"), job(tmp_path, "seed=1")
    record(first, "completed")
    command = ["src/train.py", "-m", "model=mlp", "seed=0,1"]
    write_sweep(tmp_path, command, ["seed"], [first])
    write_sweep(tmp_path, command, ["seed"], [second])
    assert [each["slug"] for each in json.loads((tmp_path / "sweep.json").read_text())["jobs"]] == [
        "seed=0",
        "seed=1",
    ]
    found = load([tmp_path])
    assert [each.folder.name for each in found.runs] == ["seed=0"]
    assert [each.folder.name for each in found.unreadable] == ["seed=1"]
    assert found.unreadable[0].again == "python src/train.py model=mlp seed=0"


def test_one_sweep_at_a_time(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, what="the same sweep", remedy="choose another folder")
    second = FolderLock(tmp_path, what="the same sweep", remedy="choose another folder")
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
    assert [duration(each) for each in (0.4, 99, 100, 3599, 4800)] == [
        "0 s",
        "99 s",
        "2 min",
        "1 h 0 min",
        "1 h 20 min",
    ]


def test_slots_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert slot_environments(1, None, None) == [{"OMP_NUM_THREADS": str(cores())}]
    assert slot_environments(cores() + 1, None, None)[0] == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert slot_environments(2, None, None) == [{"OMP_NUM_THREADS": "3"}] * 2
    assert [each["CUDA_VISIBLE_DEVICES"] for each in slot_environments(2, [0, 1, 2], 1)] == ["0,2", "1"]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in slot_environments(3, [4, 5], 1)] == ["4", "5", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert [each["CUDA_VISIBLE_DEVICES"] for each in slot_environments(2, "auto", 1)] == ["2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" not in slot_environments(2, "auto", 1)[0]


def test_what_is_no_first_file_is_moved_aside(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    one = job(sweep)
    for name in (".hydra/config.yaml", "console.log", ".lock", "train.log"):
        (one.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (one.folder / name).touch()
    assert one.make_room() == ""
    (one.folder / "metrics.csv").write_text("step\n")
    assert "without a run.json" in one.make_room()
    assert (tmp_path / "sweep.replaced" / "seed=0~1" / "metrics.csv").exists()
    assert not one.folder.exists()


def test_a_new_attempt_does_not_keep_the_old_reason(tmp_path: Path) -> None:
    one = job(tmp_path)
    record(one, "failed", reason="out of memory")
    (one.folder / "metrics.csv").touch()
    one.begin()
    assert (one.record(), one.need(), one.make_room()) == (None, "run", "")
    assert one.mark_dead("killed by SIGKILL")
    assert one.record().reason == "killed by SIGKILL"  # type: ignore[union-attr]


def test_the_record_of_a_run_at_work_is_left_alone(tmp_path: Path) -> None:
    one = job(tmp_path)
    record(one, "running")
    with FolderLock(one.folder, what="another run", remedy="wait"):
        assert not one.mark_dead("another run is at work")
    assert one.record().status == "running"  # type: ignore[union-attr]


def test_jobs_of_one_configuration_are_one_job(tmp_path: Path) -> None:
    other = Job("seed=1", ("seed=1",), tmp_path / "seed=1", {**CONFIG, "seed": 1})
    jobs = [job(tmp_path, "a"), other, job(tmp_path, "b")]
    assert [each.slug for each in distinct_jobs(jobs)] == ["a", "seed=1"]
