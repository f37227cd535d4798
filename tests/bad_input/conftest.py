"""The warm parents that this room forks its commands from, and what each command must keep to."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.bad_input.warm import MOST_CPU_SECONDS, Done, Warm

LIGHT = ("hydra.main", "hydra._internal.utils", "tempo.command_line.script", "tempo.sweep.grid_sweeper")
SMALL = ("model=mlp", "trainer=cpu", "data.train_size=128", "trainer.threads=1", "trainer.max_steps=2")
HEAVY = (*LIGHT, "tempo.run.train", "tempo.run.evaluate", "tempo.tuning.tune", "torch.utils.tensorboard")


class Refused(Protocol):
    """Run a command that must be refused; the one line it says."""

    def __call__(self, parent: Warm, script: str, *arguments: str, mounts: Sequence[tuple] = ...) -> str: ...


@pytest.fixture(scope="session")
def light() -> Iterator[Warm]:
    """Where torch cannot be imported: what is answered here is answered at once."""
    warm = Warm(*LIGHT)
    yield warm
    warm.stop()


@pytest.fixture(scope="session")
def heavy() -> Iterator[Warm]:
    warm = Warm(*HEAVY)
    yield warm
    warm.stop()


@pytest.fixture(scope="session")
def trained(heavy: Warm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real run; copy it before you break it."""
    folder = tmp_path_factory.mktemp("trained")
    done = heavy.call("train.py", *SMALL, f"hydra.run.dir={folder / 'run'}", folder=folder)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    def check(parent: Warm, script: str, *arguments: str, mounts: Sequence[tuple] = ()) -> str:
        before = snapshot(tmp_path)
        done = parent.call(script, *arguments, folder=tmp_path, mounts=mounts)
        assert_refused(done)
        assert snapshot(tmp_path) == before, "something was left behind"
        return done.err.strip()

    return check


def assert_refused(done: Done) -> None:
    """Exit code 1, one line on stderr, no traceback, and quickly."""
    assert done.code == 1, done.out + done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert "Traceback" not in done.out
    assert len(done.err.strip()) > 10
    assert done.cpu_seconds < MOST_CPU_SECONDS


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """All files and folders with their content."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def edit(run: Path, **values: Any) -> None:
    """Replace entries of a record."""
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, **values}))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What is there if a stranger's code has run; the trap itself works."""
    path = tmp_path / "canary"
    pickle.loads(pickle.dumps(Trap(path)))
    path.rmdir()
    return path


def assert_says(line: str, words: list[str]) -> None:
    """The line has each of these."""
    for word in words:
        assert word in line
