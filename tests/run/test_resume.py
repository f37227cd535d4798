"""A run that was killed and resumed ends like one that was never stopped, to the bit."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tempo.run.run_request import RunRequest
from tempo.run.train import run
from tests.conftest import Train, Trained
from tests.jobs import SMALL, checked_job, finish, kill_at, rows_written, signal_at, start_job

# Each step is a row, so that the moment of a kill can be seen from outside.
STEP_BY_STEP = ["trainer.log_every_n_steps=1", "trainer.steps_per_call=1", "checkpoint.every_n_steps=3"]
STEPS = 23
CASES: dict[str, list[str]] = {
    "1cycle, moving momentum": ["scheduler=onecycle", "optimizer.lr=0.01"],
    "dropout, augmentation, average, clipping": [
        "model=cnn3",
        "data.augment={crop_padding: 1, flip: true, cutout: 2}",
        "ema.decay=0.9",
        "trainer.gradient_clip=1",
    ],
    "batch norm and dropout, accumulation": [
        "model=densenet40",
        "model.depth=10",
        "model.dropout=0.2",
        "trainer.accumulate=2",
        "optimizer=adamw",
        "scheduler=cosine",
    ],
    "early stopping, cycles": [
        "early_stopping.patience=2",
        "early_stopping.min_delta=0.2",
        "optimizer=nesterov",
        "scheduler=triangular",
        "scheduler.cycles=2",
        "optimizer.lr=0.01",
    ],
    "average of the optimizer, dropout": ["model=cnn3", "optimizer=schedule_free"],
    "inverse Hessian": ["optimizer=bfgs", "optimizer.max_iter=2", "model.hidden=[8]"],
    "two optimizers in one, chunks of steps": [
        *("optimizer=muon", "scheduler=onecycle", "optimizer.lr=1e-3"),
        *("trainer.steps_per_call=2", "trainer.log_every_n_steps=4"),
    ],
    "first layer from the data, alternating flips, low resolution, filters by another rule": [
        *("model=small_vgg", "model.widths=[8,8]", "model.first_filters=8", "model.norm_scale=false"),
        *("init.whiten=first", "init.dirac=true", "optimizer=muon_with_sgd", "scheduler=linear"),
        *("data.augment.flip=alternate", "data.augment.crop_padding=1", "data.low_resolution=6"),
        *("optimizer.lr_of_biases=2", "loss=label_smoothing"),
    ],
    "line search, dropout, accumulation": [
        "model=cnn3",
        "optimizer=lbfgs",
        "optimizer.max_iter=3",
        "optimizer.wd=1e-3",
        "trainer.accumulate=2",
    ],
}


def assert_same(found: Trained, expected: Trained) -> None:
    """Weights, optimizer, metrics, curves: all but what a clock wrote."""
    for name in (
        "weights_sha256",
        "metrics",
        "steps",
        "evaluations",
        "epochs",
        "objective",
        "data",
        "status",
        "batch",
    ):
        assert getattr(found.record, name) == getattr(expected.record, name), name
    assert found.record.config_hash == expected.record.config_hash
    assert found.curves() == expected.curves()
    assert tensorboard(found.folder) == tensorboard(expected.folder)
    names = [path.stem for path in (expected.folder / "checkpoints").glob("*.ckpt")]
    assert "last" in names
    for name in sorted({"last", "best"} & set(names)):
        assert_equal(found.checkpoint(name), expected.checkpoint(name), name)
    saved = json.loads((found.folder / "run.json").read_text(encoding="utf-8"))
    assert saved["weights_sha256"] == expected.record.weights_sha256


def tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps and values in the order in which TensorBoard shows them, each as often as it does.

    But for the values of the end: a run that is killed between them and its record says them again.
    """
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    found = {}
    for tag in sorted(events.Tags()["scalars"]):
        points = [(event.step, event.value) for event in events.Scalars(tag)]
        found[tag] = sorted(set(points)) if tag.startswith("final/") else points
    return found


def assert_equal(found: Any, expected: Any, where: str) -> None:
    if where.endswith(("train_seconds", "metrics_file[1]", "run_id")):  # a clock's, and what a run has alone
        return
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in expected:
            assert_equal(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_equal(found[index], value, f"{where}[{index}]")
    else:
        assert found == expected, where


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed(case: str, train: Train) -> None:
    overrides = [*STEP_BY_STEP, f"trainer.max_steps={STEPS}", *CASES[case]]
    expected = train(*overrides, folder="whole")
    rows = len(expected.rows())
    # The second kill of the first case may come before the first checkpoint of the resumed process.
    kills = 2 if case == next(iter(CASES)) else 1
    at = sorted(random.Random(case).sample(range(2, rows - 1), kills))
    folder = expected.folder.with_name("killed")
    job = [*SMALL, *overrides]
    killed = 0
    for row in at:
        started = (folder / "run.json").exists()
        process = start_job(folder, [*job, f"resume={folder}"] if started else job)
        killed += kill_at(process, lambda row=row: rows_written(folder) >= row)
    assert killed >= 1, "every run was over before it could be killed"
    resumed = train(*overrides, f"resume={folder}", folder="killed")
    assert_same(resumed, expected)


def copy_as_running(trained: Trained, name: str, **changes: Any) -> Path:
    """The folder as a kill would leave it after its last checkpoint."""
    folder = trained.folder.with_name(name)
    shutil.copytree(trained.folder, folder)
    values = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    values["metrics"].pop("test", None)
    values |= {"status": "running", "weights_sha256": ""} | changes
    (folder / "run.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.epochs=3"],
        ["trainer.max_steps=13"],
        ["trainer.epochs=9", "early_stopping.patience=1", "early_stopping.min_delta=0.5"],
        ["trainer.epochs=4", "trainer.val_every_n_epochs=3"],
        ["trainer.epochs=2", "data.val_size=0", "objective=test/loss", "checkpoint.select=last"],
    ],
    ids=[
        "at an epoch's end",
        "within an epoch",
        "stopped early",
        "epochs without validation",
        "no validation",
    ],
)
def test_killed_after_the_last_step(overrides: list[str], train: Train) -> None:
    expected = train(*overrides, folder="whole")
    folder = copy_as_running(expected, "killed")
    resumed = train(*overrides, f"resume={folder}", folder="killed")
    assert_same(resumed, expected)


def test_killed_before_the_last_validation(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within an epoch it comes after Lightning's loop, whose last checkpoint is a moment older."""
    overrides = [*STEP_BY_STEP, "trainer.max_steps=13"]
    expected = train(*overrides, folder="whole")

    def killed(*_: Any, **__: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(pl.Trainer, "validate", killed)
        with pytest.raises(ConnectionResetError):
            train(*overrides, folder="cut")
    folder = copy_as_running(Trained(expected.folder.with_name("cut"), None), "killed")
    resumed = train(*overrides, f"resume={folder}", folder="killed")
    assert_same(resumed, expected)


def test_a_truncated_checkpoint_costs_steps_not_the_run(
    train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = ["trainer.epochs=4", "scheduler=onecycle", "optimizer.lr=0.01"]
    expected = train(*overrides, folder="whole")
    folder = copy_as_running(expected, "killed")
    last = folder / "checkpoints" / "last.ckpt"
    last.unlink()  # best.ckpt may be another name of the same file
    last.write_bytes((expected.folder / "checkpoints" / "last.ckpt").read_bytes()[:5000])
    resumed = train(*overrides, f"resume={folder}", folder="killed")
    assert_same(resumed, expected)
    lines = [record.message for record in caplog.records if "last.ckpt is damaged" in record.message]
    assert len(lines) == 1
    assert "the one before" in lines[0]


def test_the_best_states_are_kept(train: Train) -> None:
    overrides = ["trainer.epochs=6", "checkpoint.keep_best=3", "optimizer=adam", "optimizer.lr=0.1"]
    expected = train(*overrides, folder="whole")
    rows = [row for row in expected.rows() if "val/accuracy" in row]
    best = sorted(rows, key=lambda row: (row["val/accuracy"], row["step"]), reverse=True)[:3]
    assert {int(row["step"]) for row in best} != {20, 25, 30}, "the last are the best: the test shows nothing"

    def kept(folder: Path) -> dict[str, int]:
        paths = (folder / "checkpoints").glob("best*")
        return {path.stem: torch.load(path, weights_only=True)["global_step"] for path in paths}

    names = {f"best_step{int(row['step'])}": int(row["step"]) for row in best}
    assert kept(expected.folder) == {"best": int(best[0]["step"])} | names
    folder = copy_as_running(expected, "killed")
    for name in ("last.ckpt", "best.ckpt"):  # which are two names of a file, perhaps
        (folder / "checkpoints" / name).write_bytes(b"damaged")
    assert_same(train(*overrides, f"resume={folder}", folder="killed"), expected)
    assert kept(folder) == kept(expected.folder)


def test_an_interval_cut_by_a_stop_is_completed(train: Train) -> None:
    """Stopped after steps 5 and 6 of an interval that ends with 8: its row is the mean of all four."""
    overrides = ["trainer.log_every_n_steps=4", "trainer.steps_per_call=1", "trainer.max_steps=13"]
    overrides += ["data.total_batch_size=32"]  # 10 steps an epoch
    expected = train(*overrides, folder="whole")
    folder = expected.folder.with_name("cut")
    folder.mkdir()
    config, choices = checked_job([*SMALL, *overrides])
    job = RunRequest(
        config=config, folder=folder, overrides=[*SMALL, *overrides], choices=choices, stop_after=6
    )
    assert (run(job).status, run_steps(folder)) == ("interrupted", [4])
    resumed = train(*overrides, f"resume={folder}", folder="cut")
    assert run_steps(folder) == [4, 8, 10, 10, 12, 13, 13]
    assert_same(resumed, expected)


def run_steps(folder: Path) -> list[int]:
    """The steps of the rows of metrics.csv."""
    return [int(row["step"]) for row in Trained(folder, None).rows()]


def test_killed_between_two_renames(train: Train) -> None:
    """`last.ckpt` is already `previous.ckpt`, and the new one has not got its name yet."""
    expected = train("trainer.epochs=3", folder="whole")
    folder = copy_as_running(expected, "killed")
    checkpoints = folder / "checkpoints"
    (checkpoints / "last.ckpt").rename(checkpoints / ".last.ckpt.unfinished")
    assert_same(train("trainer.epochs=3", f"resume={folder}", folder="killed"), expected)
    assert not (checkpoints / ".last.ckpt.unfinished").exists()


def test_a_stopped_run_resumes_to_the_same_bits(train: Train) -> None:
    overrides = ["trainer.log_every_n_steps=1", "trainer.steps_per_call=1", "trainer.epochs=6", "model=cnn3"]
    expected = train(*overrides, folder="whole")
    for number in (signal.SIGTERM, signal.SIGINT):
        name = signal.Signals(number).name
        folder = expected.folder.with_name(name)
        process = start_job(folder, [*SMALL, *overrides])
        assert signal_at(process, lambda folder=folder: rows_written(folder) >= 8, number)
        assert finish(process) == 130
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        assert (record["status"], record["reason"]) == ("interrupted", name)
        saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
        assert saved >= 7
        assert saved == record["steps"], "the state was saved where the run stopped, not an epoch before"
        assert "resume=" in (folder / "output.txt").read_text()
        assert_same(train(*overrides, f"resume={folder}", folder=name), expected)
