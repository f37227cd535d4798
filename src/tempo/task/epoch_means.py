"""Means over the running epoch, kept in checkpoints: Lightning forgets them when a run is resumed."""

from __future__ import annotations

import io
from typing import Any

import pytorch_lightning as pl
import torch
from torchmetrics import Metric

from tempo.distributed.collectives import all_gather_bytes
from tempo.task.lightning_internals import running_means

_PARTS = ("value", "cumulated_batch_size")


class EpochMeans:
    """What `self.log(..., on_epoch=True)` and torchmetrics have added up since the start of the epoch.

    Each rank has its own sums, and a checkpoint has those of all. A run that is resumed on another number of
    ranks has none, and the means of its first epoch cover the part since then.
    """

    def __init__(self) -> None:
        self._restored: dict[str, dict[str, torch.Tensor]] = {}

    def state_of_ranks(self, trainer: pl.Trainer, module: pl.LightningModule) -> list[dict[str, Any]]:
        """Return the sums so far of each rank, as tensors; all ranks call this together."""
        own = self._state(trainer, module)
        if trainer.world_size == 1:
            return [own]
        file = io.BytesIO()
        torch.save(own, file)
        texts = all_gather_bytes(file.getvalue(), trainer.strategy.root_device)
        return [torch.load(io.BytesIO(text), map_location="cpu", weights_only=True) for text in texts]

    def _state(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        logged = {
            key: {part: getattr(mean, part) for part in _PARTS if hasattr(mean, part)}
            for key, mean in running_means(trainer).items()
        }
        metrics = {name: dict(metric.metric_state) for name, metric in _metrics_of(module)}
        return {"logged": logged, "metrics": metrics}

    def restore(self, of_ranks: list[dict[str, Any]], module: pl.LightningModule) -> None:
        """Restore this rank's torchmetrics; what was logged follows with `add_restored`."""
        trainer = module.trainer
        state = of_ranks[trainer.global_rank] if len(of_ranks) == trainer.world_size else {}
        self._restored = state.get("logged", {})
        saved = state.get("metrics", {})
        for name, metric in _metrics_of(module):
            for part, value in saved.get(name, {}).items():
                setattr(metric, part, value)

    def add_restored(self, trainer: pl.Trainer) -> None:
        """Add the restored sums; called after the first batch, which has created the entries."""
        if not self._restored:
            return
        for key, mean in running_means(trainer).items():
            for part, value in self._restored.get(key, {}).items():
                setattr(mean, part, value.to(trainer.strategy.root_device) + getattr(mean, part))
        self._restored = {}


def _metrics_of(module: pl.LightningModule) -> list[tuple[str, Metric]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, Metric)]
