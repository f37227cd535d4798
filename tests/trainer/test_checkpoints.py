"""Which checkpoint is resumed, which one is tested, and that the record says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tempo.record.run_folder import BEST, LAST, PREVIOUS
from tempo.trainer.checkpoint_file import CheckpointFiles, link
from tempo.trainer.checkpoints import Checkpoints, newest_resumable
from tests.conftest import Train
from tests.trainer.test_checkpoint_file import flip

WEIGHTS = torch.arange(1000.0)


def save(path: Path, step: int, *, best: int = 1, config_hash: str = "abc") -> None:
    """Write the smallest checkpoint that a run can resume; its best state so far is that of step `best`."""
    content = {
        "state_dict": {"w": WEIGHTS},
        "global_step": step,
        "config_hash": config_hash,
        "callbacks": {"Checkpoints": {"best": [[0.5, best]]}},
    }
    CheckpointFiles().save_checkpoint(content, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three whole checkpoints; the best state is that of step 1."""
    for name, step in ((BEST, 1), (PREVIOUS, 2), (LAST, 3)):
        save(tmp_path / name, step)
    return tmp_path


@pytest.mark.parametrize("damage", ["flipped bit", "0", "0.1", "0.5", "0.95"])
def test_a_damaged_last_state_gives_way_to_the_one_before(damage: str, folder: Path) -> None:
    assert newest_resumable(folder, "abc", needs_best=True) == (folder / LAST, [])
    content = (folder / LAST).read_bytes()
    if damage == "flipped bit":
        flip(folder / LAST, content.index(WEIGHTS.numpy().tobytes()))
    else:
        (folder / LAST).write_bytes(content[: int(float(damage) * len(content))])
    path, (line,) = newest_resumable(folder, "abc", needs_best=True)
    assert path == folder / PREVIOUS
    assert "last.ckpt is damaged" in line
    assert "resuming from the one before it" in line
    (folder / PREVIOUS).write_bytes(b"nothing")
    path, (_, line) = newest_resumable(folder, "abc", needs_best=True)
    assert path is None
    assert "resuming from the start of the run" in line


def test_a_damaged_best_state_that_is_also_the_last_one_is_reached_again(folder: Path) -> None:
    save(folder / PREVIOUS, 2, best=3)
    link(folder / LAST, folder / BEST)
    flip(folder / LAST, (folder / LAST).read_bytes().index(WEIGHTS.numpy().tobytes()))
    path, _ = newest_resumable(folder, "abc", needs_best=True)
    assert path == folder / PREVIOUS


@pytest.mark.parametrize("needs_best", [True, False])
def test_a_run_that_lost_its_best_state_starts_again(needs_best: bool, folder: Path) -> None:
    (folder / BEST).write_bytes((folder / BEST).read_bytes()[:-999])
    path, lines = newest_resumable(folder, "abc", needs_best=needs_best)
    assert path == (None if needs_best else folder / LAST)
    assert ["best.ckpt is damaged or missing; starting" in line for line in lines] == [True] * needs_best


def test_states_of_another_configuration_or_program_are_skipped(folder: Path) -> None:
    save(folder / LAST, 3, config_hash="another")
    path, (line,) = newest_resumable(folder, "abc", needs_best=True)
    assert path == folder / PREVIOUS
    assert "last.ckpt belongs to configuration another, not abc" in line
    torch.save({"state_dict": {}}, folder / LAST)
    path, (line,) = newest_resumable(folder, "abc", needs_best=True)
    assert path == folder / PREVIOUS
    assert "last.ckpt is not a checkpoint of a run" in line


@pytest.mark.parametrize("select", ["best", "last"])
def test_the_selected_state_is_tested(select: str, train: Train) -> None:
    trained = train(f"checkpoint.select={select}", "trainer.epochs=3", "objective=val/loss")
    rows = [row for row in trained.rows() if "val/loss" in row]
    chosen = min(rows, key=lambda row: row["val/loss"]) if select == "best" else rows[-1]
    assert trained.record.selected["step"] == chosen["step"]
    assert trained.record.objective["value"] == chosen["val/loss"]
    assert trained.record.objective["mode"] == "min"


def save_every_second_epoch(self: Checkpoints, trainer: Any, pl_module: Any) -> None:
    if trainer.current_epoch % 2:
        self.save(trainer)


def keep_only_the_first(self: Checkpoints, state: Path, step: int) -> None:
    if step == 5:
        link(state, self.folder / BEST)


CHANGES = [
    ("on_train_epoch_end", save_every_second_epoch, "validated at step 5 was not saved"),
    ("on_train_epoch_end", lambda *_: None, "validated at step 5 was not saved"),
    ("_keep_as_best", keep_only_the_first, r"best\.ckpt was saved at step 5, but"),
]


@pytest.mark.parametrize(
    ("method", "change", "message"), CHANGES, ids=["every second", "never", "only first"]
)
def test_a_change_that_would_test_another_state_fails_the_run(
    method: str, change: Any, message: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a plausible edit of Checkpoints after which file, best step and record disagree."""
    monkeypatch.setattr(Checkpoints, method, change)
    with pytest.raises(RuntimeError, match=message):
        train("trainer.epochs=4", "objective=val/loss")


def test_no_state_is_saved_between_the_last_step_and_its_validation(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is resumed from one logs that validation twice; 12 steps end within an epoch of 5."""
    saved: list[tuple[int, bool]] = []
    save_state = Checkpoints.save

    def save_and_note(self: Checkpoints, trainer: Any) -> None:
        saved.append((self.progress.steps_done, self._validated is not None))
        save_state(self, trainer)

    monkeypatch.setattr(Checkpoints, "save", save_and_note)
    train("trainer.max_steps=12", "checkpoint.every_n_steps=2", "objective=val/loss")
    assert saved[:3] == [(2, False), (4, False), (5, True)]
    assert next(is_validated for step, is_validated in saved if step == 12)
