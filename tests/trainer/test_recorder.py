"""Record, metrics.csv and TensorBoard of a run, compared with the numbers of a plain training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F

from tempo.data.augment import Preprocess, channel_statistics
from tempo.data.digits import digits
from tempo.data.split import split
from tempo.model.mlp import MLP
from tests.conftest import Train, Trained
from tests.jobs import SMALL, run_job
from tests.trainer.reference import OPTIMIZERS, Loop, Outcome, onecycle

STEPS = 23
EVERY = 3


def mlp() -> nn.Module:
    return MLP(input_shape=(1, 8, 8), num_classes=10, hidden=(128, 64, 32))


@pytest.fixture(scope="module")
def expected() -> Outcome:
    return Loop(mlp, OPTIMIZERS["momentum"], onecycle(0.01), STEPS).run()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, threads = tmp_path_factory.mktemp("trained"), torch.get_num_threads()
    job = [f"trainer.max_steps={STEPS}", f"trainer.log_every_n_steps={EVERY}"]
    record = run_job(folder, [*SMALL, "scheduler=onecycle", "optimizer.lr=0.01", *job], pictures=True)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    return Trained(folder, record)


def test_metrics_file_record_and_tensorboard(trained: Trained, expected: Outcome) -> None:
    rows, record = trained.rows(), trained.record
    assert_training_rows([row for row in rows if "train/loss" in row], expected)
    assert_validation_rows([row for row in rows if "val/loss" in row], expected)
    assert all(row["epoch"] == row["step"] / 5 for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert record.steps == STEPS
    assert record.epochs == STEPS / 5
    assert record.batch == {"total": 64, "per_device": 64, "accumulate": 1}
    assert record.world_size == 1
    assert record.status == "completed"
    assert record.parameters == {"total": 18_986, "trainable": 18_986}
    assert record.choices["model"] == "mlp"
    assert {"startup", "train", "test", "total"} == set(record.seconds)
    assert 0 < record.seconds["train"] < record.seconds["total"]
    assert record.images_per_second == pytest.approx(STEPS * 64 / record.seconds["train"])
    assert_test_numbers(trained, expected)
    assert_tensorboard(trained, rows)
    for name in ("curves.png", "confusion.png"):
        assert (trained.folder / name).read_bytes().startswith(b"\x89PNG")


def assert_training_rows(rows: list[dict[str, float]], expected: Outcome) -> None:
    """An interval ends at each multiple of EVERY and at each epoch's end (every 5 steps)."""
    borders = sorted({*range(EVERY, STEPS + 1, EVERY), *range(5, STEPS + 1, 5), STEPS})
    assert [row["step"] for row in rows] == borders
    curve = onecycle(0.01)
    for start, row in zip([0, *borders], rows, strict=False):
        steps = slice(start, int(row["step"]))
        assert row["train/loss"] == pytest.approx(np.mean(expected.losses[steps]), rel=1e-4)
        assert row["train/accuracy"] == pytest.approx(np.mean(expected.accuracies[steps]), rel=1e-6)
        values = curve(int(row["step"]) - 1, STEPS)
        assert row["lr"] == pytest.approx(values["lr"], rel=1e-12)
        assert row["momentum"] == pytest.approx(values["momentum"], rel=1e-12)


def assert_validation_rows(rows: list[dict[str, float]], expected: Outcome) -> None:
    found = [(row["step"], row["val/loss"], row["val/accuracy"]) for row in rows]
    np.testing.assert_allclose(found, expected.validations, rtol=1e-4)


def assert_test_numbers(trained: Trained, expected: Outcome) -> None:
    """Test the best state on validation (the latest of equals) by hand."""
    record = trained.record
    best = max(expected.validations, key=lambda found: (found[2], found[0]))
    assert record.selected["step"] == best[0]
    assert record.objective["value"] == pytest.approx(best[2])
    assert record.metrics["val"]["loss"] == pytest.approx(best[1], rel=1e-4)
    official, test = digits()
    images, validation = split(official, val_size=0.1, train_size=320, split_seed=0)
    assert validation is not None
    mean, std = channel_statistics(images.images)
    network = mlp()
    state = trained.checkpoint("best")["state_dict"]
    network.load_state_dict({k.removeprefix("network."): v for k, v in state.items()})
    network.eval()
    with torch.no_grad():
        logits = network(Preprocess(None, mean, std, False)(test.images))
    assert record.metrics["test"]["loss"] == pytest.approx(
        float(F.cross_entropy(logits, test.labels)), rel=1e-5
    )
    assert record.metrics["test"]["accuracy"] == int((logits.argmax(1) == test.labels).sum()) / len(test)
    assert record.data | {"sha256": "", "note": ""} == {
        "name": "digits",
        "note": "",
        "sha256": "",
        "shape": [1, 8, 8],
        "classes": 10,
        "train": 320,
        "val": 144,
        "test": 359,
        "class_names": list("0123456789"),
        "class_counts": {
            "train": torch.bincount(images.labels).tolist(),
            "val": torch.bincount(validation.labels).tolist(),
            "test": torch.bincount(test.labels).tolist(),
        },
        "mean": pytest.approx(mean),
        "std": pytest.approx(std),
        "remarks": [],
        "reading": {},
    }
    assert trained.checkpoint("best")["data"] == record.data


def assert_tensorboard(trained: Trained, rows: list[dict[str, float]]) -> None:
    events = EventAccumulator(str(trained.folder / "tensorboard"))
    events.Reload()
    for name in ("lr", "momentum", "train/loss", "train/accuracy", "val/loss", "val/accuracy"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        np.testing.assert_allclose(
            found, [(row["step"], row[name]) for row in rows if name in row], rtol=1e-6
        )
    for name, value in trained.record.metrics["test"].items():
        assert events.Scalars(f"final/test_{name}")[-1].value == pytest.approx(value, rel=1e-6)
    written = _hparams(trained.folder / "tensorboard")
    assert written["optimizer.lr"] == pytest.approx(0.01)
    assert written["model._target_"] == "tempo.model.mlp.MLP"


def _hparams(folder: Path) -> dict[str, Any]:
    from tensorboard.plugins.hparams import plugin_data_pb2

    events = EventAccumulator(str(folder))
    events.Reload()
    data = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}


def test_checkpoints_hold_plain_values_only(trained: Trained) -> None:
    def walk(value: Any, where: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                assert isinstance(key, (str, int)), where
                walk(inner, f"{where}.{key}")
        elif isinstance(value, (list, tuple)):
            for index, inner in enumerate(value):
                walk(inner, f"{where}[{index}]")
        else:
            assert value is None or isinstance(value, (bool, int, float, str, torch.Tensor)), where

    for name in ("last", "best", "previous"):
        walk(trained.checkpoint(name), name)


def test_a_schedule_has_as_many_steps_as_the_optimizer(trained: Trained) -> None:
    state = trained.checkpoint("last")
    assert state["global_step"] == STEPS
    groups = state["optimizer_states"][0]["param_groups"]
    assert groups[0]["lr"] == pytest.approx(
        1e-4, rel=1e-12
    )  # a hundredth of min_lr: the last step of the curve
    assert groups[0]["momentum"] == pytest.approx(0.95)


def test_without_validation_the_last_state_is_tested(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = train(
        "data.val_size=0", "objective=test/accuracy", "checkpoint.select=last", "trainer.epochs=2"
    )
    assert set(trained.record.metrics) == {"train", "test"}
    assert trained.record.objective["value"] == trained.record.metrics["test"]["accuracy"]
    assert trained.record.data["val"] == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [line[:2] for line in lines] == [["epoch 1", "step 5/10"], ["epoch 2", "step 10/10"]]
    assert all(line[-1].startswith("train ") for line in lines)


def test_compilation_is_timed_separately(train: Train) -> None:
    """Disabled, Dynamo compiles nothing, but the first call still counts as compilation."""
    job = [f"trainer.max_steps={STEPS}", "trainer.steps_per_call=2"]
    plain = train(*job, folder="plain")
    with torch._dynamo.config.patch(disable=True):
        compiled = train(*job, "trainer.compile=true", folder="compiled")
    assert compiled.record.weights_sha256 == plain.record.weights_sha256
    seconds = compiled.record.seconds
    assert seconds["compile"] > 0
    assert "compile" not in plain.record.seconds
    assert compiled.record.images_per_second == pytest.approx((STEPS - 2) * 64 / seconds["train"])
    assert compiled.rows()[-1]["seconds"] == pytest.approx(seconds["train"], rel=0.5)


def test_the_test_curve_ends_at_the_result_and_changes_nothing(train: Train) -> None:
    job = ("trainer.epochs=4", "model=densenet40", "model.depth=10", "model.dropout=0.2", "ema.decay=0.5")
    plain = train(*job, "checkpoint.select=last", folder="plain")
    drawn = train(*job, "checkpoint.select=last", "trainer.test_every_n_epochs=2", folder="drawn")
    rows = [row for row in drawn.rows() if "test/loss" in row]
    assert [row["epoch"] for row in rows] == [2.0, 4.0]
    assert {name: rows[-1][f"test/{name}"] for name in ("loss", "accuracy")} == drawn.record.metrics["test"]
    assert rows[0]["test/loss"] != rows[1]["test/loss"]
    assert drawn.record.weights_sha256 == plain.record.weights_sha256
    assert drawn.record.metrics == plain.record.metrics
    assert [row for row in drawn.curves() if "test/loss" not in row] == plain.curves()
