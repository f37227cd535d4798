"""Places that are taken, full, read-only or not ours to write: one line, and nothing half-made."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bad_input.conftest import SMALL, Refused, assert_refused
from tests.bad_input.warm import Warm, may_mount


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A folder in which a live run is at work: this process."""
    folder = tmp_path / "held"
    folder.mkdir()
    with (folder / ".lock").open("w+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield folder


def test_a_folder_that_is_taken(held: Path, heavy: Warm, tmp_path: Path) -> None:
    done = heavy.call("train.py", *SMALL, f"hydra.run.dir={held}", folder=tmp_path)
    assert_refused(done)
    assert f"(process {os.getpid()}); wait for it, or choose another hydra.run.dir=<folder>" in done.err
    assert not (held / "run.json").exists()


def test_a_folder_of_the_user_is_left_alone(heavy: Warm, tmp_path: Path) -> None:
    """A run that cannot work is removed; what its folder contained before is not."""
    folder = tmp_path / "run"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "thesis.tex").write_text("years of work")
    absent = ["data=mnist", "data.download=false", f"data.root={tmp_path / 'absent'}"]
    done = heavy.call("train.py", *absent, f"hydra.run.dir={folder}", folder=tmp_path)
    assert_refused(done)
    assert f"{tmp_path / 'absent'}" in done.err
    assert (folder / "notes" / "thesis.tex").read_text() == "years of work"


def test_a_folder_with_equals_and_quotes_needs_no_quotes(
    light: Warm, refused: Refused, tmp_path: Path
) -> None:
    folder = tmp_path / "lr=0.1,it's"
    folder.mkdir()
    assert f"{folder} has no run.json" in refused(light, "evaluate.py", f"run={folder}")
    assert f"{folder} has no run.json" in refused(light, "train.py", f"init_from={folder}")


def test_a_sweep_that_is_at_work(held: Path, light: Warm, refused: Refused) -> None:
    line = refused(light, "train.py", *SMALL, "seed=0,1", f"hydra.sweep.dir={held}", "-m")
    assert f"the same sweep is already running in {held} (process {os.getpid()})" in line


def test_a_folder_with_a_result(run: Path, light: Warm, refused: Refused) -> None:
    line = refused(light, "train.py", *SMALL, f"hydra.run.dir={run}")
    assert "already contains a completed run; choose another folder" in line


def test_a_folder_that_may_not_be_written(light: Warm, refused: Refused, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    line = refused(light, "train.py", *SMALL, f"hydra.run.dir={closed / 'run'}")
    assert line == f"{closed / 'run'}: Permission denied; choose another folder with hydra.run.dir=<folder>"
    line = refused(light, "train.py", *SMALL, "seed=0,1", f"hydra.sweep.dir={closed / 'sweep'}", "-m")
    assert "Permission denied; choose another folder with hydra.sweep.dir=<folder>" in line
    line = refused(light, "report.py", str(tmp_path), "--out", str(closed / "report"))
    assert "no run under" in line


def test_a_report_that_may_not_be_written(run: Path, light: Warm, refused: Refused) -> None:
    run.chmod(0o500)
    line = refused(light, "report.py", str(run))
    assert "Permission denied; choose another folder with --out" in line


def test_folders_that_may_not_be_looked_into(run: Path, heavy: Warm, tmp_path: Path) -> None:
    (run / "checkpoints").chmod(0)
    again = [*SMALL, "seed=1", f"init_from={run}", f"hydra.run.dir={tmp_path / 'new'}"]
    for script, given in (("evaluate.py", [f"run={run}"]), ("train.py", again)):
        done = heavy.call(script, *given, folder=tmp_path)
        assert_refused(done)
        assert f"{run / 'checkpoints'} cannot be read: Permission denied; check its permissions" in done.err
    assert not (tmp_path / "new").exists()
    (run / "checkpoints").chmod(0o700)
    run.chmod(0o500)
    done = heavy.call("reproduce.py", f"run={run}", f"out={run / 'out'}", folder=tmp_path)
    assert_refused(done)
    assert "Permission denied; choose another out=<folder>" in done.err
    run.chmod(0)
    for script, given in (("evaluate.py", [f"run={run}"]), ("report.py", [str(run)])):
        done = heavy.call(script, *given, folder=tmp_path)
        assert_refused(done)
        assert f"{run}" in done.err
        assert "Permission denied" in done.err
    run.chmod(0o700)


needs_mounts = pytest.mark.skipif(not may_mount(), reason="no process here may have a file system of its own")


@needs_mounts
@pytest.mark.parametrize("size", ["4k", "16k", "40k", "100k", "200k"])
def test_a_full_disk(size: str, heavy: Warm, tmp_path: Path) -> None:
    """Whatever does not fit any more: Hydra's files, the record, TensorBoard's, a checkpoint."""
    disk = tmp_path / "disk"
    disk.mkdir()
    given = [*SMALL, f"hydra.run.dir={disk / 'run'}"]
    mounts = [("tmpfs", disk, f"size={size}")]
    done = heavy.call("train.py", *given, folder=tmp_path, mounts=mounts, look_in=disk)
    assert_refused(done)
    assert "No space left on device; make room" in done.err
    print(done.left)
    has_begun = any(path.endswith("metrics.csv") for path in done.left)
    assert has_begun or done.left == []
    assert not any("unfinished" in path for path in done.left)


@needs_mounts
def test_a_disk_that_is_read_only(light: Warm, refused: Refused, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounts = [("read-only", disk, "")]
    line = refused(light, "train.py", *SMALL, f"hydra.run.dir={disk / 'a' / 'run'}", mounts=mounts)
    assert "Read-only file system; choose another folder with hydra.run.dir=<folder>" in line
    line = refused(light, "train.py", "seed=0,1", f"hydra.sweep.dir={disk / 'a'}", "-m", mounts=mounts)
    assert "Read-only file system; choose another folder with hydra.sweep.dir=<folder>" in line
    line = refused(light, "tune.py", f"hydra.run.dir={disk / 'a'}", mounts=mounts)
    assert "Read-only file system" in line
