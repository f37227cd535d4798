"""Running statistics of a module that several processes train: each process has its own."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from tempo.distributed.collectives import mean_over_ranks


def average_buffers(module: pl.LightningModule) -> None:
    """Replace the running statistics by their mean over the ranks, since each has seen different items."""
    if module.trainer.world_size > 1:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.copy_(mean_over_ranks(module.trainer.strategy, buffer))


def save_buffers(module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Add the running statistics of each rank to a checkpoint, which otherwise has those of rank 0."""
    if module.trainer.world_size > 1:
        saved = module.state_dict()
        checkpoint["buffers_of_ranks"] = {
            name: module.all_gather(buffer)
            for name, buffer in module.named_buffers()
            if buffer.is_floating_point() and name in saved
        }


def load_buffers(module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Put this rank's running statistics into the `state_dict` of a checkpoint before it is loaded."""
    for name, of_ranks in checkpoint.get("buffers_of_ranks", {}).items():
        if len(of_ranks) == module.trainer.world_size:
            checkpoint["state_dict"][name] = of_ranks[module.trainer.global_rank]
