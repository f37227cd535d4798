"""One batch, any layout: 1 x 64, 2 x 32, accumulation; and what happens when a rank dies."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import distributed

from tempo.record.run_json import RunRecord
from tempo.run.evaluate import evaluate
from tests.conftest import Train, Trained
from tests.jobs import SMALL, THREADS_AT_THE_END, rows_written, signal_at, start_group
from tests.script_process import ScriptProcess

STEPS = 50
JOB = ["scheduler=onecycle", "optimizer.lr=0.01", f"trainer.max_steps={STEPS}"]
JOB += ["data.augment={crop_padding: 1, flip: true, cutout: 2}"]
# In float32 the order of sums grows to 1e-5 in 50 steps; a wrong image or draw would show in float64 at once.
JOB += ["trainer.precision=64-true"]


def run_group(folder: Path, overrides: list[str], devices: int) -> Trained:
    assert start_group(folder, [*SMALL, *overrides], devices).finish() == [0] * devices
    return Trained(folder, RunRecord.read(folder))


def assert_near(found: Trained, expected: Trained) -> None:
    """Equal but for the order of float sums."""
    state = expected.checkpoint("last")["state_dict"]
    for name, value in found.checkpoint("last")["state_dict"].items():
        torch.testing.assert_close(value, state[name], rtol=1e-9, atol=1e-11, msg=name)
    for row, other in zip(found.curves(), expected.curves(), strict=True):
        assert set(row) == set(other)
        np.testing.assert_allclose([row[k] for k in sorted(row)], [other[k] for k in sorted(row)], rtol=1e-5)
    assert found.record.metrics["test"]["loss"] == pytest.approx(
        expected.record.metrics["test"]["loss"], rel=1e-5
    )
    assert found.record.n_evaluated == expected.record.n_evaluated == found.record.data["test"] == 359


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc, which names a process's threads")
@pytest.mark.parametrize(
    "how", ["trainer.method=ring", "trainer.method=ps_sync", "trainer.shard=true", "stopped by a signal"]
)
def test_a_rank_ends_without_threads_of_its_group(how: str, tmp_path: Path) -> None:
    """A thread of gloo that outlives Python may abort the process."""
    stopped = how == "stopped by a signal"
    job = ["trainer.log_every_n_steps=1", "trainer.steps_per_call=1", "trainer.epochs=1000"]
    overrides = [*SMALL, *(job if stopped else [how, "trainer.max_steps=1"])]
    group = start_group(tmp_path, overrides, 2, environment={THREADS_AT_THE_END: "1"})
    if stopped:
        assert signal_at(group.processes[1], lambda: rows_written(tmp_path) >= 3, signal.SIGTERM)
    assert group.finish() == [130 * stopped] * 2
    for rank in range(2):
        *_, line = (tmp_path / f"output{rank}.txt").read_text(encoding="utf-8").splitlines()
        assert line.startswith("threads at the end: ")
        # Those of the two meshes of a split network, which torch keeps, and not the run's own.
        assert line.count("gloo_tcp_loop") == (2 if how == "trainer.shard=true" else 0)
        assert how == "trainer.shard=true" or "gloo" not in line


@pytest.mark.filterwarnings("ignore:It is recommended to use")
def test_a_group_that_the_process_had_before_is_left_alone(train: Train, tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        train("trainer.max_steps=1")
        assert distributed.is_initialized()
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def test_the_same_batch_on_any_number_of_ranks(train: Train, tmp_path: Path) -> None:
    whole = train(*JOB, folder="1x64")
    assert_near(train(*JOB, "trainer.accumulate=2", folder="1x32x2"), whole)
    layouts = {(2, 1): "2x32", (2, 2): "2x16x2", (4, 1): "4x16"}
    for (devices, accumulate), name in layouts.items():
        found = run_group(tmp_path / name, [*JOB, f"trainer.accumulate={accumulate}"], devices)
        assert found.record.world_size == devices
        assert found.record.batch == {
            "total": 64,
            "per_device": 64 // devices // accumulate,
            "accumulate": accumulate,
        }
        assert found.record.status == "completed"
        assert found.record.steps == STEPS
        assert_near(found, whole)


def test_a_line_search_takes_the_same_decisions_on_all_ranks(train: Train, tmp_path: Path) -> None:
    job = ["optimizer=lbfgs", "optimizer.max_iter=3", "trainer.max_steps=4", "trainer.precision=64-true"]
    whole = train(*job, folder="one")
    found = run_group(tmp_path / "two", job, 2)
    assert_near(found, whole)
    assert found.record.evaluations == whole.record.evaluations > 2 * whole.record.steps


def test_three_ranks_count_every_test_image_once(train: Train, tmp_path: Path) -> None:
    overrides = ["data.total_batch_size=60", "trainer.epochs=1", "data.eval_batch_size=50"]
    whole = train(*overrides, folder="one")
    found = run_group(tmp_path / "three", overrides, 3)  # 359 = 3 x 119 + 2: ranks have unequal shares
    assert (found.record.world_size, found.record.n_evaluated) == (3, 359)
    hits = found.record.metrics["test"]["accuracy"] * 359
    assert hits == pytest.approx(round(hits), abs=1e-9)
    assert found.record.metrics["test"]["loss"] == pytest.approx(
        whole.record.metrics["test"]["loss"], rel=1e-4
    )
    assert found.record.metrics["val"]["loss"] == pytest.approx(whole.record.metrics["val"]["loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("of_last", "difference"),
    [
        # The learning rate changes no shape, so nothing else would notice.
        ("optimizer.lr=0.2", "optimizer.lr=0.2 on rank 2, but optimizer.lr=0.1 on rank 0; start all ranks"),
        (
            "+optimizer.foreach=true",
            "optimizer.foreach=True on rank 2, but optimizer.foreach=None on rank 0",
        ),
    ],
    ids=["another value", "one more key"],
)
def test_ranks_with_different_settings_all_stop(of_last: str, difference: str, tmp_path: Path) -> None:
    group = start_group(tmp_path / "run", [*SMALL, "data.total_batch_size=60"], 3, of_last=[of_last])
    assert group.finish(timeout_seconds=90) == [1, 1, 1]
    for rank in range(3):
        last = (tmp_path / "run" / f"output{rank}.txt").read_text(encoding="utf-8").splitlines()[-1]
        assert last.startswith(difference)
    assert not (tmp_path / "run" / "metrics.csv").exists()
    assert RunRecord.read(tmp_path / "run").status == "failed"


def test_ranks_with_different_images_all_stop(tmp_path: Path) -> None:
    """Two machines, each with images of its own below `~`: as many, as large, under the same names."""
    homes = [tmp_path / "home", tmp_path / "other"]
    for home, index in itertools.product(homes, range(20)):
        path = home / "pets" / f"class{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (index, homes.index(home), 0)).save(path)
    overrides = [SMALL[0], "data=folder", "data.root='~/pets'", "data.cache='~/cache'"]
    overrides += ["data.val_size=4", "data.total_batch_size=4", "trainer.epochs=1"]
    environment = {"HOME": str(homes[0])}
    group = start_group(tmp_path / "run", overrides, 2, environment=environment, home_of_last=homes[1])
    assert group.finish(timeout_seconds=90) == [1, 1]
    for rank in range(2):
        last = (tmp_path / "run" / f"output{rank}.txt").read_text(encoding="utf-8").splitlines()[-1]
        assert last.startswith("images=")
        assert "on rank 0; start all ranks with the same command and data" in last


def test_divergence_ends_all_ranks(tmp_path: Path) -> None:
    """A rate that rises a millionfold: the first epochs are good, and their state stays."""
    rising = ["scheduler=range_test", "scheduler.min_lr=1e-4", "scheduler.max_lr=1e4", "trainer.epochs=12"]
    found = run_group(tmp_path / "diverged", rising, 2)
    assert found.record.status == "diverged"
    step = int(found.record.reason.removeprefix("diverged at step ").partition(":")[0])
    state = found.checkpoint("last")
    assert 0 < state["global_step"] <= step < 60
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values())
    assert evaluate(found.folder).metrics["accuracy"] > 0.3


def test_a_stop_asked_of_one_rank_stops_both_and_they_resume(tmp_path: Path) -> None:
    # With batch normalization, whose running statistics differ from rank to rank between two evaluations.
    recipe = ["model=resnet20", "model.depth=8", "ema.decay=0.9", "trainer.gradient_clip=1"]
    recipe += ["trainer.val_every_n_epochs=3", "trainer.log_every_n_steps=1", "trainer.steps_per_call=1"]
    overrides = [*SMALL, *recipe, "trainer.epochs=9"]  # the last one is validated within the fit
    expected = run_group(tmp_path / "whole", overrides[len(SMALL) :], 2)
    for name, of_ranks in expected.checkpoint("last")["buffers_of_ranks"].items():
        # Saved right after a validation, before which the ranks have shared their running statistics.
        assert torch.equal(of_ranks[0], of_ranks[1]), name
    folder = tmp_path / "stopped"
    group = start_group(folder, overrides, 2)
    deadline = time.monotonic() + 60
    while rows_written(folder) < 7 and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(group.processes[1].pid, signal.SIGTERM)
    assert group.finish() == [130, 130]
    assert RunRecord.read(folder).status == "interrupted"
    resumed = run_group(folder, [*overrides[len(SMALL) :], f"resume={folder}"], 2)
    assert resumed.record.weights_sha256 == expected.record.weights_sha256
    assert resumed.curves() == expected.curves()


def script(folder: Path, *overrides: str) -> ScriptProcess:
    job = ["model=mlp", "trainer=ddp_cpu", "data.train_size=320", "trainer.threads=1", *overrides]
    return ScriptProcess("train.py", *job, f"hydra.run.dir={folder}")


def started(folder: Path) -> ScriptProcess:
    """A script whose ranks have written a few rows."""
    process = script(folder, "trainer.epochs=5000", "trainer.log_every_n_steps=1")
    deadline = time.monotonic() + 120
    while rows_written(folder) < 5 and time.monotonic() < deadline and process.is_alive():
        time.sleep(0.02)
    assert rows_written(folder) >= 5
    return process


def test_ctrl_c_reaches_the_ranks_which_save(tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to the process group of the script, to which the ranks do not belong."""
    process = started(tmp_path / "group")
    os.killpg(process.pid, signal.SIGINT)
    assert process.finish(90).code == 130
    assert RunRecord.read(tmp_path / "group").status == "interrupted"
    assert (tmp_path / "group" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_the_death_of_a_rank_ends_the_group_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "group"
    process = started(folder)
    _, _, first, second = process.family()  # the script, the process that starts the ranks, and these
    os.kill(second, signal.SIGKILL)
    code, out, err = process.finish(90)
    assert code == 1
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert "2 processes" in lines[0]
    assert str(folder) in lines[0]
    assert "TBS 64 = 32 per device x 2 devices" in out
    assert not Path("/proc", str(first)).exists(), "a rank was left behind"
    record = RunRecord.read(folder)
    assert (record.world_size, record.status) == (2, "failed")
    assert record.reason


def test_what_a_rank_refuses_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """An argument that torch does not know is met where the optimizer is built: in the ranks."""
    process = script(tmp_path / "group", "optimizer=adam", "optimizer.eps=1e-8", "+optimizer.amsgrad2=true")
    code, _, err = process.finish()
    assert code == 1
    assert len(err.strip().splitlines()) == 1, err
    assert "optimizer.amsgrad2" in err
    assert "Did you mean 'amsgrad'" in err
    assert list(tmp_path.iterdir()) == []
