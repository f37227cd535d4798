"""The folder of a run that came to nothing: taken back if this process made all of it, else left alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tempo.record.run_folder import note_folder, noted_folder, remove_unused

FIRST_FILES = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "train.log", "run.json")


def make(folder: Path) -> None:
    """What Hydra and the first second of a run write."""
    for name in FIRST_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x", encoding="utf-8")
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "tensorboard").mkdir(exist_ok=True)
    (folder / "tensorboard" / "events.out.tfevents.1.host.2.0").write_bytes(b"")
    (folder / ".lock").write_text(f"{os.getpid()}\n", encoding="utf-8")


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_folder_that_this_process_made_is_taken_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    note_folder(folder)
    assert noted_folder() == folder.resolve()
    make(folder)
    remove_unused(folder)
    assert not folder.exists()
    assert tmp_path.exists()


def test_a_folder_that_was_there_is_left_alone(tmp_path: Path) -> None:
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


def test_a_folder_that_nobody_noted_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path / "run")
    expected = tree(tmp_path)
    remove_unused(tmp_path / "run")
    assert tree(tmp_path) == expected


def a_foreign_file(folder: Path) -> None:
    (folder / "mine.txt").write_text("mine", encoding="utf-8")


def a_foreign_file_below(folder: Path) -> None:
    (folder / ".hydra" / "mine.yaml").write_text("mine", encoding="utf-8")


def a_foreign_folder(folder: Path) -> None:
    (folder / "mine").mkdir()


def a_checkpoint(folder: Path) -> None:
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"x")


def curves(folder: Path) -> None:
    (folder / "metrics.csv").write_text("step\n", encoding="utf-8")


def a_log_of_ranks(folder: Path) -> None:
    (folder / "ranks").mkdir()
    (folder / "ranks" / "torchrun.log").write_text("why it failed", encoding="utf-8")


def what_a_rank_raised(folder: Path) -> None:
    (folder / "ranks").mkdir()
    (folder / "ranks" / "error.json").write_text('{"rank": 1, "raised": "see the log"}', encoding="utf-8")


def a_link(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent)


def anothers_lock(folder: Path) -> None:
    (folder / ".lock").write_text(f"{os.getppid()}\n", encoding="utf-8")


def no_lock(folder: Path) -> None:
    (folder / ".lock").unlink()


@pytest.mark.parametrize(
    "change",
    [
        a_foreign_file,
        a_foreign_file_below,
        a_foreign_folder,
        a_checkpoint,
        curves,
        a_log_of_ranks,
        what_a_rank_raised,
        a_link,
        anothers_lock,
        no_lock,
    ],
)
def test_what_else_came_into_it_keeps_it(change: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    note_folder(folder)
    make(folder)
    change(folder)
    expected = tree(folder)
    remove_unused(folder)
    assert tree(folder) == expected
