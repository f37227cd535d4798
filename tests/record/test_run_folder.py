"""The folder of a run that never started training is removed only if this process made all of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tempo.record.run_folder import note_folder, noted_folder, remove_unused

FIRST_FILES = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "train.log", "run.json")


def make(folder: Path) -> None:
    """Write what Hydra and the first second of a run write."""
    for name in FIRST_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x", encoding="utf-8")
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "tensorboard").mkdir(exist_ok=True)
    (folder / "tensorboard" / "events.out.tfevents.1.host.2.0").write_bytes(b"")
    (folder / ".lock").write_text(f"{os.getpid()}\n", encoding="utf-8")


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_folder_that_this_process_made_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    note_folder(folder)
    assert noted_folder() == folder.resolve()
    make(folder)
    remove_unused(folder)
    assert not folder.exists()
    assert tmp_path.exists()


def test_a_folder_that_existed_is_left_alone(tmp_path: Path) -> None:
    for name, before in (("full", "mine.txt"), ("empty", None), ("old run", "run.json")):
        folder = tmp_path / name
        folder.mkdir()
        if before:
            (folder / before).write_text("mine", encoding="utf-8")
        note_folder(folder)
        make(folder)
        expected = tree(folder)
        remove_unused(folder)
        assert tree(folder) == expected, name


def test_a_folder_that_was_not_noted_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path / "run")
    expected = tree(tmp_path)
    remove_unused(tmp_path / "run")
    assert tree(tmp_path) == expected


def write(name: str, text: str = "x") -> Callable[[Path], None]:
    """Return a change that writes a file into a folder."""

    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    return change


CHANGES: dict[str, Callable[[Path], object]] = {
    "a foreign file": write("mine.txt"),
    "a foreign file below": write(".hydra/mine.yaml"),
    "a foreign folder": lambda folder: (folder / "mine").mkdir(),
    "a checkpoint": write("checkpoints/last.ckpt"),
    "curves": write("metrics.csv", "step\n"),
    "a log of ranks": write("ranks/torchrun.log", "why it failed"),
    "an error of a rank": write("ranks/error.json", '{"rank": 1, "raised": "see the log"}'),
    "a link": lambda folder: (folder / "link").symlink_to(folder.parent),
    "another process's lock": write(".lock", f"{os.getppid()}\n"),
    "no lock": lambda folder: (folder / ".lock").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_folder_with_anything_else_in_it_is_kept(change: Callable[[Path], object], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    note_folder(folder)
    make(folder)
    change(folder)
    expected = tree(folder)
    remove_unused(folder)
    assert tree(folder) == expected
