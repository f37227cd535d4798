"""Build the chunks of steps that a classifier trains on: how many steps are one call of Lightning's loop."""

from __future__ import annotations

import math
from dataclasses import asdict

from tempo.config.schema import RunConfig
from tempo.data.augment import Augment
from tempo.data.batches import BatchPlan, TrainBatches
from tempo.data.images import ImageData
from tempo.data.run_data_module import ImageDataModule
from tempo.task.progress import Progress

# A chunk of steps is one call of Lightning's loop and one tensor of preprocessed images. It is long enough to
# make the call cheap compared with the steps, and short enough to keep the tensor small and to notice a
# signal soon. Parameters x images is a poor measure of a step's work, but it tells an MLP from a ResNet.
_CHUNK_STEPS, _CHUNK_VALUES, _CHUNK_WORK = 64, 1 << 22, 250_000_000
_GPU_FACTOR = 32
"""Factor for both limits on a GPU, which would wait for Python between short chunks."""


def build_train_batches(
    config: RunConfig,
    data: ImageDataModule,
    progress: Progress,
    parameters: int = 0,
    *,
    one_step: bool = False,
) -> TrainBatches:
    """Build chunks of training steps, starting at the run's current step.

    A chunk has one step if `parameters`, the size of the network that takes whole chunks, is 0, or if
    `one_step` is set.
    """
    asked = config.trainer.steps_per_call
    steps = _steps_per_chunk(data.train, progress.plan, parameters) if asked == "auto" else asked
    if not parameters or one_step:
        steps = 1
    if config.checkpoint.every_n_steps is not None:
        steps = min(steps, config.checkpoint.every_n_steps)
    return TrainBatches(
        data=data.train,
        plan=progress.plan,
        augment=Augment(**asdict(config.data.augment)),
        steps_per_chunk=steps,
        next_step=lambda: progress.steps_done,
        last_step=progress.total_steps,
    )


def _steps_per_chunk(train: ImageData, plan: BatchPlan, parameters: int) -> int:
    images = plan.per_device * plan.accumulate
    values = images * math.prod(train.shape)
    work = max(1, images * parameters)
    factor = _GPU_FACTOR if train.images.device.type == "cuda" else 1
    return max(1, min(_CHUNK_STEPS, factor * _CHUNK_VALUES // values, factor * _CHUNK_WORK // work))
