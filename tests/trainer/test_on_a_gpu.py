"""Runs on one NVIDIA GPU: what they promise on a CPU holds there too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tempo.errors import UserError
from tempo.run.run_request import RunRequest
from tempo.run.train import run
from tests.conftest import Train, Trained
from tests.jobs import SMALL, checked_job

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")

ON_GPU = ("trainer=gpu", "data.train_size=320", "trainer.log_every_n_steps=7", "trainer.epochs=3")
AUGMENTED = ("data.augment.crop_padding=1", "data.augment.flip=true")
JOBS = {
    "perceptron": ("model=mlp", "optimizer=adam"),
    "onecycle": ("model=resnet20", "scheduler=onecycle", *AUGMENTED),
    "dropout": ("model=densenet40", "model.depth=10", "model.dropout=0.2", "trainer.precision=bf16-mixed"),
    "accumulated": ("model=cnn3", "trainer.accumulate=2", "ema.decay=0.9", "trainer.gradient_clip=0.5"),
    "second_moments": ("model=resnet20", "optimizer=nadam", "trainer.precision=bf16-mixed"),
}


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return {name: value.cpu() for name, value in trained.checkpoint("last")["state_dict"].items()}


def assert_same_bits(one: Trained, other: Trained) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"{name} differs by {(value - second[name]).abs().max()}"
    assert one.curves() == other.curves()


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS.keys())
def test_a_graph_changes_no_bit(job: Sequence[str], train: Train) -> None:
    step_by_step = train(*ON_GPU, *job, "trainer.cuda_graph=false", folder="eager")
    recorded = train(*ON_GPU, *job, "trainer.cuda_graph=true", folder="graph")
    assert_same_bits(recorded, step_by_step)


@pytest.mark.parametrize("job", [JOBS["onecycle"], JOBS["dropout"]], ids=["onecycle", "dropout"])
def test_the_same_command_gives_the_same_bits(job: Sequence[str], train: Train) -> None:
    assert_same_bits(train(*ON_GPU, *job, folder="one"), train(*ON_GPU, *job, folder="two"))


def test_resumed_within_an_epoch(train: Train, tmp_path: Path) -> None:
    """The graph is recorded anew in the middle of the run."""
    overrides = [*SMALL, *ON_GPU, *JOBS["onecycle"], "ema.decay=0.9", "trainer.steps_per_call=2"]
    whole = train(*overrides, folder="whole")
    config, choices = checked_job(overrides)
    (folder := tmp_path / "cut").mkdir()
    cut = run(RunRequest(config=config, folder=folder, overrides=overrides, choices=choices, stop_after=7))
    assert (cut.status, cut.steps) == ("interrupted", 7)
    assert_same_bits(train(*overrides, f"resume={folder}", folder="cut"), whole)


def test_steps_per_call_change_no_bit(train: Train) -> None:
    runs = [
        train(*ON_GPU, *JOBS["dropout"], f"trainer.steps_per_call={steps}", folder=str(steps))
        for steps in (1, 4)
    ]
    assert_same_bits(*runs)


def test_near_a_cpu_in_float32(train: Train) -> None:
    short = ("model=resnet20", "trainer.max_steps=2", "trainer.matmul_precision=highest")
    on_gpu = weights(train(*ON_GPU, *short, folder="gpu"))
    on_cpu = weights(train(*ON_GPU, *short, "trainer=cpu", folder="cpu"))
    for name, value in on_cpu.items():
        assert torch.allclose(on_gpu[name].float(), value.float(), rtol=1e-2, atol=1e-3), name


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "bf16-true", "64-true"])
def test_precisions_learn(precision: str, train: Train) -> None:
    trained = train(
        "trainer=gpu", "model=cnn3", "optimizer=adam", f"trainer.precision={precision}", "trainer.epochs=4"
    )
    assert trained.record.status == "completed"
    assert trained.record.metrics["test"]["accuracy"] > 0.8


def test_a_compiled_network_is_recorded_too(train: Train) -> None:
    plain = train(*ON_GPU, "model=mlp", folder="plain")
    compiled = train(
        *ON_GPU, "model=mlp", "trainer.compile=true", "trainer.cuda_graph=true", folder="compiled"
    )
    assert compiled.record.seconds["compile"] > 0
    for name, value in weights(plain).items():
        assert torch.allclose(weights(compiled)[name], value, rtol=1e-2, atol=1e-3), name


def test_a_network_that_decides_in_python_is_refused(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    from tempo.model.mlp import MLP

    forward = MLP.forward

    def by_value(self: MLP, images: torch.Tensor) -> torch.Tensor:
        return forward(self, images if float(images.sum()) > 0 else -images)

    monkeypatch.setattr(MLP, "forward", by_value)
    with pytest.raises(UserError, match="cuda_graph=false"):
        train(*ON_GPU, "model=mlp", "trainer.cuda_graph=true")


def test_a_network_that_counts_its_calls_is_refused(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    from tempo.model.mlp import MLP

    forward, calls = MLP.forward, [0]

    def by_count(self: MLP, images: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return forward(self, images) * calls[0]

    monkeypatch.setattr(MLP, "forward", by_count)
    with pytest.raises(UserError, match="compute something else"):
        train(*ON_GPU, "model=mlp", "trainer.cuda_graph=true")


def test_images_are_on_the_gpu_and_the_record_names_it(train: Train, tmp_path: Path) -> None:
    record = train(*ON_GPU, "model=mlp").record
    assert record.device == torch.cuda.get_device_name()
    assert record.environment["gpu_capability"]
