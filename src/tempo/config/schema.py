"""The keys that every run has, with their types: the parts of conf/train.yaml that build no object.

The classes are read for their annotations and never made: as dataclasses they would take 8 ms of each start.
"""

from __future__ import annotations

from typing import Any, Literal


class AugmentSettings:
    """Random changes of a training image."""

    crop_padding: int
    flip: bool
    cutout: int


class DataSettings:
    """What every data set has, beside the keys of its own source."""

    total_batch_size: int
    eval_batch_size: int
    val_size: int | float
    train_size: int | None
    split_seed: int
    normalize: Literal["channel", "unit"]
    augment: dict[str, Any]
    train_images: int | None


class TrainerSettings:
    """How and on what a network is trained."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: int
    num_nodes: int
    epochs: int
    max_steps: int | None
    accumulate: int
    method: Literal["ring", "ps_sync", "ps_async"]
    compress: Literal["fp16", "bf16"] | None
    shard: bool
    lr_scaling: Literal["none", "linear", "sqrt"]
    lr_reference_batch: int
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true"]
    gradient_clip: float | None
    channels_last: bool
    deterministic: bool
    matmul_precision: Literal["highest", "high", "medium"]
    compile: bool
    cuda_graph: bool | Literal["auto"]
    threads: int | None
    val_every_n_epochs: int
    test_every_n_epochs: int | None
    log_every_n_steps: int
    steps_per_call: int | Literal["auto"]
    backend: Literal["gloo", "nccl"] | None
    energy: bool
    profiler: Literal["simple", "advanced", "pytorch"] | None
    limit_train_steps: int | None
    limit_eval_batches: int | None


class CheckpointSettings:
    """When the state is saved, and which state is tested."""

    select: Literal["best", "last"]
    keep_best: int
    every_n_steps: int | None
    every_n_minutes: float | None


class EarlyStoppingSettings:
    """When a run that gains no more is stopped."""

    patience: int | None
    min_delta: float


class EmaSettings:
    """Exponential moving average of the weights."""

    decay: float | None


class DivergenceSettings:
    """What counts as a diverged run."""

    factor: float | None


class ServerSection:
    """The parameter server of `trainer.method`: `max_staleness` of ps_async, the rest of ps_sync."""

    count: int
    placement: Literal["round_robin", "by_size", "sharded"]
    reply: Literal["gradients", "parameters"]
    max_staleness: int | None


class RunSettings:
    """The keys of the root."""

    seed: int
    name: str
    objective: Literal[
        "train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy"
    ]
    resume: str | None
    init_from: str | None
    preview: bool
    scale: Literal["full", "smoke"]
    paper: dict[str, Any] | None


SECTIONS: dict[str, type] = {
    "trainer": TrainerSettings,
    "checkpoint": CheckpointSettings,
    "early_stopping": EarlyStoppingSettings,
    "ema": EmaSettings,
    "divergence": DivergenceSettings,
    "server": ServerSection,
    "data.augment": AugmentSettings,
}

NODES = ("data", "model", "optimizer", "scheduler", "logger")
"""The other keys of the root: what an option of a group fills."""

SEARCH_KEYS = (
    "n_trials",
    "sampler",
    "pruner",
    "startup_trials",
    "storage",
    "study_name",
    "max_failures",
    "batch",
)
"""Keys of `hydra.sweeper` that may be written without that prefix: no run has keys of these names."""
