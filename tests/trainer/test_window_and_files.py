"""Intervals of losses, metrics.csv and checkpoint files, each by itself."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tempo.errors import UserError
from tempo.task.step_window import Interval, StepWindow
from tempo.task.stepping import step_seed
from tempo.trainer.checkpoint_file import load
from tempo.trainer.checkpoints import newest_whole
from tempo.trainer.final_state import weights_sha256
from tempo.trainer.metrics_file import COLUMNS, MetricsFile
from tests.trainer.saved import saved


@given(
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    every=st.integers(1, 10),
    flush_at=st.sets(st.integers(0, 11)),
    restart_at=st.sets(st.integers(0, 11)),
)
@settings(max_examples=60, deadline=None)
def test_intervals_are_means_wherever_chunks_flushes_and_restarts_lie(
    chunks: list[int], every: int, flush_at: set[int], restart_at: set[int]
) -> None:
    total = sum(chunks)
    losses = np.random.default_rng(0).random(total).astype(np.float32)
    window, step, found, seen = StepWindow(every), 0, [], []
    for number, size in enumerate(chunks):
        part = torch.from_numpy(losses[step : step + size].copy())
        window.add(first_step=step, losses=part, accuracies=part / 2)
        step += size
        if number in flush_at | restart_at or window.due:
            first, flushed, intervals = window.flush()
            assert first + len(flushed) == step
            found, seen = found + intervals, seen + flushed
        if number in restart_at:
            state, window = window.state_dict(), StepWindow(every)
            window.load_state_dict(state)
    _, flushed, intervals = window.flush()
    found, seen = found + intervals, seen + flushed
    if (rest := window.close(step)) is not None:
        found.append(rest)
    assert seen == losses.astype(float).tolist()
    borders = [*range(every, total + 1, every)]
    borders += [total] if total % every else []
    assert [each.steps_done for each in found] == borders
    for start, interval in zip([0, *borders], found, strict=False):
        mean = losses[start : interval.steps_done].astype(float).mean()
        assert interval.loss == pytest.approx(mean, rel=1e-12)
        assert interval.accuracy == pytest.approx(mean / 2, rel=1e-6)


def test_an_interval_that_ends_on_a_border_leaves_nothing() -> None:
    window = StepWindow(2)
    window.add(first_step=0, losses=torch.tensor([1.0, 3.0]), accuracies=torch.tensor([0.0, 1.0]))
    assert window.due
    assert window.flush() == (0, [1.0, 3.0], [Interval(2, 2.0, 0.5)])
    assert window.close(2) is None
    assert window.flush()[1:] == ([], [])


def test_flush_takes_the_mean_over_ranks() -> None:
    window = StepWindow(1)
    window.add(first_step=0, losses=torch.tensor([1.0]), accuracies=torch.tensor([0.5]))
    assert window.flush(lambda values: values * 3)[2] == [Interval(1, 3.0, 1.5)]


def test_metrics_file_keeps_the_rows_that_stand(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.start(0, -1)
    for step in range(1, 6):
        file.append({"step": step, "epoch": step / 2, "seconds": 0.1, "lr": 1e-3, "train/loss": 1 / 3})
    file.path.write_text(file.path.read_text() + "6,3.0,0.", encoding="utf-8")  # killed while writing
    assert [row["step"] for row in file.rows()] == ["1", "2", "3", "4", "5"]

    MetricsFile(tmp_path).start(3, 3)
    rows = list(csv.DictReader(file.path.read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["train/loss"]) == 1 / 3
    assert rows[0]["val/loss"] == ""
    file.append({"step": 3, "epoch": 1.5, "seconds": 0.2, "val/loss": 0.1, "val/accuracy": 0.9})
    MetricsFile(tmp_path).start(3, 3)
    assert len(file.rows()) == 4
    MetricsFile(tmp_path).start(3, 2)  # killed after the row of a validation, before its checkpoint
    assert [row["val/loss"] for row in file.rows()] == [""] * 3
    MetricsFile(tmp_path).start(0, -1)
    assert MetricsFile(tmp_path).rows() == []


class Malice:
    """Runs a command when it is unpickled by a reader that trusts the file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch " + os.environ["MALICE"],)


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace"
    monkeypatch.setenv("MALICE", str(trace))
    torch.save({"state_dict": {}, "evil": Malice()}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        load(tmp_path / "last.ckpt")
    assert not trace.exists()
    torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert trace.exists(), "the sample is harmless: the test shows nothing"


@pytest.mark.parametrize("cut", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_gives_way_to_the_one_before(cut: float, tmp_path: Path) -> None:
    torch.save(saved(1), tmp_path / "previous.ckpt")
    content = (tmp_path / "previous.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(content[: int(cut * len(content))])
    path, lines = newest_whole(tmp_path, "abc", needs_best=False)
    assert path == tmp_path / "previous.ckpt"
    assert len(lines) == 1
    assert "last.ckpt is damaged" in lines[0]
    (tmp_path / "last.ckpt").write_bytes(content)
    assert newest_whole(tmp_path, "abc", needs_best=False) == (tmp_path / "last.ckpt", [])
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / name).write_bytes(b"nothing")
    path, lines = newest_whole(tmp_path, "abc", needs_best=False)
    assert path is None
    assert len(lines) == 2


def test_a_checkpoint_of_another_configuration_is_passed_over(tmp_path: Path) -> None:
    for name, owner in (("last.ckpt", "of another"), ("previous.ckpt", "abc")):
        torch.save(saved(1, config_hash=owner), tmp_path / name)
    path, lines = newest_whole(tmp_path, "abc", needs_best=False)
    assert path == tmp_path / "previous.ckpt"
    assert "last.ckpt is of another configuration" in lines[0]


def test_checkpoint_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.ckpt does not exist"):
        load(tmp_path / "absent.ckpt")
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="has no state_dict"):
        load(tmp_path / "other.ckpt")
    torch.save([1], tmp_path / "list.ckpt")
    with pytest.raises(UserError, match="has no state_dict"):
        load(tmp_path / "list.ckpt")


def test_fingerprint_sees_every_bit_name_and_shape() -> None:
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


def test_step_seeds_are_all_different() -> None:
    seeds = {step_seed(seed, rank, step) for seed in range(5) for rank in range(4) for step in range(500)}
    assert len(seeds) == 5 * 4 * 500
    assert all(0 <= seed < 2**63 for seed in seeds)
