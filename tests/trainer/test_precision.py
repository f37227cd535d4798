"""Other precisions give numbers near those of float32, with gradients clipped at the same norm."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import nn

from tempo.distributed.process_group import cluster_environment
from tempo.errors import UserError
from tempo.run.build_data import build_data, build_plan
from tempo.run.build_module import build_task, connect_data
from tests.conftest import Train
from tests.jobs import SMALL, checked_job

JOB = ["scheduler=onecycle", "optimizer.lr=0.02", "trainer.max_steps=15"]
CLIP = 0.01
ONE_STEP = ["optimizer=sgd", "optimizer.wd=0", "optimizer.lr=1.0", f"trainer.gradient_clip={CLIP}"]


@pytest.mark.parametrize(("precision", "tolerance"), [("64-true", 1e-4), ("bf16-mixed", 0.3)])
def test_near_float32(precision: str, tolerance: float, train: Train) -> None:
    overrides = [*JOB, "trainer.gradient_clip=0.05"]
    expected = train(*overrides, folder="float32").checkpoint("last")["state_dict"]
    found = train(*overrides, f"trainer.precision={precision}", folder=precision).checkpoint("last")
    start = train(*JOB, "optimizer.lr=1e-9", folder="start").checkpoint("last")["state_dict"]
    for name, value in expected.items():
        # Relative to how far the parameter moved, so that clipping at a wrong norm would show.
        distance = (value - start[name]).norm()
        assert (found["state_dict"][name].float() - value).norm() < tolerance * distance + 1e-6, name


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed with a loss scaler"])
def test_a_gradient_is_clipped_at_its_own_size(precision: str, tmp_path: Path) -> None:
    """SGD without momentum moves by lr x clip per step if the loss scale of fp16 is removed before."""
    config, _ = checked_job([*SMALL, *ONE_STEP, "trainer.max_steps=1"])
    if "scaler" in precision:  # as on a GPU; tempo itself offers no fp16 on a CPU
        config = config.with_trainer(precision="16-mixed")
        plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
        how: dict[str, object] = {"plugins": [plugin, cluster_environment()]}
    else:
        how = {"precision": precision, "plugins": [cluster_environment()]}
    data = build_data(config)
    task = build_task(config, data, build_plan(config, data, world_size=1, rank=0))
    connect_data(config, data, task)
    module = task.module
    before = nn.utils.parameters_to_vector(module.network.parameters()).detach().clone()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, **how,  # type: ignore[arg-type]
    )  # fmt: skip
    assert data.has_val
    trainer.fit(module, datamodule=data)
    after = nn.utils.parameters_to_vector(module.network.parameters()).detach()
    assert trainer.global_step == 1
    assert float((after - before).norm()) == pytest.approx(CLIP, rel=0.01)


def test_bf16_weights_take_steps(train: Train) -> None:
    assert train(*JOB, "trainer.precision=bf16-true").record.status == "completed"


@pytest.mark.parametrize(
    "overrides",
    [["trainer.precision=bf16-true", "ema.decay=0.999"], ["trainer.precision=16-mixed"]],
    ids=["average in bf16", "fp16 on a CPU"],
)
def test_precisions_that_would_not_train_are_refused(overrides: list[str], train: Train) -> None:
    with pytest.raises(UserError, match="bf16-mixed"):
        train(*JOB, *overrides)


@pytest.mark.parametrize(("precision", "short"), [("highest", False), ("high", True)])
def test_convolutions_have_the_precision_of_products(precision: str, short: bool, train: Train) -> None:
    """PyTorch itself leaves convolutions at TF32, whatever the setting for products."""
    torch.backends.cudnn.allow_tf32 = not short
    train("trainer.max_steps=1", f"trainer.matmul_precision={precision}")
    assert torch.backends.cudnn.allow_tf32 is short
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
