"""A run as a whole: what it leaves, what ends it, and what points to it."""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.record.run_json import RunRecord
from tempo.run import fill_record
from tempo.run.build_data import build_data
from tempo.run.evaluate import evaluate
from tempo.run.train import show_preview
from tempo.trainer.metrics_csv import MetricsFile
from tests.conftest import Train
from tests.jobs import checked_job


def test_the_same_run_twice_is_the_same_to_the_bit(train: Train) -> None:
    overrides = ["model=cnn3", "trainer.epochs=2", "data.augment.crop_padding=1"]
    one, two = train(*overrides, folder="one"), train(*overrides, folder="two")
    other = train(*overrides, "seed=1", folder="other")
    assert one.record.weights_sha256 == two.record.weights_sha256 != other.record.weights_sha256
    assert one.curves() == two.curves()
    assert one.record.config_hash == two.record.config_hash != other.record.config_hash
    assert one.record.data == other.record.data


def test_global_random_state_does_not_matter(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither before a run nor within it, where dropout and augmentation draw."""
    overrides = ["model=cnn3", "trainer.epochs=2", "trainer.log_every_n_steps=1", "trainer.steps_per_call=1"]
    one = train(*overrides, "data.augment.crop_padding=1", folder="one")
    append = MetricsFile.append

    def draw_and_append(file: MetricsFile, values: Mapping[str, float | int]) -> None:
        torch.rand(7)
        np.random.rand(7)  # noqa: NPY002 - the global state it is
        random.random()
        append(file, values)

    monkeypatch.setattr(MetricsFile, "append", draw_and_append)
    two = train(*overrides, "data.augment.crop_padding=1", folder="two")
    assert one.record.weights_sha256 == two.record.weights_sha256
    assert one.curves() == two.curves()


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.lr=1e6"],
        ["optimizer.lr=1e3", "trainer.steps_per_call=1"],
        # Each step has a checkpoint and none has a row: saving is the first to look at the losses.
        ["optimizer.lr=1e30", "trainer.steps_per_call=1", "trainer.log_every_n_steps=50"],
    ],
    ids=["above the bound", "step by step", "not finite"],
)
def test_a_diverged_run_is_a_result(overrides: list[str], train: Train) -> None:
    diverged = train(
        "trainer.log_every_n_steps=1", "trainer.epochs=3", "checkpoint.every_n_steps=1", *overrides
    )
    record = RunRecord.read(diverged.folder)
    assert record.status == "diverged"
    assert record.finished
    assert record.reason.startswith("diverged at step ")
    assert int(record.reason.split()[3].rstrip(":")) < 15
    assert math.isnan(record.objective["value"])
    for path in (diverged.folder / "checkpoints").glob("*.ckpt"):
        state = torch.load(path, weights_only=True)
        assert all(torch.isfinite(value).all() for value in state["state_dict"].values()), path.name


def test_divergence_keeps_the_last_good_checkpoint(train: Train) -> None:
    """A rate that rises a millionfold: the first epochs are good, and their state stays loadable."""
    diverged = train(
        "scheduler=range_test", "scheduler.min_lr=1e-4", "scheduler.max_lr=1e4", "trainer.epochs=12"
    )
    assert diverged.record.status == "diverged"
    state = diverged.checkpoint("last")
    assert 0 < state["global_step"] < 60
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values())
    step = int(diverged.record.reason.split()[3].rstrip(":"))
    assert state["global_step"] <= step
    assert evaluate(diverged.folder).metrics["accuracy"] > 0.3
    with pytest.raises(UserError, match=r"diverged after .* and cannot be resumed"):
        train(f"resume={diverged.folder}", folder="run")


def test_a_failed_run_says_why(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 channels"):
        train("model=torchvision", "model.name=vgg11", "trainer.max_steps=1")


def test_what_a_run_writes_and_prints(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    job = ("trainer.epochs=2", "trainer.accumulate=2", "scheduler=onecycle", "optimizer.lr=0.01")
    trained = train(*job, pictures=True)
    for name in ("run.json", "metrics.csv", "tensorboard", "checkpoints", "curves.png", "confusion.png",
                 "test_images.json"):  # fmt: skip
        assert (trained.folder / name).exists(), name
    left = [path for path in trained.folder.rglob(".*") if path.name != ".lock"]
    assert left == [], "a file was not renamed to its name"
    assert RunRecord.read(trained.folder) == trained.record
    assert (ROOT / "logs" / "latest").readlink() == trained.folder
    out = capsys.readouterr().out
    for words in (
        "TBS 64 = 32 per device x 1 device x 2 accumulation",
        "10 steps = 2 epochs x 5 steps",
        "data=cifar10",
        "320 train, 144 val, 359 test, 10 classes",
        "val/accuracy",
    ):
        assert words in out
    assert "[" not in out.split("schedule")[1].splitlines()[0], "markup was printed"


def test_warnings_are_not_silenced_for_others(train: Train) -> None:
    train("trainer.max_steps=1")
    with pytest.warns(UserWarning, match="something else"):
        warnings.warn("something else", UserWarning, stacklevel=1)


PREVIEW = ["scheduler=onecycle", "preview=true", "trainer.epochs=12"]


def test_preview_reads_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, _ = checked_job([*PREVIEW, "data=mnist", f"data.root={tmp_path / 'absent'}"])
    show_preview(config, tmp_path)
    assert (tmp_path / "schedule.png").read_bytes().startswith(b"\x89PNG")
    assert "over 5,148 steps" in capsys.readouterr().out  # 12 epochs of 55,000 // 128


def test_one_pixel_of_training_or_test_images_makes_other_images(tmp_path: Path) -> None:
    """What resume=, evaluate.py and reproduce.py refuse by."""
    images = [tmp_path / part / name / "0.png" for part in ("train", "test") for name in ("cat", "dog")]
    for path in images:
        path.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(path)
    no_val = ["data.val_size=0", "objective=test/accuracy", "checkpoint.select=last"]
    config, _ = checked_job(["data=folder", f"data.root={tmp_path}", *no_val])
    found = {build_data(config).sha256}
    for path in images:
        changed = Image.new("RGB", (8, 8))
        changed.putpixel((3, 5), (0, 0, 1))
        changed.save(path)
        found.add(build_data(config).sha256)
    assert len(found) == 1 + len(images)


def test_a_run_takes_no_state_of_another_one_in_its_folder(train: Train) -> None:
    """A run that came to nothing has left checkpoints and events; a fresh one starts without them."""
    other = train("trainer.max_steps=4", "optimizer.lr=0.5", folder="same")
    record = RunRecord.read(other.folder)
    record.status = "failed"
    record.write(other.folder)
    (other.folder / "notes.txt").write_text("mine")
    events = set((other.folder / "tensorboard").iterdir())
    fresh = train("trainer.max_steps=2", folder="same")
    alone = train("trainer.max_steps=2", folder="alone")
    assert fresh.record.weights_sha256 == alone.record.weights_sha256
    assert [row["step"] for row in fresh.curves()] == [row["step"] for row in alone.curves()]
    assert not (fresh.folder / "checkpoints" / "previous.ckpt").exists()
    assert events.isdisjoint((fresh.folder / "tensorboard").glob("events*"))
    assert (fresh.folder / "notes.txt").read_text() == "mine"


def test_the_record_has_what_another_run_needs(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill_record, "git_state", lambda: ({"commit": "c", "diff_sha256": "ab" * 32}, b"+ x"))
    trained = train("trainer.max_steps=2", "trainer.threads=2")
    found = RunRecord.read(trained.folder)
    assert found.n_evaluated == 359
    assert found.git["diff"] == "git.diff"
    assert (trained.folder / "git.diff").read_bytes() == b"+ x"
    assert found.environment["threads"]["intra_op"] == 2
    assert found.environment["matmul_precision"] == "highest"
    assert len(found.environment["lock"]["sha256"]) == 64
    assert found.environment["cpu_capability"]
    assert found.environment["variables"]["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8", "set by the trainer itself"
    assert found.sessions[0]["environment"] == found.environment
    values = json.loads((trained.folder / "run.json").read_text())
    (trained.folder / "run.json").write_text(json.dumps(values | {"status": "interrupted"}))
    monkeypatch.setattr(fill_record, "git_state", lambda: ({"commit": "c", "diff_sha256": "cd" * 32}, b"+ y"))
    resumed = train("trainer.max_steps=2", "trainer.threads=2", f"resume={trained.folder}")
    assert resumed.record.git["diff"] == "git_cdcdcdcdcdcd.diff"
    assert (trained.folder / "git.diff").read_bytes() == b"+ x"
    assert (trained.folder / "git_cdcdcdcdcdcd.diff").read_bytes() == b"+ y"
