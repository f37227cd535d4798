"""Steps with and without Lightning between them: the same weights, and whoever watches them is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from tempo.distributed.process_group import cluster_environment
from tempo.run.build_data import build_data, build_plan
from tempo.run.build_module import build_task, connect_data
from tests.jobs import SMALL, checked_job

STEPS = 7


class Watcher(pl.Callback):
    """Asks for one hook of single steps; notes the steps done at each call."""

    def __init__(self) -> None:
        self.steps_done: list[int] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        self.steps_done.append(trainer.global_step)


def fitted(folder: Path, *callbacks: pl.Callback, **how: Any) -> tuple[pl.Trainer, dict[str, torch.Tensor]]:
    config, _ = checked_job(
        [*SMALL, "optimizer=adam", "trainer.gradient_clip=1", f"trainer.max_steps={STEPS}"]
    )
    data = build_data(config)
    task = build_task(config, data, build_plan(config, data, world_size=1, rank=0))
    connect_data(config, data, task)
    module = task.module
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=list(callbacks),
        plugins=[cluster_environment()], **how,
    )  # fmt: skip
    assert data.has_val
    trainer.fit(module, datamodule=data)
    return trainer, module.network.state_dict()


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, torch.Tensor]:
    """Weights of the steps that nobody watches."""
    trainer, weights = fitted(tmp_path)
    assert trainer.global_step == STEPS
    return weights


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_callback_that_watches_steps_sees_each(tmp_path: Path, alone: dict[str, torch.Tensor]) -> None:
    watcher = Watcher()
    trainer, weights = fitted(tmp_path, watcher)
    assert watcher.steps_done == list(range(STEPS))
    assert trainer.global_step == STEPS
    assert_equal(weights, alone)


def test_a_profiler_sees_each_step(tmp_path: Path, alone: dict[str, torch.Tensor]) -> None:
    profiler = pl.profilers.SimpleProfiler()
    _, weights = fitted(tmp_path, profiler=profiler)
    assert len(profiler.recorded_durations["optimizer_step"]) == STEPS
    assert_equal(weights, alone)


def test_training_on_the_cpu_does_not_look_for_gpus(
    alone: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # as `import pytorch_lightning` does
    fitted(tmp_path)
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ
