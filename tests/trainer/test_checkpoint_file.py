"""Checkpoint files: damage of any bit is seen, a full disk is said in the user's words."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tempo.errors import UserError
from tempo.record.atomic_write import UNFINISHED
from tempo.record.run_folder import BEST, LAST, PREVIOUS
from tempo.trainer.checkpoint_file import CheckpointFiles, link, load
from tempo.trainer.checkpoints import newest_whole
from tests.conftest import Train
from tests.trainer.saved import saved

STATE = {"state_dict": {"w": torch.arange(24.0), "n": torch.tensor(7)}, "global_step": 3, "lr": [0.1, 0.5]}


def is_same(found: Any, expected: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and torch.equal(found, expected)
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and list(found) == list(expected)
            and all(is_same(found[key], value) for key, value in expected.items())
        )
    return bool(found == expected)


def flip(path: Path, position: int, bit: int = 4) -> None:
    """Flip one bit in place, as a bad disk does: every name of the file has it."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    with path.open("r+b") as file:
        file.write(content)


def test_no_flipped_bit_comes_through(tmp_path: Path) -> None:
    path = tmp_path / LAST
    CheckpointFiles().save_checkpoint(STATE, path)
    whole = path.read_bytes()
    seen = unseen_by_torch = 0
    for position in range(len(whole)):
        path.write_bytes(whole)
        flip(path, position, bit=position % 8)
        try:
            content = load(path)
        except UserError as error:
            assert "last.ckpt is damaged" in str(error)
            seen += 1
            try:
                unseen_by_torch += not is_same(torch.load(path, weights_only=True), STATE)
            except Exception:  # noqa: BLE001 - whatever torch makes of it
                continue
        else:
            assert is_same(content, STATE), f"bit {position % 8} of byte {position} changed the state"
    assert seen > len(whole) - 20  # less where the mark of the checksum itself is hit
    assert unseen_by_torch > 100, "torch itself has seen all: the checksums are not needed"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the names of open files by /proc")
def test_nothing_gets_its_name_before_it_is_on_the_disk(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a loss of power would leave: only the order of flushes and renames can tell."""
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        done.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, "flushed"))

    def noted_replace(source: Path, target: Path) -> None:
        replace(source, target)
        done.append((Path(source).name, Path(target).name))

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    train("trainer.epochs=1", "trainer.steps_per_call=3", "checkpoint.every_n_steps=3")
    new = f".{LAST}.unfinished"
    rows = [(new, "flushed"), ("metrics.csv", "flushed")]
    names = [(new, LAST), ("checkpoints", "flushed")]
    best = [(f".{BEST}.unfinished", BEST), (LAST, PREVIOUS)]
    by_text = [each for each in done if UNFINISHED.fullmatch(each[0])]
    others = [each for each in done if each not in by_text and not each[0].startswith(".latest")]
    assert others == [*rows, *names, *rows, *best, *names]
    assert by_text[::2] == [(source, "flushed") for source, _ in by_text[1::2]]
    assert by_text[-1][1] == "run.json"
    targets = [target for _, target in done]
    assert targets.index("run.json") < targets.index(LAST), "a state without a record would not be used"


@pytest.fixture
def small_files() -> Iterator[int]:
    """A disk that takes files of at most 4 KiB."""
    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    yield 4096
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_an_error_of_the_folder(tmp_path: Path, small_files: int) -> None:
    state = {"state_dict": {"w": torch.zeros(small_files)}}
    with pytest.raises(OSError) as caught:
        CheckpointFiles().save_checkpoint(state, tmp_path / LAST)
    assert caught.value.filename == str(tmp_path)
    assert caught.value.strerror


def checkpoints(folder: Path, *, best_is_last: bool) -> None:
    """A folder of three whole files."""
    for name, step in ((BEST, 1), (PREVIOUS, 2), (LAST, 3)):
        state = saved(step, best=step if best_is_last else 1)
        CheckpointFiles().save_checkpoint({**state, "state_dict": STATE["state_dict"]}, folder / name)
    if best_is_last:
        link(folder / LAST, folder / BEST)


def test_a_flipped_bit_in_the_last_state_gives_way_to_the_one_before(tmp_path: Path) -> None:
    checkpoints(tmp_path, best_is_last=True)
    assert newest_whole(tmp_path, "abc", needs_best=True) == (tmp_path / LAST, [])
    position = (tmp_path / LAST).read_bytes().index(torch.arange(24.0).numpy().tobytes())
    flip(tmp_path / LAST, position)
    path, lines = newest_whole(tmp_path, "abc", needs_best=True)
    assert path == tmp_path / PREVIOUS, "the best state was the last one: it comes again"
    assert len(lines) == 1
    assert "last.ckpt is damaged (its SHA-256" in lines[0]
    assert "going on from the one before" in lines[0]


def test_a_lost_best_state_is_found_again_from_the_start(tmp_path: Path) -> None:
    checkpoints(tmp_path, best_is_last=False)
    (tmp_path / BEST).write_bytes((tmp_path / BEST).read_bytes()[:-999])
    for needs_best, expected in ((True, None), (False, tmp_path / LAST)):
        path, lines = newest_whole(tmp_path, "abc", needs_best=needs_best)
        assert path == expected
        assert ["best.ckpt is damaged or gone; beginning again" in line for line in lines] == [
            True
        ] * needs_best


@pytest.mark.parametrize("state", [[1], {3: torch.zeros(1)}, {"network.a": 5}], ids=str)
def test_a_state_of_other_things_than_tensors(state: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="has other things than tensors"):
        load(tmp_path / "last.ckpt")
