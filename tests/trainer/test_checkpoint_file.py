"""Checkpoint files: damage of any bit is noticed, no code runs, and errors name the file or folder."""

from __future__ import annotations

import contextlib
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
from tempo.record.run_json import RunRecord
from tempo.trainer.checkpoint_file import CheckpointFiles, load, weights_sha256
from tests.conftest import Train

STATE = {"state_dict": {"w": torch.arange(24.0), "n": torch.tensor(7)}, "global_step": 3, "lr": [0.1, 0.5]}
SEALED = {**STATE, "sealed": True}


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
    """Flip one bit in place, as a bad disk does, so that every name of the file sees it."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    with path.open("r+b") as file:
        file.write(content)


def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / LAST
    CheckpointFiles().save_checkpoint(STATE, path)
    whole = path.read_bytes()
    noticed = missed_by_torch = 0
    for position in range(len(whole)):
        path.write_bytes(whole)
        flip(path, position, bit=position % 8)
        try:
            content = load(path)
        except UserError as error:
            assert "last.ckpt is damaged" in str(error)
            noticed += 1
            try:
                missed_by_torch += not is_same(torch.load(path, weights_only=True), SEALED)
            except Exception:  # noqa: BLE001 - whatever torch raises
                continue
        else:
            assert is_same(content, STATE), f"bit {position % 8} of byte {position} changed the state"
    assert noticed == len(whole)
    assert missed_by_torch > 100, "torch notices all damage by itself: the seal is not needed"


def test_a_file_without_its_end_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / LAST
    CheckpointFiles().save_checkpoint(STATE, path)
    whole = path.read_bytes()
    assert is_same(load(path), STATE)
    weight = whole.index(STATE["state_dict"]["w"].numpy().tobytes()) + 40
    loaded_by_torch = 0
    for content in (whole, whole[:weight] + bytes([whole[weight] ^ 16]) + whole[weight + 1 :]):
        for missing in (*range(1, 200), len(whole) // 2, len(whole)):
            path.write_bytes(content[: len(whole) - missing])
            with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
                load(path)
            with contextlib.suppress(Exception):
                loaded_by_torch += bool(torch.load(path, weights_only=True))
        path.write_bytes(content[:-74] + b"\0\0")  # the seal and its announcement
        with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
            load(path)
        path.write_bytes(content + b"\0")
        with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
            load(path)
    assert loaded_by_torch > 100, "torch notices a missing end by itself: the test shows nothing"


def test_a_file_that_was_never_sealed_is_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / LAST)
    assert is_same(load(tmp_path / LAST), STATE)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the names of open files by /proc")
def test_files_are_flushed_before_they_are_renamed(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of flushes and renames decides what a power failure would leave."""
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
    texts = [entry for entry in done if UNFINISHED.fullmatch(entry[0])]
    others = [entry for entry in done if entry not in texts and not entry[0].startswith(".latest")]
    assert others == [*rows, *names, *rows, *best, *names]
    assert texts[::2] == [(source, "flushed") for source, _ in texts[1::2]]
    assert texts[-1][1] == "run.json"
    targets = [target for _, target in done]
    assert targets.index("run.json") < targets.index(LAST), "a state without a record would not be used"


@pytest.fixture(params=[4096])
def small_files(request: pytest.FixtureRequest) -> Iterator[int]:
    """Limit the size of files."""
    size: int = request.param
    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    yield size
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_an_error_of_the_folder(tmp_path: Path, small_files: int) -> None:
    state = {"state_dict": {"w": torch.zeros(small_files)}}
    with pytest.raises(OSError) as caught:
        CheckpointFiles().save_checkpoint(state, tmp_path / LAST)
    assert caught.value.filename == str(tmp_path)
    assert caught.value.strerror
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("small_files", [40_000], indirect=True)
def test_a_full_disk_leaves_the_record_and_no_unfinished_file(
    small_files: int, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="File too large"):
        train()
    (folder,) = (path.parent for path in tmp_path.rglob("run.json"))
    record = RunRecord.read(folder)
    assert (record.status, "File too large" in record.reason) == ("failed", True)
    assert list((folder / "checkpoints").iterdir()) == []


class Malice:
    """Runs a command when it is unpickled by a reader that trusts the file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch " + os.environ["MALICE"],)


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace"
    monkeypatch.setenv("MALICE", str(trace))
    torch.save({"state_dict": {}, "evil": Malice()}, tmp_path / LAST)
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        load(tmp_path / LAST)
    assert not trace.exists()
    torch.load(tmp_path / LAST, weights_only=False)
    assert trace.exists(), "the sample is harmless: the test shows nothing"


@pytest.mark.parametrize(
    "content",
    [{"weights": 1}, [1], {"state_dict": [1]}, {"state_dict": {3: torch.zeros(1)}}, {"state_dict": {"a": 5}}],
    ids=str,
)
def test_files_of_other_programs_are_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"last\.ckpt does not exist"):
        load(tmp_path / LAST)
    torch.save(content, tmp_path / LAST)
    with pytest.raises(UserError, match=r"last\.ckpt is not a checkpoint of a run: it has no state_dict"):
        load(tmp_path / LAST)


def test_the_sha256_of_weights_covers_every_bit_name_and_shape() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    before = weights_sha256(network)
    assert weights_sha256(network) == before
    assert weights_sha256(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))) != before
    with torch.no_grad():
        value = network[0].weight[0, 0].clone()
        network[0].weight[0, 0] = torch.nextafter(value, torch.tensor(9.0))
        assert weights_sha256(network) != before
        network[0].weight[0, 0] = value
        assert weights_sha256(network) == before
        network[1].running_mean += 1
    assert weights_sha256(network) != before
